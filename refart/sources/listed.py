"""What a response of a flat listing says, whatever server gave it: objects as columns, and how the listing goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from refart.errors import SourceError

OBJECTS: Final[pa.Schema] = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("pin", pa.string()),
    ]
)
"""The columns of a listing; the attributes of `Row`."""


class Row(NamedTuple):
    """One current object."""

    key: str
    size: int
    content_id: str
    pin: str | None
    """None where the content id is itself the ETag to ask for."""


def batch_of(rows: Iterable[Row]) -> pa.RecordBatch:
    """Objects as a batch of `OBJECTS`, in the given order."""
    columns = list(zip(*rows, strict=True)) or [()] * len(OBJECTS)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, OBJECTS, strict=True)], schema=OBJECTS
    )


def rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch of `OBJECTS`, one object each."""
    return map(Row, *(column.to_pylist() for column in batch.columns))


def size_of(said: object) -> int:
    """The size of an object, as a server says it. Raises `ValueError` for what is none."""
    if not _SIZE.match(str(said)):
        raise ValueError(f"{str(said)[:40]!r} is no size")
    return int(str(said))


_SIZE: Final = re.compile(r"[0-9]{1,18}\Z")


@dataclass(frozen=True, slots=True)
class Listed:
    """What one response of a listing says."""

    objects: pa.RecordBatch
    """The current objects (`OBJECTS`) in the order of the server; no old versions, no delete markers."""

    following: Any
    """What its server needs to be told to continue; None for the last response."""

    keys: list[str]
    """Of all that it lists, old versions and delete markers included, ascending."""

    current_keys: list[str]
    """Of these, those of which it tells what is current: an object, or that there is none any more."""

    in_order: bool
    """False where keys do not ascend in UTF-8 order (Azure beyond U+FFFF, Cloudflare R2, directory buckets)."""

    resume_key: str | None
    """The greatest key up to which every current object was told: a listing of the keys after it misses none. None
    where the response does not say."""

    @property
    def is_last(self) -> bool:
        return self.following is None

    @property
    def first_key(self) -> str:
        """The least key; `""` where nothing is listed."""
        return self.keys[0] if self.keys else ""

    @property
    def last_key(self) -> str:
        """The greatest key; `""` where nothing is listed."""
        return self.keys[-1] if self.keys else ""


def listed(objects: pa.RecordBatch, keys: list[str], following: Any) -> Listed:
    """A response that lists `keys`, the last one with its current object where it has one."""
    ascending = sorted(keys)  # by code point, which is the order of UTF-8
    in_order = keys == ascending
    return Listed(
        objects, following, ascending, ascending, in_order, ascending[-1] if in_order and keys else None
    )


def one_by_one(ask: Callable[[Any], Listed], what: str) -> Iterator[Listed]:
    """Every response of a listing in turn: `ask` is given what the one before says is `following`, None at first.

    Raises `SourceError`, which begins with `what`, where the listing would never end.
    """
    circles, following = Circles(what), None
    while True:
        response = ask(following)
        yield response
        following = response.following
        if following is None:
            return
        circles.check(following)


class Circles:
    """Notices a listing that would never end: some servers repeat a continuation for ever.

    Brent's cycle detection: a mark that moves at pages 1, 2, 4, 8 … meets any circle.
    """

    def __init__(self, what: str) -> None:
        """`what` begins the message of the error."""
        self._what = what
        self._mark: object = None
        self._pages, self._next_mark = 0, 1

    def check(self, following: object) -> None:
        """Tell how the listing goes on. Raises `SourceError` in a circle, in its second round at the latest."""
        if following == self._mark:
            raise SourceError(f"{self._what}: the server goes round in circles (it repeats a continuation)")
        self._pages += 1
        if self._pages == self._next_mark:
            self._mark, self._next_mark = following, 2 * self._next_mark
