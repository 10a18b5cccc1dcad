"""A URL by which anyone reads one object for a while, without credentials and without refart."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from refart import names
from refart.context import Local
from refart.entries import Entry, page_of
from refart.errors import InvalidInputError, NotFoundError, ReferenceChangedError
from refart.ops.live import judge
from refart.sources import pinned
from refart.sources.base import PresigningSource, Source

MAX_EXPIRES_S: Final = 7 * 24 * 3600
"""The most that signatures of version 4 allow (S3 and GCS), and a user delegation key of Azure's."""


def presign(local: Local, entry: Entry, expires_s: int) -> str:
    """See `ArtifactEntry.presign`."""
    if entry.uri is None:
        raise InvalidInputError(
            f"{entry.path!r} is a managed file, whose bytes lie in the store: only references have a URL of their own"
        )
    if isinstance(expires_s, bool) or not isinstance(expires_s, int) or not 1 <= expires_s <= MAX_EXPIRES_S:
        raise InvalidInputError(
            f"a signed URL expires after 1 to {MAX_EXPIRES_S:,} seconds (7 days), not {expires_s!r}"
        )
    source = local.sources.for_uri(entry.uri)
    if not isinstance(source, PresigningSource):
        scheme = names.uri_scheme(entry.uri) or "file"
        raise InvalidInputError(
            f"{pinned.named(entry)}: {scheme}:// has no URLs that others could read by; download() or open() it"
        )
    if (entry.pin or "").partition(":")[0] not in ("version", "generation"):
        _check_current(source, entry)
    return source.presign(entry, expires_s)


def _check_current(source: Source, entry: Entry) -> None:
    """Where no version can be named, the URL is of whatever lies there: that must be what was recorded."""
    found = None
    with suppress(NotFoundError):
        found = source.stat(pinned.uri_of(entry))
    state = "removed" if found is None else judge(page_of([entry]), page_of([found]))[0].as_py()
    if state == "rewritten":
        raise ReferenceChangedError(
            f"{pinned.named(entry)} was written again, and whether its bytes are still those of {entry.content_id} only"
            " reading them tells: log them as a version, or download() what was logged"
        )
    if state not in ("unchanged", "unverifiable"):
        raise pinned.lost(entry, found)
