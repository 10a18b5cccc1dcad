"""Reading one S3 object, pinned: which write to ask for, what to do when it is gone, and how a broken body
goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import BotoCoreError, FlexibleChecksumError
from urllib3.exceptions import HTTPError

from refart import checksums
from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    RefartError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.base import Fetched, Held, Opened
from refart.sources.ranged import FIRST_BYTES, open_ranges
from refart.sources.s3_client import CHANGED, GONE, MISSING, S3Client, code_of
from refart.sources.s3_listing import NULL_VERSION, content_id_of

CHUNK_BYTES: Final = 1 << 20  # 1 MiB
RESUMES: Final = 5
"""How often a body that breaks off is continued. botocore tries requests again, not bodies."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)\Z")

Response = Mapping[str, Any]
Conditions = dict[str, str]
"""GetObject parameters that select one write of an object."""


@dataclass(frozen=True, slots=True)
class _Object:
    """One object whose first GET was answered, and how to ask for more of the very same bytes."""

    client: S3Client
    bucket: str
    key: str
    entry: Entry
    response: Response
    held: Held
    size: int | None
    same: Conditions
    """Selects exactly what answered; empty where the server gave nothing to select it by."""

    def chunks(self, response: Response, start: int, stop: int | None) -> Generator[bytes]:
        """The bytes from `start` to `stop`, of which `response` carries the first; broken bodies are
        continued."""
        position = start
        for left in reversed(range(RESUMES + 1)):
            with closing(response["Body"]) as body:
                try:
                    while chunk := body.read(CHUNK_BYTES):
                        position += len(chunk)
                        yield chunk
                    if stop is None or position == stop:
                        return
                    why = "ended early"
                except FlexibleChecksumError as error:
                    raise ChecksumError(
                        f"{self} arrived damaged: its stored checksum does not match"
                    ) from error
                except (BotoCoreError, HTTPError, OSError) as error:
                    why = f"broke off ({type(error).__name__})"
            if not left or not self.same:
                break
            response = self.range(position, stop)
        raise SourceError(f"{self}: the stream {why} at byte {position:,} of {_bytes(stop)}", transient=True)

    def range(self, start: int, stop: int | None) -> Response:
        """A GET of the bytes from `start` to `stop` of exactly this object."""
        last = "" if stop is None else stop - 1
        try:
            response = self.client.call(
                "GetObject",
                str(self),
                Bucket=self.bucket,
                Key=self.key,
                Range=f"bytes={start}-{last}",
                **self.same,
            )
        except RefartError as error:
            if code_of(error) in CHANGED | GONE:
                raise ReferenceChangedError(
                    f"{self} was overwritten or deleted while it was being read;"
                    f" expected {self.entry.content_id}, ETag {self.response.get('ETag')}"
                ) from error
            raise
        if response.get("ETag") != self.response.get("ETag"):
            response["Body"].close()
            raise ReferenceChangedError(
                f"{self} was overwritten while it was being read; expected ETag {self.response.get('ETag')},"
                f" found {response.get('ETag')}"
            )
        if _range(response)[0] != start:
            response["Body"].close()
            raise SourceError(f"{self}: the server does not answer a ranged, pinned GET with that range")
        return response

    def __str__(self) -> str:
        return _named(self.entry)


@contextmanager
def fetch(
    client: S3Client, bucket: str, key: str, entry: Entry, stat: Callable[[str], Entry | None]
) -> Iterator[Fetched]:
    """See `Source.fetch`; `stat` tells what lies at the URI now, for the message of an error."""
    found = _get(client, bucket, key, entry, stat, ChecksumMode="ENABLED")
    headers = found.response
    with closing(headers["Body"]), closing(found.chunks(headers, 0, found.size)) as chunks:
        yield Fetched(
            chunks,
            found.size,
            found.held,
            content_id_of(headers.get("ETag", "")),
            hash_is_plain=_hash_is_plain(headers),
        )


def _hash_is_plain(headers: Response) -> bool:
    """Whether the ETag of a single part is the MD5 of its bytes: not where SSE-KMS or SSE-C encrypted them."""
    encrypted = str(headers.get("ServerSideEncryption", "")).startswith("aws:kms")
    return not encrypted and "SSECustomerAlgorithm" not in headers


