"""What the clients of object stores have in common: when they are made, and what they may repeat."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

MAX_CONNECTIONS: Final = 256
"""Of connections kept open. They are made as threads need them, so this is no cost, only never too few."""

_SECRET: Final = re.compile(
    r"signature|credential|secret|token=|bearer|private_key|passw|passphrase|authorization|x-amz-|x-goog-"
    r"|[?&]sig=|://[^/\s]*@|\bya29\.|\b(AKIA|ASIA)[A-Z0-9]{8}",
    re.IGNORECASE,
)


class Refused(Exception):  # never leaves the sources but as a cause
    """What a server answered, as its code and the status: the cause of the error that is raised for it.

    The clients' own errors may repeat credentials and signatures, and so are never chained.
    """

    def __init__(self, code: str, status: int) -> None:
        super().__init__(f"{code} ({status})")
        self.code, self.status = code, status


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
        self._known: tuple[int, dict[object, object], T] | None = None

    def current(self) -> T:
        """The client of this process and environment. Raises what `make` raises."""
        pid, environment = os.getpid(), _environment()
        known = self._known
        if known is not None and known[0] == pid and known[1] == environment:
            return known[2]
        here = (pid, *sorted((k, os.environ.get(k)) for k in os.environ if k.startswith(self._variables)))
        with self._lock:
            if self._made is None or self._made[0] != here:
                self._made = (here, self._make())
            self._known = (pid, environment, self._made[1])
            return self._made[1]


def _environment() -> dict[Any, Any]:
    """The environment as it is now, to be compared with what it was. That is done for each request, and so without
    decoding it, where `os.environ` has it as it is."""
    return dict(getattr(os.environ, "_data", os.environ))


def code_in(said: object) -> str:
    """What a server calls an error, where it is a word that a table could have; else `""`."""
    return str(said) if _CODE.match(str(said)) else ""


_CODE: Final = re.compile(r"[A-Za-z0-9_.]{1,80}\Z")


def harmless_cause(error: Exception, secrets: Iterable[str] = ()) -> Exception | None:
    """The error to chain another one to; None where it, or what it was raised from, might repeat something secret."""
    secrets, seen = list(secrets), set[int]()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        text = str(link)
        if _SECRET.search(text) or any(secret in text for secret in secrets):
            return None
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return error


def harmless(text: str) -> str:
    """A server's or a client's sentence, bounded, and left out where it might repeat something secret."""
    return "" if _SECRET.search(text) else " ".join(text.split())[:200]
