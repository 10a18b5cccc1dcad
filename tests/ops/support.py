"""What tests of verbs need: bytes in the store, a source whose every move a test decides, folders to compare."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from refart import checksums
from refart.context import Context
from refart.entries import Entry, Page, page_of
from refart.errors import ReferenceMissingError, SourceError
from refart.sources.base import Fetched, Held, Opened, Parts


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content_id(data: bytes, algo: str = "sha256") -> str:
    return f"{algo}:{hashlib.new(algo, data).hexdigest()}"


def managed(context: Context, path: str, data: bytes) -> Entry:
    """A managed file whose bytes are in the store."""
    context.store.put_bytes("blobs", sha256(data), data)
    return Entry(path, len(data), content_id(data))


def pages_of(*entries: Entry) -> Callable[[], list[Page]]:
    """The entries in the order of a manifest, as verbs take them: one row a page."""
    rows = sorted(entries, key=lambda entry: entry.path.encode())
    return lambda: [page_of([row]) for row in rows]


def tree(root: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder, hidden ones included."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def write(root: Path, files: dict[str, bytes]) -> Path:
    """Files below a folder; returns the folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


class Objects:
    """Objects in memory as a source: serves any URI it holds, counts what is read, and breaks on request."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.breaks_after: dict[str, int] = {}
        """URI → bytes that arrive before the connection is lost."""
        self.held: Held = "current"
        self.said = checksums.NONE
        """What the server says of the content, in the form of a content id."""
        self.hash_is_plain = True
        self.parts: Parts | None = None
        self._lock = threading.Lock()

    def put(self, path: str, data: bytes, algo: str = "md5") -> Entry:
        """Write an object; a reference to it, known by a hash, or (`etag`, `none`) by less."""
        uri = f"mem://lake/{path}"
        self.data[uri] = data
        known = {"etag": f"etag:{sha256(data)[:8]}-2", "none": checksums.NONE}
        return Entry(path, len(data), known.get(algo) or content_id(data, algo), uri)

    def serve(self, context: Context) -> Context:
        """The same context, but for its sources."""
        return replace(context, local=replace(context.local, sources=self))

    def for_uri(self, uri: str) -> Objects:
        return self

    @contextmanager
    def fetch(self, entry: Entry) -> Iterator[Fetched]:
        data = self._bytes_of(entry)
        with self._lock:
            self.fetched.append(entry.path)
        chunks = self._chunks(entry, data)
        yield Fetched(chunks, None, self.held, self.said, self.hash_is_plain, self.parts)

    def open(self, entry: Entry) -> Opened:
        return Opened(io.BytesIO(self._bytes_of(entry)), self.held, self.hash_is_plain)

    def _bytes_of(self, entry: Entry) -> bytes:
        try:
            return self.data[entry.uri or ""]
        except KeyError:
            raise ReferenceMissingError(f"{entry.path}: {entry.uri} is gone") from None

    def _chunks(self, entry: Entry, data: bytes) -> Iterator[bytes]:
        end = self.breaks_after.get(entry.uri or "", len(data))
        for start in range(0, end, 4):
            yield data[start : min(start + 4, end)]
        if end < len(data):
            raise SourceError(f"{entry.path}: the connection broke off", transient=True)


def paths(pages: Iterable[Page]) -> list[str]:
    return [path for page in pages for path in page.column("path").to_pylist()]
