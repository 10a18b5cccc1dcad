"""What the clients of object stores have in common: when they are made, and what they may repeat."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_CONNECTIONS: Final = 256
"""Of connections kept open. They are made as threads need them, so this is no cost, only never too few."""

_SECRET: Final = re.compile(
    r"signature|credential|secret|token=|bearer|private_key|x-amz-|x-goog-|\bya29\.|\b(AKIA|ASIA)[A-Z0-9]{8}",
    re.IGNORECASE,
)


class Renewed(Generic[T]):
    """A client that is made when it is first needed, from any thread.

    It is made again when the process forks (sockets must not be shared) or its part of the environment changes: so a
    long-lived source follows rotated credentials, and one that outlives a mock or an emulator neither sends their
    credentials to a real server nor keeps what it learnt from them.
    """

    def __init__(self, make: Callable[[], T], *variables: str) -> None:
        """`variables` begin the names of those that `make` looks at."""
        self._make = make
        self._variables = variables
        self._lock = threading.Lock()
        self._made: tuple[tuple[object, ...], T] | None = None

    def current(self) -> T:
        """The client of this process and environment. Raises what `make` raises."""
        here = (os.getpid(), *sorted((k, v) for k, v in os.environ.items() if k.startswith(self._variables)))
        with self._lock:
            if self._made is None or self._made[0] != here:
                self._made = (here, self._make())
            return self._made[1]


def harmless(text: str) -> str:
    """A server's or a client's sentence, bounded, and left out where it might repeat something secret."""
    return "" if _SECRET.search(text) else " ".join(text.split())[:200]
