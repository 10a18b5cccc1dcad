"""Copies and deletions that S3 makes itself: no byte moves through this machine.

A copy takes the metadata, tags, storage class and KMS key of the write that it is made of. What was uploaded in parts
is copied in the same parts, so that it gets the same ETag. Access control lists and object locks are the bucket's
default. (Amazon S3 API reference, "CopyObject", "UploadPartCopy".)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from refart import checksums
from refart.entries import Entry
from refart.errors import ChecksumError, ConflictError, RefartError, SourceError
from refart.parallel import map_bounded, thread_pool
from refart.sources import pinned
from refart.sources.base import Parts
from refart.sources.pinned import NotThat, Stat, Which, named
from refart.sources.s3 import parts as s3_parts
from refart.sources.s3.client import CHANGED, MISSING, UNSUPPORTED, S3Client, code_of
from refart.sources.s3.listing import content_id_of
from refart.sources.s3.reading import ARCHIVES, DIRECTORY_BUCKET, Reader, is_kms, wanted
from refart.sources.writing import changed, check_same

MAX_COPY_BYTES: Final = 5 << 30
"""Of one CopyObject; larger objects are copied in parts."""

PART_BYTES: Final = 512 << 20
MAX_PARTS: Final = 10_000
PARTS_AT_ONCE: Final = 8

_KEPT: Final = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType"),
    *("Expires", "Metadata"),
)
"""What a copy in parts is told, as HeadObject tells it; CopyObject keeps it by itself."""

_ENCRYPTION: Final = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
"""What a copy is told of an object that KMS encrypts; all else is for the bucket's default to decide."""

