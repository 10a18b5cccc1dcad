"""References in S3 and what speaks its protocol: pinned by listing alone, read by one pinned GET.

What a versioned bucket holds is pinned to its VersionId; elsewhere the ETag pins, by `If-Match`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Final

from refart.entries import Entry, Page, entries_of
from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources import s3_listing, s3_reading
from refart.sources.base import Fetched, Keep, Opened, Scan
from refart.sources.s3_client import DENIED, GONE, MISSING, UNSUPPORTED, S3Client, code_of
from refart.sources.s3_listing import NULL_VERSION, Listed, Row

PINNED_BY_HAND: Final = "?versionId="


class S3Source:
    """The source of `s3://` and `s3a://`.

    `options` are s3fs' storage options; what they leave open is botocore's own chain (environment, profiles,
    SSO, `AWS_ENDPOINT_URL`). Raises `InvalidInputError` for an option that s3fs does not know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = S3Client(options)

    def scan(
        self,
        uri: str,
        *,
        identify: bool = True,
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """List the object or prefix at `uri`: one request for every 1,000 objects, no HEAD.

        A versioned bucket pins `version:ID`; elsewhere, and for writes from before versioning, the content id
        is the ETag and pins by itself. `s3://bucket/key?versionId=ID` is that version of `key` where no such
        literal key exists. Where listing is denied, one HEAD still finds a single object. Where only listing
        *versions* is denied or not offered, ETags pin.

        Raises `InvalidInputError` also where `uri` is an object and a prefix of others at once.
        """
        root, bucket, key = split(uri)

        def pages(responses: Iterator[list[Row]], base: str) -> Iterator[Page]:
            for rows in responses:
                if on_page is not None:
                    on_page(len(rows))
                page = s3_listing.page_of(rows, root, base, identify=identify)
                yield page if keep is None else keep(page)

        try:
            row, below = self._look(uri, bucket, key)
        except PermissionDeniedError:
            row, below = self._unlisted(uri, bucket, key), iter(())
            if row is None:
                raise
        if row is None:
            first = next(below, None)
            if first is not None:
                return Scan(False, pages(chain([first], below), _base(key)))
            row = self._pinned_by_hand(uri, bucket, key)
        if row is None:
            return Scan(False, iter(()))
        return Scan(True, pages(iter([[row]]), row.key[: row.key.rfind("/") + 1]))

    def stat(self, uri: str) -> Entry | None:
        """The current object at exactly `uri`, by one HEAD; None where there is none (or no such bucket)."""
        root, bucket, key = split(uri)
        row = self._head(uri, bucket, key) if key else None
        if row is None:
            return None
        page = s3_listing.page_of([row], root, key[: key.rfind("/") + 1], identify=True)
        return next(entries_of(page))

    def fetch(self, entry: Entry) -> AbstractContextManager[Fetched]:
        """Stream the stored bytes of a reference (never decoded) by one GET.

        A body that breaks off is continued by ranged GETs of the same object, `s3_reading.RESUMES` times.
        """
        return s3_reading.fetch(self._client, *split(_uri(entry))[1:], entry, self.stat)

    def open(self, entry: Entry) -> Opened:
        """A seekable stream of ranged GETs that all hold the object the first one found.

        Overwritten meanwhile, it gives the pinned bytes or raises `ReferenceChangedError`, never a mix.
        """
        return s3_reading.open_stream(self._client, *split(_uri(entry))[1:], entry, self.stat)

    def _look(self, uri: str, bucket: str, key: str) -> tuple[Row | None, Iterator[list[Row]]]:
        """The object at exactly `key`, or what lies below it."""
        base = _base(key)
        if base == key:
            return None, _below(self._responses(uri, bucket, base), base)
        # Asked for without the slash, the exact key comes first, then `key-x`, `key.x`, `key/x`, in this
        # order.
        responses = self._responses(uri, bucket, key)
        first = next(responses)
        exact = next((row for row in first.rows if row.key == key), None)
        if first.following is None or (first.in_order and first.last_key > base):
            below = _below(chain([first], responses), base)
        else:
            below = _below(self._responses(uri, bucket, base), base)
            if exact is None and not first.in_order:
                exact = self._head(uri, bucket, key)
        if exact is None:
            return None, below
        if children := next(below, None):
            raise InvalidInputError(
                f"{uri} is an object and also a prefix of others (such as {children[0].key!r}): write {uri}/"
                f" for what lies below it, or {uri}{PINNED_BY_HAND}{exact.version_id or NULL_VERSION}"
                " for the object"
            )
        return exact, iter(())

    def _responses(self, uri: str, bucket: str, prefix: str) -> Iterator[Listed]:
        """Every response of the listing of `prefix`, in turn; at least one."""
        with_versions = self._has_versions(uri, bucket)
        following: dict[str, str] = {}
        mark, pages, next_mark = following, 0, 1
        while True:
            operation = "ListObjectVersions" if with_versions else "ListObjectsV2"
            try:
                response = self._client.call(
                    operation, f"listing {uri}", Bucket=bucket, Prefix=prefix, EncodingType="url", **following
                )
            except RefartError as error:
                if with_versions and not following and code_of(error) in DENIED | UNSUPPORTED:
                    with_versions = self._client.learnt()[bucket] = False
                    continue
                raise
            listed = s3_listing.parse(response["RawBody"], f"listing {uri}")
            yield listed
            if listed.following is None:
                return
            following = listed.following
            if following == mark:
                raise SourceError(
                    f"listing {uri}: the server goes round in circles (it repeats a continuation)"
                )
            # Brent's cycle detection: a mark that moves at pages 1, 2, 4, 8 … meets any circle.
            pages += 1
            if pages == next_mark:
                mark, next_mark = following, 2 * next_mark

    def _has_versions(self, uri: str, bucket: str) -> bool:
        """Whether to list with version ids; tried where asking is denied.

        Versioning once switched on can only be suspended, so a yes is remembered; a no may change.
        """
        learnt = self._client.learnt()
        if bucket not in learnt:
            try:
                response = self._client.call("GetBucketVersioning", f"listing {uri}", Bucket=bucket)
            except RefartError as error:
                if code_of(error) not in DENIED | UNSUPPORTED:
                    raise
            else:
                if "Status" not in response:  # absent where versioning was never configured
                    return False
            learnt[bucket] = True
        return learnt[bucket]

    def _head(self, uri: str, bucket: str, key: str, version: str | None = None) -> Row | None:
        """One object by one HEAD; None where it, or that version of it, does not exist."""
        which = {} if version is None else {"VersionId": version}
        try:
            response = self._client.call("HeadObject", uri, Bucket=bucket, Key=key, **which)
        except RefartError as error:
            if code_of(error) in (MISSING if version is None else GONE):
                return None
            raise
        found = response.get("VersionId", NULL_VERSION)
        if version not in (None, found):
            return None  # a server without versions, which did not look at the parameter
        if version is None and found == NULL_VERSION:
            found = None
        return Row(key, response["ContentLength"], response.get("ETag", ""), found)

    def _unlisted(self, uri: str, bucket: str, key: str) -> Row | None:
        """A single object of a bucket that may be read but not listed (where a missing one is denied too)."""
        if not key or key.endswith("/"):
            return None
        try:
            row = self._head(uri, bucket, key)
        except PermissionDeniedError:
            row = None
        return row or self._pinned_by_hand(uri, bucket, key)

    def _pinned_by_hand(self, uri: str, bucket: str, key: str) -> Row | None:
        """The version that `key?versionId=ID` names; None for a key that is not so written.

        Raises `NotFoundError` for a version that does not exist, or is a delete marker.
        """
        bare, _, version = key.rpartition(PINNED_BY_HAND)
        if not bare or not version:
            return None
        row = self._head(uri, bucket, bare) if version == NULL_VERSION else None
        if row is None or row.version_id is not None:  # no such object, or a later version is current
            row = self._head(uri, bucket, bare, version)
        if row is None:
            raise NotFoundError(
                f"s3://{bucket}/{bare} has no version {version!r} to read"
                f" (and no object has the literal name {uri})"
            )
        return row


def split(uri: str) -> tuple[str, str, str]:
    """`(scheme://bucket/, bucket, key)`; the bucket ends at the first slash and the key is all the rest, as
    it stands.

    Raises `InvalidInputError` for a URI without a bucket.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{uri} names no bucket: write s3://bucket/key")
    return f"{scheme}://{bucket}/", bucket, key


def _base(key: str) -> str:
    """What the keys below `key` begin with."""
    return key if not key or key.endswith("/") else f"{key}/"


def _below(responses: Iterator[Listed], base: str) -> Iterator[list[Row]]:
    """The objects below `base`, response by response; stops once an ordered listing has passed them."""
    for listed in responses:
        if rows := s3_listing.objects_below(listed.rows, base):
            yield rows
        if listed.in_order and listed.last_key > base and not listed.last_key.startswith(base):
            return


def _uri(entry: Entry) -> str:
    if entry.uri is None:
        raise InvalidInputError(
            f"{entry.path!r} is a managed file; its bytes are in the store, not in a source"
        )
    return entry.uri
