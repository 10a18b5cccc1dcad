"""Building a draft: add references and files, take entries away, refresh, materialize, relocate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Literal

from refart import names, ops
from refart.artifact.core import Core, folder_of
from refart.errors import InvalidInputError, NotFoundError
from refart.opening import shared_context

if TYPE_CHECKING:
    from refart.entries import Entry
    from refart.handles import ArtifactEntry, Entries
    from refart.ops.identify import Checksum
    from refart.ops.materialize import MaterializeReport
    from refart.ops.patterns import Patterns
    from refart.ops.refresh import RefreshReport


PathLike = str | os.PathLike[str]


class Building(Core):
    """What changes a draft. On a logged version all of it raises `FinalizedError`."""

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
        - `allow_missing_references`: what is lost already, because it is gone or (other than in a download) because it
          was overwritten, stays a reference, and is reported (`lost`).

        Raises `ReferenceMissingError`, `ReferenceChangedError`, `ChecksumError`, `SourceError`, `StoreError`; the draft
        is then as it was.
        """
        draft = self._editable()
        self._context = self._context if self._context is not None else shared_context(None)
        return ops.materialize.materialize(
            self._context,
            draft,
            path_prefix=folder_of(path_prefix),
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
