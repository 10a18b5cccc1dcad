"""Listings of S3 as a prefix stood at a time, from all its versions and delete markers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree

from refart.errors import InvalidInputError, RefartError, SourceError
from refart.sources.kept import Kept, pinned_write
from refart.sources.listed import Circles, Listed, Row, batch_of, listed
from refart.sources.lookup import before
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3.client import DENIED, UNSUPPORTED, S3Client, code_of
from refart.sources.s3.listing import NULL_VERSION


class Write(NamedTuple):
    """One version or delete marker."""

    key: str
    is_latest: bool
    at: datetime
    row: Row | None
    """None for a delete marker."""


def responses(client: S3Client, bucket: str, prefix: str, at: datetime, what: str) -> Iterator[Listed]:
    """Every response of the listing of what lay under `prefix` at a time.

    S3 tells the newest write of a key first, and when each was made, to the second; of a multipart upload, when it was
    begun. (Amazon S3 API reference, "ListObjectVersions"; user guide, "Working with object metadata".) Raises
    `InvalidInputError` for a bucket that was never versioned.
    """
    check_versioned(client, bucket, what)
    standing = Standing(at)
    circles = Circles(what)
    following: dict[str, str] | None = None
    while True:
        response = client.call(
            "ListObjectVersions", what, Bucket=bucket, Prefix=prefix, EncodingType="url", **(following or {})
        )
        writes, following = parse(response.get("RawBody", b""), what)
        rows = list(standing.of(writes))
        yield listed(batch_of(rows), [row.key for row in rows], following)
        if following is None:
            return
        circles.check(following)


def check_versioned(client: S3Client, bucket: str, what: str) -> None:
    """Raises `InvalidInputError` for a bucket that keeps no versions."""
    try:
        status = client.call("GetBucketVersioning", what, Bucket=bucket).get("Status")
    except RefartError as error:
        if code_of(error) not in DENIED | UNSUPPORTED:
            raise
        return  # the listing itself will tell, as far as it can
    if status is None:
        raise InvalidInputError(
            f"{what}: the bucket was never versioned, so it does not know how it stood at another time; as_of= needs"
            " versioning"
        )


def kept(client: S3Client, bucket: str, root: str, prefix: str, first: str) -> Kept:
    """One response of the listing of all writes of keys under `prefix`, from the key `first` on."""
    what = f"listing {root}{prefix}"
    after = before(first, prefix)
    response = client.call(
        "ListObjectVersions",
        what,
        Bucket=bucket,
        Prefix=prefix,
        EncodingType="url",
        **({"KeyMarker": after} if after else {}),
    )
    writes, following = parse(response.get("RawBody", b""), what)
    if following is None:
        end = None
    else:  # some servers tell all delete markers behind all versions
        told = [write.key for write in writes if write.row is not None]
        end = min([following["KeyMarker"], *told[-1:]])
    rows = [_pinned(write.row) for write in writes if write.row is not None]
    return Kept({pinned_write(row) for row in rows}, end)


class Standing:
    """Chooses, of the writes of each key, the last one until a time; a key may go on in the next response."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._decided: str | None = None
        self._seen: str | None = None

    def of(self, writes: Iterable[Write]) -> Iterator[Row]:
        for write in writes:
            is_newest, self._seen = write.key != self._seen, write.key
            if write.key == self._decided or write.at > self._at:
                continue
            self._decided = write.key
            if write.row is not None:
                yield write.row if is_newest else _pinned(write.row)


def _pinned(row: Row) -> Row:
    """An old write of before versioning is version `null`, which a GET without a version does not give any more."""
    return row if row.pin is not None else row._replace(pin=f"version:{NULL_VERSION}")


def parse(body: bytes, what: str) -> tuple[list[Write], dict[str, str] | None]:
    """All versions and delete markers of one response in its order, and what continues the listing.

    Raises `SourceError` for a body that is no such answer; `what` begins the message.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # from the endpoint that the user chose
        head = s3_listing.head_of(root)
        key_of = s3_listing.key_reader(head, raw_returns=b"\r" in body)
        writes = []
        for element in root:
            kind = element.tag.rpartition("}")[2]
            if kind in ("Version", "DeleteMarker"):
                texts = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
                key, version = key_of(texts["Key"]), texts["VersionId"]
                row = None
                if kind == "Version":
                    row = s3_listing.row_of(key, texts["Size"], texts.get("ETag", ""), version)
                writes.append(Write(key, texts.get("IsLatest") == "true", _time(texts["LastModified"]), row))
        return _by_key(writes), s3_listing.following(head)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise SourceError(
            f"{what}: the server's answer is not a listing of versions ({type(error).__name__}:"
            f" {str(error)[:100]})",
            transient=isinstance(error, ElementTree.ParseError),
        ) from error


def _by_key(writes: list[Write]) -> list[Write]:
    """Each key's writes together, the newest first: as Amazon S3 tells them; some servers tell all delete markers
    after all versions."""
    if all(
        one.key < other.key or (one.key == other.key and not other.is_latest and one.at >= other.at)
        for one, other in pairwise(writes)
    ):
        return writes
    newest_first = sorted(writes, key=lambda write: (write.is_latest, write.at), reverse=True)
    return sorted(newest_first, key=lambda write: write.key)


def _time(text: str) -> datetime:
    """Raises `ValueError` for what is no time."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
