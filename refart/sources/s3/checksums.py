"""Checksums that S3 keeps beside an object, as content ids.

A checksum of type FULL_OBJECT speaks of the object's bytes; a COMPOSITE one of the checksums of its parts, so that the
same bytes in other parts have another. (Amazon S3 user guide, "Checking object integrity".)
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from refart import checksums

FIELDS: Final = {
    "sha256": "ChecksumSHA256",
    "crc64nvme": "ChecksumCRC64NVME",
    "crc32c": "ChecksumCRC32C",
}
"""Algorithm → where a response has it, strongest first. No content id is made of the others that S3 knows: SHA-1 can
be forged, and a CRC32 tells no more than the ETag that is recorded anyway."""


def stored(headers: Mapping[str, Any]) -> str | None:
    """The content id of the strongest checksum of the whole object in the answer to a request with `ChecksumMode`."""
    for algo, field in FIELDS.items():
        value = str(headers.get(field, ""))
        if value and _is_of_the_whole(algo, value, headers):
            return _content_id(algo, value)
    return None


def _is_of_the_whole(algo: str, value: str, headers: Mapping[str, Any]) -> bool:
    if "-" in value:  # and the number of parts
        return False
    if kind := headers.get("ChecksumType"):
        return bool(kind == "FULL_OBJECT")
    # Servers older than that header: only CRC64NVME was always of the whole.
    return algo == "crc64nvme" or "-" not in headers.get("ETag", "")


def _content_id(algo: str, value: str) -> str | None:
    try:
        digest = base64.b64decode(value, validate=True).hex()
    except ValueError:
        return None
    return f"{algo}:{digest}" if len(digest) == checksums.HEX_DIGITS[algo] else None