def open_stream(
    client: S3Client, bucket: str, key: str, entry: Entry, stat: Callable[[str], Entry | None]
) -> Opened:
    """See `Source.open`. The first request is made at once, so that what cannot be read cannot be opened."""
    # No range can be asked of an empty object.
    begin = {"Range": f"bytes=0-{FIRST_BYTES - 1}"} if entry.size else {}
    found = _get(client, bucket, key, entry, stat, **begin)
    size = found.size
    if size is None:
        found.response["Body"].close()
        raise SourceError(f"{found}: the server does not say how large the object is")
    if begin and "ContentRange" not in found.response:
        found.response["Body"].close()
        raise SourceError(f"{found}: the server does not answer a ranged, pinned GET with that range")
    first = b"".join(found.chunks(found.response, 0, min(size, FIRST_BYTES) if begin else size))

    def read_range(start: int, stop: int) -> bytes:
        return b"".join(found.chunks(found.range(start, stop), start, stop))

    file = open_ranges(str(entry.uri), size, first, read_range)
    return Opened(file, found.held, _hash_is_plain(found.response))


def _get(
    client: S3Client, bucket: str, key: str, entry: Entry, stat: Callable[[str], Entry | None], **asked: str
) -> _Object:
    """GET the object that the entry means, by the first of its conditions that holds."""
    refusal: RefartError | None = None
    for conditions, held in _attempts(entry):
        try:
            response = client.call("GetObject", _named(entry), Bucket=bucket, Key=key, **conditions, **asked)
        except RefartError as error:
            if code_of(error) not in CHANGED | (GONE if held == "version" else MISSING):
                raise
            refusal = error
            continue
        size = _range(response)[1]
        if _is_meant(entry, size, conditions, response):
            return _Object(client, bucket, key, entry, response, held, size, _same(response))
        response["Body"].close()
    raise _lost(entry, stat) from refusal


def _attempts(entry: Entry) -> list[tuple[Conditions, Held]]:
    """What to ask for, best first: the pinned version, the recorded ETag, whatever is there for a hash to
    judge."""
    kind, _, value = (entry.pin or "").partition(":")
    if kind not in ("", "version", "etag"):
        raise InvalidInputError(f"{_named(entry)}: S3 has no pins of the kind {kind!r}")
    etag = value if kind == "etag" else checksums.etag_of(entry.content_id)
    if_match = {"IfMatch": f'"{etag}"'} if etag else {}
    attempts: list[tuple[Conditions, Held]] = []
    if kind == "version":
        # A later write may have taken the place of the null version, so its ETag must hold as well.
        attempts.append(({"VersionId": value, **(if_match if value == NULL_VERSION else {})}, "version"))
    if if_match:
        attempts.append((if_match, "etag"))
    if entry.content_id.startswith("sha256:") or not attempts:
        attempts.append(({}, "current"))
    return attempts


def _is_meant(entry: Entry, size: int | None, conditions: Conditions, response: Response) -> bool:
    """Whether the answer is what was asked for; some servers ignore the conditions of a GET."""
    version, etag = conditions.get("VersionId", NULL_VERSION), conditions.get("IfMatch")
    return (
        (version == NULL_VERSION or response.get("VersionId") == version)
        and (etag is None or _bare(response.get("ETag")) == _bare(etag))
        and (size is None or entry.size is None or size == entry.size)
    )


def _same(response: Response) -> Conditions:
    version, etag = response.get("VersionId", NULL_VERSION), response.get("ETag")
    if version != NULL_VERSION:
        return {"VersionId": version}
    return {"IfMatch": etag} if etag else {}


def _bare(etag: str | None) -> str:
    return (etag or "").strip('"')


def _range(response: Response) -> tuple[int, int | None]:
    """Where the body of a GET begins, and the size of the whole object."""
    if match := _CONTENT_RANGE.match(response.get("ContentRange", "")):
        return int(match[1]), int(match[2])
    return 0, response.get("ContentLength")


def _lost(entry: Entry, stat: Callable[[str], Entry | None]) -> RefartError:
    """The error for an entry none of whose conditions holds: one HEAD tells gone from changed."""
    current = stat(str(entry.uri))
    expected = (
        f"expected {entry.content_id}{f', pinned {entry.pin}' if entry.pin else ''}, {_bytes(entry.size)}"
    )
    if current is None:
        return ReferenceMissingError(
            f"{_named(entry)} is gone; {expected}: bring it back, or log a version without it"
        )
    return ReferenceChangedError(
        f"{_named(entry)} has changed; {expected}; found {current.content_id}, {_bytes(current.size)}:"
        " bring the old bytes back, or log the new ones as a version"
    )


def _bytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size:,} bytes"


def _named(entry: Entry) -> str:
    return f"{entry.path!r} ({entry.uri})"
