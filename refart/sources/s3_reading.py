"""GETs of one S3 object: how a write is asked for, and what the answer says."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any, Final

from botocore.exceptions import BotoCoreError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from refart import checksums
from refart.entries import Entry
from refart.errors import ChecksumError, RefartError
from refart.sources.base import Held
from refart.sources.pinned import CHUNK_BYTES, Answer, Broken, Get, NotThat, Which, attempts, named
from refart.sources.s3_client import CHANGED, GONE, MISSING, S3Client, code_of
from refart.sources.s3_listing import NULL_VERSION, content_id_of

_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)\Z")


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    """The pinned version, the recorded ETag, whatever is there; see `pinned.attempts`."""
    etag = checksums.etag_of(entry.content_id)
    tried = attempts(entry, "version", etag)
    if tried[0][0] == Which(version=NULL_VERSION) and etag:
        # A later write may have taken the place of the null version, so its ETag must hold as well.
        tried[0] = (Which(version=NULL_VERSION, etag=etag), "version")
    return tried


def getter(client: S3Client, bucket: str, key: str, entry: Entry) -> Get:
    """The GETs of one object; see `pinned.Get`."""

    def get(which: Which, start: int, stop: int | None) -> Answer:
        asked: dict[str, str] = {}
        if which.version is not None:
            asked["VersionId"] = which.version
        if which.etag is not None and which.version in (None, NULL_VERSION):
            asked["IfMatch"] = f'"{which.etag}"'
        if start or stop is not None:
            asked["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        else:
            asked["ChecksumMode"] = "ENABLED"
        try:
            response = client.call("GetObject", named(entry), Bucket=bucket, Key=key, **asked)
        except RefartError as error:
            if code_of(error) in CHANGED | (GONE if which.version is not None else MISSING):
                raise NotThat from error
            raise
        first, size = _range(response)
        etag = response.get("ETag", "").strip('"') or None
        return Answer(
            _chunks(response["Body"], entry),
            first,
            "ContentRange" in response,
            size,
            content_id_of(response.get("ETag", "")),
            Which(version=_version(response, which), etag=etag),
            _hash_is_plain(response),
        )

    return get


def _version(response: Mapping[str, Any], which: Which) -> str | None:
    """The version that answered; `null` only where it was asked for."""
    found: str = response.get("VersionId", NULL_VERSION)
    return None if found == NULL_VERSION != which.version else found


def _chunks(body: Any, entry: Entry) -> Generator[bytes]:
    with closing(body):
        try:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk
        except FlexibleChecksumError as error:
            raise ChecksumError(
                f"{named(entry)} arrived damaged: its stored checksum does not match"
            ) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise Broken(f"broke off ({type(error).__name__})") from error


def _hash_is_plain(headers: Mapping[str, Any]) -> bool:
    """Whether the ETag of a single part is the MD5 of its bytes: not where SSE-KMS or SSE-C encrypted them."""
    encrypted = str(headers.get("ServerSideEncryption", "")).startswith("aws:kms")
    return not encrypted and "SSECustomerAlgorithm" not in headers


def _range(response: Mapping[str, Any]) -> tuple[int, int | None]:
    """Where the body of a GET begins, and the size of the whole object."""
    if match := _CONTENT_RANGE.match(response.get("ContentRange", "")):
        return int(match[1]), int(match[2])
    return 0, response.get("ContentLength")
