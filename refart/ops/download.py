"""Bring the bytes of a version to a folder: only what is missing, checked while it streams, by rename when right."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

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
from refart.parallel import map_bounded, thread_pool
from refart.receipts import Receipt

Link = Literal["auto", "reflink", "hardlink", "copy"]
LINKS: tuple[Link, ...] = ("auto", "reflink", "hardlink", "copy")
_BATCH_ROWS = 4096  # rows whose entries exist as objects at one time


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
    context: Context,
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
    if link not in LINKS:
        raise InvalidInputError(f"link must be one of {', '.join(LINKS)}, not {link!r}")
    folder = targets.open_root(root, create=False)
    count = targets.check_paths(pages, folder)
    folder.make()
    report = DownloadReport(os.fspath(root))
    fetcher = _Fetcher(context, folder, link, allow_missing_references)
    with (
        folder.working(),
        context.local.reporter.task(f"Downloading to {os.fspath(root)}", total=count, unit="files") as task,
        thread_pool(context.local.config.threads) as pool,
    ):
        for entries in _batches(pages()):
            wanted = {folder.path_of(e.path): e for e in entries}
            present = fetcher.present(wanted)
            report.files += len(present)
            report.kept_files += len(present)
            task.advance(len(present))
            todo = [(path, entry) for path, entry in wanted.items() if path not in present]
            receipts: list[Receipt] = []
            for outcome in map_bounded(pool, fetcher.place, todo, window=2 * context.local.config.threads):
                _count(report, outcome)
                if outcome.receipt is not None:
                    receipts.append(outcome.receipt)
                task.advance(1, size_bytes=outcome.moved_bytes)
            context.local.receipts.remember(receipts)
    report.checked_by = {rung: n for rung in get_args(Rung) if (n := report.checked_by.get(rung))}
    return report


def _batches(pages: Iterable[Page]) -> Iterator[list[Entry]]:
    for page in pages:
        for start in range(0, page.num_rows, _BATCH_ROWS):
            yield list(entries_of(page.slice(start, _BATCH_ROWS)))


@dataclass(frozen=True, slots=True)
class _Outcome:
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

    def __init__(self, context: Context, root: targets.Root, link: Link, allow_missing: bool) -> None:
        self._context, self._root, self._link, self._allow_missing = context, root, link, allow_missing
        self._cache, self._receipts = context.local.cache, context.local.receipts

    def expected_sha256(self, entry: Entry) -> str | None:
        """The sha256 the file must have, where it is recorded or was seen on this machine before."""
        return seen.sha256_of(self._cache, entry)

    def present(self, wanted: dict[str, Entry]) -> set[str]:
        """Which target files are there and right by their receipts, without reading one."""
        found = self._receipts.current(wanted)
        return {path for path, sha256 in found.items() if sha256 == self.expected_sha256(wanted[path])}

    def place(self, item: tuple[str, Entry]) -> _Outcome:
        """Put one entry at its target: from what lies there, from the cache, or from its source."""
        path, entry = item
        target = Path(path)
        expected = self.expected_sha256(entry)
        try:
            self._root.make_parent(target)
            if self._is_right(target, entry, expected):
                return self._done(entry, target, "kept")
            if expected is not None and self._cache.get(expected, target, self._link):
                return self._done(entry, target, "cached", sha256=expected)
            checked = self._fetch(entry, target)
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
        return self._done(
            entry, target, "moved", sha256=checked.sha256, moved_bytes=checked.size_bytes, rung=checked.rung
        )

    def _is_right(self, target: Path, entry: Entry, expected: str | None) -> bool:
        """True where the file at the target already has the recorded bytes (it is read; there is no receipt)."""
        algo = "sha256" if expected is not None else checksums.split(entry.content_id)[0]
        try:
            found = target.lstat()
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise ConflictError(
                f"{target} is a folder where the artifact has a file: move it away or choose another root"
            )
        if not stat.S_ISREG(found.st_mode):
            return False
        if algo not in checksums.IDENTIFYING or (entry.size is not None and found.st_size != entry.size):
            return False
        hasher = StreamHasher(*{"sha256", algo})
        with files.open_for_reading(target) as file:
            for chunk in files.chunks(file):
                hasher.update(chunk)
        if expected is not None:
            return hasher.content_id() == f"sha256:{expected}"
        right = hasher.content_id(algo) == entry.content_id
        if right:
            sha256 = hasher.content_id().removeprefix("sha256:")
            seen.remember(self._cache, entry, sha256, compared=True)
        return right

    def _fetch(self, entry: Entry, target: Path) -> Checked:
        temporary = Path(files.temporary_name(target.parent))
        try:
            with (
                stream(self._context.local, self._context.store, entry) as chunks,
                temporary.open("xb") as file,
            ):
                for chunk in chunks:
                    file.write(chunk)
            assert chunks.checked is not None
            compared = chunks.checked.rung in checksums.IDENTIFYING
            seen.remember(self._cache, entry, chunks.checked.sha256, compared=compared)
            self._cache.place(temporary, chunks.checked.sha256, target, self._link)
        finally:
            temporary.unlink(missing_ok=True)
        return chunks.checked

    def _done(
        self,
        entry: Entry,
        target: Path,
        result: Literal["moved", "cached", "kept"],
        *,
        sha256: str | None = None,
        moved_bytes: int = 0,
        rung: Rung = "sha256",
    ) -> _Outcome:
        sha256 = sha256 or self.expected_sha256(entry)
        receipt = Receipt.of(target, sha256) if sha256 is not None else None
        return _Outcome(entry.path, result, moved_bytes, rung, receipt)


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
