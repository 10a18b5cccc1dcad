"""GETs of one blob: how a write is asked for, and what the answer says."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from refart import checksums
from refart.entries import Entry
from refart.errors import RefartError, SourceError
from refart.sources.azure.client import CHANGED, GONE, MISSING, PIECE_BYTES, AzureClient, code_of, unchanged
from refart.sources.azure.listing import content_id_of
from refart.sources.azure.uris import Place
from refart.sources.base import Held
from refart.sources.pinned import Answer, Broken, Get, NotThat, Which, attempts, named


def wanted(entry: Entry) -> list[tuple[Which, Held]]:
    """The pinned version, the recorded ETag, whatever is there; see `pinned.attempts`."""
    algo, value = checksums.split(entry.content_id)
    return attempts(entry, "version", value if algo == "etag" else None)


def getter(client: AzureClient, place: Place, key: str, entry: Entry) -> Get:
    """The GETs of one blob; see `pinned.Get`.

    More than `PIECE_BYTES` are read by further GETs of the same version and ETag.
    """

    def get(which: Which, start: int, stop: int | None) -> Answer:
        asked: dict[str, Any] = {}
        if which.version is not None:
            asked["version_id"] = which.version
        if which.etag is not None:
            asked |= unchanged(which.etag)
        try:
            first, answer = client.download(place, key, named(entry), start, stop, **asked)
        except RefartError as error:
            if code_of(error) in CHANGED | (GONE if which.version is not None else MISSING):
                raise NotThat from error
            raise
        properties = answer.properties
        etag = (properties.etag or "").strip('"')
        size = _size(answer)

        def more(begin: int, end: int) -> bytes:
            same = {**asked, **unchanged(etag)}
            try:
                return client.download(place, key, named(entry), begin, end, **same)[0]
            except RefartError as error:
                if code_of(error) in CHANGED | GONE:
                    raise NotThat from error
                if isinstance(error, SourceError) and error.transient:
                    raise Broken(f"broke off ({code_of(error) or 'no answer'})") from error
                raise

        return Answer(
            _chunks(first, start, size if stop is None else min(stop, size), more),
            start,
            bool(start) or stop is not None,
            size,
            content_id_of(properties.content_settings.content_md5, etag),
            Which(version=properties.version_id, etag=etag or None),
        )

    return get


def _chunks(piece: bytes, position: int, stop: int, more: Callable[[int, int], bytes]) -> Generator[bytes]:
    while piece:
        yield piece
        if len(piece) < min(
            PIECE_BYTES, stop - position
        ):  # or a size that is a lie would be asked for byte by byte
            raise Broken("ended early")
        position += len(piece)
        piece = more(position, min(position + PIECE_BYTES, stop)) if position < stop else b""


def _size(answer: Any) -> int:
    """Of the whole blob; the client knows it for a part of it only by the header that it makes up."""
    return int(answer.properties.content_range.rpartition("/")[2])
