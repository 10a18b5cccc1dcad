"""Reading entries and bytes: download, open, verify; compare with other versions and with the live source; tables."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import TYPE_CHECKING, Any

from refart import manifest, names, ops
from refart.artifact.core import Core, folder_of
from refart.errors import ChecksumError, InvalidInputError, NotFoundError, NotInstalledError

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from refart.handles import ArtifactEntry
    from refart.manifest.compare import Diff
    from refart.ops.download import DownloadReport, Link
    from refart.ops.patterns import Patterns
    from refart.ops.restore import RestorePlan, RestoreReport
    from refart.ops.status import StatusReport
    from refart.ops.verify import VerifyReport
    from refart.ops.verify_bytes import BytesReport
    from refart.ops.verify_remote import RemoteReport


_log = logging.getLogger("refart")

PathLike = str | os.PathLike[str]


class Reading(Core):
    """What reads, and changes nothing of the version."""

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
            how |= {"prefix": folder_of(path_prefix), "include": include, "exclude": exclude}
            report = ops.download_elsewhere.download_elsewhere(
                context, self._reader(), pages, where, executor, **how
            )
        if prune is not None:
            report.removed = ops.download.prune(where, self._reader().pages(), prune)
        return report

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
        something is lost. Raises `SourceError`, `StoreError`, `InvalidInputError`, `NotFoundError` for a `path_prefix`
        without entries.
        """
        if sample is not None and path_prefix:
            raise InvalidInputError(
                "a sample (--sample) is drawn from all entries; it takes no path_prefix= (--path)"
            )
        context, prefix = self._logged_context(), folder_of(path_prefix)
        return ops.verify_remote.verify_remote(
            context,
            self._reader(),
            prefix,
            label=self._label(),
            sample=sample,
            seed=seed,
            executor=executor,
        )

    def verify_bytes(
        self,
        path_prefix: str | None = None,
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

        - `path_prefix`: only this entry, or what lies below this folder.
        - `sample`: only so many entries, drawn from all with equal chances; the same ones for the same `seed`.
        - `since`: what this machine began to read at that time or later, for whichever version, and found right is
          not read again (aware, or ISO 8601 with a zone).
        - `executor`: reads instead of threads of this process. Its workers must see the same configuration, files,
          credentials and store; parts of shards travel, not entries.

        `report.check()` raises `ChecksumError` where bytes are wrong or gone. Raises `SourceError` where a source
        fails, `StoreError`, `FormatError`, `InvalidInputError`, `NotFoundError` for a `path_prefix` without entries.
        """
        return ops.verify_bytes.verify_bytes(
            self._logged_context(),
            self._reader(),
            folder_of(path_prefix),
            label=self._label(),
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

    def diff(self, other: Core, path_prefix: str | None = None, *, moves: bool = True) -> Diff:
        """What changed from this version to `other`: pages of changes by path, and a `summary` when all of them were
        taken; `read()` gives the summary alone.

        An entry is `added`, `removed`, `modified` (other bytes), `moved` (the same bytes at another path, by a hash) or
        `relocated` (the same bytes at another URI). `path_prefix` narrows it to one entry or folder; where
        neither version has one, that raises `NotFoundError`. Reads only shards that differ. With `moves=False`, an
        entry that moved was removed and added, and changes come while they are found.
        """
        if not isinstance(other, Core):
            raise InvalidInputError(
                f"diff() takes another Artifact, not {other!r}: workspace.artifact('name:v1') gives one"
            )
        old, new, prefix = self._reader(), other._reader(), folder_of(path_prefix)
        ops.select.check_prefix(prefix, f"{self._label()} and {other._label()}", old, new)
        return manifest.compare.diff(old, new, prefix, moves=moves)

    def diff_live(
        self, path_prefix: str | None = None, *, moves: bool = True, executor: Executor | None = None
    ) -> Diff:
        """What changed from this version to what lies at its references now: changes as of `diff`, `new_` being now.

        Costs one listing of each prefix that was logged, and little for each single object; `executor` lists large
        prefixes. `added` is what lies below those prefixes now, and was not logged. `unknown` is what cannot be told:
        an object that was written again with the same size and no hash in common, or may not be looked at. Managed
        files cannot change, and are left out. Raises `SourceError`; `NotFoundError` for a `path_prefix` at which
        neither side has anything.
        """
        prefix = folder_of(path_prefix)
        return ops.diff.live(
            self._logged_context().local,
            self._reader(),
            prefix,
            label=self._label(),
            moves=moves,
            executor=executor,
        )

    def diff_folder(
        self, root: PathLike | None = None, path_prefix: str | None = None, *, moves: bool = True
    ) -> Diff:
        """What changed from this version to a folder of downloaded files: changes as of `diff`, `new_` the folder's.

        `root` is `./artifacts/name-v3` by default. Files are read only where size, modified time or inode changed since
        they were last hashed (`verify` reads all of them). `unknown` is a file of the right size of which no hash is
        known. Symbolic links are no files of a version. Raises `NotFoundError` where there is no such folder,
        and for a `path_prefix` at which neither side has anything.
        """
        where = self.default_root() if root is None else root
        if not isinstance(where, (str, os.PathLike)):
            raise InvalidInputError(f"diff_folder() takes the path of a folder, not {where!r}")
        local, prefix = self._logged_context().local, folder_of(path_prefix)
        return ops.diff.folder(local, self._reader(), where, prefix, label=self._label(), moves=moves)

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
        (`live.PinState`: pinned, equal, superseded, stored, lost, unverifiable, denied). Managed files are left out.

        Costs one listing of each prefix that was logged, less than a HEAD for each single object, and a HEAD for each
        pinned version of what changed. `path_prefix` narrows the listing too, where no patterns were given. `unchanged`
        gives rows of unchanged entries as well. `executor` lists large prefixes of S3 and GCS. Raises `SourceError`,
        `StoreError`; `NotFoundError` for a `path_prefix` at which neither side has anything.
        """
        context, prefix = self._logged_context(), folder_of(path_prefix)
        return ops.status.StatusReport(
            context, self._reader(), prefix, label=self._label(), unchanged=unchanged, executor=executor
        )

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
        `allow_missing`; `ConflictError` at the end, where objects changed meanwhile: they stay as they are; or, where
        some could not be restored (they are archived, access is denied), an error of the class of the first.
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
          later restore can bring it back. Otherwise it is only listed (`new`). Nothing is deleted or written beyond a
          symbolic link below a logged folder or `to`.
        - `executor`: lists large prefixes.

        Raises `NotFoundError` for a `path_prefix` without entries, `InvalidInputError` (also for a folder as `to` where
        no reference is a file: `download` brings those bytes), `SourceError`.
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

        `prefix` narrows it to one entry or folder; where nothing is there, the table has no rows. All of it is in
        memory at once; `to_batches` streams.
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
        """`to_arrow` as a `pandas.DataFrame`; without pandas, `NotInstalledError`."""
        try:
            import pandas  # noqa: F401  # pyarrow would import it last
        except ImportError as error:
            raise NotInstalledError.of("to_pandas()", error) from error
        return self.to_arrow(columns, prefix).to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The entries by Arrow's PyCapsule interface, which data frames and databases understand."""
        return self.to_batches().__arrow_c_stream__(requested_schema)

    def uris(self, prefix: str | None = None) -> Iterator[str]:
        """The URIs of the references by path, as a stream; managed files have none, and are left out. None where
        nothing is at `prefix`."""
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
