"""Bytes of one entry, checked while they stream: the only way bytes leave refart."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Final, Literal, NoReturn, cast

from refart import checksums
from refart.checksums import MultipartHasher, StreamHasher
from refart.context import Context, Local
from refart.entries import Entry
from refart.errors import ChecksumError, RefartError, ReferenceChangedError
from refart.parallel import available_cores, check_stopped, thread_pool
from refart.sources.base import Fetched, Opened, WholeSource
from refart.store import Store

Rung = Literal[
    "sha256", "md5", "crc64nvme", "crc32c", "multipart", "etag", "version", "generation", "weak", "unverified"
]
"""What confirmed the bytes, strongest first: a hash or CRC of them, a multipart ETag computed again, the server's word
for the same object, a weak identity (size and modified time, a weak ETag), or nothing."""

COMPARED: Final[frozenset[Rung]] = frozenset({"sha256", "md5", "crc64nvme", "crc32c", "multipart"})
"""Rungs by which the bytes themselves were compared."""


LARGE_BYTES: Final = 1 << 23  # 8 MiB
"""From here on the hashes of an entry are computed beside each other, while its next bytes come and are written."""

_spare: Final = threading.BoundedSemaphore(max(available_cores() // 2, 1))
"""How many entries at once: with more of them under way, all cores have work, and threads would only add to it."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of a stream that ran to its end."""

    sha256: str
    """Hex digest of the bytes that came."""
    size_bytes: int
    rung: Rung


class VerifiedStream:
    """The chunks of one entry. After the last chunk, `checked` holds the outcome; a mismatch raises instead."""

    def __init__(self, entry: Entry, fetched: Fetched) -> None:
        self._entry, self._fetched = entry, fetched
        self.checked: Checked | None = None

    def __iter__(self) -> Iterator[bytes]:
        with _hashing_threads(self._entry) as threads:
            verifier = Verifier(self._entry, self._fetched, threads)
            for chunk in self._fetched.chunks:
                check_stopped()
                verifier.update(chunk)
                yield chunk
            self.checked = verifier.finish()


@contextmanager
def _hashing_threads(entry: Entry) -> Iterator[Sequence[Executor]]:
    """A thread for each hash of an entry; none where the thread that reads it does as well."""
    if (entry.size or 0) < LARGE_BYTES or not _spare.acquire(blocking=False):
        yield ()
        return
    try:
        with thread_pool(1) as first, thread_pool(1) as second:
            yield first, second
    finally:
        _spare.release()


class Verifier:
    """Compares the bytes of one entry, as they come, with everything recorded about it."""

    def __init__(self, entry: Entry, fetched: Fetched, threads: Sequence[Executor] = ()) -> None:
        """`threads`, each a pool of one, hash up to two chunks behind the caller: hashing releases the GIL."""
        self._entry, self._fetched = entry, fetched
        self._algo, _ = checksums.split(entry.content_id)
        self._computes = checksums.can_compute(self._algo) and (self._algo != "md5" or fetched.hash_is_plain)
        self._size_bytes = 0
        algos = {"sha256", self._algo} if self._computes else {"sha256"}
        self._hashers = {algo: StreamHasher(algo) for algo in algos}
        self._parts = None if fetched.parts is None else MultipartHasher(fetched.parts.part_bytes)
        self._parts_are_equal = False
        self._updates = [hasher.update for hasher in self._hashers.values()]
        if self._parts is not None:
            self._updates.append(self._parts.update)
        self._threads = threads
        self._running: deque[Future[None]] = deque()
        if entry.size is not None and fetched.size is not None and fetched.size != entry.size:
            self.fail("size", f"{entry.size:,} bytes", f"{fetched.size:,} bytes")

    def update(self, chunk: bytes) -> None:
        """Take the next bytes. Raises as `finish` does where they are more than was recorded: some bodies never end."""
        self._size_bytes += len(chunk)
        if self._entry.size is not None and self._size_bytes > self._entry.size:
            self.fail("size", f"{self._entry.size:,} bytes", f"{self._size_bytes:,} bytes or more")
        if not self._threads:
            for update in self._updates:
                update(chunk)
            return
        self._wait(len(self._updates))
        for number, update in enumerate(self._updates):
            thread = self._threads[number % len(self._threads)]  # always the same one, so that order is kept
            self._running.append(thread.submit(update, chunk))

    def _wait(self, left: int = 0) -> None:
        """Until no more than so many updates are to be made."""
        while len(self._running) > left:
            self._running.popleft().result()

    def finish(self) -> Checked:
        """The outcome. Raises `ChecksumError` or `ReferenceChangedError` where anything differs."""
        self._wait()
        entry, size_bytes = self._entry, self._size_bytes
        if entry.size is not None and size_bytes != entry.size:
            self.fail("size", f"{entry.size:,} bytes", f"{size_bytes:,} bytes")
        if not self._computes:
            self._finish_unhashed()
        elif (found := self._hashers[self._algo].content_id(self._algo)) != entry.content_id:
            self.fail("content", entry.content_id, found)
        sha256 = self._hashers["sha256"].content_id().removeprefix("sha256:")
        return Checked(sha256, size_bytes, self._rung())

    def _finish_unhashed(self) -> None:
        entry, fetched = self._entry, self._fetched
        if self._parts is not None and fetched.parts is not None:
            computed = self._parts.content_id()
            self._parts_are_equal = computed == entry.content_id
            if not self._parts_are_equal and fetched.parts.are_even():
                self.fail("content", entry.content_id, computed)
        if fetched.held == "current" and entry.content_id not in (checksums.NONE, fetched.content_id):
            self.fail("content", entry.content_id, fetched.content_id)

    def _rung(self) -> Rung:
        held, algo = self._fetched.held, self._algo
        if self._computes:
            return cast(Rung, algo)
        if self._parts_are_equal:
            return "multipart"
        states_the_same = algo != checksums.NONE and self._fetched.content_id == self._entry.content_id
        weak = checksums.is_weak(self._entry.content_id)
        if states_the_same and not weak:
            return "etag"
        if held in ("etag", "version", "generation"):
            return held
        return "weak" if states_the_same else "unverified"

    def fail(self, what: str, expected: str, found: str) -> NoReturn:
        """Raise the error that says who is to blame: the store, whoever wrote the object, or the way here."""
        entry = self._entry
        if entry.uri is None:
            raise ChecksumError(
                f"{entry.path}: the stored bytes have another {what} than recorded: expected {expected}, found {found};"
                " the store is damaged there (nothing was handed over)"
            )
        if self._fetched.held in ("current", "local"):
            raise ReferenceChangedError(
                f"{entry.path}: {entry.uri} changed since it was logged: expected {what} {expected}, found {found}"
            )
        raise ChecksumError(
            f"{entry.path}: {entry.uri} arrived with another {what} than recorded: expected {expected}, found {found};"
            " nothing was handed over: try again, and check what lies between here and the source"
        )


