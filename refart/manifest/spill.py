"""Blocks of sorted rows, in memory or in a temporary file without a name, of which nothing is left however the
process ends."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

import pyarrow as pa

from refart.errors import StoreError


class Rows(Protocol):
    """The rows of a block, wherever they are. Safe to read from many threads."""

    def read(self) -> pa.RecordBatch: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows in memory."""

    batch: pa.RecordBatch

    def read(self) -> pa.RecordBatch:
        return self.batch


@dataclass(frozen=True, slots=True)
class _Spilled:
    spill: Spill
    offset: int
    length: int

    def read(self) -> pa.RecordBatch:
        return self.spill.read(self.offset, self.length)


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a run: its first and last path, its number of rows, and the rows themselves."""

    first: bytes
    last: bytes
    count: int
    rows: Rows


_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_READING = pa.ipc.IpcReadOptions(use_threads=False)
# LZ4: zstd would take half the room for three times the time, and what is sorted here is gone a minute later. On
# blocks of a hundred kilobytes, threads cost more than they save.


class Spill:
    """Batches in a temporary file, each of which can be read as soon as it was written.

    The file is made with the first batch, and lives as long as somebody can read it. Read, not memory-mapped:
    mapped pages count as resident memory until the system is short of it.
    """

    def __init__(self, folder: str | None) -> None:
        """Temporary files go to `folder` (default: TMPDIR)."""
        self._folder = folder
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._end = 0

    def append(self, batch: pa.RecordBatch) -> Rows:
        """Write a batch; returns where it is. Raises `StoreError` where it cannot be written."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=_WRITING) as writer:
            writer.write_batch(batch)
        stream = sink.getvalue()
        with self._lock, self._errors():
            if self._file is None:
                # Closed by the finalizer: its end is that of the last block, which no `with` can know.
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            offset = self._file.seek(self._end)
            self._file.write(stream)
            self._file.flush()
            self._end = offset + stream.size
        return _Spilled(self, offset, stream.size)

    def read(self, offset: int, length: int) -> pa.RecordBatch:
        """The batch that `append` wrote there."""
        with self._lock, self._errors():
            assert self._file is not None
            self._file.seek(offset)
            stream = self._file.read(length)
        return pa.ipc.open_stream(pa.py_buffer(stream), options=_READING).read_next_batch()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise StoreError(
                f"entries that are being sorted cannot be kept in {folder}: {error}; free space there, or let"
                " TMPDIR name a folder that has some"
            ) from error
