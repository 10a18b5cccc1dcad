"""From flat listings to scans: what all object stores have in common, whatever they call buckets and keys.

Keys are opaque. A prefix is one of whole components, which no object store knows: asked for `data`, they list `data2`
and `data.csv` as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple, Protocol

import pyarrow as pa

from refart import checksums, names
from refart.entries import SCHEMA, Entry, Page
from refart.errors import InvalidInputError, PermissionDeniedError, SourceError
from refart.sources.base import Identify, Keep, Scan


class Row(NamedTuple):
    """One current object of a listing."""

    key: str
    size: int
    content_id: str
    pin: str | None
    """None where the content id is itself the ETag to ask for."""


def size_of(said: object) -> int:
    """The size of an object, as a server says it. Raises `ValueError` for what is none."""
    if not _SIZE.match(str(said)):
        raise ValueError(f"{str(said)[:40]!r} is no size")
    return int(str(said))


_SIZE: Final = re.compile(r"[0-9]{1,18}\Z")


@dataclass(frozen=True, slots=True)
class Listed:
    """What one response of a listing says."""

    rows: list[Row]
    """The current objects in the order of the server; no old versions, no delete markers."""

    last_key: str
    """The greatest key in the response, old versions and delete markers included; `""` where it is empty."""

    in_order: bool
    """False where keys do not ascend in UTF-8 order (Azure beyond U+FFFF, Cloudflare R2, directory buckets)."""

    is_last: bool


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


class Bucket(Protocol):
    """One bucket or container, and how to ask about its objects."""

    def uri_of(self, key: str) -> str:
        """The URI of an object; the inverse of the way from a URI to its key."""

    def responses(self, prefix: str) -> Iterator[Listed]:
        """Every response of the listing of all keys that begin with `prefix`, in turn; at least one."""

    def head(self, key: str) -> Row | None:
        """The current object at exactly this key, by one request; None where there is none."""

    def by_hand(self, key: str) -> Row | None:
        """The object that a key with a version written behind it names; None for one not so written.

        Raises `NotFoundError` for a version that does not exist.
        """

    def write_by_hand(self, row: Row) -> str:
        """The URI that `by_hand` reads as this very object."""


def scan(
    bucket: Bucket,
    uri: str,
    key: str,
    *,
    identify: Identify,
    keep: Keep | None,
    on_page: Callable[[int], None] | None,
) -> Scan:
    """See `Source.scan`; `key` is what `uri` names in the bucket, `""` for all of it.

    Where listing is denied, one request still finds a single object. Raises `InvalidInputError` also where `uri` is
    an object and a prefix of others at once, both found by the same listing.
    """
    if identify == "stat":
        raise InvalidInputError(
            f"{uri}: checksum='stat' is for file systems; a listing of objects tells checksums or ETags as it is"
        )

    def pages(responses: Iterator[list[Row]], base: str) -> Iterator[Page]:
        for rows in responses:
            if on_page is not None:
                on_page(len(rows))
            page = page_of(rows, bucket, base, identify=identify)
            yield page if keep is None else keep(page)

    try:
        row, below = _look(bucket, uri, key)
    except PermissionDeniedError:
        row, below = _unlisted(bucket, key), iter(())
        if row is None:
            raise
    if row is None:
        first = next(below, None)
        if first is not None:
            return Scan(False, pages(chain([first], below), _base(key)))
        row = bucket.by_hand(key)
    if row is None:
        return Scan(False, iter(()))
    return Scan(True, pages(iter([[row]]), _folder(row.key)))


def entry_of(row: Row, bucket: Bucket) -> Entry:
    """One object as an entry whose path is its base name."""
    path = names.path_from_key(row.key[len(_folder(row.key)) :])
    return Entry(path, row.size, row.content_id, bucket.uri_of(row.key), row.pin)


def page_of(rows: Sequence[Row], bucket: Bucket, base: str, *, identify: Identify) -> Page:
    """A page of these objects; the key without `base` becomes the path."""
    cut = len(base)
    keys, sizes, content_ids, pins = zip(*rows, strict=True)
    if identify == "none":
        pins = tuple(map(pin_without_content_id, content_ids, pins))
        content_ids = (checksums.NONE,) * len(keys)
    columns = (
        [names.path_from_key(key[cut:]) for key in keys],
        sizes,
        content_ids,
        [bucket.uri_of(key) for key in keys],
        pins,
    )
    return pa.RecordBatch.from_arrays(
        [pa.array(column, f.type) for column, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def pin_without_content_id(content_id: str, pin: str | None) -> str | None:
    """The pin of an object whose content id will not be kept: where nothing else pins it, its ETag does."""
    etag = None if pin is not None else checksums.etag_of(content_id)
    return pin if etag is None else f"etag:{etag}"


def objects_below(rows: Sequence[Row], base: str) -> list[Row]:
    """The rows whose keys begin with `base`, without folder markers (a key that ends with `/`, 0 bytes)."""
    return [row for row in rows if row.key.startswith(base) and (row.size or not row.key.endswith("/"))]


def _look(bucket: Bucket, uri: str, key: str) -> tuple[Row | None, Iterator[list[Row]]]:
    """The object at exactly `key`, or what lies below it."""
    base = _base(key)
    if base == key:
        return None, _below(bucket.responses(base), base)
    # Asked for without the slash, the exact key comes first, then `key-x`, `key.x`, `key/x`, in this order.
    responses = bucket.responses(key)
    first = next(responses)
    exact = next((row for row in first.rows if row.key == key), None)
    if first.is_last or (first.in_order and first.last_key > base):
        below = _below(chain([first], responses), base)
    else:
        below = _below(bucket.responses(base), base)
        # It may come yet, out of order or after old versions of itself (Azure lists those first).
        if exact is None and not (first.in_order and first.last_key > key):
            exact = bucket.head(key)
    if exact is None:
        return None, below
    if children := next(below, None):
        raise InvalidInputError(
            f"{uri} is an object and also a prefix of others (such as {children[0].key!r}): write {uri}/"
            f" for what lies below it, or {bucket.write_by_hand(exact)} for the object"
        )
    return exact, iter(())


def _below(responses: Iterator[Listed], base: str) -> Iterator[list[Row]]:
    """The objects below `base`, response by response; stops once an ordered listing has passed them."""
    for listed in responses:
        if rows := objects_below(listed.rows, base):
            yield rows
        if listed.in_order and listed.last_key > base and not listed.last_key.startswith(base):
            return


def _unlisted(bucket: Bucket, key: str) -> Row | None:
    """A single object of a bucket that may be read but not listed (where a missing one is denied too)."""
    if not key or key.endswith("/"):
        return None
    try:
        row = bucket.head(key)
    except PermissionDeniedError:
        row = None
    return row or bucket.by_hand(key)


def _base(key: str) -> str:
    """What the keys below `key` begin with."""
    return key if not key or key.endswith("/") else f"{key}/"


def _folder(key: str) -> str:
    """What of a key stands before its base name."""
    return key[: key.rfind("/") + 1]
