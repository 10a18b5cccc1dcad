"""Large bodies that come slowly: several ranges of one object, read at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final, TypeAlias

from refart.errors import SourceError
from refart.parallel import available_cores, check_stopped, map_bounded, thread_pool

RANGE_BYTES: Final = 1 << 23  # 8 MiB
READERS: Final = 4
"""Of one object, so many ranges of this size are on their way at once."""

SLOW: Final = 0.5
"""A body is slow where so much of the time goes by in waiting for it."""

BUSY: Final = 0.6
"""This process is busy where it uses so much of all cores: then more requests at once would only cost more."""

_connections: Final = threading.BoundedSemaphore(2 * READERS)
"""By which large objects are read, all together. Where there are as many bodies, none need be divided; and each range
is held in memory."""

OpenRange: TypeAlias = Callable[[int, int], Generator[bytes]]
"""The bytes from one position to another; the request is made at once. Raises `SourceError` where the server does not
answer with them."""


def read_ahead(
    body: Generator[bytes],
    size_bytes: int,
    open_range: OpenRange,
    *,
    readers: int = READERS,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> Generator[bytes]:
    """All bytes of `body`, which is the whole of an object.

    Where a large one is waited for longer than it is worked on, though the processor has time, it is given up for
    ranges that up to so many threads read at once: a server, or the way to it, gives each connection its share. A
    server that does not answer with a range keeps its first body. Errors are those of `body` and `open_range`.
    """
    position = looked_at = 0
    waited_s, since_s, cpu_s = 0.0, clock(), cpu_clock()
    with closing(body), _free_connections(1) as own:
        asked_s = since_s
        for chunk in body:
            waited_s += clock() - asked_s
            position += len(chunk)
            yield chunk
            asked_s = clock()
            if position - looked_at < RANGE_BYTES:
                continue
            elapsed_s = asked_s - since_s
            is_busy = cpu_clock() - cpu_s > BUSY * available_cores() * elapsed_s
            if waited_s > SLOW * elapsed_s and not is_busy and size_bytes - position > RANGE_BYTES:
                with _free_connections(own and readers - 1) as more:
                    try:
                        first = open_range(position, position + RANGE_BYTES) if more else None
                    except SourceError:
                        first, own = None, 0
                    if first is not None:
                        body.close()
                        yield from _by_ranges(first, position, size_bytes, open_range, own + more)
                        return
            waited_s, since_s, cpu_s, looked_at = 0.0, asked_s, cpu_clock(), position


@contextmanager
def _free_connections(wanted: int) -> Iterator[int]:
    """As many as are wanted, or fewer, perhaps none, where other objects have them."""
    taken = 0
    try:
        while taken < wanted and _connections.acquire(blocking=False):
            taken += 1
        yield taken
    finally:
        if taken:
            _connections.release(taken)


def _by_ranges(
    first: Generator[bytes], start: int, stop: int, open_range: OpenRange, readers: int
) -> Generator[bytes]:
    """The bytes from `start` to `stop` by ranges, the `first` of which is open."""

    def read(position: int) -> list[bytes]:
        chunks = []
        is_first = position == start
        with closing(first if is_first else open_range(position, min(position + RANGE_BYTES, stop))) as body:
            for chunk in body:
                check_stopped()
                chunks.append(chunk)
        return chunks

    with closing(first), thread_pool(readers) as pool:
        for chunks in map_bounded(pool, read, range(start, stop, RANGE_BYTES), window=readers):
            yield from chunks
