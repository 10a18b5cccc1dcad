"""What a driver says about a file, as content ids: fingerprints that name their algorithm, tags, and times.

fsspec gives the words of `info` no meaning beyond name, size and type, so these are the words of the drivers
themselves. `ukey` and the base class's `checksum` are left alone: they hash the access time with the rest, or, in the
drivers of archives and of HTTP, nothing but the path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite, modf
from typing import Any, Final

from fsspec import AbstractFileSystem

from refart import checksums
from refart.errors import InvalidInputError

_HASHES: Final = {"sha256": "sha256", "md5": "md5", "md5Checksum": "md5"}
"""Key of `info` → algorithm of its hexadecimal digits (`md5Checksum`: Google Drive)."""

_TAGS: Final = ("ETag", "etag", "Etag", "e_tag", "content_hash", "blob_id", "sha", "hex", "CRC")
"""Keys whose value changes with the content: HTTP's in four spellings, Dropbox, Hugging Face, GitHub, git, ZIP."""

_TIMES: Final = {
    "mtime": 10**9,
    "modified": 10**9,
    "LastModified": 10**9,
    "last_modified": 10**9,
    "Last-Modified": 10**9,
    "updated": 10**9,
    "modifiedTime": 10**9,
    "modificationTime": 10**6,  # WebHDFS: milliseconds
}
"""Key of a modified time → nanoseconds in its unit, where it is a number."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NS: Final = 10**19
"""The grammar of content ids ends there (in the year 2286)."""


def of_info(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The content ids that stand in `info`, strongest first."""
    found = [_hash(algo, info.get(key)) for key, algo in _HASHES.items()]
    lfs = info.get("lfs")  # the Hugging Face Hub: the file's own hash, by which large ones are stored
    found.append(_hash("sha256", lfs.get("sha256") if isinstance(lfs, Mapping) else None))
    found += [_tag(info.get(key)) for key in _TAGS]
    found += [_stat(info.get(key), unit_ns) for key, unit_ns in _TIMES.items()]
    return tuple(dict.fromkeys(content_id for content_id in found if content_id is not None))


def of_file(fs: Any, path: str, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The same; where nothing stands in `info`, what the driver answers when asked for time and checksum."""
    if known := of_info(info):
        return known
    asked = []
    if _overrides(fs, "modified"):
        asked.append(_stat(_answer(fs.modified, path), 10**9))
    if _overrides(fs, "checksum"):
        asked.append(_tag(_answer(fs.checksum, path)))
    return tuple(content_id for content_id in asked if content_id is not None)


def _overrides(fs: Any, method: str) -> bool:
    return getattr(type(fs), method, None) is not getattr(AbstractFileSystem, method)


def _answer(ask: Any, path: str) -> object:
    try:
        return ask(path)
    except NotImplementedError:
        return None


def _hash(algo: str, value: object) -> str | None:
    digits = checksums.HEX_DIGITS[algo]
    if isinstance(value, str) and re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value):
        return f"{algo}:{value.lower()}"
    return None


def _tag(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    content_id = f"etag:{checksums.WEAK_ETAG}{str(value).removeprefix(checksums.WEAK_ETAG).strip(chr(34))}"
    try:
        checksums.split(content_id)
    except InvalidInputError:
        return None
    return content_id if content_id != f"etag:{checksums.WEAK_ETAG}" else None


def _stat(value: object, unit_ns: int) -> str | None:
    ns = _time_ns(value, unit_ns)
    return None if ns is None or abs(ns) >= _MOST_NS else f"stat:{ns}"


def _time_ns(value: object, unit_ns: int) -> int | None:
    """A time as drivers give it, to the microsecond (a float of seconds holds no more)."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        past = moment - _EPOCH
        return (past.days * 86_400 + past.seconds) * 10**9 + past.microseconds * 1000
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value * unit_ns
    if not isfinite(value):
        return None
    fraction, whole = modf(value)
    return int(whole) * unit_ns + round(fraction * unit_ns / 1000) * 1000


def _parsed(text: str) -> datetime | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return parse(text)
        except ValueError:
            continue
    return None
