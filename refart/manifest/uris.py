"""Which URIs a shard holds, told as a few ranges: what a catalog keeps to find the shards that may hold an object."""

from __future__ import annotations

import os.path
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

MAX_RANGES: Final = 16
"""Of one shard. Beyond, the nearest ranges become one."""

_WAITING: Final = 1024  # ranges that gather before they are joined


class UriRange(NamedTuple):
    """URIs between two, in the order of their code points, which is that of their UTF-8 bytes."""

    first: str
    last: str


class UriRanges:
    """The ranges of pages that come one after another; rows without a URI count nothing.

    Below one prefix, URIs follow the order of paths, so that each page is a range. Where prefixes alternate, there is
    one for each folder, as far as `MAX_RANGES` goes.
    """

    def __init__(self) -> None:
        self._ranges: list[UriRange] = []

    def add(self, uris: pa.StringArray) -> None:
        """Take the `uri` column of the next page."""
        uris = uris.drop_null()
        if len(uris) == 0:
            return
        whole = UriRange(uris[0].as_py(), uris[-1].as_py())
        ascends = not pc.any(pc.less(uris[1:], uris[:-1]), min_count=0).as_py()
        if ascends and _bucket(whole.first) == _bucket(whole.last):  # as nearly always
            self._append(whole)
            return
        uris = uris.take(pc.sort_indices(uris))
        folders = pc.replace_substring_regex(uris, r"[^/]*\z", "")
        ends = pc.indices_nonzero(pc.not_equal(folders[1:], folders[:-1])).to_pylist()
        start = 0
        for end in [*ends, len(uris) - 1]:
            self._append(UriRange(uris[start].as_py(), uris[end].as_py()))
            start = end + 1

    def ranges(self) -> tuple[UriRange, ...]:
        """At most `MAX_RANGES`, ascending, that hold every URI."""
        return tuple(joined(self._ranges))

    def _append(self, found: UriRange) -> None:
        self._ranges.append(found)
        if len(self._ranges) >= _WAITING:
            self._ranges = joined(self._ranges)


def _bucket(uri: str) -> str:
    return "/".join(uri.split("/", 3)[:3])


def joined(ranges: Iterable[UriRange], most: int = MAX_RANGES) -> list[UriRange]:
    """The same URIs in at most so many ranges, ascending: of neighbours, those with the longest common beginning become
    one."""
    apart: list[UriRange] = []
    for found in sorted(ranges):
        if apart and found.first <= apart[-1].last:
            apart[-1] = UriRange(apart[-1].first, max(apart[-1].last, found.last))
        else:
            apart.append(found)
    if len(apart) <= most:
        return apart

    def common(n: int) -> int:
        return len(os.path.commonprefix([apart[n].last, apart[n + 1].first]))  # noqa: RUF071 - characters it is

    ends = [*sorted(nsmallest(most - 1, range(len(apart) - 1), key=common)), len(apart) - 1]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [UriRange(apart[s].first, apart[e].last) for s, e in zip(starts, ends, strict=True)]
