"""Bring the bytes of a version to a folder: only what is missing, checked while it streams, by rename when right."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self, get_args

from refart import checksums, files
from refart.checksums import StreamHasher
from refart.context import Context
from refart.entries import Entry, Page, entries_of
from refart.errors import (
    ConflictError,
    InvalidInputError,
    PermissionDeniedError,
    RefartError,
    ReferenceMissingError,
    StoreError,
)
from refart.ops import seen, targets
from refart.ops.stream import COMPARED, Checked, Rung, stream
from refart.parallel import Pace, map_paced, thread_pool
from refart.receipts import Receipt, Receipts

if TYPE_CHECKING:
    from refart.ops.shards import Worker

Link = Literal["auto", "reflink", "hardlink", "copy"]
LINKS: tuple[Link, ...] = ("auto", "reflink", "hardlink", "copy")
_BATCH_ROWS = 4096  # entries that are looked up together

FIRST_THREADS: Final = 2
"""Files that are worked on at once, to begin with."""

LARGE_BYTES: Final = 1 << 20  # 1 MiB
"""Where the first files are as large on average, as many are worked on as there may be threads: those that move and
hash much get on beside each other, and the files may be too few to find their number by trying."""

_FIRST_FILES = 64


REQUESTS_A_THREAD: Final = 4
"""Where a source is slow, up to so many requests are under way for each configured thread: threads that wait cost
little."""


@dataclass(slots=True)
class DownloadReport:
    """What a download did."""

    root: str
    files: int = 0
    """Entries that now lie under the root."""
    kept_files: int = 0
    """Of these, files that were there and right already: neither moved nor, with a receipt, read."""
    cached_files: int = 0
    """Of these, files that came from the local cache."""
    moved_bytes: int = 0
    """Bytes that came from sources and the store."""
    missing: list[str] = field(default_factory=list)
    """Paths left out because their object is gone (`allow_missing_references`)."""
    unverified: list[str] = field(default_factory=list)
    """Paths of which nothing confirms the bytes: no hash, no pin, no ETag."""
    confirmed_by_server: int = 0
    """Files confirmed by pin or ETag only, since no hash of the bytes was recorded."""
    weakly_confirmed: int = 0
    """Files confirmed by a weak identity only: size and modified time, a weak ETag."""
    checked_by: dict[str, int] = field(default_factory=dict)
    """How many of `files` each rung confirmed (see `ops.stream.Rung`), strongest first. What was there or cached was
    compared by its SHA-256."""
    removed: list[str] = field(default_factory=list)
    """Paths of files under the root that were no entries and were removed on request."""


def download(
    context: Context | Worker,
    pages: Callable[[], Iterable[Page]],
    root: str | os.PathLike[str],
    *,
    allow_missing_references: bool = False,
    link: Link = "auto",
) -> DownloadReport:
    """Make the files of `pages` lie under `root`. Files that are not entries are left alone.

    `pages` is called again for each pass: that every path can be a file under `root` is checked before anything is
    written. See `Artifact.download` for the rules and errors.
    """
    check_link(link)
    folder = targets.open_root(root, create=False)
    count = targets.check_paths(pages, folder)
    folder.make()
    report = DownloadReport(os.fspath(root))
    fetcher = _Fetcher(context, folder, link, allow_missing_references)
    most = REQUESTS_A_THREAD * context.local.config.threads
    with (
        folder.working(),
        context.local.reporter.task(f"Downloading to {os.fspath(root)}", total=count, unit="files") as task,
        context.local.cache.batch(),
        _Remembering(context.local.receipts) as receipts,
        thread_pool(most) as pool,
    ):

        def missing() -> Iterator[_Wanted]:
            for entries in _batches(pages()):
                absent = fetcher.absent(entries)
                present_files = len(entries) - len(absent)
                report.files += present_files
                report.kept_files += present_files
                task.advance(present_files)
                yield from absent

        wanted = missing()
        head = list(islice(wanted, _FIRST_FILES))
        is_large = sum(each.entry.size or 0 for each in head) >= LARGE_BYTES * max(len(head), 1)
        pace = Pace(context.local.config.threads if is_large else FIRST_THREADS, most, least=1)
        for outcomes in map_paced(pool, fetcher.place, chain(head, wanted), pace):
            for outcome in outcomes:
                _count(report, outcome)
            receipts.add(outcome.receipt for outcome in outcomes)
            task.advance(len(outcomes), size_bytes=sum(outcome.moved_bytes for outcome in outcomes))
    report.missing.sort()
    report.unverified.sort()
    report.checked_by = {rung: n for rung in get_args(Rung) if (n := report.checked_by.get(rung))}
    return report


def check_link(link: str) -> None:
    """Raises `InvalidInputError` for what is none of `LINKS`."""
    if link not in LINKS:
        raise InvalidInputError(f"link must be one of {', '.join(LINKS)}, not {link!r}")


def _batches(pages: Iterable[Page]) -> Iterator[list[Entry]]:
    """Entries that are looked up together."""
    batch: list[Entry] = []
    for page in pages:
        for start in range(0, page.num_rows, _BATCH_ROWS):
            batch += entries_of(page.slice(start, _BATCH_ROWS))
            if len(batch) >= _BATCH_ROWS:
                yield batch
                batch = []
    yield batch


class _Remembering:
    """Receipts on their way to the memory, which takes many as readily as one."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._new: list[Receipt] = []

    def add(self, receipts: Iterable[Receipt | None]) -> None:
        self._new += (receipt for receipt in receipts if receipt is not None)
        if len(self._new) >= _BATCH_ROWS:
            self._write()

    def _write(self) -> None:
        self._receipts.remember(self._new)
        self._new = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()