@contextmanager
def stream(local: Local, store: Store | None, entry: Entry) -> Iterator[VerifiedStream]:
    """Open the bytes of an entry for one pass. `store` may be None for references."""
    if entry.uri is not None:
        source = local.sources.for_uri(entry.uri)
        if _is_quick(type(source)) and (whole := _whole(cast(WholeSource, source), entry)) is not None:
            yield whole
            return
        with source.fetch(entry) as fetched:
            yield VerifiedStream(entry, fetched)
        return
    assert store is not None
    key = checksums.split(entry.content_id)[1]
    chunks = store.chunks("blobs", key)
    yield VerifiedStream(entry, Fetched(chunks, None, "local", entry.content_id))


@cache  # looking at a protocol takes longer than all else that is done here for a small object
def _is_quick(kind: type) -> bool:
    return issubclass(kind, WholeSource)


class _Whole(VerifiedStream):
    """The bytes of an entry that were verified before the first is taken."""

    def __init__(self, data: bytes, checked: Checked) -> None:
        self._data = data
        self.checked = checked

    def __iter__(self) -> Iterator[bytes]:
        yield self._data


def _whole(source: WholeSource, entry: Entry) -> _Whole | None:
    """The bytes of a reference by the quick way of its source, where they prove to be the recorded ones."""
    if not checksums.can_compute(checksums.split(entry.content_id)[0]):
        return None
    checked: Checked | None = None

    def is_right(data: bytes) -> bool:
        nonlocal checked
        try:
            verifier = Verifier(entry, Fetched(iter(()), len(data), "etag", entry.content_id))
            verifier.update(data)
            checked = verifier.finish()
        except RefartError:
            return False
        return True

    check_stopped()
    data = source.whole(entry, is_right)
    return None if data is None or checked is None else _Whole(data, checked)


class VerifiedReader(io.RawIOBase):
    """A seekable file over an entry's bytes that hashes what is read in order.

    Reading from the start to the end raises at the end if the bytes are not the recorded ones, and so does every read
    after that. Ranges read after a `seek` come from the same pinned object, but cannot be hashed against the whole.
    """

    def __init__(self, raw: BinaryIO, entry: Entry, fetched: Fetched) -> None:
        self._raw = raw
        self._size = entry.size
        self._verifier = Verifier(entry, fetched)
        self._hashed_to: int | None = 0  # None once the whole was compared, or cannot be: a gap was left out
        self._wrong: RefartError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: object) -> int:
        if self._wrong is not None:
            raise self._wrong
        view = memoryview(buffer)  # type: ignore[arg-type]
        at = self._raw.tell()
        data = self._raw.read(len(view))
        if len(view):
            try:
                self._check(at, data)
            except RefartError as error:
                self._wrong = error
                raise
        view[: len(data)] = data
        return len(data)

    def _check(self, at: int, data: bytes) -> None:
        end = at + len(data)
        if self._size is not None and end > self._size:
            self._verifier.fail("size", f"{self._size:,} bytes", f"{end:,} bytes or more")
        if self._hashed_to is None:
            return
        if at > self._hashed_to:
            self._hashed_to = None
            return
        self._verifier.update(data[self._hashed_to - at :])
        self._hashed_to = max(end, self._hashed_to)
        if self._hashed_to == self._size or (not data and at == self._hashed_to):
            self._hashed_to = None
            self._verifier.finish()

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


def open_entry(context: Context, entry: Entry) -> io.BufferedReader:
    """A seekable, buffered, read-only file over the bytes of an entry (see `VerifiedReader`).

    Raises the errors of `Source.open`, `NotFoundError` for a managed file that the store has lost.
    """
    if entry.uri is not None:
        opened = context.local.sources.for_uri(entry.uri).open(entry)
    else:
        opened = Opened(context.store.open("blobs", checksums.split(entry.content_id)[1]), "local")
    said = Fetched(iter(()), None, opened.held, entry.content_id, opened.hash_is_plain)
    return io.BufferedReader(VerifiedReader(opened.file, entry, said), 1 << 20)
