"""References in S3 and what speaks its protocol: pinned by listing alone, read by one pinned GET.

What a versioned bucket holds is pinned to its VersionId; elsewhere the ETag pins, by `If-Match`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import pyarrow as pa

from refart import checksums
from refart.entries import Entry, prefixed
from refart.errors import InvalidInputError, NotFoundError, RefartError, SourceError
from refart.sources import kept, pinned
from refart.sources.base import Held
from refart.sources.findings import Finding
from refart.sources.listed import Listed, Row, one_by_one
from refart.sources.object_source import ObjectSource
from refart.sources.pinned import NotThat, uri_of
from refart.sources.s3 import checksums as s3_checksums
from refart.sources.s3 import history as s3_history
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3 import reading as s3_reading
from refart.sources.s3 import writing as s3_writing
from refart.sources.s3.client import GONE, MISSING, S3Client, code_of
from refart.sources.s3.lister import S3Lister
from refart.sources.s3.listing import NULL_VERSION
from refart.sources.s3.reading import DIRECTORY_BUCKET
from refart.sources.splitting import AT_ONCE, Ranged

PINNED_BY_HAND: Final = "?versionId="


class S3Source(ObjectSource):
    """The source of `s3://` and `s3a://`.

    A listing costs one request for every 1,000 objects (and, on a versioned bucket, old versions); beyond the first
    2,000, many at once. A versioned bucket pins `version:ID`; elsewhere, and for writes from before versioning, the
    content id is the ETag and pins by itself. `s3://bucket/key?versionId=ID` is that version of `key` where no such
    literal key exists. Where listing *versions* is denied or not offered, ETags pin; so they do where nearly all of
    what such a listing tells is old (`s3.lister.MAX_OLD`), unless the option `version_aware` says otherwise.

    Bytes are read by one GET, those of a large object that comes slowly by up to 4 at once (or `max_concurrency`, where
    that is less); one HEAD more tells the parts of a multipart upload, by which its ETag is computed again. Small
    objects are read by obstore, where that is installed and can do as botocore does (`s3.whole`).

    `options` are s3fs' storage options; what they leave open is botocore's own chain (environment, profiles,
    SSO, `AWS_ENDPOINT_URL`). Raises `InvalidInputError` for an option that s3fs does not know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = S3Client(options)
        self.readers = min(self.readers, self._client.max_concurrency or self.readers)

    def _place(self, uri: str) -> tuple[_Bucket, str]:
        root, name, key = split(uri)
        return _Bucket(self._client, root, name, S3Lister(self._client, name)), key

    def _getter(self, entry: Entry) -> pinned.Get:
        return self._reader(entry).get

    def _wanted(self, entry: Entry) -> list[tuple[pinned.Which, Held]]:
        wanted = s3_reading.wanted(entry)
        if wanted[-1][1] == "etag" and self._has_versions(uri_of(entry)):
            before = pinned.Which(NULL_VERSION, wanted[-1][0].etag)  # of before versioning, and kept since
            wanted.append((before, "version"))
        return wanted

    def _has_versions(self, uri: str) -> bool | None:
        """What a listing told of the bucket; None without one."""
        return self._client.learnt().has_versions.get(split(uri)[1])

    def pinned(self, entry: Entry) -> Entry | None:
        """See `PinnedSource`; of what was pinned by its ETag, also the write of before versioning, where the bucket has
        versions now, as a listing told."""
        which, held = s3_reading.wanted(entry)[0]
        if held != "etag" or not self._has_versions(uri_of(entry)):
            return super().pinned(entry)
        found = super().pinned(replace(entry, pin=f"version:{NULL_VERSION}"))
        is_that = found is not None and checksums.etag_of(found.content_id) == which.etag
        return found if is_that else None

    def whole(self, entry: Entry, is_right: Callable[[bytes], bool]) -> bytes | None:
        """See `WholeSource`: by obstore, where it is installed and a GET of botocore's has shown the way."""
        reader = self._client.learnt().whole
        if reader is None or entry.size is None:
            return None
        _, bucket, key = split(uri_of(entry))
        which, held = s3_reading.wanted(entry)[0]
        return None if held == "current" else reader.get(bucket, key, which, entry.size, is_right)

    def _past(self, uri: str, at: datetime, prefix: str) -> Iterator[Listed]:
        root, name, _ = split(uri)
        return s3_history.responses(self._client, name, prefix, at, f"listing {root}{prefix}")

    def _writes(self, root: str) -> kept.Listing:
        return partial(s3_history.kept, self._client, split(root)[1], root)

    def copies(self, uri: str, to: str) -> bool:
        """See `WritableSource`: all that one client reaches."""
        return True

    def copy(self, entry: Entry, to: str, *, over: Entry | None) -> Entry:
        """See `WritableSource`: one HEAD, and CopyObject, or more where it was uploaded in parts; see `s3.writing`."""
        return self._writer(to, over).copy(self._reader(entry))

    def delete(self, found: Entry) -> None:
        """See `WritableSource`: on a versioned bucket, a delete marker."""
        self._writer(uri_of(found), found).delete()

    def _writer(self, uri: str, over: Entry | None) -> s3_writing.Writer:
        _, bucket, key = split(uri)
        return s3_writing.Writer(self._client, self.stat, bucket, key, uri, over)

    def presign(self, entry: Entry, expires_s: int) -> str:
        """See `PresigningSource`; signed by Signature Version 4, whatever botocore would take for its default."""
        _, bucket, key = split(uri_of(entry))
        kind, _, version = (entry.pin or "").partition(":")
        which = {"VersionId": version} if kind == "version" else {}
        return self._client.presigned(pinned.named(entry), expires_s, Bucket=bucket, Key=key, **which)

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.s3 import doctor as s3_doctor  # here, since nothing else needs it

        return s3_doctor.diagnose(self._client, *split(uri))

    def checksum(self, entry: Entry) -> str | None:
        """See `ChecksumSource`: SHA-256, CRC64NVME or CRC32C, which are kept since the upload.

        None for a checksum of checksums of parts, as multipart uploads have for SHA-256 and may have for CRC32C.
        """
        reader = self._reader(entry)
        for which, _ in s3_reading.wanted(entry):
            with suppress(NotThat):
                return s3_checksums.stored(reader.head(which, ChecksumMode="ENABLED"))
        raise pinned.lost(entry, self.stat(uri_of(entry)))

    def _reader(self, entry: Entry) -> s3_reading.Reader:
        _, bucket, key = split(uri_of(entry))
        return s3_reading.Reader(self._client, bucket, key, entry)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """See `objects.Bucket`."""

    client: S3Client
    root: str
    name: str
    lister: S3Lister

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        return prefixed(self.root, keys)

    def responses(self, prefix: str) -> Iterator[Listed]:
        what = f"listing {self.root}{prefix}"
        return one_by_one(partial(self.lister.ask, prefix, what, ""), what)

    def ranged(self, prefix: str) -> Ranged | None:
        unordered = self.client.learnt().unordered
        if self.name in unordered or self.name.endswith(DIRECTORY_BUCKET):
            return None
        what = f"listing {self.root}{prefix}"
        return Ranged(
            partial(self.lister.ask, prefix, what),
            prefix,
            what,
            at_once=self.client.max_concurrency or AT_ONCE,
            give_up=lambda: unordered.add(self.name),
        )

    def head(self, key: str, version: str | None = None) -> Row | None:
        """One object by one HEAD; None where it, or that version of it, does not exist."""
        which = {} if version is None else {"VersionId": version}
        try:
            response = self.client.call("HeadObject", self.root + key, Bucket=self.name, Key=key, **which)
        except RefartError as error:
            if code_of(error) in (MISSING if version is None else GONE):
                return None
            raise
        found = response.get("VersionId", NULL_VERSION)
        if version not in (None, found):
            return None  # a server without versions, which did not look at the parameter
        try:
            row = s3_listing.row_of(key, response.get("ContentLength"), response.get("ETag", ""), found)
        except ValueError as error:
            raise SourceError(f"{self.root}{key}: the server's answer is not that of S3: {error}") from error
        return row._replace(pin=f"version:{version}") if version is not None else row

    def by_hand(self, key: str) -> Row | None:
        """The version that `key?versionId=ID` names; a delete marker is none to read."""
        bare, _, version = key.rpartition(PINNED_BY_HAND)
        if not bare or not version:
            return None
        row = self.head(bare) if version == NULL_VERSION else None
        if row is None or row.pin is not None:  # no such object, or a later version is current
            row = self.head(bare, version)
        if row is None:
            raise NotFoundError(
                f"{self.root}{bare} has no version {version!r} to read"
                f" (and no object has the literal name {self.root}{key})"
            )
        return row

    def write_by_hand(self, row: Row) -> str:
        version = (row.pin or f"version:{NULL_VERSION}").partition(":")[2]
        return f"{self.root}{row.key}{PINNED_BY_HAND}{version}"


def split(uri: str) -> tuple[str, str, str]:
    """`(scheme://bucket/, bucket, key)`; the bucket ends at the first slash and the key is all the rest, as
    it stands.

    Raises `InvalidInputError` for a URI without a bucket.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{uri} names no bucket: write s3://bucket/key")
    return f"{scheme.lower()}://{bucket}/", bucket, key