class _Wanted(NamedTuple):
    """An entry that has to be placed."""

    entry: Entry
    target: str
    sha256: str | None
    """That the file must have, where it is recorded or was seen on this machine before."""

    is_met: bool
    """Whether its bytes may have come for another entry since they were looked up."""


class _Outcome(NamedTuple):
    path: str
    result: Literal["moved", "cached", "kept", "missing"]
    moved_bytes: int = 0
    rung: Rung = "sha256"
    receipt: Receipt | None = None


def _count(report: DownloadReport, outcome: _Outcome) -> None:
    if outcome.result == "missing":
        report.missing.append(outcome.path)
        return
    report.files += 1
    report.moved_bytes += outcome.moved_bytes
    report.kept_files += outcome.result == "kept"
    report.cached_files += outcome.result == "cached"
    counted = report.checked_by
    counted[outcome.rung] = counted.get(outcome.rung, 0) + 1
    if outcome.rung == "unverified":
        report.unverified.append(outcome.path)
    elif outcome.rung == "weak":
        report.weakly_confirmed += 1
    elif outcome.rung not in COMPARED:
        report.confirmed_by_server += 1


class _Fetcher:
    """Places entries one by one, from any number of threads."""

    def __init__(
        self, context: Context | Worker, root: targets.Root, link: Link, allow_missing: bool
    ) -> None:
        self._context, self._root, self._link, self._allow_missing = context, root, link, allow_missing
        self._cache, self._receipts = context.local.cache, context.local.receipts

    def absent(self, entries: list[Entry]) -> list[_Wanted]:
        """The entries whose target is not there and right by its receipt; no file is read."""
        known = seen.sha256_of_all(self._cache, entries)
        paths = [self._root.path_of(entry.path) for entry in entries]
        current = self._receipts.current(t for t, sha256 in zip(paths, known, strict=True) if sha256)
        absent = []
        met: set[str] = set()
        for entry, target, sha256 in zip(entries, paths, known, strict=True):
            if sha256 is None or current.get(target) != sha256:
                absent.append(_Wanted(entry, target, sha256, sha256 is None and entry.content_id in met))
                met.add(entry.content_id)
        return absent

    def place(self, wanted: _Wanted) -> _Outcome:
        """Put one entry at its target: from what lies there, from the cache, or from its source."""
        entry, target, sha256, is_met = wanted
        try:
            is_new_folder = self._root.make_parent(target)
            if is_met:
                sha256 = seen.sha256_of(self._cache, entry)
            if not is_new_folder and (kept := self._right(target, entry, sha256)) is not None:
                return _Outcome(entry.path, "kept", receipt=_receipt(target, kept))
            if sha256 is not None and self._cache.get(sha256, target, self._link):
                return _Outcome(entry.path, "cached", receipt=_receipt(target, sha256))
            checked = self._fetch(entry, target)
            receipt = _receipt(target, checked.sha256)
        except ReferenceMissingError:
            if not self._allow_missing:
                raise
            return _Outcome(entry.path, "missing")
        except RefartError:
            raise
        except PermissionError as error:
            raise PermissionDeniedError(f"{entry.path}: cannot write {target}: {error.strerror}") from None
        except OSError as error:
            raise StoreError(f"{entry.path}: cannot write {target}: {error.strerror or error}") from None
        return _Outcome(entry.path, "moved", checked.size_bytes, checked.rung, receipt)

    def _right(self, target: str, entry: Entry, expected: str | None) -> str | None:
        """The SHA-256 of the file at the target, where it already has the recorded bytes (it is read; there is no
        receipt); else None."""
        algo = "sha256" if expected is not None else checksums.split(entry.content_id)[0]
        try:
            found = os.lstat(target)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(found.st_mode):
            raise ConflictError(
                f"{target} is a folder where the artifact has a file: move it away or choose another root"
            )
        if not stat.S_ISREG(found.st_mode):
            return None
        if algo not in checksums.IDENTIFYING or (entry.size is not None and found.st_size != entry.size):
            return None
        hasher = StreamHasher(*{"sha256", algo})
        with files.open_for_reading(target) as file:
            for chunk in files.chunks(file):
                hasher.update(chunk)
        sha256 = hasher.content_id().removeprefix("sha256:")
        if expected is not None:
            return sha256 if sha256 == expected else None
        if hasher.content_id(algo) != entry.content_id:
            return None
        seen.remember(self._cache, entry, sha256, compared=True)
        return sha256

    def _fetch(self, entry: Entry, target: str) -> Checked:
        temporary = files.temporary_name(os.path.dirname(target))
        turn = self._root.turn(target)
        try:
            with stream(self._context.local, self._context.store, entry) as chunks:
                with turn:
                    file = FileIO(temporary, "xb")
                with file:
                    for chunk in chunks:
                        files.write_all(file, chunk)
            assert chunks.checked is not None
            compared = chunks.checked.rung in checksums.IDENTIFYING
            seen.remember(self._cache, entry, chunks.checked.sha256, compared=compared)
            self._cache.place(temporary, chunks.checked.sha256, target, self._link, turn=turn)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return chunks.checked


def _receipt(target: str, sha256: str) -> Receipt:
    """`Receipt.of` a target, whose path is absolute and plain."""
    found = os.stat(target)
    return Receipt(target, found.st_size, found.st_mtime_ns, found.st_ino, sha256)


def prune(
    root: str | os.PathLike[str], pages: Iterable[Page], confirm: Callable[[list[str]], bool]
) -> list[str]:
    """Remove the files under `root` that are not a path of `pages`; returns what was removed, sorted.

    `confirm` is shown the sorted paths and may decline; exactly what it was shown is removed. See `check_prunable`.
    """
    folder = check_prunable(root)
    with folder.working():
        foreign = targets.not_in(folder.walk(), pages)
        if not foreign or not confirm(foreign):
            return []
        for path in foreign:
            folder.remove(path)
        folder.remove_empty_folders()
    return foreign


def check_prunable(root: str | os.PathLike[str]) -> targets.Root:
    """Open a root under which files may be removed.

    Raises `InvalidInputError` where it is the home folder, the current folder or above one of them.
    """
    folder = targets.open_root(root, create=False)
    targets.refuse_precious(folder)
    return folder
