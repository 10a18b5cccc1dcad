"""Reading one object, pinned: which write to ask for, what to do when it is gone, and how a broken body goes on.

What differs between servers is one function, `Get`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from refart import checksums
from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    RefartError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources import ahead
from refart.sources.base import Fetched, Held, Opened, Parts
from refart.sources.ranged import FIRST_BYTES, open_ranges

CHUNK_BYTES: Final = 1 << 20  # 1 MiB
RESUMES: Final = 5
"""How often a body that breaks off is continued. Clients try requests again, not bodies."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which write of an object is meant: all that is given must hold. Nothing given means whatever is there now."""

    version: str | None = None
    """S3 and Azure version id, GCS generation."""

    etag: str | None = None
    """As a content id or pin records it: without quotes."""

    modified_ns: int | None = None
    """Not modified since, in nanoseconds since 1970 (HTTP servers without ETags)."""

    def admits(self, answered: Which) -> bool:
        """Whether the write that answered can be the one meant; some servers ignore the conditions of a request."""
        return (
            self.version in (None, answered.version)
            and self.etag in (None, answered.etag)
            and self.modified_ns in (None, answered.modified_ns)
        )


CURRENT: Final = Which()


@dataclass(frozen=True, slots=True)
class Answer:
    """A GET that the server answered with bytes."""

    chunks: Generator[bytes]
    """The bytes as stored, never decoded. Raises `Broken` where the connection breaks, `NotThat` where the object
    changes in between; closing it lets go of the connection."""

    start: int
    """Where in the object the bytes begin."""

    is_range: bool
    """Whether the server took notice of a range that was asked for."""

    size: int | None
    """Of the whole object."""

    content_id: str
    """What the server states about the whole object, in the form that `scan` records."""

    same: Which
    """Selects exactly the write that answered; `CURRENT` where the server gave nothing to select it by."""

    hash_is_plain: bool = True
    parts: Parts | None = None


Get: TypeAlias = Callable[[Which, int, int | None], Answer]
"""`get(which, start, stop)`: a GET of the bytes from `start` to `stop` (None: the end) of one object.

`(which, 0, None)` is a plain GET without a range. Raises `NotThat` where the server has no such object, or none that
is the one meant, and the errors of `refart.errors` otherwise.
"""

Wanted: TypeAlias = Callable[[Entry], list[tuple[Which, Held]]]
"""The `attempts` for an entry, as its kind of server needs them."""

Stat: TypeAlias = Callable[[str], Entry | None]
"""`Source.stat`."""


class NotThat(Exception):  # never leaves the sources
    """No object answers to `Which`: it is gone, it changed, or the server never heard of that version."""


class Broken(Exception):  # never leaves the sources
    """A body ended before its end; the argument says why, in a few words."""


def attempts(entry: Entry, kind: Held | None, etag: str | None = None) -> list[tuple[Which, Held]]:
    """What to ask for, best first: the pinned version or generation (`kind`: what the server calls it; None where it
    has neither), the ETag.

    `etag` is the one that the content id stands for, where it stands for one. Whatever is there now for an entry that
    has neither. Raises `InvalidInputError` for a pin of another kind.
    """
    pinned_by, _, value = (entry.pin or "").partition(":")
    if pinned_by not in ("", kind, "etag"):
        raise InvalidInputError(f"{named(entry)}: its server has no pins of the kind {pinned_by!r}")
    etag = value if pinned_by == "etag" else etag
    wanted: list[tuple[Which, Held]] = [(Which(version=value), kind)] if kind and pinned_by == kind else []
    if etag:
        wanted.append((Which(etag=etag), "etag"))
    return wanted or [(CURRENT, "current")]


@contextmanager
def fetch(get: Get, entry: Entry, wanted: Wanted, stat: Stat, *, readers: int = 0) -> Iterator[Fetched]:
    """See `Source.fetch`. `wanted` tells the `attempts`, `stat` what lies at the URI when none of them holds.

    One GET. Where a large object comes slowly, and that is safe, up to so many `readers` read ahead by ranges.
    """
    found = _find(get, entry, wanted, stat, None)
    first = found.answer
    body = found.chunks(first, 0, first.size)
    if readers > 1 and (first.size or 0) > ahead.RANGE_BYTES and found.is_safe_by_ranges:
        body = ahead.read_ahead(body, first.size or 0, found.open_range, readers=readers)
    with closing(body) as chunks:
        yield Fetched(
            chunks, first.size, found.held, first.content_id, found.hash_is_plain, parts=first.parts
        )


