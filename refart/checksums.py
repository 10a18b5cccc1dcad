"""Content ids: `algo:value`, the strongest fingerprint known for the bytes of an entry.

| algo        | value                                 | says                                                   |
| ----------- | ------------------------------------- | ------------------------------------------------------ |
| `sha256`    | 64 hex digits                         | these bytes                                            |
| `md5`       | 32 hex digits                         | these bytes (single-part S3 ETag, GCS md5Hash, …)      |
| `crc64nvme` | 16 hex digits                         | these bytes, against accidents                         |
| `crc32c`    | 8 hex digits                          | these bytes, against accidents                         |
| `etag`      | the ETag without its quotes           | the same object content, in the words of its server    |
|             | `W/` and a weak ETag, or what a file  | weak: the same, as far as the server or driver can     |
|             | system driver offers in its place     | tell                                                   |
| `generation`| digits                                | the same write of an object                            |
| `stat`      | modified time in ns                   | weak: the same size and time                           |
| `none`      | nothing: the id is the word `none`    | nothing is known                                       |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final, Protocol

from refart.errors import InvalidInputError

NONE: Final = "none"
"""The content id of an entry whose bytes were never fingerprinted (`checksum=False`)."""

HEX_DIGITS: Final = {"sha256": 64, "md5": 32, "crc64nvme": 16, "crc32c": 8}
"""Algorithms whose value is a fixed number of lower-case hex digits."""

IDENTIFYING: Final = frozenset({"sha256", "md5"})
"""Algorithms by whose value bytes are known wherever they lie. A CRC tells that *this* object arrived whole; that two
objects have the same one says little."""

CRCS: Final = frozenset({"crc64nvme", "crc32c"})
"""Algorithms that can be computed where the library for them is installed (`can_compute`)."""

WEAK_ETAG: Final = "W/"
"""How the value of a weak ETag begins (RFC 9110, section 8.8.3)."""

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


@lru_cache(maxsize=1024)  # of one id again and again while its bytes move
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
    """The ETag (without quotes) that a content id made by `from_etag` stands for; None for a weak one too."""
    algo, value = split(content_id)
    return value if algo in ("md5", "etag") and not value.startswith(WEAK_ETAG) else None


def is_weak(content_id: str) -> bool:
    """True where other bytes can have the same content id without anyone's intent: `stat:…`, `etag:W/…`, `none`."""
    algo, value = split(content_id)
    return algo in ("stat", NONE) or (algo == "etag" and value.startswith(WEAK_ETAG))


WEAK_PATTERN: Final = r"^(stat:|etag:W/|none$)"
"""`is_weak` for RE2, by which pages are counted."""


@cache
def can_compute(algo: str) -> bool:
    """Whether the algorithm can be computed from bytes here: SHA-256 and MD5 always, CRCs by an optional library."""
    return algo in IDENTIFYING or (algo in CRCS and _crc_function(algo) is not None)


class StreamHasher:
    """Hashes a stream once with every algorithm asked for, and counts its bytes."""

    def __init__(self, *algos: str) -> None:
        self.size_bytes = 0
        self._hashes = {algo: _new(algo) for algo in algos}

    def update(self, chunk: bytes | memoryview) -> None:
        self.size_bytes += len(chunk)
        for digest in self._hashes.values():
            digest.update(chunk)

    def content_id(self, algo: str = "sha256") -> str:
        """`algo:hex` of all bytes so far; `algo` must be one given at construction."""
        return f"{algo}:{self._hashes[algo].hexdigest()}"


class MultipartHasher:
    """Computes the ETag that S3 gives a multipart upload again: the MD5 of the MD5s of the parts, and their number.

    (Not documented by Amazon as an algorithm, but so in S3 and every server that speaks its protocol, unless SSE-KMS
    or SSE-C is in use.)
    """

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        self._left = part_bytes
        self._part = hashlib.md5(usedforsecurity=False)
        self._whole = hashlib.md5(usedforsecurity=False)
        self._parts = 0

    def update(self, chunk: bytes | memoryview) -> None:
        view = memoryview(chunk)
        while view:
            taken = view[: self._left]
            self._part.update(taken)
            self._left -= len(taken)
            if not self._left:
                self._end_part()
            view = view[len(taken) :]

    def content_id(self) -> str:
        """`etag:…-N` of all bytes; nothing can be added afterwards."""
        if self._left < self._part_bytes or not self._parts:
            self._end_part()
        return f"etag:{self._whole.hexdigest()}-{self._parts}"

    def _end_part(self) -> None:
        self._whole.update(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._left = self._part_bytes
        self._parts += 1


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc:
    """A CRC in the manner of hashlib."""

    def __init__(self, algo: str) -> None:
        function = _crc_function(algo)
        assert function is not None, "callers ask can_compute first"
        self._function, self._digits, self._value = function, HEX_DIGITS[algo], 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._function(bytes(data), self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._digits}x}"


def _new(algo: str) -> _Hash:
    return _Crc(algo) if algo in CRCS else hashlib.new(algo, usedforsecurity=False)


def _crc_function(algo: str) -> Callable[[bytes, int], int] | None:
    """`(data, previous) -> crc` of an installed library: that of the AWS drivers, else that of Google's."""
    try:
        from awscrt import checksums as aws
    except ImportError:
        if algo != "crc32c":
            return None
        try:
            import google_crc32c
        except ImportError:
            return None
        return lambda data, previous: int(google_crc32c.extend(previous, data))
    function: Callable[[bytes, int], int] = {"crc32c": aws.crc32c, "crc64nvme": aws.crc64nvme}[algo]
    return function
