"""Artifacts, and the record of a run: thin faces whose methods call `ops`.

Long, because it is the public surface: nearly every method is one call and the contract that users read.
"""

from __future__ import annotations

import copy
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Literal
from weakref import finalize

from refart import manifest, names, ops
from refart.catalog.base import (
    Committed,
    Direction,
    ManifestInfo,
    Patch,
    RunRow,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.errors import ChecksumError, ConflictError, FinalizedError, InvalidInputError, NotFoundError
from refart.local import local_side
from refart.opening import shared_context

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from refart.context import Context, Local
    from refart.entries import Entry
    from refart.handles import ArtifactEntry, Entries
    from refart.manifest.compare import Diff
    from refart.manifest.draft import Added, Draft
    from refart.manifest.index import ManifestIndex
    from refart.manifest.reader import Manifest
    from refart.ops.download import DownloadReport, Link
    from refart.ops.identify import Checksum
    from refart.ops.lineage import LineageGraph
    from refart.ops.materialize import MaterializeReport
    from refart.ops.patterns import Patterns
    from refart.ops.refresh import RefreshReport
    from refart.ops.restore import RestorePlan, RestoreReport
    from refart.ops.status import StatusReport
    from refart.ops.verify import VerifyReport
    from refart.ops.verify_bytes import BytesReport
    from refart.ops.verify_remote import RemoteReport

_log = logging.getLogger("refart")

PathLike = str | os.PathLike[str]


class Artifact:
    """A named, typed, versioned folder.

    `Artifact("name", "type")` is a *draft*: local and mutable. Logging it makes it a *version*: immutable, except for
    `description`, `metadata`, `aliases`, `tags` and `ttl`, which `save()` writes.
    """

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._begin(names.check_name(name, "artifact name"), names.check_name(type, "artifact type"))
        self._draft: Draft | None = manifest.draft.Draft()
        self.description = names.check_description(description)
        self.metadata: dict[str, Any] = names.check_metadata(metadata)
        """JSON-like; change it in place or assign it, then `save()` on a logged version."""
        self.aliases: list[str] = []
        self.tags: list[str] = []
        self.ttl: timedelta | None = None
        """Time to live from `created_at`; None is for ever. Recorded; nothing is removed by itself."""

    def _begin(self, name: str, type: str) -> None:
        self._name, self._type = name, type
        self._draft = None
        self._local: Local | None = None
        self._context: Context | None = None
        self._row: VersionRow | None = None
        self._created = False
        self._manifest: Manifest | None = None
        self._built: tuple[int, ManifestIndex] | None = None
        self._inputs: tuple[VersionKey, ...] = ()
        self._staging: Path | None = None

    @classmethod
    def _of(cls, context: Context, row: VersionRow) -> Artifact:
        self = cls.__new__(cls)
        self._begin(row.key.name, row.type)
        self._adopt(context, Committed(row, created=False))
        return self

    def _adopt(self, context: Context, committed: Committed) -> Artifact:
        """Become the version that was logged."""
        if self._draft is not None:
            self._draft.close()
        self._draft = None
        self._context = context
        self._created = committed.created
        self._read_row(committed.version)
        return self

    def _read_row(self, row: VersionRow) -> None:
        self._row = row
        self.description = row.description
        self.metadata = copy.deepcopy(dict(row.metadata))
        self.aliases, self.tags = list(row.aliases), list(row.tags)
        self.ttl = None if row.ttl_s is None else timedelta(seconds=row.ttl_s)

    # -- what it is ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The collection's name, without a version."""
        return self._name

    @property
    def type(self) -> str:
        """The kind of data, such as `dataset` or `model`; one for all versions of a name."""
        return self._type

    @property
    def state(self) -> Literal["draft", "logged", "deleted"]:
        """`draft` until it is logged; `deleted` for a version that is kept in the lineage only."""
        if self._row is None:
            return "draft"
        return "logged" if self._row.deleted_at is None else "deleted"

    @property
    def version(self) -> str:
        """`v0`, `v1`, …; numbers of a collection are contiguous and never reused."""
        return f"v{self._logged().key.number}"

    @property
    def project(self) -> str:
        """The project that the version belongs to."""
        return self._logged().key.project

    @property
    def qualified_name(self) -> str:
        """`project/name:v3`"""
        return str(self._logged().key)

    @property
    def source_version(self) -> str | None:
        """`project/name:v3` of the version that this linked version stands for, else None."""
        source = self._logged().source
        return None if source is None else str(source)

    @property
    def created(self) -> bool:
        """True where logging this object made a new version; False where the content was there already."""
        return self._created

    @property
    def created_at(self) -> datetime:
        """When the version was first logged (UTC)."""
        return self._logged().created_at

    @property
    def digest(self) -> str:
        """The content digest: `sha256:…` over path, size and content id of all entries, equal wherever they lie."""
        return self._info().content_digest

    @property
    def manifest_digest(self) -> str:
        """The digest that decides whether a version is new: like `digest`, with the URIs."""
        return self._info().manifest_digest

    @property
    def file_count(self) -> int:
        """How many entries there are."""
        return self._info().entry_count

    @property
    def size(self) -> int:
        """Bytes of all entries whose size is known."""
        return self._info().size_bytes

    @property
    def referenced_size(self) -> int:
        """Bytes of the references."""
        return self._info().referenced_bytes

    @property
    def stored_size(self) -> int:
        """Bytes of the managed files. Files that versions share are stored once and counted in each."""
        return self._info().managed_bytes

    @property
    def weak_count(self) -> int | None:
        """How many entries have a weak identity: another content of the same size may have it too.

        None for a version that an older refart logged, which did not count them.
        """
        return (self._measured() if self._row is None else self._reader().index).weak_count

    def __repr__(self) -> str:
        what = self.qualified_name if self._row is not None else f"{self._name} (draft)"
        return f"<Artifact {what}, type {self._type}>"

    # -- build a draft ---------------------------------------------------------------------------

    def add_reference(
        self,
        uri: PathLike,
        name: str | None = None,
        checksum: Checksum = True,
        max_objects: int | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        allow_empty: bool = False,
        overwrite: bool = False,
        follow_symlinks: bool = True,
        strip_signature: bool = False,
        executor: Executor | None = None,
        as_of: datetime | str | None = None,
    ) -> Entries:
        """Point at the object or at everything below the prefix that `uri` names. No byte is copied.

        - `uri`: an object or a prefix of whole path components (`data` is never `data2/`) in S3, GCS or Azure, a file
          or folder, one HTTP URL, or whatever fsspec opens; `docs/sources.md` has them all. Bytes in the key are taken
          as they stand. `s3://…?versionId=V`, `gs://…#GENERATION` and `az://…?versionid=V` pin by hand.
          `refart://[project/]name[:version][/path]` takes entries of another version: no byte is copied, a later
          version of theirs changes nothing here, and logging records that version as an input.
        - `name`: path of the entry, or folder the entries go under. Default: the base name of an object, and the
          keys' rest below a prefix.
        - `checksum`: True records the strongest content id a listing gives (local files are hashed, but not read
          again while size, mtime and inode stay the same). `"sha256"` reads every byte once. `"stored"` asks the
          server for a checksum that listings do not tell, one request an object (S3). `"stat"` records size and
          modified time of files, and reads nothing. False records none.
        - `max_objects`: more wanted objects than this are an error. Default: no limit.
        - `include`, `exclude`: patterns as in `.gitignore`, matched against the path below `uri`.
        - `allow_empty`: accept that nothing matches; otherwise that is `NotFoundError`.
        - `overwrite`: replace entries of the same path; otherwise other bytes at a path are `ConflictError`.
        - `follow_symlinks`: False leaves out symbolic links of a folder, and what they lead to.
        - `strip_signature`: take a signed URL without its signature; otherwise it is refused, since it would be stored.
        - `executor`: computes checksums (`"sha256"`, `"stored"`, files of this machine) and lists large prefixes of
          S3 and GCS, instead of threads of this process. Its workers must see the same configuration, files and
          credentials.
        - `as_of`: log what lay there at that time (aware, or ISO 8601 with a zone), pinned, from all versions that a
          versioned bucket of S3 or GCS keeps. What a lifecycle rule has removed since is missing. S3 tells times to
          the second, and of a multipart upload when it was begun.

        All or nothing: after an error the draft is as it was. Raises `NotFoundError`, `PermissionDeniedError`,
        `SourceError`, `InvalidInputError` (also for two keys that would meet in one path), `FinalizedError`.
        """
        if names.uri_scheme(os.fspath(uri)) == "refart":
            if (checksum, executor, as_of, follow_symlinks, strip_signature) != (
                True,
                None,
                None,
                True,
                False,
            ):
                raise InvalidInputError(
                    f"{uri}: entries of another version are taken as they are; name=, include=, exclude=, max_objects=,"
                    " allow_empty= and overwrite= choose among them"
                )
            return self._add_version(
                os.fspath(uri),
                name=name,
                max_objects=max_objects,
                include=include,
                exclude=exclude,
                allow_empty=allow_empty,
                overwrite=overwrite,
            )
        added = ops.add.add_reference(
            self._here(),
            self._editable(),
            os.fspath(uri),
            name=name,
            checksum=checksum,
            max_objects=max_objects,
            include=include,
            exclude=exclude,
            allow_empty=allow_empty,
            overwrite=overwrite,
            follow_symlinks=follow_symlinks,
            strip_signature=strip_signature,
            executor=executor,
            as_of=as_of,
        )
        return self._handles(added)

    def add_references(
        self,
        uris: Iterable[str],
        base: str | None = None,
        checksum: Checksum = True,
        strip_signature: bool = False,
        executor: Executor | None = None,
    ) -> Entries:
        """Point at many single objects, looked up in parallel, one request each; all or nothing.

        `base` is a prefix of all of them: paths are then the rest below it. Without it, paths are base names (two of
        the same name are an error). The other arguments are those of `add_reference`.
        """
        added = ops.add.add_references(
            self._here(),
            self._editable(),
            uris,
            base=base,
            checksum=checksum,
            strip_signature=strip_signature,
            executor=executor,
        )
        return self._handles(added)

    def add_inventory(
        self,
        manifest_uri: PathLike,
        prefix: str | None = None,
        name: str | None = None,
        max_objects: int | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        allow_empty: bool = False,
        overwrite: bool = False,
    ) -> Entries:
        """Point at the objects that an S3 Inventory lists (CSV, ORC or Parquet), without one request to their bucket.

        - `manifest_uri`: the `manifest.json` of an inventory. Data files are read from the bucket that it names; those
          of a copy outside S3, from the folder `data` beside the manifest's own.
        - `prefix`: only what lies below this key prefix (whole components; its URI will do). Default: all.
        - `name`: folder that the entries go under; their paths are the keys' rest below `prefix`.
        - The other arguments are those of `add_reference`.

        Current versions only. Version ids pin where the inventory has them (one of all versions does), else ETags do.
        ETags of objects that are encrypted with SSE-KMS or SSE-C are recorded as such, not as MD5s. What was written
        after the inventory was made is not in it, and what was deleted since still is: `refresh()` brings a draft up
        to date.

        All or nothing; each data file is compared with the MD5 that the manifest states before a row of it counts.
        Raises `NotFoundError` (no manifest, or nothing matches), `FormatError` (no inventory, or one of an unknown
        version), `ChecksumError` (a data file is not the one that was listed), and the errors of `add_reference`.
        """
        added = ops.inventory.add_inventory(
            self._here(),
            self._editable(),
            os.fspath(manifest_uri),
            prefix=prefix,
            name=name,
            max_objects=max_objects,
            include=include,
            exclude=exclude,
            allow_empty=allow_empty,
            overwrite=overwrite,
        )
        return self._handles(added)

    def add_wandb_manifest(self, file: PathLike, overwrite: bool = False) -> Entries:
        """Add the references of a manifest of W&B (`wandb_manifest.json`) with the versions that it pins.

        Nothing is asked of the source. All or nothing: an entry that is a file in W&B's own storage, or a reference to
        another artifact of W&B, is `InvalidInputError`; a file that is no manifest `FormatError`.
        """
        return self._handles(ops.importers.add_wandb_manifest(self._editable(), file, overwrite=overwrite))

    def add_dvc(self, file: PathLike, remote: str | None = None, overwrite: bool = False) -> Entries:
        """Add what a `.dvc` file records of objects with cloud versions: `import-url --version-aware`, and outputs that
        were pushed to a remote with `version_aware`.

        `remote` is the URL of that remote; by default it is read from the configuration of the repository that the file
        lies in. Nothing is asked of the source. All or nothing: an output that only DVC's cache holds is
        `InvalidInputError`, a remote without a URL `NotFoundError`. Needs `pip install 'refart[dvc]'`.
        """
        return self._handles(
            ops.importers.add_dvc(self._editable(), file, remote=remote, overwrite=overwrite)
        )

    def add_file(
        self, local_path: PathLike, name: str | None = None, overwrite: bool = False, force: bool = False
    ) -> ArtifactEntry:
        """Add one local file as a managed file: hashed now, stored by content at `log_artifact`.

        A file whose size, mtime and inode are as when it was last hashed is not read again, unless `force`. It must
        not change until it is logged (`ConflictError` then). Other bytes at the same path are `ConflictError` unless
        `overwrite`.
        """
        entry = ops.add.add_file(
            self._here(), self._editable(), local_path, name=name, overwrite=overwrite, force=force
        )
        return self._handle(entry)

    def add_dir(
        self,
        local_path: PathLike,
        name: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        overwrite: bool = False,
        allow_empty: bool = False,
        force: bool = False,
        follow_symlinks: bool = True,
    ) -> Entries:
        """Add all files below a local folder as managed files, under `name`; hashed in parallel. See `add_file`.

        Symbolic links are followed, or left out with `follow_symlinks=False`.
        """
        added = ops.add.add_dir(
            self._here(),
            self._editable(),
            local_path,
            name=name,
            include=include,
            exclude=exclude,
            overwrite=overwrite,
            allow_empty=allow_empty,
            force=force,
            follow_symlinks=follow_symlinks,
        )
        return self._handles(added)

    @contextmanager
    def new_file(
        self, name: str, mode: Literal["w", "wb", "x", "xb"] = "w", encoding: str | None = None
    ) -> Iterator[IO[Any]]:
        """Write a new managed file: `with artifact.new_file("a.json") as f: …`. Added when the block ends well."""
        if mode not in ("w", "wb", "x", "xb"):
            raise InvalidInputError(f"mode must be w, wb, x or xb, not {mode!r}")
        draft = self._editable()
        target = ops.add.new_file_target(self._staging_folder, name)
        if "b" not in mode:
            encoding = encoding or "utf-8"
        with target.open(mode, encoding=encoding) as file:
            yield file
        ops.add.add_file(self._here(), draft, target, name=name)

    def remove(self, item: str | Entry) -> int:
        """Remove an entry, or all entries below a folder; returns how many. Raises `NotFoundError` for neither."""
        draft = self._editable()
        path = names.check_path(item.rstrip("/") if isinstance(item, str) else item.path)
        count = draft.remove_prefix(path)
        if count == 0:
            raise NotFoundError(f"{self._name} has no entry {path!r} and nothing below it")
        return count

    def refresh(self, executor: Executor | None = None, allow_empty: bool = False) -> RefreshReport:
        """Bring the references of a draft up to date: `version.new_draft().refresh()`, then log it.

        Each prefix that was logged is listed once, with the patterns it was logged with; single objects are looked at.
        What did not change keeps its entry, a SHA-256 that was computed once included, and takes the newest pin; only
        what is new or changed is identified, as `checksum=` said when its prefix was added. What is gone is removed,
        and so comes back what was removed from the draft by hand. Managed files stay, also in the place of an object.

        `executor` lists large prefixes, and computes `"sha256"` and `"stored"`. All or nothing: after an error the
        draft is as it was. Raises `PermissionDeniedError` where something may not be looked at; `NotFoundError` where a
        prefix that had entries has none now, since a lost mount looks like that, unless `allow_empty`; and as
        `add_reference` does.
        """
        return ops.refresh.refresh(self._here(), self._editable(), executor=executor, allow_empty=allow_empty)

    def materialize(
        self,
        path_prefix: str | None = None,
        *,
        at_risk: bool = False,
        allow_missing_references: bool = False,
        executor: Executor | None = None,
    ) -> MaterializeReport:
        """Make managed files of a draft's references: `version.new_draft().materialize()`, then log it.

        The pinned bytes come by way of this machine (or the workers of `executor`, to which shards travel and no lists
        of entries), are verified as in a download, and are stored by their SHA-256. Paths stay as they are. What the
        store has already, by a SHA-256 that was recorded or seen on this machine, is not read: after an error or a
        crash, the same call goes on where it was.

        - `path_prefix`: only this entry, or what lies below this folder.
        - `at_risk`: only references that an overwrite or a lifecycle rule may lose, or has made: those without a pinned
          version or generation, of a weak identity, or of which another write is current. Costs one listing of each
          logged prefix.
        - `allow_missing_references`: what is lost already stays a reference, and is reported.

        Raises `ReferenceMissingError`, `ReferenceChangedError`, `ChecksumError`, `SourceError`, `StoreError`; the draft
        is then as it was.
        """
        draft = self._editable()
        self._context = self._context if self._context is not None else shared_context(None)
        return ops.materialize.materialize(
            self._context,
            draft,
            path_prefix=_folder(path_prefix),
            at_risk=at_risk,
            allow_missing=allow_missing_references,
            executor=executor,
        )

    def relocate(
        self, old_prefix: PathLike, new_prefix: PathLike, checksum: Literal["sha256"] | None = None
    ) -> int:
        """Let a draft's references below one prefix point below another, to which the data moved:
        `version.new_draft().relocate(…)`, then log it. Returns how many.

        Paths stay as they are, pins are taken anew, and so move the prefixes that the draft was listed from. One
        listing of `new_prefix` must tell the same size and content id for each; references that no listed prefix
        covers cost a request each. Where content ids cannot be compared (uploads in parts, a SHA-256 beside an MD5),
        `checksum="sha256"` reads the bytes there, and where nothing else helps those at `old_prefix`.

        All or nothing: raises `ReferenceChangedError`, which names what is missing, differs or cannot be compared,
        `NotFoundError` where nothing lies below `old_prefix`.
        """
        return ops.relocate.relocate(
            self._here(),
            self._editable(),
            self._label(),
            os.fspath(old_prefix),
            os.fspath(new_prefix),
            checksum=checksum,
        )

    # -- look inside -----------------------------------------------------------------------------

    def entries(self, prefix: str | None = None) -> Iterator[ArtifactEntry]:
        """All entries by path (UTF-8 order), or those at and below `prefix`; read page by page."""
        from refart.entries import entries_of  # here, since it needs pyarrow

        for page in self._pages_below(prefix):
            yield from map(self._handle, entries_of(page))

    def get_entry(self, path: str) -> ArtifactEntry:
        """The entry at `path`. Raises `NotFoundError` where there is none."""
        source = self._draft if self._draft is not None else self._reader()
        entry = source.get(names.check_path(path))
        if entry is None:
            raise NotFoundError(f"{self._label()} has no entry {path!r}")
        return self._handle(entry)

    __getitem__ = get_entry

    def __contains__(self, path: object) -> bool:
        source = self._draft if self._draft is not None else self._reader()
        return isinstance(path, str) and source.get(path) is not None

    def __iter__(self) -> Iterator[ArtifactEntry]:
        return self.entries()

    def __len__(self) -> int:
        return self.file_count

    # -- bytes -----------------------------------------------------------------------------------

    def download(
        self,
        root: PathLike | None = None,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        allow_missing_references: bool = False,
        link: Link = "auto",
        executor: Executor | None = None,
    ) -> str:
        """Bring the files to `root` (default `./artifacts/name-v3`) and return it.

        Every byte is checked while it streams, by the strongest of what is recorded (hash, CRC, multipart ETag
        computed again, ETag or pin, weak identity; `download_report` tells which), and a file appears by rename only
        when it is right. Files that are there and right are neither moved nor read; damaged ones are fetched again;
        files that are not entries are left alone. `path_prefix` takes one entry or folder. `link="auto"` takes bytes
        from the local cache by reflink, else read-only hard link, else copy; `"copy"` gives files of your own to
        edit.

        `allow_missing_references` leaves out references whose object is gone; ones that changed are errors all the
        same. What nothing could confirm is named in a warning of the logger `refart`. The workers of an `executor`
        move the bytes instead of threads of this process; all of them must see the root, and the same configuration,
        credentials and store.

        Raises `ReferenceChangedError`, `ReferenceMissingError`, `ChecksumError`, `PermissionDeniedError`,
        `SourceError`, `StoreError`, `ConflictError` where a folder lies in the place of a file, or a file or symbolic
        link in that of a folder; `InvalidInputError` before anything is written where the paths cannot all be files
        under one root. Files finished before an error stay, and are not fetched again.
        """
        report = self.download_report(
            root,
            path_prefix=path_prefix,
            include=include,
            exclude=exclude,
            allow_missing_references=allow_missing_references,
            link=link,
            executor=executor,
        )
        for paths, what in (
            (report.missing, "references are gone and were left out"),
            (report.unverified, "files could not be verified: no hash, pin or ETag was recorded"),
        ):
            if paths:
                _log.warning("%s: %d %s, first %r", self._label(), len(paths), what, paths[0])
        return report.root

    def download_report(
        self,
        root: PathLike | None = None,
        *,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        allow_missing_references: bool = False,
        link: Link = "auto",
        executor: Executor | None = None,
        prune: Callable[[list[str]], bool] | None = None,
    ) -> DownloadReport:
        """`download`, with the account of what was moved, kept, missing and unverified.

        `prune` is shown the files under `root` that are not entries of this version, once all is downloaded; they
        are removed where it returns True. A precious root is refused before anything is written, as by `checkout`.
        """
        context = self._logged_context()
        pages = ops.select.selection(
            self._reader(), self._label(), path_prefix=path_prefix, include=include, exclude=exclude
        )
        where = self.default_root() if root is None else root
        if prune is not None:
            ops.download.check_prunable(where)
        how: dict[str, Any] = {"allow_missing_references": allow_missing_references, "link": link}
        if executor is None:
            report = ops.download.download(context, pages, where, **how)
        else:
            how |= {"prefix": _folder(path_prefix), "include": include, "exclude": exclude}
            report = ops.download_elsewhere.download_elsewhere(
                context, self._reader(), pages, where, executor, **how
            )
        if prune is not None:
            report.removed = ops.download.prune(where, self._reader().pages(), prune)
        return report

    def default_root(self) -> str:
        """`./artifacts/name-v3`"""
        return f"./artifacts/{self._name}-{self.version}"

    def checkout(self, root: PathLike | None = None, *, prune: bool = False, link: Link = "auto") -> str:
        """Download everything; with `prune=True`, then remove files under `root` that are not entries.

        Without `prune`, such files stay. The home folder, the current folder and folders above them are refused.
        """
        return self.download_report(root, link=link, prune=(lambda _: True) if prune else None).root

    def verify(self, root: PathLike | None = None) -> VerifyReport:
        """Hash every file under `root` (default `./artifacts/name-v3`) and compare it, references included.

        Raises `ChecksumError` where files are missing or modified. Files of which no hash is known are listed in
        the report's `unverifiable`, never counted as right.
        """
        report = self.verify_report(root)
        if not report.is_good:
            bad = [f"{p} (modified)" for p in report.modified] + [f"{p} (missing)" for p in report.missing]
            more = f" and {len(bad) - 5:,} more" if len(bad) > 5 else ""
            raise ChecksumError(
                f"{report.root} is not {self._label()}: {', '.join(bad[:5])}{more}; download() fetches them again"
            )
        return report

    def verify_report(self, root: PathLike | None = None) -> VerifyReport:
        """`verify` that returns what it found, good or bad."""
        where = self.default_root() if root is None else root
        return ops.verify.verify(self._logged_context(), self._reader().pages, where)

    def verify_remote(
        self,
        path_prefix: str | None = None,
        *,
        sample: int | None = None,
        seed: int = 0,
        executor: Executor | None = None,
    ) -> RemoteReport:
        """Ask whether the recorded bytes of all references can still be had; reads none of them.

        As `status`, at the same cost, but only for what was logged: a reference is good where its pinned write, or
        equal content, is there. `sample` asks for so many entries instead, drawn from all with equal chances (the same
        ones for the same `seed`), by one or two requests each or fewer; managed files among them are passed over.
        `executor` lists large prefixes, or asks about the sample. `report.check()` raises `ReferenceMissingError` where
        something is lost. Raises `SourceError`, `InvalidInputError`.
        """
        if sample is not None and path_prefix:
            raise InvalidInputError("a sample is drawn from all entries; it takes no path_prefix=")
        context, prefix = self._logged_context(), _folder(path_prefix)
        return ops.verify_remote.verify_remote(
            context, self._reader(), prefix, sample=sample, seed=seed, executor=executor
        )

    def verify_bytes(
        self,
        *,
        sample: int | None = None,
        seed: int = 0,
        since: datetime | str | None = None,
        restart: bool = False,
        executor: Executor | None = None,
    ) -> BytesReport:
        """Read every byte of all entries where they lie, and compare it with what was recorded; keeps none of them.

        References come from their sources, pinned; managed files from the store. What was read is noted in the cache
        folder, some thousands of entries (or 4 GiB) at a time, so that a call after one that was stopped, or failed,
        goes on where it ended; `restart` begins anew. What was wrong is never noted.

        - `sample`: only so many entries, drawn from all with equal chances; the same ones for the same `seed`.
        - `since`: what this machine began to read at that time or later, for whichever version, and found right is
          not read again (aware, or ISO 8601 with a zone).
        - `executor`: reads instead of threads of this process. Its workers must see the same configuration, files,
          credentials and store; parts of shards travel, not entries.

        `report.check()` raises `ChecksumError` where bytes are wrong or gone. Raises `SourceError` where a source
        fails, `StoreError`, `FormatError`, `InvalidInputError`.
        """
        return ops.verify_bytes.verify_bytes(
            self._logged_context(),
            self._reader(),
            sample=sample,
            seed=seed,
            since=since,
            restart=restart,
            executor=executor,
        )

    def file(self, root: PathLike | None = None) -> str:
        """Download the one file of an artifact that has exactly one; returns its path."""
        if self.file_count != 1:
            raise InvalidInputError(
                f"{self._label()} has {self.file_count:,} entries; file() is for exactly one"
            )
        entry = next(self.entries())
        return f"{self.download(root)}/{entry.path}"

    def open(self, path: str) -> io.BufferedReader:
        """An entry's bytes as a seekable binary file, without a download.

        Ranges come from the pinned object. A read from start to end is hashed on the way and raises
        `ChecksumError` or `ReferenceChangedError` at its end if the bytes are not the recorded ones; after a `seek`
        past what was read, the pin alone vouches.
        """
        return self.get_entry(path).open()

    def diff(self, other: Artifact, path_prefix: str | None = None, *, moves: bool = True) -> Diff:
        """What changed from this version to `other`: pages of changes by path, and a `summary` that grows with them.

        An entry is `added`, `removed`, `modified` (other bytes), `moved` (the same bytes at another path, by a hash) or
        `relocated` (the same bytes at another URI). `path_prefix` narrows it to one entry or folder. Reads only shards
        that differ. With `moves=False`, an entry that moved was removed and added, and changes come while they are
        found.
        """
        return manifest.compare.diff(self._reader(), other._reader(), _folder(path_prefix), moves=moves)

    def diff_live(
        self, path_prefix: str | None = None, *, moves: bool = True, executor: Executor | None = None
    ) -> Diff:
        """What changed from this version to what lies at its references now: changes as of `diff`, `new_` being now.

        Costs one listing of each prefix that was logged, and little for each single object; `executor` lists large
        prefixes. `added` is what lies below those prefixes now, and was not logged. `unknown` is what cannot be told:
        an object that was written again with the same size and no hash in common, or may not be looked at. Managed
        files cannot change, and are left out. Raises `SourceError`.
        """
        prefix = _folder(path_prefix)
        return ops.diff.live(
            self._logged_context().local, self._reader(), prefix, moves=moves, executor=executor
        )

    def diff_folder(
        self, root: PathLike | None = None, path_prefix: str | None = None, *, moves: bool = True
    ) -> Diff:
        """What changed from this version to a folder of downloaded files: changes as of `diff`, `new_` the folder's.

        `root` is `./artifacts/name-v3` by default. Files are read only where size, modified time or inode changed since
        they were last hashed (`verify` reads all of them). `unknown` is a file of the right size of which no hash is
        known. Symbolic links are no files of a version. Raises `NotFoundError` where there is no such folder.
        """
        where = self.default_root() if root is None else root
        local, prefix = self._logged_context().local, _folder(path_prefix)
        return ops.diff.folder(local, self._reader(), where, prefix, moves=moves)

    # -- ask the source --------------------------------------------------------------------------

    def status(
        self,
        path_prefix: str | None = None,
        *,
        unchanged: bool = False,
        executor: Executor | None = None,
    ) -> StatusReport:
        """Compare every reference with what lies at its URI now: iterate for pages of what changed, by path; `read()`
        gives the counts.

        Tells of each reference what became of its object (`live.State`: unchanged, modified, rewritten, unverifiable,
        removed, denied), of each logged prefix what is new, and whether the recorded bytes can still be read
        (`live.PinState`: pinned, equal, superseded, lost, unverifiable, denied). Managed files are left out.

        Costs one listing of each prefix that was logged, less than a HEAD for each single object, and a HEAD for each
        pinned version of what changed. `path_prefix` narrows the listing too, where no patterns were given. `unchanged`
        gives rows of unchanged entries as well. `executor` lists large prefixes of S3 and GCS. Raises `SourceError`.
        """
        local, prefix = self._logged_context().local, _folder(path_prefix)
        return ops.status.StatusReport(local, self._reader(), prefix, unchanged=unchanged, executor=executor)

    # -- bring the source back ---------------------------------------------------------------------

    def restore(
        self,
        path_prefix: str | None = None,
        *,
        to: PathLike | None = None,
        delete: bool = False,
        allow_missing: bool = False,
        executor: Executor | None = None,
    ) -> RestoreReport:
        """Make the source hold what this version recorded: `restore_plan(…)`, and `execute()` without a question.

        Raises `ReferenceMissingError` before anything is written where an entry cannot be restored, unless
        `allow_missing`; `ConflictError` at the end, where objects changed meanwhile: they stay as they are.
        """
        plan = self.restore_plan(path_prefix, to=to, delete=delete, executor=executor)
        report = plan.execute(allow_missing=allow_missing)
        report.check()
        return report

    def restore_plan(
        self,
        path_prefix: str | None = None,
        *,
        to: PathLike | None = None,
        delete: bool = False,
        executor: Executor | None = None,
    ) -> RestorePlan:
        """What must be done so that the source holds what this version recorded. Writes nothing; `execute()` does.

        Costs one listing of each logged prefix, and a HEAD for each entry that changed. Servers copy the pinned writes
        themselves, one copy for each such entry: no byte moves through this machine. Managed files are left out: they
        are in the store, and cannot change. Files of this machine are written from the store or the cache, where those
        have the recorded bytes. What refart only reads (HTTP, SFTP and other drivers) cannot be restored.

        - `path_prefix`: only this entry, or what lies below this folder.
        - `to`: a prefix of the same kind of source, reached by the same account and options; each entry goes to its
          path below it. Default: where everything was.
        - `delete`: delete what was not recorded, below the logged prefixes (or `to`); on a bucket with versions, a
          later restore can bring it back. Otherwise it is only listed (`new`).
        - `executor`: lists large prefixes.

        Raises `NotFoundError` for a `path_prefix` without entries, `InvalidInputError`, `SourceError`.
        """
        return ops.restore.plan(
            self._logged_context(),
            self._reader(),
            self._label(),
            path_prefix=path_prefix,
            to=None if to is None else os.fspath(to),
            delete=delete,
            executor=executor,
        )

    # -- as a table --------------------------------------------------------------------------------

    def to_arrow(self, columns: Sequence[str] | None = None, prefix: str | None = None) -> pyarrow.Table:
        """The entries as a `pyarrow.Table`, by path: `path`, `size`, `content_id`, `uri`, `pin`, or some of these.

        `prefix` narrows it to one entry or folder. All of it is in memory at once; `to_batches` streams.
        """
        return self.to_batches(columns, prefix).read_all()

    def to_batches(
        self, columns: Sequence[str] | None = None, prefix: str | None = None
    ) -> pyarrow.RecordBatchReader:
        """`to_arrow` as a stream, which can be iterated once: its batches are read page by page.

        DuckDB, Polars and all that know Arrow's C stream take it, and an artifact itself: `polars.DataFrame(artifact)`.
        """
        return ops.tables.reader(self._pages_below(prefix), columns)

    def to_pandas(self, columns: Sequence[str] | None = None, prefix: str | None = None) -> pandas.DataFrame:
        """`to_arrow` as a `pandas.DataFrame`; needs pandas."""
        return self.to_arrow(columns, prefix).to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The entries by Arrow's PyCapsule interface, which data frames and databases understand."""
        return self.to_batches().__arrow_c_stream__(requested_schema)

    def uris(self, prefix: str | None = None) -> Iterator[str]:
        """The URIs of the references by path, as a stream; managed files have none, and are left out."""
        return ops.tables.uris(self._pages_below(prefix))

    def sql(self, query: str) -> pyarrow.Table:
        """The result of one SELECT over the table `entries` (`path`, `size`, `content_id`, `uri`, `pin`), by DuckDB.

        It reads the shards where they lie, and of them the columns and rows that the query needs; a shard that has no
        path of those which it asks for is not opened. The query can reach no other file, and change nothing. Needs
        `pip install 'refart[sql]'`. Raises `InvalidInputError` with what DuckDB says, `FormatError` for damaged shards.
        """
        return self.sql_batches(query).read_all()

    def sql_batches(self, query: str) -> pyarrow.RecordBatchReader:
        """`sql` as a stream, computed as it is read; errors may come then."""
        context, manifest = self._logged_context(), self._reader()
        return ops.tables.sql(context.store, manifest.index, self._label(), query)

    # -- versions and lineage ----------------------------------------------------------------------

    def new_draft(self) -> Artifact:
        """A draft of the same name and type with the same entries; copies and downloads nothing.

        Logging it records this version as an input of the run.
        """
        entries = manifest.draft.Draft(self._reader())
        return self._derived(self._name, entries, self.description, self.metadata)

    def select(
        self,
        name: str | None = None,
        *,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        sample: int | float | None = None,
        seed: int = 0,
    ) -> Artifact:
        """A draft with some of the entries: `version.select("small", include="*.jpg", sample=1000)`. Copies no byte.

        - `name`: of the new artifact; default this one's with `-subset`. The type is the same.
        - `path_prefix`, `include`, `exclude`: as in `download`.
        - `sample`: of those, so many (a whole number, exactly) or such a fraction (0.1, about a tenth). Which ones is
          decided by a hash of `seed` and path: the same everywhere, a larger sample holds a smaller one of the same
          seed, and of a later version mostly the same entries are chosen.

        Paths, URIs, pins and content ids stay; managed files are those of the store. Logging the draft records this
        version as an input of the run, and how it was chosen as `description`. Raises `NotFoundError` where nothing is
        chosen, `InvalidInputError` for a sample of more than there is.
        """
        how: dict[str, Any] = {
            "path_prefix": path_prefix,
            "include": include,
            "exclude": exclude,
            "sample": sample,
        }
        chosen = names.check_name(name or f"{self._name}-subset", "artifact name")
        pages = ops.subset.chosen(self._reader(), self._label(), seed=seed, **how)
        draft = ops.subset.subset(pages, self._label())
        told = ops.subset.described(**how, seed=None if sample is None else seed)
        return self._derived(chosen, draft, f"{self._label()}: {told or 'all'}")

    def split(
        self,
        parts: Mapping[str, float],
        name: str | None = None,
        *,
        path_prefix: str | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        sample: int | float | None = None,
        seed: int = 0,
    ) -> dict[str, Artifact]:
        """A draft for each part, by the part's name: `version.split({"train": 0.8, "val": 0.2})["train"]`.

        Every entry falls to exactly one part, by a hash of `seed` and path: the fractions, which add up to 1, are met
        about; the same entry falls to the same part everywhere, and in every later version that is split so. The
        drafts are named `name-part` (`name` is this artifact's by default). The other arguments are those of `select`,
        and so is all else. Raises `NotFoundError` where a part would be empty.
        """
        how: dict[str, Any] = {
            "path_prefix": path_prefix,
            "include": include,
            "exclude": exclude,
            "sample": sample,
        }
        for part in parts:
            names.check_name(f"{name or self._name}-{part}", "artifact name")
        pages = ops.subset.chosen(self._reader(), self._label(), seed=seed, **how)
        drafts = ops.subset.split(pages, self._label(), parts, seed)
        told = ops.subset.described(**how, seed=seed, parts=dict(parts))
        return {
            part: self._derived(f"{name or self._name}-{part}", draft, f"{part} of {self._label()}: {told}")
            for part, draft in drafts.items()
        }

    def _derived(
        self, name: str, entries: Draft, description: str | None, metadata: Mapping[str, Any] | None = None
    ) -> Artifact:
        """A draft of these entries, of which this version is an input."""
        draft = Artifact(name, self._type, description, metadata)
        draft._draft = entries
        draft._context = self._logged_context()
        draft._local = draft._context.local
        draft._inputs = (self._logged().key,)
        return draft

    def save(self) -> Artifact:
        """Write description, metadata, aliases, tags and ttl of a logged version.

        Only what you changed is written, so two processes that add different aliases both succeed. An alias that
        names another version moves here. `latest` cannot be removed, only moved by logging.
        """
        row, context = self._logged(), self._logged_context()
        wanted = names.check_aliases(self.aliases)
        aliases = [a for a in wanted if a not in row.aliases]
        gone_aliases = [a for a in row.aliases if a not in wanted]
        tags = names.check_tags(self.tags)
        metadata = names.check_metadata(self.metadata)
        ttl_s = _ttl_s(self.ttl)
        patch = Patch(
            actor=context.actor,
            at=datetime.now(UTC),
            set_description=names.check_description(self.description) != row.description,
            description=self.description,
            metadata=metadata if metadata != dict(row.metadata) else None,
            set_ttl=ttl_s != row.ttl_s,
            ttl_s=ttl_s,
            add_aliases=tuple(aliases),
            remove_aliases=tuple(gone_aliases),
            add_tags=tuple(t for t in tags if t not in row.tags),
            remove_tags=tuple(t for t in row.tags if t not in tags),
        )
        if names.LATEST in patch.remove_aliases:
            raise InvalidInputError(
                "the alias 'latest' cannot be removed; logging or deleting a version moves it"
            )
        self._read_row(context.catalog.update(row.key, patch))
        return self

    def delete(self, delete_aliases: bool = False) -> None:
        """Delete this version. Its number is never reused; referenced bytes are never touched.

        Raises `ConflictError` where it has aliases (`latest` is one) and `delete_aliases` is False.
        """
        context = self._logged_context()
        row = context.catalog.delete(
            self._logged().key, delete_aliases=delete_aliases, actor=context.actor, at=datetime.now(UTC)
        )
        self._read_row(row)

    def link(self, target: str, aliases: Iterable[str] | None = None) -> Artifact:
        """Make this version a version of another collection too: `link("registry/name")`. Copies nothing."""
        context, row = self._logged_context(), self._logged()
        project, name = names.parse_collection_ref(target, row.key.project)
        committed = ops.commit.link(context, row, project, name, names.check_aliases(aliases))
        return Artifact._of(context, committed.version)._adopt(context, committed)

    def wait(self, timeout: float | None = None) -> Artifact:
        """Return at once: refart logs before `log_artifact` returns. For code that was written for W&B."""
        self._logged()
        return self

    def logged_by(self) -> RunRecord | None:
        """The run that logged this version first; None where it was logged outside of a run."""
        run_id = self._logged().created_by
        return (
            None
            if run_id is None
            else RunRecord(self._logged_context(), self._logged_context().catalog.run(run_id))
        )

    def used_by(self) -> list[RunRecord]:
        """The runs that used this version, oldest first."""
        context = self._logged_context()
        edges = context.catalog.edges(versions=[self._logged().key], kind="input")
        rows = context.catalog.run_rows([edge.run_id for edge in edges])
        return [RunRecord(context, row) for row in rows]

    def lineage(self, direction: Direction = "both", depth: int | None = None) -> LineageGraph:
        """The versions and runs this came from (`upstream`), that came of it (`downstream`), or both."""
        return ops.lineage.lineage(self._logged_context().catalog, self._logged().key, direction, depth)

    # -- private -----------------------------------------------------------------------------------

    def _handle(self, entry: Entry) -> ArtifactEntry:
        from refart.handles import ArtifactEntry  # here, since it needs pyarrow

        return ArtifactEntry._of(self, entry)

    def _handles(self, added: Added) -> Entries:
        from refart.handles import Entries

        return Entries(self, added)

    def _add_version(self, uri: str, **choice: Any) -> Entries:
        """Add entries of a version of the workspace that this draft belongs to, else of the default one."""
        draft = self._editable()
        context = self._context if self._context is not None else shared_context(None)
        added, row = ops.reuse.add_version(context, draft, uri, **choice)
        # From now on it belongs there: managed files that were taken over lie in that workspace's store.
        self._context = context
        self._inputs = tuple(dict.fromkeys((*self._inputs, row.key)))
        return self._handles(added)

    def _label(self) -> str:
        return self._name if self._row is None else str(self._row.key)

    def _logged(self) -> VersionRow:
        if self._row is None:
            raise ConflictError(f"{self._name} is a draft; log_artifact() makes it a version first")
        return self._row

    def _logged_context(self) -> Context:
        self._logged()
        assert self._context is not None
        return self._context

    def _editable(self) -> Draft:
        if self._draft is None:
            raise FinalizedError(
                f"{self._label()} is logged and cannot change; new_draft() gives an editable copy"
            )
        return self._draft

    def _request(
        self, project: str, run_id: str | None, aliases: tuple[str, ...], tags: tuple[str, ...]
    ) -> ops.commit.Request:
        """What to log besides the entries. Of a logged version only the aliases and tags given now count."""
        plain = ops.commit.Request(project, self._name, self._type, run_id, aliases, tags)
        if self._row is not None:
            return plain
        return replace(
            plain,
            aliases=tuple(dict.fromkeys((*aliases, *names.check_aliases(self.aliases)))),
            tags=tuple(dict.fromkeys((*tags, *names.check_tags(self.tags)))),
            description=names.check_description(self.description),
            metadata=names.check_metadata(self.metadata) or None,
            ttl_s=_ttl_s(self.ttl),
            inputs=self._inputs,
        )

    def _here(self) -> Local:
        if self._local is None:
            self._local = local_side()
        return self._local

    def _reader(self) -> Manifest:
        if self._manifest is None:
            store, address = self._logged_context().store, self._logged().manifest.address
            self._manifest = manifest.reader.Manifest.open(store, address)
        return self._manifest

    def _pages_below(self, prefix: str | None) -> Iterator[Any]:
        """As `_pages`, of a prefix as people write it."""
        return self._pages(names.check_path(prefix.rstrip("/"), "prefix") if prefix else None)

    def _pages(self, prefix: str | None = None) -> Iterator[Any]:
        return self._draft.pages(prefix) if self._draft is not None else self._reader().pages(prefix)

    def _info(self) -> ManifestInfo:
        """Digests and counts: recorded, or computed from the draft once a revision."""
        if self._row is not None:
            return self._row.manifest
        return ops.commit.info_of(self._measured())

    def _measured(self) -> ManifestIndex:
        draft = self._editable()
        if self._built is None or self._built[0] != draft.revision:
            self._built = (draft.revision, ops.commit.measure(draft))
        return self._built[1]

    def _staging_folder(self) -> Path:
        if self._staging is None:
            self._staging = Path(mkdtemp(prefix="refart-new-file-"))
            finalize(self, shutil.rmtree, self._staging, ignore_errors=True)
        return self._staging


class RunRecord:
    """A run as the catalog knows it: what it is, what it logged and used."""

    def __init__(self, context: Context, row: RunRow) -> None:
        self._context, self._row = context, row

    id = property(lambda self: self._row.id, doc="Short random id.")
    name = property(lambda self: self._row.name, doc="The name given, else `run-` and the id.")
    project = property(lambda self: self._row.project, doc="The project that its artifacts belong to.")
    job_type = property(lambda self: self._row.job_type, doc="What kind of work it is; None where not given.")
    group = property(lambda self: self._row.group, doc="The common effort it is part of, or None.")
    tags = property(lambda self: self._row.tags, doc="Its labels.")
    state = property(lambda self: self._row.state, doc="running, finished or failed.")
    created_at = property(lambda self: self._row.created_at, doc="When it began (UTC).")
    finished_at = property(lambda self: self._row.finished_at, doc="When it ended (UTC); None while it runs.")

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings it was given, as plain JSON types. Read-only: they are recorded when a run begins."""
        return MappingProxyType(dict(self._row.config))

    def logged_artifacts(self) -> list[Artifact]:
        """The versions this run logged, in order, deleted ones included."""
        return self._edges("output")

    def used_artifacts(self) -> list[Artifact]:
        """The versions this run used, in order, deleted ones included."""
        return self._edges("input")

    def _edges(self, kind: Literal["input", "output"]) -> list[Artifact]:
        edges = self._context.catalog.edges(run_ids=[self._row.id], kind=kind)
        rows = self._context.catalog.version_rows([edge.version for edge in edges])
        return [Artifact._of(self._context, row) for row in rows]

    def __repr__(self) -> str:
        return f"<Run {self._row.project}/{self._row.id} {self._row.name!r}, {self._row.state}>"


def find(context: Context, project: str, name: str, selector: int | str) -> Artifact:
    """The live version that a selector names."""
    return Artifact._of(context, context.catalog.version(project, name, selector))


def list_versions(context: Context, where: VersionFilter, limit: int | None = None) -> list[Artifact]:
    return [Artifact._of(context, row) for row in context.catalog.versions(where, limit=limit)]


def _folder(path_prefix: str | None) -> str | None:
    return path_prefix.rstrip("/") if path_prefix else None


def _ttl_s(ttl: timedelta | None) -> int | None:
    if ttl is None:
        return None
    if not isinstance(ttl, timedelta) or ttl.total_seconds() < 1:
        raise InvalidInputError(f"ttl must be a timedelta of at least a second, or None, not {ttl!r}")
    return int(ttl.total_seconds())
