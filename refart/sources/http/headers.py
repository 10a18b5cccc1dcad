"""What the headers of a web server's answer say about the bytes behind a URL (RFC 9110, RFC 9530)."""

from __future__ import annotations

import base64
import binascii
import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

from refart import checksums
from refart.errors import InvalidInputError

PARTIAL: Final = 206

_ETAG = re.compile(r'(W/)?("?)([^"]+)\2\Z')
_LENGTH = re.compile(r"[0-9]{1,18}\Z")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)\Z")
_BASE64 = "([A-Za-z0-9+/]+={0,2})"

# RFC 9530 (sha-256=:…:), RFC 3230 before it (sha-256=…, md5=…), RFC 1864 (one MD5, of the body that it comes with).
_DIGESTS: Final[tuple[tuple[str, str, re.Pattern[str]], ...]] = (
    ("sha256", "Repr-Digest", re.compile(rf"(?:^|,)\s*sha-256=:{_BASE64}:\s*(?:,|$)")),
    ("sha256", "Digest", re.compile(rf"(?:^|,)\s*sha-256={_BASE64}\s*(?:,|$)", re.IGNORECASE)),
    ("md5", "Digest", re.compile(rf"(?:^|,)\s*md5={_BASE64}\s*(?:,|$)", re.IGNORECASE)),
    ("md5", "Content-MD5", re.compile(rf"^{_BASE64}$")),
)


@dataclass(frozen=True, slots=True)
class Stated:
    """What one answer says about the whole object."""

    size: int | None
    """Of the bytes as they are transferred, with whatever Content-Encoding they have."""

    etag: str | None
    """Without quotes; a weak one begins with `W/`, so does one that a server wrote without quotes."""

    modified_ns: int | None
    """Last-Modified, which has whole seconds."""

    hashes: tuple[str, ...]
    """Content ids by the digests that the server states; none where the bytes have a Content-Encoding, since servers
    disagree about what they are digests of."""

    @property
    def strong_etag(self) -> str | None:
        """The ETag, where it is one that `If-Match` compares."""
        return None if self.etag is None or self.etag.startswith(checksums.WEAK_ETAG) else self.etag

    def content_ids(self) -> list[str]:
        """All that the answer says about the content, strongest first."""
        found = [*self.hashes]
        if self.strong_etag is not None:
            found.append(f"etag:{self.etag}")
        if self.modified_ns is not None:
            found.append(f"stat:{self.modified_ns}")
        if self.etag is not None and self.strong_etag is None:
            found.append(f"etag:{self.etag}")
        return found

    def content_id(self, like: str = checksums.NONE) -> str:
        """The one that is `like`, else one of the same kind, else the strongest; `none` where nothing is said."""
        found = self.content_ids()
        kind = checksums.split(like)[0]
        alike = [content_id for content_id in found if checksums.split(content_id)[0] == kind]
        return like if like in found else next(iter(alike + found), checksums.NONE)


def stated(headers: Mapping[str, str], status: int = 200) -> Stated:
    """Read the headers of a HEAD, a GET, or (`status` 206) a GET of a range. What is malformed counts as not said."""
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    hashes = [
        _hash(*digest, headers) for digest in _DIGESTS if status != PARTIAL or digest[1] != "Content-MD5"
    ]
    return Stated(
        _size(headers, status),
        _etag(headers.get("ETag", "")),
        _modified_ns(headers.get("Last-Modified", "")),
        tuple(dict.fromkeys(filter(None, hashes))) if encoding in ("", "identity") else (),
    )


def range_start(headers: Mapping[str, str]) -> int | None:
    """Where the body of a 206 begins in the object; None where the server does not say it."""
    match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def http_date(ns: int) -> str:
    """The time in the form of HTTP (RFC 9110, section 5.6.7)."""
    return formatdate(ns // 1_000_000_000, usegmt=True)


def _size(headers: Mapping[str, str], status: int) -> int | None:
    if status == PARTIAL:
        match = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
        return None if match is None or match[2] == "*" else int(match[2])
    length = headers.get("Content-Length", "")
    # RFC 9112, section 6.3: with a transfer coding, the length does not count.
    return int(length) if _LENGTH.match(length) and "Transfer-Encoding" not in headers else None


def _etag(header: str) -> str | None:
    match = _ETAG.match(header.strip())
    if match is None:
        return None
    # Sent back in quotes, a tag that came without them would match nothing; it can still be compared.
    value = ("" if match[2] and not match[1] else checksums.WEAK_ETAG) + match[3]
    try:
        checksums.split(f"etag:{value}")
    except InvalidInputError:
        return None
    return value


def _modified_ns(header: str) -> int | None:
    try:
        return calendar.timegm(parsedate_to_datetime(header).utctimetuple()) * 1_000_000_000
    except (TypeError, ValueError, OverflowError):
        return None


def _hash(algo: str, name: str, pattern: re.Pattern[str], headers: Mapping[str, str]) -> str | None:
    match = pattern.search(headers.get(name, "").strip())
    try:
        value = base64.b64decode(match[1], validate=True).hex() if match else ""
    except binascii.Error:
        return None
    return f"{algo}:{value}" if len(value) == checksums.HEX_DIGITS[algo] else None
