"""The folders of a version, derived from its paths: one level, or a few, without reading what lies deeper.

Everything below a folder is one run of the sorted paths, so that a reader who met one path of it knows where the next
folder can begin, and skips the row groups and shards between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pyarrow.compute as pc

from refart.entries import Page, page_of
from refart.manifest.reader import Manifest


class Level(NamedTuple):
    """A part of what a folder holds."""

    entries: Page
    """Entries that lie no deeper than was asked for."""

    folders: list[str]
    """Folders as deep as was asked for; each holds at least one entry, and comes once."""


def levels(manifest: Manifest, folder: str | None, depth: int = 1) -> Iterator[Level]:
    """What lies in a folder (None: the whole version) and up to `depth` folders deep, in the order of paths.

    Folders above the last level are those that its folders and entries lie in. `a` is never a part of `ab`. Reads the
    row groups that have an entry or a first sight of a folder in them; a shard that begins inside a folder too deep to
    be listed tells that by its first path, which the index knows. Errors as of `Manifest.shard_pages`.
    """
    scan = _Scan("" if folder is None else f"{folder}/", depth)
    shards = manifest.index.shards
    at = 0
    while (at := bisect_left(shards, scan.position, lo=at, key=lambda shard: shard.last_path)) < len(shards):
        shard = shards[at]
        if scan.is_past(shard.first_path):
            return
        if scan.position <= shard.first_path and (deep := scan.folder_of(shard.first_path)) is not None:
            yield Level(_NO_ENTRIES, [deep])
            scan.skip(deep)
            continue
        with closing(manifest.open_shard(shard)) as file:
            for group in range(file.group_count):
                bounds = file.bounds(group)
                if bounds is not None and bounds[1] < scan.position:
                    continue
                if bounds is not None and scan.is_past(bounds[0]):
                    return
                (page,) = file.pages([group])
                if (level := scan.divide(page)) is not None:
                    yield level
        scan.move(after=shard.last_path)


def is_folder(manifest: Manifest, path: str) -> bool:
    """Whether any entry lies below a path. Reads one row group at most."""
    return next(levels(manifest, path), None) is not None


_NO_ENTRIES = page_of([])


class _Scan:
    """Where a scan of sorted paths stands."""

    def __init__(self, begin: str, depth: int) -> None:
        self._begin, self._depth = begin, depth
        self._end = begin[:-1] + "0" if begin else None  # "0" follows "/"
        self.position = begin
        """No path before this one is wanted any more."""

    def is_past(self, path: str) -> bool:
        """Whether a path comes after everything in the folder."""
        return self._end is not None and path >= self._end

    def folder_of(self, path: str) -> str | None:
        """The folder that stands for a path of the scanned one; None where the path is no deeper than asked for."""
        parts = path[len(self._begin) :].split("/", self._depth)
        return self._begin + "/".join(parts[: self._depth]) if len(parts) > self._depth else None

    def skip(self, folder: str) -> None:
        """Go on behind everything in a folder."""
        self.position = f"{folder}0"

    def move(self, *, after: str) -> None:
        """Go on behind a path, if not further on already."""
        self.position = max(self.position, f"{after}\0")  # no path can come between

    def divide(self, page: Page) -> Level | None:
        """The level that a row group tells; None where it has no row that is still wanted."""
        paths = page["path"]
        wanted = pc.greater_equal(paths, self.position)
        if self._end is not None:
            wanted = pc.and_(wanted, pc.less(paths, self._end))
        page = page.filter(wanted)
        if not page.num_rows:
            return None
        parts = pc.split_pattern(
            pc.utf8_slice_codeunits(page["path"], len(self._begin)), "/", max_splits=self._depth
        )
        is_deep = pc.greater(pc.list_value_length(parts), self._depth)
        cut = pc.binary_join(pc.list_slice(parts.filter(is_deep), 0, self._depth), "/").unique()
        folders = [self._begin + name for name in cut.to_pylist()]
        last = page["path"][-1].as_py()
        if folders and self.folder_of(last) is not None:
            self.skip(folders[-1])
        else:
            self.move(after=last)
        return Level(page.filter(pc.invert(is_deep)), folders)
