"""Of which parts an object was uploaded: what a multipart ETag, the MD5 of their MD5s, can be computed again with.

S3 tells the size of one part by a HEAD with its number. (Amazon S3 API reference, "HeadObject", partNumber.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from refart.errors import RefartError, ReferenceChangedError
from refart.parallel import check_stopped
from refart.sources.base import Parts
from refart.sources.pinned import NotThat

_MULTIPART: Final = re.compile(r"etag:[0-9a-f]{32}-([1-9][0-9]{0,4})\Z")

HeadPart: TypeAlias = Callable[[int], Mapping[str, Any]]
"""A HEAD of a part (the first is 1) of exactly the object in question; raises `NotThat` and refart's errors."""


def parts_of(content_id: str, size: int, head_part: HeadPart, what: str) -> Parts | None:
    """The parts of an object of `size` bytes, by one request where there are several; `what` begins messages.

    None where the ETag is none of a multipart upload, where the server does not tell sizes of parts, and where the
    first part shows that they are not of one size. Raises only what may pass (`SourceError` that is transient).
    """
    match = _MULTIPART.match(content_id)
    if match is None:
        return None
    count = int(match[1])
    if count == 1:
        return Parts(max(size, 1), lambda: True)
    try:
        first = head_part(1)
    except NotThat:
        return None  # as an answer that speaks of the part alone (moto), by its own ETag
    except RefartError as error:
        if getattr(error, "transient", False):
            raise
        return None
    part_bytes = int(first["ContentLength"])
    last_bytes = size - part_bytes * (count - 1)
    if not 0 < last_bytes <= part_bytes or first.get("PartsCount", count) != count:
        return None

    def are_even() -> bool:
        """At most one request a part that has just been downloaded; the first uneven one ends it."""
        for number in range(2, count + 1):
            check_stopped()
            try:
                found = head_part(number)
            except NotThat as error:
                raise ReferenceChangedError(
                    f"{what} was overwritten or deleted while it was being checked; expected {content_id}"
                ) from error
            if int(found["ContentLength"]) != (part_bytes if number < count else last_bytes):
                return False
        return True

    return Parts(part_bytes, are_even)
