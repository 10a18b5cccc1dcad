"""A seekable stream over ranged reads of one object."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, Final, cast

FIRST_BYTES: Final = 1 << 16  # 64 KiB: what a header or a footer needs
MOST_BYTES: Final = 1 << 23  # 8 MiB


def open_ranges(name: str, size: int, first: bytes, read_range: Callable[[int, int], bytes]) -> BinaryIO:
    """A buffered, seekable, read-only stream of an object of `size` bytes.

    `first` is its beginning, already read; `read_range(start, stop)` gives exactly the bytes in between, and
    is where errors come from. Sequential reads ask for twice as much each time (to 8 MiB), others for 64 KiB.
    """
    # It reads until enough has come. With a buffer, it would ask twice for a range that ends elsewhere than that.
    file = io.BufferedReader(_Ranges(name, size, first, read_range), buffer_size=1)
    return cast(BinaryIO, file)  # typeshed's BinaryIO is no protocol, so it is one by agreement only


class _Ranges(io.RawIOBase):
    def __init__(self, name: str, size: int, first: bytes, read_range: Callable[[int, int], bytes]) -> None:
        self.name = name
        self._size = size
        self._read_range = read_range
        self._position = 0
        self._block = first
        self._block_start = 0
        self._ahead = max(FIRST_BYTES, len(first))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start of {self.name}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        start = self._position
        stop = min(start + len(buffer), self._size)
        if start >= stop:
            return 0
        block_stop = self._block_start + len(self._block)
        if not self._block_start <= start < block_stop:
            sequential = start == block_stop
            self._ahead = min(self._ahead * 2, MOST_BYTES) if sequential else FIRST_BYTES
            kept = self._block[-FIRST_BYTES:] if sequential else b""  # readers of lines go back a little
            self._block = kept + self._read_range(start, min(max(stop, start + self._ahead), self._size))
            self._block_start = start - len(kept)
        offset = start - self._block_start
        chunk = self._block[offset : offset + len(buffer)]
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)