def open_stream(get: Get, entry: Entry, wanted: Wanted, stat: Stat) -> Opened:
    """See `Source.open`: a seekable stream of ranged GETs that all hold the object the first one found.

    The first request is made at once, so that what cannot be read cannot be opened. Overwritten meanwhile, the stream
    gives the pinned bytes or raises `ReferenceChangedError`, never a mix.
    """
    # No range can be asked of an empty object.
    found = _find(get, entry, wanted, stat, FIRST_BYTES if entry.size != 0 else None)
    first, size = found.answer, found.answer.size
    why = ""
    if size is None:
        why = "the server does not say how large the object is"
    elif size > FIRST_BYTES and entry.size != 0:
        if not first.is_range:
            why = "the server does not answer a ranged GET with that range"
        elif first.same == CURRENT:
            why = "the server gives nothing to pin ranges by, so that they could come from two objects"
    if why or size is None:
        first.chunks.close()
        raise SourceError(f"{found}: {why}; download it instead")
    begin = b"".join(found.chunks(first, 0, min(size, FIRST_BYTES) if first.is_range else size))

    def read_range(start: int, stop: int) -> bytes:
        return b"".join(found.chunks(found.range(start, stop), start, stop))

    file = open_ranges(str(entry.uri), size, begin, read_range)
    return Opened(file, found.held, found.hash_is_plain)


@dataclass(frozen=True, slots=True)
class _Object:
    """One object whose first GET was answered, and how to ask for more of the very same bytes."""

    get: Get
    entry: Entry
    answer: Answer
    held: Held

    @property
    def hash_is_plain(self) -> bool:
        """See `Fetched`. How the object that answered is encrypted says nothing about an MD5 recorded of another."""
        return self.answer.hash_is_plain or self.answer.content_id != self.entry.content_id

    def chunks(self, answer: Answer, start: int, stop: int | None) -> Generator[bytes]:
        """The bytes from `start` to `stop`, of which `answer` carries the first; broken bodies are continued."""
        position = start
        for left in reversed(range(RESUMES + 1)):
            why = ""
            with closing(answer.chunks) as body:
                if answer.start != position:
                    raise SourceError(
                        f"{self}: the server does not answer a ranged, pinned GET with that range"
                    )
                try:
                    # To its very end, since some clients compare a checksum there.
                    for chunk in body:
                        position += len(chunk)
                        if stop is not None and position > stop:
                            raise SourceError(f"{self}: the server sent more than {_bytes(stop)}")
                        yield chunk
                except Broken as error:
                    why = str(error)
                except NotThat as error:
                    raise self._changed() from error
            if position == stop or (stop is None and not why):
                return
            if not left or self.answer.same == CURRENT:
                break
            answer = self.range(position, stop)
        raise SourceError(
            f"{self}: the stream {why or 'ended early'} at byte {position:,} of {_bytes(stop)}",
            transient=True,
        )

    @property
    def is_safe_by_ranges(self) -> bool:
        """Whether ranges cannot be of two writes, and a hash of the whole will be compared.

        Where none will be, the client may compare a checksum at the end of a whole body.
        """
        algo, _ = checksums.split(self.entry.content_id)
        is_hashed = checksums.can_compute(algo) and (algo != "md5" or self.hash_is_plain)
        return self.answer.same != CURRENT and (is_hashed or self.answer.parts is not None)

    def open_range(self, start: int, stop: int) -> Generator[bytes]:
        """The bytes from `start` to `stop` of exactly this object. Raises `SourceError` for another range."""
        answer = self.range(start, stop)
        if answer.start != start:
            answer.chunks.close()
            raise SourceError(f"{self}: the server does not answer a ranged, pinned GET with that range")
        return self.chunks(answer, start, stop)

    def range(self, start: int, stop: int | None) -> Answer:
        """A GET of the bytes from `start` to `stop` of exactly this object."""
        try:
            answer = self.get(self.answer.same, start, stop)
        except NotThat as error:
            raise self._changed() from error
        if answer.same != self.answer.same or not _same_size(self.answer.size, answer.size):
            answer.chunks.close()
            raise self._changed(f", found {_said(answer.same)}, {_bytes(answer.size)}")
        return answer

    def _changed(self, found: str = "") -> ReferenceChangedError:
        return ReferenceChangedError(
            f"{self} was overwritten or deleted while it was being read; expected {self.entry.content_id},"
            f" {_said(self.answer.same)}{found}"
        )

    def __str__(self) -> str:
        return named(self.entry)


