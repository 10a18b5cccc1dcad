"""GETs of one web object: how the recorded content is asked for, and what the answer says."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from requests import Response
from urllib3.exceptions import HTTPError

from refart import checksums
from refart.entries import Entry
from refart.sources.base import Held
from refart.sources.http.client import MISSING_STATUS, HTTPClient, refused
from refart.sources.http.headers import PARTIAL, Stated, http_date, range_start, stated
from refart.sources.pinned import (
    CHUNK_BYTES,
    CURRENT,
    Answer,
    Broken,
    Get,
    NotThat,
    Which,
    attempts,
    named,
    uri_of,
)

WHOLE_STATUS = frozenset({200, 203})
_NOT_THAT = MISSING_STATUS | {412, 416}


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    """The pinned or recorded ETag; else whatever is there, if it is as the recorded weak identity says."""
    algo, value = checksums.split(entry.content_id)
    tried = attempts(entry, None, checksums.etag_of(entry.content_id) if algo == "etag" else None)
    if tried == [(CURRENT, "current")]:
        if algo == "stat":
            return [(Which(modified_ns=int(value)), "current")]
        if algo == "etag":
            return [(Which(etag=value), "current")]
    return tried


def getter(client: HTTPClient, entry: Entry) -> Get:
    """The GETs of one object; see `pinned.Get`."""
    uri = uri_of(entry)

    def get(which: Which, start: int, stop: int | None) -> Answer:
        asked = _conditions(which)
        if start or stop is not None:
            asked["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        response = client.send("GET", uri, named(entry), asked)
        status = response.status_code
        if status in WHOLE_STATUS or status == PARTIAL:
            said = stated(response.headers, status)
            return Answer(
                _chunks(response),
                # A range that does not say where it begins is not one that was asked for.
                (range_start(response.headers) or 0) if status == PARTIAL else 0,
                status == PARTIAL,
                said.size,
                said.content_id(like=entry.content_id),
                _same(said, which),
            )
        response.close()
        if status == 416 and not start and stop is not None:
            return get(which, 0, None)  # no range can be asked of an empty object
        if status in _NOT_THAT:
            raise NotThat
        raise refused(response, named(entry))

    return get


def _conditions(which: Which) -> dict[str, str]:
    """A weak ETag never matches (RFC 9110, section 13.1.1), and not every time before 1970 can be written: those are
    compared when the answer comes."""
    if which.etag is not None and not which.etag.startswith(checksums.WEAK_ETAG):
        return {"If-Match": f'"{which.etag}"'}
    if which.modified_ns is not None and which.modified_ns >= 0:
        return {"If-Unmodified-Since": http_date(which.modified_ns)}
    return {}


def _same(said: Stated, which: Which) -> Which:
    """What further ranges of this object must say too. Times count where they were asked for, or for want of a strong
    ETag: the machines behind one name may disagree about them."""
    by_time = said.strong_etag is None or which.modified_ns is not None
    return Which(etag=said.etag, modified_ns=said.modified_ns if by_time else None)


def _chunks(response: Response) -> Generator[bytes]:
    with closing(response):
        try:
            yield from response.raw.stream(CHUNK_BYTES, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            raise Broken(f"broke off ({type(error).__name__})") from None
