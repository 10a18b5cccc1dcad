"""Content ids: `algo:value`, the strongest fingerprint known for the bytes of an entry.

| algo        | value                                 | says                                                   |
| ----------- | ------------------------------------- | ------------------------------------------------------ |
| `sha256`    | 64 hex digits                         | these bytes                                            |
| `md5`       | 32 hex digits                         | these bytes (single-part S3 ETag, GCS md5Hash, …)      |
| `crc64nvme` | 16 hex digits                         | these bytes, against accidents                         |
| `crc32c`    | 8 hex digits                          | these bytes, against accidents                         |
| `etag`      | the ETag without its quotes           | the same object content, in the words of its server    |
| `generation`| digits                                | the same write of an object                            |
| `stat`      | modified time in ns                   | weak: the same size and time                           |
| `none`      | nothing: the id is the word `none`    | nothing is known                                       |
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from refart.errors import InvalidInputError

NONE: Final = "none"
"""The content id of an entry whose bytes were never fingerprinted (`checksum=False`)."""

HEX_DIGITS: Final = {"sha256": 64, "md5": 32, "crc64nvme": 16, "crc32c": 8}
"""Algorithms whose value is a fixed number of lower-case hex digits."""

COMPUTABLE: Final = frozenset({"sha256", "md5"})
"""Algorithms refart can compute from bytes while they stream."""

LADDER: Final = ("sha256", "md5", "crc64nvme", "crc32c", "etag", "generation", "stat", NONE)
"""All algorithms, strongest first."""

CONTENT_ID_PATTERN: Final = (
    r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}|crc64nvme:[0-9a-f]{16}|crc32c:[0-9a-f]{8}"
    r"|etag:[^\x00-\x1f\x7f\"]+|generation:[0-9]{1,32}|stat:-?[0-9]{1,20}|none)$"
)
"""The grammar for RE2, by which pages are checked; there, `$` is the end of the text only."""

MAX_CONTENT_ID_BYTES: Final = 2048

_CONTENT_ID = re.compile(CONTENT_ID_PATTERN.removesuffix("$") + r"\Z")
_MD5_HEX = re.compile(r"[0-9a-f]{32}\Z")


def split(content_id: str) -> tuple[str, str]:
    """Split `algo:value` into `(algo, value)`; `none` has the value `""`.

    Raises `InvalidInputError` for anything outside the grammar.
    """
    if len(content_id.encode(errors="replace")) > MAX_CONTENT_ID_BYTES or not _CONTENT_ID.match(content_id):
        raise InvalidInputError(
            f"content id {content_id[:200]!r} is not algo:value with one of {', '.join(LADDER)}"
        )
    algo, _, value = content_id.partition(":")
    return algo, value


def from_etag(etag: str) -> str:
    """The content id that an S3 ETag stands for: `md5:…` for a single part, `etag:…` otherwise.

    A single-part ETag is the MD5 of the bytes unless the object is encrypted with SSE-KMS or SSE-C, which a
    listing does not tell; a reader learns it from the response's headers and then compares the ETag instead.
    (Amazon S3 API reference, "Object", ETag.)
    """
    bare = etag.strip('"')
    return f"md5:{bare}" if _MD5_HEX.match(bare) else f"etag:{bare}"


def etag_of(content_id: str) -> str | None:
    """The S3 ETag (without quotes) that a content id made by `from_etag` stands for, else None."""
    algo, value = split(content_id)
    return value if algo in ("md5", "etag") else None


class StreamHasher:
    """Hashes a stream once with every algorithm asked for, and counts its bytes."""

    def __init__(self, *algos: str) -> None:
        self.size_bytes = 0
        self._hashes = {algo: hashlib.new(algo, usedforsecurity=False) for algo in algos}

    def update(self, chunk: bytes | memoryview) -> None:
        self.size_bytes += len(chunk)
        for digest in self._hashes.values():
            digest.update(chunk)

    def content_id(self, algo: str = "sha256") -> str:
        """`algo:hex` of all bytes so far; `algo` must be one given at construction."""
        return f"{algo}:{self._hashes[algo].hexdigest()}"
