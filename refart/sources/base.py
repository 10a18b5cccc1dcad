"""The protocol of a source: where referenced bytes lie, and how they are listed, pinned and read.

A source knows URIs, pages and entries; it knows no artifact, catalog or store. One instance serves one scheme
and one set of storage options, for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol, TypeAlias, runtime_checkable

from refart.entries import Entry, Page
from refart.errors import PermissionDeniedError

Held = Literal["version", "generation", "etag", "current", "local"]
"""What the server enforced for a read: the exact version or generation, an unchanged ETag, or nothing
(`current`: whatever lies there now; `local`: a file, hashed while it is read)."""

Identify = Literal["best", "stat", "none"]
"""How a scan identifies bytes: by the strongest content id at hand without a request for each object (files of
this machine are read for it), by size and modified time (file systems only, reads nothing), or not at all."""


Keep: TypeAlias = Callable[[Page], Page]
"""Chooses rows of a page, as include and exclude patterns do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """How an object was uploaded, where its ETag is the MD5 of the MD5s of its parts (`…-N`)."""

    part_bytes: int
    """Size of every part but the last, as the size of the first lets expect."""

    are_even: Callable[[], bool]
    """Asks for the size of each part: whether all are as expected. For where a comparison fails."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An open stream of one object's bytes, and what the server said about them."""

    chunks: Iterator[bytes]
    """The bytes in order. Raises `SourceError` when the connection breaks, never ends early in silence."""

    size: int | None
    """The size the server announced."""

    held: Held

    content_id: str
    """The server's own statement about these bytes, in the form that `scan` records; `none` without one."""

    hash_is_plain: bool = True
    """False where an `md5:` id is known not to be the MD5 of the bytes (SSE-KMS, SSE-C)."""

    parts: Parts | None = None
    """Where the ETag of a multipart upload can be computed again; None where it cannot, or need not."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file over one object's bytes, and what the server said about them (see `Fetched`)."""

    file: BinaryIO
    """Seekable and read-only; for the caller to close."""

    held: Held

    hash_is_plain: bool = True


@dataclass(frozen=True, slots=True)
class Scan:
    """What a URI turned out to be, and its pages.

    `pages` yields pages whose paths are relative to the URI, made by `names.path_from_key`; a single object
    has its base name as path. Order is the source's own; nothing is sorted, filtered or deduplicated here.
    Pages are lazy: errors (`NotFoundError`, `PermissionDeniedError`, `SourceError`) may come while they are
    taken.
    """

    is_object: bool
    pages: Iterator[Page]


