"""Which writes a bucket still keeps: many pinned ones at once, by the listing of all versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple, TypeAlias

from refart.entries import Entry
from refart.errors import PermissionDeniedError
from refart.sources import lookup
from refart.sources.listed import Row


class Write(NamedTuple):
    """One write of an object."""

    key: str
    pin: str


class Kept(NamedTuple):
    """What a response tells of the writes from some key on."""

    writes: set[Write]
    end: str | None
    """All writes of the keys before this one were told; None where nothing follows."""


Listing: TypeAlias = Callable[[str, str], Kept]
"""`listing(prefix, first)`: one response of the listing of all writes of keys with a prefix, from a key on."""

Found: TypeAlias = bool | PermissionDeniedError | None
"""True for a write that is kept, None for one that is not; or that it may not be asked."""

Several: TypeAlias = dict[Write, list[Entry]]


def which(
    listing: Listing | None,
    writes: Sequence[Write],
    ask: Callable[[Write], Found],
    pool: Executor,
    window: int,
) -> Iterator[tuple[Write, Found]]:
    """Which of some writes of one bucket are kept; see `lookup.found` for how it is found out."""
    prefix = lookup.common([write.key for write in writes])
    tell = None if listing is None else partial(_told, listing, prefix)
    return lookup.found(tell, sorted(writes), ask, pool, window)


def _told(listing: Listing, prefix: str, writes: Sequence[Write]) -> list[tuple[Write, Found]]:
    """Those of the first of `writes` (ascending) of which one response tells."""
    kept = listing(prefix, writes[0].key)
    decided = [write for write in writes if kept.end is None or write.key < kept.end]
    return [(write, True if write in kept.writes else None) for write in decided]


def asked(pinned: Callable[[Entry], Entry | None], entry: Entry) -> Found:
    """Ask about one write; an error of this one is none of the others."""
    try:
        return None if pinned(entry) is None else True
    except PermissionDeniedError as error:
        return error


def pinned_write(row: Row) -> Write:
    """The write that a row of a listing of versions is."""
    return Write(row.key, row.pin or "")