_CONFLICT: Final = CHANGED | {"ConditionalRequestConflict", "409"}


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes to one object, under the condition that it is still what it was."""

    client: S3Client
    stat: Stat
    bucket: str
    key: str
    uri: str
    over: Entry | None
    """What lies there; None for nothing."""

    def copy(self, source: Reader) -> Entry:
        """Make it a copy of the write that the entry of `source` pins; see `WritableSource.copy`."""
        which = wanted(source.entry)[0][0]
        try:
            head = source.head(which)
        except NotThat:
            raise pinned.lost(source.entry, self.stat(str(source.entry.uri))) from None
        size, etag = int(head["ContentLength"]), head.get("ETag", "")
        _check_online(head, source.entry)
        own = _ENCRYPTION if is_kms(head) else ()
        names = ("StorageClass", "WebsiteRedirectLocation", *own)  # no copy keeps them by itself
        stored = {name: head[name] for name in names if head.get(name)}
        same = Which(which.version, etag.strip('"') or None)
        parts = s3_parts.parts_of(
            content_id_of(etag),
            size,
            lambda number: source.head(same, PartNumber=number),
            named(source.entry),
        )
        if size and (parts is not None or size > MAX_COPY_BYTES):
            part_bytes = parts.part_bytes if parts is not None else max(PART_BYTES, -(-size // MAX_PARTS))
            send = partial(self._copy_parts, head=head, stored=stored, size=size, part_bytes=part_bytes)
        else:
            send = partial(self._copy_whole, stored=stored)
        try:
            answer = send(_source(source, which, etag))
        except RefartError as error:
            # A 412 does not say of which condition it speaks: that on the source, or on what is there.
            if which.version is None and (isinstance(error, ConflictError) or code_of(error) in CHANGED):
                self._check_source(source, same)
            raise
        content_id = content_id_of(answer.get("ETag", ""))
        version = answer.get("VersionId")
        pin = None if version in (None, "null") else f"version:{version}"
        if content_id == content_id_of(etag) and not checksums.is_weak(content_id):
            return Entry(source.entry.path, size, content_id, self.uri, pin)
        is_plain = source.hash_is_plain(head) and source.hash_is_plain(answer)
        if is_plain and not self.bucket.endswith(DIRECTORY_BUCKET):
            self._check_copied(content_id_of(etag), content_id, parts)
        if which.version is None and not _is_amazon(self.client.endpoint_url):
            self._check_source(source, same)  # some servers overlook the condition on it
        found = self.stat(self.uri)  # another ETag: only the size is left to compare
        size_there = None if found is None else found.size
        return Entry(source.entry.path, size_there, content_id, self.uri, pin)

    def delete(self) -> None:
        """See `WritableSource.delete`."""
        self._send("DeleteObject")

    def _check_copied(self, expected: str, found: str, parts: Parts | None) -> None:
        """Raise `ChecksumError` where two content ids that both stand for the bytes differ.

        An ETag of parts does so where the copy has the same parts, and the server is Amazon's: others make their own of
        copied parts.
        """
        algos = {checksums.split(content_id)[0] for content_id in (expected, found)}
        if algos == {"md5"} or (
            algos == {"etag"}
            and parts is not None
            and _is_amazon(self.client.endpoint_url)
            and expected.rpartition("-")[2] == found.rpartition("-")[2]
            and parts.are_even()
        ):
            raise ChecksumError(
                f"the copy at {self.uri} has other bytes than what was copied: expected {expected}, found {found};"
                " look at it before you go on"
            )

    def _check_source(self, source: Reader, same: Which) -> None:
        """Raise `ReferenceChangedError`, or `ReferenceMissingError`, where what is copied is not there any more."""
        try:
            source.head(same)
        except NotThat:
            raise pinned.lost(source.entry, self.stat(str(source.entry.uri))) from None

    def _copy_whole(self, source: Mapping[str, Any], *, stored: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._send("CopyObject", **source, **stored)
        return {**answer, **answer.get("CopyObjectResult", {})}

    def _copy_parts(
        self,
        source: Mapping[str, Any],
        *,
        head: Mapping[str, Any],
        stored: Mapping[str, Any],
        size: int,
        part_bytes: int,
    ) -> dict[str, Any]:
        kept = {name: head[name] for name in _KEPT if head.get(name)}
        if tags := self._tags(source, head):
            kept["Tagging"] = tags
        where = {"Bucket": self.bucket, "Key": self.key}
        created = self.client.call("CreateMultipartUpload", self.uri, **where, **kept, **stored)
        upload = {**where, "UploadId": created["UploadId"]}

        def copy_part(start: int) -> dict[str, Any]:
            number, stop = start // part_bytes + 1, min(start + part_bytes, size)
            part = {"PartNumber": number, "CopySourceRange": f"bytes={start}-{stop - 1}"}
            answer = self.client.call("UploadPartCopy", self.uri, **upload, **source, **part)
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        try:
            with thread_pool(PARTS_AT_ONCE) as pool:
                starts = range(0, size, part_bytes)
                copied = list(map_bounded(pool, copy_part, starts, window=2 * PARTS_AT_ONCE))
            return self._send(
                "CompleteMultipartUpload", UploadId=upload["UploadId"], MultipartUpload={"Parts": copied}
            )
        except BaseException:
            with suppress(RefartError):  # the first error says more
                self.client.call("AbortMultipartUpload", self.uri, **upload)
            raise

    def _tags(self, source: Mapping[str, Any], head: Mapping[str, Any]) -> str:
        if not head.get("TagCount"):
            return ""
        which = {**source["CopySource"]}
        found = self.client.call("GetObjectTagging", self.uri, **which)
        return urlencode({tag["Key"]: tag["Value"] for tag in found["TagSet"]})

    def _send(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Write where nobody else has written since; raises `ConflictError` otherwise.

        Amazon's servers take the condition with the write. Others may overlook it, so that they are asked right before;
        so is Amazon where what lies there has no ETag that a condition could be made of.
        """
        condition = _condition(self.over)
        if not condition or not _is_amazon(self.client.endpoint_url):
            check_same(self.uri, self.over, self.stat(self.uri))
        where = {"Bucket": self.bucket, "Key": self.key, **parameters}
        try:
            return self.client.call(operation, self.uri, **where, **condition)
        except RefartError as error:
            code = code_of(error)
            if code in _CONFLICT or (self.over is not None and code in MISSING):
                raise changed(self.uri) from error
            if not condition or code not in UNSUPPORTED:
                raise
        check_same(self.uri, self.over, self.stat(self.uri))
        return self.client.call(operation, self.uri, **where)


def _source(source: Reader, which: Which, etag: str) -> dict[str, Any]:
    """What to copy: the pinned version, or what is there as long as it has this ETag."""
    copied = {"Bucket": source.bucket, "Key": source.key}
    if which.version is not None:
        return {"CopySource": {**copied, "VersionId": which.version}}
    return {"CopySource": copied, **({"CopySourceIfMatch": etag} if etag else {})}


def _check_online(head: Mapping[str, Any], entry: Entry) -> None:
    """Raise `SourceError` for what lies in an archive, unless a copy of it was restored from there."""
    tier = head.get("ArchiveStatus") or head.get("StorageClass", "")
    if tier in ARCHIVES or head.get("ArchiveStatus"):
        told = str(head.get("Restore", ""))
        if 'ongoing-request="false"' not in told:
            does = "its restore is under way: wait for it" if told else "restore it first"
            raise SourceError(f"{named(entry)} is archived ({tier}): {does}")


def _condition(over: Entry | None) -> dict[str, str]:
    if over is None:
        return {"IfNoneMatch": "*"}
    etag = checksums.etag_of(over.content_id)
    return {} if etag is None else {"IfMatch": f'"{etag}"'}


def _is_amazon(endpoint_url: str) -> bool:
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