class Source(Protocol):
    """One way to reach referenced bytes. Every method may be called from many threads at once."""

    def scan(
        self,
        uri: str,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """List the object or prefix at `uri`.

        `identify="none"` records the content id `none` and reads no bytes to find one; pins are recorded all
        the same. `keep` chooses rows of each page, before any byte is read to identify them. A prefix covers
        whole path components (`s3://b/data` never covers `data2/`). Folder markers are not entries, empty
        objects are. An empty prefix gives no pages; that is for the caller to judge. `on_page` is told the
        number of objects of each listed page (progress).

        Raises `NotFoundError` for a bucket or folder that does not exist, `PermissionDeniedError`,
        `InvalidInputError` for a URI this source cannot read and for `identify="stat"` where it has no such
        identity, `SourceError` otherwise.
        """

    def stat(self, uri: str) -> Entry | None:
        """The current object at exactly this URI (content id and pin as `scan` gives them), or None."""

    def fetch(self, entry: Entry) -> AbstractContextManager[Fetched]:
        """Stream the bytes of a reference, pinned.

        The pin is tried first. If that generation is gone, the current object is used where it still has the
        recorded content id, or where only its bytes can tell, because the recorded id is a hash and the server
        states another (`held="current"`: the caller must then compare the hash). One request where the pin
        holds.

        Raises `ReferenceChangedError` (entry, URI, expected, found), `ReferenceMissingError`,
        `PermissionDeniedError`, `SourceError`.
        """

    def open(self, entry: Entry) -> Opened:
        """A seekable file of the bytes that `fetch` gives; ranged reads hold the same pin. Errors as `fetch`."""


@runtime_checkable
class ManySource(Protocol):
    """A source that looks at many single objects in fewer requests than objects."""

    def stat_many(
        self, uris: Sequence[str], pool: Executor, *, window: int
    ) -> Iterator[tuple[str, Entry | PermissionDeniedError | None]]:
        """Each of `uris` once, in any order, with what `stat` tells, or that it may not be asked."""


@runtime_checkable
class PinnedSource(Protocol):
    """A source whose server may keep a write that is no longer what lies at its URI."""

    def pinned(self, entry: Entry) -> Entry | None:
        """The very write that the entry's pin names, wherever it stands in the history of its URI, by one request.

        None where it is gone, or where no version or generation is pinned. Errors as `stat`.
        """


@runtime_checkable
class HistorySource(Protocol):
    """A source whose server may tell what lay below a prefix at another time."""

    def scan_as_of(
        self,
        uri: str,
        at: datetime,
        *,
        identify: Identify = "best",
        keep: Keep | None = None,
        on_page: Callable[[int], None] | None = None,
    ) -> Scan:
        """See `Source.scan`; of each object the write that stood at the time `at` (aware), pinned.

        Raises `InvalidInputError` where the server does not keep, or does not tell, what stood then.
        """


@runtime_checkable
class WritableSource(Protocol):
    """A source whose server copies objects itself, and deletes them: no byte moves through this machine."""

    def copies(self, uri: str, to: str) -> bool:
        """Whether the server of `uri` can copy to `to`, which this very source serves too."""

    def copy(self, entry: Entry, to: str, *, over: Entry | None) -> Entry:
        """Write the bytes of the very write that `entry` pins to the URI `to`; returns what lies there then.

        Its content id is equal to that of the copied write where the server can tell so. `over` is what lies at `to`
        now, as `stat` tells it; None for nothing. Raises `ConflictError` where something else does: it stays. Otherwise
        errors as `fetch`.
        """

    def delete(self, found: Entry) -> None:
        """Delete the object that `stat` found at its URI; a server that keeps versions keeps it as one of them.

        Raises `ConflictError` where something else lies there: it stays.
        """


@runtime_checkable
class PresigningSource(Protocol):
    """A source whose objects have URLs by which others can read them."""

    def presign(self, entry: Entry, expires_s: int) -> str:
        """A URL for a GET of the reference, with the version or generation that is pinned; whether that is there is not
        asked. It is a secret as long as it holds.

        Raises `InvalidInputError` where the credentials cannot sign, and the errors of finding them.
        """


@runtime_checkable
class KeepingSource(Protocol):
    """A source that tells of many pinned writes, in fewer requests than writes, whether its server keeps them."""

    def kept(
        self, entries: Sequence[Entry], pool: Executor, *, window: int
    ) -> Iterator[tuple[Entry, bool | PermissionDeniedError]]:
        """Each of `entries` (which pin a version or a generation) once, in any order, with what `pinned` would tell."""


@runtime_checkable
class ChecksumSource(Protocol):
    """A source whose server keeps checksums that its listings do not tell."""

    def checksum(self, entry: Entry) -> str | None:
        """The content id of the strongest checksum that the server keeps of the whole object, by one request.

        The pin of the entry holds. None where the server keeps none, or only one of parts. Errors as `fetch`.
        """


@runtime_checkable
class WholeSource(Protocol):
    """A source that has a quick way to small objects, for those who compare a hash of the bytes."""

    def whole(self, entry: Entry, is_right: Callable[[bytes], bool]) -> bytes | None:
        """All bytes of a reference, by one GET of the write that is pinned, if they `is_right`.

        None where there is no such way or anything was not as expected: `fetch` then tells what there is. Raises
        nothing that a server, a network or a configuration could be the reason for.
        """
