"""Compare files on disk with what a version recorded, reading every byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from refart import checksums, files
from refart.checksums import StreamHasher
from refart.context import Context
from refart.entries import Entry, Page, entries_of
from refart.ops import seen, targets
from refart.parallel import Pace, available_cores, map_paced, thread_pool


@dataclass(slots=True)
class VerifyReport:
    """What a comparison of a folder with a version found. Paths are entry paths, in order."""

    root: str
    ok_files: int = 0
    read_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    modified: list[str] = field(default_factory=list)
    unverifiable: list[str] = field(default_factory=list)
    """Files of the right size of which no hash is known: neither recorded, nor seen when they were downloaded."""
    foreign_files: int = 0
    """Files under the root that are not entries; they are not an error."""

    @property
    def is_good(self) -> bool:
        return not self.missing and not self.modified


def verify(
    context: Context, pages: Callable[[], Iterable[Page]], root: str | os.PathLike[str]
) -> VerifyReport:
    """Hash every file of `pages` under `root`. Receipts are not believed: every byte is read.

    References are verified like managed files: by their recorded hash, or by the sha256 that was seen when this
    machine downloaded the same object. Raises `NotFoundError` where `root` does not exist.
    """
    folder = targets.open_root(root, must_exist=True)
    report = VerifyReport(os.fspath(root))

    def check(entry: Entry) -> tuple[str, Literal["ok", "missing", "modified", "unverifiable"], int]:
        return entry.path, *_check(context, Path(folder.path_of(entry.path)), entry)

    with (
        context.local.reporter.task(f"Verifying {os.fspath(root)}", unit="files") as task,
        thread_pool(context.local.config.threads) as pool,
    ):
        entries = (entry for page in pages() for entry in entries_of(page))
        pace = Pace(available_cores(), context.local.config.threads, least=1)
        for results in map_paced(pool, check, entries, pace):
            for path, result, size in results:
                report.read_bytes += size
                report.ok_files += result == "ok"
                if result != "ok":
                    getattr(report, result).append(path)
            task.advance(len(results), size_bytes=sum(size for _, _, size in results))
    for paths in (report.missing, report.modified, report.unverifiable):
        paths.sort()
    report.foreign_files = len(targets.not_in(folder.walk(), pages()))
    return report


def _check(
    context: Context, file: Path, entry: Entry
) -> tuple[Literal["ok", "missing", "modified", "unverifiable"], int]:
    if file.is_symlink() or not file.is_file():
        return ("modified" if file.exists() or file.is_symlink() else "missing"), 0
    if entry.size is not None and file.stat().st_size != entry.size:
        return "modified", 0
    algo, _ = checksums.split(entry.content_id)
    expected = entry.content_id if checksums.can_compute(algo) else None
    # An `md5:` that came from an encrypted object's ETag is no MD5; the sha256 seen at download is the better word.
    known = seen.sha256_of(context.local.cache, entry)
    if known is not None:
        algo, expected = "sha256", f"sha256:{known}"
    if expected is None:
        return "unverifiable", 0
    hasher = StreamHasher(algo)
    with files.open_for_reading(file) as stream:
        for chunk in files.chunks(stream):
            hasher.update(chunk)
    return ("ok" if hasher.content_id(algo) == expected else "modified"), hasher.size_bytes
