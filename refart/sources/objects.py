"""From flat listings to scans: what all object stores have in common, whatever they call buckets and keys.

Keys are opaque. A prefix is one of whole components, which no object store knows: asked for `data`, they list `data2`
and `data.csv` as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.entries import SCHEMA, Entry, Page, paths_of
from refart.errors import InvalidInputError, PermissionDeniedError
from refart.sources import splitting
from refart.sources.base import Identify, Keep, Scan
from refart.sources.listed import Listed, Row, batch_of, rows_of
from refart.sources.splitting import Elsewhere, Ranged

ONE_BY_ONE: Final = 3
"""Responses of a listing after which the rest of it is split."""


class Bucket(Protocol):
    """One bucket or container, and how to ask about its objects."""

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        """The URIs of objects; the inverse of the way from a URI to its key."""

    def responses(self, prefix: str) -> Iterator[Listed]:
        """Every response of the listing of all keys that begin with `prefix`, in turn; at least one."""

    def ranged(self, prefix: str) -> Ranged | None:
        """The same listing for one that asks from any key on; None where the server has no such request, or does not
        list in order."""

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
    elsewhere: Elsewhere | None = None,
) -> Scan:
    """See `Source.scan`; `key` is what `uri` names in the bucket, `""` for all of it.

    Where listing is denied, one request still finds a single object. Raises `InvalidInputError` also where `uri` is
    an object and a prefix of others at once, both found by the same listing.
    """
    if identify == "stat":
        raise InvalidInputError(
            f"{uri}: checksum='stat' is for file systems; a listing of objects tells checksums or ETags as it is"
        )

    def pages(batches: Iterable[pa.RecordBatch], base: str) -> Iterator[Page]:
        for batch in batches:
            if on_page is not None:
                on_page(batch.num_rows)
            page = page_of(batch, bucket, base, identify=identify)
            yield page if keep is None else keep(page)

    try:
        row, below = _look(bucket, uri, key, elsewhere)
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
    return Scan(True, pages([batch_of([row])], _folder(row.key)))


def entry_of(row: Row, bucket: Bucket) -> Entry:
    """One object as an entry whose path is its base name."""
    path = names.path_from_key(row.key[len(_folder(row.key)) :])
    return Entry(path, row.size, row.content_id, str(bucket.uris_of(pa.array([row.key]))[0]), row.pin)


def page_of(objects: pa.RecordBatch, bucket: Bucket, base: str, *, identify: Identify) -> Page:
    """A page of these objects; the key without `base`, with which all begin, becomes the path."""
    key, size, content_id, pin = objects.columns
    if identify == "none":
        pins = map(pin_without_content_id, content_id.to_pylist(), pin.to_pylist())
        pin = pa.array(pins, pa.string())
        content_id = pa.array([checksums.NONE] * len(key), pa.string())
    columns = [paths_of(without(base, key)), size, content_id, bucket.uris_of(key), pin]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def without(base: str, keys: pa.StringArray) -> pa.StringArray:
    """The rest of keys that begin with `base`."""
    cut = len(base.encode())
    return pc.binary_replace_slice(keys.cast(pa.binary()), 0, cut, b"").cast(pa.string()) if base else keys


def pin_without_content_id(content_id: str, pin: str | None) -> str | None:
    """The pin of an object whose content id will not be kept: where nothing else pins it, its ETag does."""
    etag = None if pin is not None else checksums.etag_of(content_id)
    return pin if etag is None else f"etag:{etag}"


def objects_below(objects: pa.RecordBatch, base: str, *, in_order: bool = False) -> pa.RecordBatch:
    """The objects whose keys begin with `base`, without folder markers (a key that ends with `/`, 0 bytes).

    Where they are `in_order`, two keys tell of all.
    """
    key, size = objects.column("key"), objects.column("size")
    if not (in_order and len(key) and all(str(key[row]).startswith(base) for row in (0, -1))):
        objects = objects.filter(pc.starts_with(key, base))
        key, size = objects.column("key"), objects.column("size")
    if pc.min(size).as_py() != 0:
        return objects
    is_marker = pc.fill_null(pc.and_(pc.equal(size, 0), pc.ends_with(key, "/")), False)
    return objects.filter(pc.invert(is_marker))


def _look(
    bucket: Bucket, uri: str, key: str, elsewhere: Elsewhere | None
) -> tuple[Row | None, Iterator[pa.RecordBatch]]:
    """The object at exactly `key`, or what lies below it."""
    base = _base(key)
    if base == key:
        return None, _below(bucket, bucket.responses(base), base, base, elsewhere)
    # Asked for without the slash, the exact key comes first, then `key-x`, `key.x`, `key/x`, in this order.
    responses = bucket.responses(key)
    first = next(responses)
    exact = next(rows_of(first.objects.filter(pc.equal(first.objects.column("key"), key))), None)
    if first.is_last or (first.in_order and first.last_key > base):
        below = _below(bucket, chain([first], responses), key, base, elsewhere)
    else:
        below = _below(bucket, bucket.responses(base), base, base, elsewhere)
        # It may come yet, out of order or after old versions of itself (Azure lists those first).
        if exact is None and not (first.in_order and first.last_key > key):
            exact = bucket.head(key)
    if exact is None:
        return None, below
    if children := next(below, None):
        raise InvalidInputError(
            f"{uri} is an object and also a prefix of others (such as {children.column('key')[0].as_py()!r}): write"
            f" {uri}/ for what lies below it, or {bucket.write_by_hand(exact)} for the object"
        )
    return exact, iter(())


def _below(
    bucket: Bucket, responses: Iterator[Listed], prefix: str, base: str, elsewhere: Elsewhere | None
) -> Iterator[pa.RecordBatch]:
    """The objects below `base` of a listing of `prefix`; stops once an ordered listing has passed them.

    The first responses come one after another, so that a small prefix costs no request more than it has to; the rest
    is asked for in parallel, where it can be.
    """
    for number, listed in enumerate(responses, 1):
        if (objects := objects_below(listed.objects, base, in_order=listed.in_order)).num_rows:
            yield objects
        if listed.in_order and listed.last_key > base and not listed.last_key.startswith(base):
            return
        if (
            number >= ONE_BY_ONE
            and not listed.is_last
            and listed.in_order
            and listed.resume_key is not None
            and (ranged := bucket.ranged(prefix)) is not None
        ):
            for objects in splitting.rest(ranged, base, listed, number, elsewhere):
                if (objects := objects_below(objects, base, in_order=True)).num_rows:
                    yield objects
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
