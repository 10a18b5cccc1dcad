"""Requests for one S3 object: how a write is asked for, and what the answer says."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from refart import checksums
from refart.entries import Entry
from refart.errors import ChecksumError, RefartError
from refart.sources.base import Held
from refart.sources.pinned import CHUNK_BYTES, Answer, Broken, NotThat, Which, attempts, named
from refart.sources.s3 import parts as s3_parts
from refart.sources.s3.client import CHANGED, DENIED, GONE, MISSING, UNSUPPORTED, S3Client, code_of
from refart.sources.s3.listing import NULL_VERSION, content_id_of

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})\Z")

ARCHIVES: Final = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes whose objects have to be restored before they can be read. (Amazon S3 user guide, "Understanding and
managing Amazon S3 storage classes"; of Intelligent-Tiering's archive tiers, listings do not tell.)"""

DIRECTORY_BUCKET: Final = "--x-s3"
"""How the names of directory buckets end. (Amazon S3 user guide, "Directory bucket naming rules".)"""


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    """The pinned version, the recorded ETag, whatever is there; see `pinned.attempts`."""
    etag = checksums.etag_of(entry.content_id)
    tried = attempts(entry, "version", etag)
    if tried[0][0] == Which(version=NULL_VERSION) and etag:
        # A later write may have taken the place of the null version, so its ETag must hold as well.
        tried[0] = (Which(version=NULL_VERSION, etag=etag), "version")
    return tried


@dataclass(frozen=True, slots=True)
class Reader:
    """One object, as an entry refers to it."""

    client: S3Client
    bucket: str
    key: str
    entry: Entry

    def get(self, which: Which, start: int, stop: int | None) -> Answer:
        """See `pinned.Get`. A whole read whose ETag can be computed again costs one HEAD more."""
        is_whole = not start and stop is None
        asked = (
            {"ChecksumMode": "ENABLED"}
            if is_whole
            else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        )
        response = self._call("GetObject", which, **asked)
        body, (first, size) = response["Body"], _range(response)
        content_id, same = content_id_of(response.get("ETag", "")), _same(response, which)
        hash_is_plain, parts = self.hash_is_plain(response), None
        if is_whole and size is not None and hash_is_plain and content_id == self.entry.content_id:
            try:
                parts = s3_parts.parts_of(
                    content_id, size, lambda number: self.head(same, PartNumber=number), named(self.entry)
                )
            except BaseException:
                body.close()
                raise
        return Answer(
            _chunks(body, self.entry),
            first,
            "ContentRange" in response,
            size,
            content_id,
            same,
            hash_is_plain,
            parts,
        )

    def head(self, which: Which, **asked: Any) -> dict[str, Any]:
        """Raises `NotThat` where the server has no such object, or answers with another."""
        response = self._call("HeadObject", which, **asked)
        if not which.admits(_same(response, which)):
            raise NotThat
        return response

    def _call(self, operation: str, which: Which, **asked: Any) -> dict[str, Any]:
        if which.version is not None:
            asked["VersionId"] = which.version
        if which.etag is not None and which.version in (None, NULL_VERSION):
            asked["IfMatch"] = f'"{which.etag}"'
        try:
            return self.client.call(operation, named(self.entry), Bucket=self.bucket, Key=self.key, **asked)
        except RefartError as error:
            not_that = CHANGED | (GONE if which.version is not None else MISSING)
            if which.version == NULL_VERSION and not (self.entry.pin or "").startswith("version:"):
                not_that |= UNSUPPORTED | DENIED  # one more try, which says less than those before
            if code_of(error) in not_that:
                raise NotThat from error
            raise

    def hash_is_plain(self, headers: Mapping[str, Any]) -> bool:
        """Whether the ETag of a single part is the MD5 of its bytes: not where SSE-KMS or SSE-C encrypted them, nor
        in directory buckets, where it is random. (Amazon S3 API reference, "Object", ETag.)"""
        return not (
            is_kms(headers) or "SSECustomerAlgorithm" in headers or self.bucket.endswith(DIRECTORY_BUCKET)
        )


def is_kms(headers: Mapping[str, Any]) -> bool:
    """Whether an answer says that KMS encrypts the object."""
    return str(headers.get("ServerSideEncryption", "")).startswith("aws:kms")


def _same(response: Mapping[str, Any], which: Which) -> Which:
    """Selects the write that answered; as version `null` only where that was asked for."""
    version: str = response.get("VersionId", NULL_VERSION)
    etag = response.get("ETag", "").strip('"') or None
    return Which(version=None if version == NULL_VERSION != which.version else version, etag=etag)


def _chunks(body: Any, entry: Entry) -> Generator[bytes]:
    with closing(body):
        try:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk
        except FlexibleChecksumError as error:
            raise ChecksumError(
                f"{named(entry)} arrived damaged: its stored checksum does not match"
            ) from error
        except (BotoCoreError, HTTPError, OSError, ValueError) as error:
            raise Broken(f"broke off ({type(error).__name__})") from error


def _range(response: Mapping[str, Any]) -> tuple[int, int | None]:
    """Where the body of a GET begins, and the size of the whole object."""
    if match := _CONTENT_RANGE.match(response.get("ContentRange", "")):
        return int(match[1]), int(match[2])
    return 0, response.get("ContentLength")