def _find(get: Get, entry: Entry, wanted: Wanted, stat: Stat, stop: int | None) -> _Object:
    """GET the object that the entry means, by the first of its conditions that holds."""
    refusal: NotThat | None = None
    for which, held in wanted(entry):
        try:
            return _Object(get, entry, _answer(get, entry, which, held, stop), held)
        except NotThat as error:
            refusal = error
    current = stat(str(entry.uri))
    if current is not None and _may_be(entry, current):
        # It may change again before this GET, so what was looked at is pinned in turn.
        which, held = wanted(current)[0]
        with suppress(NotThat):
            return _Object(get, entry, _answer(get, current, which, held, stop), "current")
    raise lost(entry, current) from (refusal and refusal.__cause__)


def _answer(get: Get, entry: Entry, which: Which, held: Held, stop: int | None) -> Answer:
    """GET what is meant. Raises `NotThat` for any other answer, too."""
    answer = get(which, 0, stop)
    if (
        which.admits(answer.same)
        and _same_size(entry.size, answer.size)
        and (held != "current" or _may_hold(entry, answer.content_id))
    ):
        return answer
    answer.chunks.close()
    raise NotThat


def _same_size(expected: int | None, found: int | None) -> bool:
    return None in (expected, found) or expected == found


def _may_be(entry: Entry, current: Entry) -> bool:
    """Whether what lies at the URI now can be the content that was recorded, though it is another write."""
    return (
        entry.content_id != checksums.NONE
        and _same_size(entry.size, current.size)
        and _may_hold(entry, current.content_id)
    )


def _may_hold(entry: Entry, stated: str) -> bool:
    """Whether bytes of which the server states this can be the recorded ones: the same, or told by hashing only."""
    algo, _ = checksums.split(entry.content_id)
    return (
        algo == checksums.NONE
        or stated == entry.content_id
        or (algo != checksums.split(stated)[0] and checksums.can_compute(algo))
    )


def lost(entry: Entry, current: Entry | None) -> RefartError:
    """The error for an entry of which no condition holds; `current` is what lies at its URI now."""
    expected = (
        f"expected {entry.content_id}{f', pinned {entry.pin}' if entry.pin else ''}, {_bytes(entry.size)}"
    )
    if current is None:
        return ReferenceMissingError(
            f"{named(entry)} is gone; {expected}: bring it back, or log a version without it"
        )
    return ReferenceChangedError(
        f"{named(entry)} has changed; {expected}; found {current.content_id[:200]}, {_bytes(current.size)}:"
        " bring the old bytes back, or log the new ones as a version"
    )


def _said(which: Which) -> str:
    if which.version is not None:
        return f"version {which.version}"
    if which.etag is not None:
        return f"ETag {which.etag}"
    return "no version or ETag" if which.modified_ns is None else f"modified at {which.modified_ns:,} ns"


def _bytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size:,} bytes"


def named(entry: Entry) -> str:
    """How messages name an entry."""
    return f"{entry.path!r} ({entry.uri})"


def uri_of(entry: Entry) -> str:
    """The URI of a reference. Raises `InvalidInputError` for a managed file."""
    if entry.uri is None:
        raise InvalidInputError(
            f"{entry.path!r} is a managed file; its bytes are in the store, not in a source"
        )
    return entry.uri
