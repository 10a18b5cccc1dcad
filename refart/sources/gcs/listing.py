"""What the JSON API says about objects of GCS, one by one and in lists."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from refart.errors import SourceError
from refart.sources.listed import Listed, Row, batch_of, listed, size_of

OBJECT_FIELDS: Final = "name,size,generation,md5Hash,crc32c"
"""All that is asked for, and a small part of what GCS would say about an object."""

LISTING_FIELDS: Final = f"items({OBJECT_FIELDS}),nextPageToken"


def content_id_of(md5: str | None, crc32c: str | None, generation: str) -> str:
    """The content id of an object by its hashes, in base64 as GCS gives them.

    Every object has a CRC32C, and all but composite ones an MD5 ("Hashes and ETags"); a list tells neither of objects
    that a customer's key encrypts. The ETag changes with metadata and is never asked for.
    Raises `ValueError` for a hash that is none.
    """
    for algo, text, size in (("md5", md5, 16), ("crc32c", crc32c, 4)):
        if text:
            digest = base64.b64decode(text, validate=True)
            if len(digest) != size:
                raise ValueError(f"an {algo} of {len(digest)} bytes")
            return f"{algo}:{digest.hex()}"
    return f"generation:{generation}"


def row_of(resource: Mapping[str, Any], what: str) -> Row:
    """An object by its resource. Raises `SourceError` for what is none; `what` begins the message."""
    try:
        return _row_of(resource)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_understood(error, what) from error


def parse(answer: Mapping[str, Any], what: str) -> Listed:
    """The answer to objects.list; `following` is its page token.

    Raises `SourceError` for what is none; `what` begins the message.
    """
    try:
        rows = [_row_of(item) for item in answer.get("items", ())]
        token = answer.get("nextPageToken")
        if not isinstance(token, str | None):
            raise TypeError(f"a page token is {type(token).__name__}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_understood(error, what) from error
    return listed(batch_of(rows), [row.key for row in rows], token or None)


def _row_of(resource: Mapping[str, Any]) -> Row:
    generation, key = str(resource["generation"]), resource["name"]
    if not _GENERATION.match(generation):
        raise ValueError(f"{generation[:40]!r} is no generation")
    if not isinstance(key, str):
        raise TypeError(f"a name is {type(key).__name__}")
    key.encode()  # JSON can spell what is no Unicode
    content_id = content_id_of(resource.get("md5Hash"), resource.get("crc32c"), generation)
    return Row(key, size_of(resource["size"]), content_id, f"generation:{generation}")


_GENERATION: Final = re.compile(r"[0-9]{1,32}\Z")


def _not_understood(error: Exception, what: str) -> SourceError:
    return SourceError(
        f"{what}: the server's answer is not one of the JSON API of GCS"
        f" ({type(error).__name__}: {str(error)[:100]})"
    )
