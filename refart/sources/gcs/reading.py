"""GETs of one GCS object: how a generation is asked for, and what the answer says."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Final

import requests
from urllib3.exceptions import HTTPError

from refart.entries import Entry
from refart.errors import InvalidInputError, RefartError, SourceError
from refart.sources.base import Held
from refart.sources.gcs.client import CHANGED, GONE, MISSING, GCSClient, status_of
from refart.sources.gcs.listing import content_id_of
from refart.sources.pinned import CHUNK_BYTES, Answer, Broken, Get, NotThat, Which, attempts, named

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18})\Z")


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    """The pinned generation, else whatever is there; see `pinned.attempts`."""
    if (entry.pin or "").startswith("etag:"):
        raise InvalidInputError(f"{named(entry)}: ETags of GCS change with metadata, and pin nothing")
    return attempts(entry, "generation")


def getter(client: GCSClient, bucket: str, key: str, entry: Entry) -> Get:
    """The GETs of one object; see `pinned.Get`."""
    what = named(entry)

    def get(which: Which, start: int, stop: int | None) -> Answer:
        # Objects that are stored compressed (Content-Encoding: gzip) are sent as stored only to who accepts that
        # ("Transcoding of gzip-compressed files"): size, hashes and ranges are those of the stored bytes.
        headers = {"Accept-Encoding": "gzip"}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        parameters = {"alt": "media"}
        if which.version is not None:
            parameters["generation"] = which.version
        try:
            response = client.get(what, bucket, key, parameters, headers=headers)
        except RefartError as error:
            if status_of(error) in CHANGED | (GONE if which.version is not None else MISSING):
                raise NotThat from error
            raise
        try:
            return _answer(response)
        except ValueError as error:
            response.close()
            raise SourceError(f"{what}: the server's answer is not that of a GCS: {error}") from error

    return get


def _answer(response: requests.Response) -> Answer:
    """Raises `ValueError` for headers that cannot be those of a stored object."""
    headers = response.headers
    if headers.get("X-Goog-Stored-Content-Encoding") == "gzip" != headers.get("Content-Encoding"):
        raise ValueError("it was decompressed on its way, and its checksum is of the stored bytes")
    generation = headers.get("X-Goog-Generation")
    hashes = dict(part.strip().partition("=")[::2] for part in headers.get("X-Goog-Hash", "").split(","))
    first, size = _range(headers)
    return Answer(
        _chunks(response),
        first,
        "Content-Range" in headers,
        size,
        content_id_of(hashes.get("md5"), hashes.get("crc32c"), generation or "0"),
        Which(version=generation),
    )


def _chunks(response: requests.Response) -> Generator[bytes]:
    with response:
        try:
            yield from response.raw.stream(CHUNK_BYTES, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            raise Broken(f"broke off ({type(error).__name__})") from error


def _range(headers: Mapping[str, str]) -> tuple[int, int | None]:
    """Where the body of a GET begins, and the size of the whole object."""
    if match := _CONTENT_RANGE.match(headers.get("Content-Range", "")):
        return int(match[1]), int(match[2])
    size = headers.get("X-Goog-Stored-Content-Length") or headers.get("Content-Length")
    return 0, None if size is None else int(size)
