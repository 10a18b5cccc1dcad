"""Instances of fsspec drivers, each lent to one piece of work at a time, and what their errors mean.

Drivers that are not asynchronous are made for one thread (two threads on one SFTP connection wait for each other's
answers for ever), so each piece of work borrows one of its own. It goes back when the work is done: connections are
as many as work is done at the same time, and live on. They are opened one after the other, since servers turn away
crowds of strangers (sshd: `MaxStartups`).

Listings that a driver remembers, and archives that were replaced since they were opened, are forgotten each time.
"""

from __future__ import annotations

import base64
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

import fsspec

from refart import names
from refart.errors import InvalidInputError, NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources.clients import harmless, harmless_cause
from refart.sources.generic import identity as generic_identity
from refart.sources.generic import schemes as generic_schemes
from refart.sources.generic.places import Place

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Look:
    """What a driver says about a path."""

    is_folder: bool
    size: int | None
    content_ids: tuple[str, ...]
    """Strongest first; empty where nothing identifies the bytes."""


class Drivers:
    """The drivers for one set of storage options, in fsspec's words: those of further links of a chain stand under
    their scheme."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._secrets = tuple(_strings(self._options))
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._idle: dict[tuple[object, ...], list[tuple[Any, Look | None]]] = {}
        self._containers: dict[str, Drivers] = {}

    def place(self, uri: str) -> Place:
        """Raises `InvalidInputError` for a URI that cannot be read as it stands, and what `generic.schemes` refuses."""
        generic_schemes.check_scheme(uri)
        driver = self.driver(uri)
        generic_schemes.check(uri, driver)
        return Place.of(uri, driver)

    def driver(self, uri: str) -> Any:
        """The class that serves a URI."""
        try:
            return fsspec.get_filesystem_class(_scheme(uri))
        except Exception as error:  # of the driver's own module, too
            raise SourceError(
                f"{uri}: the driver of {_scheme(uri)}:// cannot be used{self._said(error)}"
            ) from error

    def borrow(self, place: Place) -> Lease:
        """A driver to use alone until a `with` block ends. Raises the errors of connecting to it."""
        container = self.container(place)
        with self._lock:
            idle = self._idle.setdefault(self._key(place), [])
            while idle:
                fs, opened = idle[-1]
                if opened != container or not _is_shared(fs):
                    idle.pop()
                if opened == container:
                    return Lease(self, place, fs, container, was_idle=True)
        return Lease(self, place, self.make(place), container, was_idle=False)

    def container(self, place: Place) -> Look | None:
        """What is said now about the archive that a place lies in; None for one that lies in none."""
        if not place.tail:
            return None
        uri = place.tail.removeprefix("::")
        with self._lock:
            drivers = self._containers.setdefault(_scheme(uri), Drivers(self._options_inside(_scheme(uri))))
        with drivers.borrow(drivers.place(uri)) as lease:
            found = lease.look()
        if found.is_folder:
            raise InvalidInputError(f"{uri} is a folder, and no archive to look into")
        return found

    def _options_inside(self, scheme: str) -> dict[str, Any]:
        nested = {key: value for key, value in self._options.items() if isinstance(value, Mapping)}
        own = nested.pop(scheme, {})
        return {**nested, **own}

    def give_back(self, place: Place, fs: Any, container: Look | None) -> None:
        with self._lock:
            idle = self._idle.setdefault(self._key(place), [])
            if not any(one is fs for one, _ in idle):
                idle.append((fs, container))

    def forget(self, place: Place) -> None:
        """Drop the idle drivers of a place, whose connections have likely gone too."""
        with self._lock:
            self._idle.pop(self._key(place), None)

    def make(self, place: Place) -> Any:
        # What a path inside an archive is named is none of fsspec's business: it would look for links in it.
        url = f"{_scheme(place.uri)}://{place.tail}" if place.tail else place.root
        try:
            with self._connecting:
                fs, _ = fsspec.url_to_fs(
                    url, skip_instance_cache=True, **_as_given(_scheme(place.uri), self._options)
                )
        except TypeError as error:
            raise InvalidInputError(
                f"{place.uri}: the driver does not take the storage options, or they contradict the URI"
                f"{self._said(error)}"
            ) from self.cause(error)
        except Exception as error:
            raise self.translated(error, place.uri) from self.cause(error)
        _limit_silence(fs)
        return fs

    def cause(self, error: Exception) -> Exception | None:
        """See `clients.harmless_cause`."""
        return harmless_cause(error, self._secrets)

    def _key(self, place: Place) -> tuple[object, ...]:
        """Drivers are not fit for a forked child, and most are made for one server."""
        driver = self.driver(place.uri)
        server = sorted(driver._get_kwargs_from_urls(place.root).items())
        return os.getpid(), driver, repr(server), place.tail

    def translated(self, error: Exception, what: str) -> RefartError:
        """The error of `refart.errors` for what a driver raised; shows nothing secret.

        Drivers share no errors but Python's own, so those of their clients are told by the words in their names, and
        by the HTTP status that they carry.
        """
        if isinstance(error, RefartError):
            return error
        words = " ".join(_PARAMIKO.get(str(one), type(one).__name__) for one in _causes(error))
        said = f" ({type(error).__name__}{self._said(error)})"
        statuses = {_status(one) for one in _causes(error)}
        if isinstance(error, FileNotFoundError | NotADirectoryError) or statuses & {404, 410}:
            return NotFoundError(f"{what} does not exist{said}")
        if isinstance(error, PermissionError) or statuses & {401, 403} or _DENIED.search(words):
            return PermissionDeniedError(f"{what}: access is denied{said}")
        if isinstance(error, UnicodeError):
            return InvalidInputError(f"{what}: a name there is not UTF-8{said}")
        is_transient = (
            isinstance(error, TimeoutError | ConnectionError | EOFError)
            or bool(statuses & {429, 500, 502, 503, 504})
            or (_BROKEN.search(words) is not None and not isinstance(error, tarfile.TarError))
        )
        why = "the server cannot be reached, or hung up" if is_transient else "the driver failed"
        return SourceError(f"{what}: {why}{said}", transient=is_transient)

    def _said(self, error: Exception) -> str:
        """The first line of an error, bounded, and left out where it might repeat something secret."""
        text = next(iter(str(error).strip().splitlines()), "")
        said = "" if any(secret in text for secret in self._secrets) else harmless(text)
        return f": {said}" if said else ""


class Lease:
    """A driver that is lent; a connection that was lost while nobody used it is opened again."""

    def __init__(
        self, drivers: Drivers, place: Place, fs: Any, container: Look | None, *, was_idle: bool
    ) -> None:
        self._drivers, self._place, self._fs = drivers, place, fs
        self._container = container  # as it was when the driver opened it
        self._was_idle = was_idle
        self._is_broken = False

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_broken:
            self._drivers.give_back(self._place, self._fs, self._container)

    def call(self, function: Callable[[Any], Result], what: str | None = None) -> Result:
        """`function(driver)`, its errors in the words of `refart.errors`; `what` begins their messages."""
        was_idle, self._was_idle = self._was_idle, False
        try:
            return function(self._fs)
        except Exception as error:
            failed = self._drivers.translated(error, what or self._place.uri)
            self._is_broken = self._is_broken or isinstance(failed, SourceError)
            if not (was_idle and self._is_broken):
                raise failed from self._drivers.cause(error)
        self._drivers.forget(self._place)
        self._fs = self._drivers.make(self._place)
        self._is_broken = False
        return self.call(function, what)

    def look(self, path: str | None = None) -> Look:
        """What the driver says now about the place, or about another path below it.

        Raises `NotFoundError`; `SourceError` where the archive it lies in is not the one that was opened any more.
        """
        where = self._place.path if path is None else path

        def ask(fs: Any) -> Look:
            fs.invalidate_cache()
            fs.dircache.clear()  # which not all do
            info = fs.info(where)
            if info.get("type") == "other":  # reading a pipe could wait for ever
                raise InvalidInputError(f"{self._place.uri} is a pipe, a device or a socket, and no file")
            is_folder = info.get("type") == "directory"
            if not is_folder and _last(str(info.get("name", where))) != _last(where):
                raise FileNotFoundError(f"the driver answers for {info['name']!r} instead")
            content_ids = () if is_folder else generic_identity.of_file(fs, where, info)
            return Look(is_folder, size_of(info), content_ids)

        found = self.call(ask, None if path is None else self._place.uri_of(path))
        if self._container is not None and self._container != self._drivers.container(self._place):
            raise SourceError(
                f"{self._place.uri}: the archive was replaced while it was read", transient=True
            )
        return found


SILENCE_S: Final = 60.0
"""How long an SFTP server may keep silent before it counts as gone; paramiko would wait for ever."""


def _limit_silence(fs: Any) -> None:
    channel_of = getattr(getattr(fs, "ftp", None), "get_channel", None)
    if channel_of is not None:
        channel_of().settimeout(SILENCE_S)


def _as_given(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a scheme, and of what stands below, as drivers want them."""
    given = {
        name: _as_given(name, value) if name in _WEB and isinstance(value, Mapping) else value
        for name, value in options.items()
    }
    if scheme in _WEB:
        return _on_the_web(given)
    if isinstance(given.get("auth"), list):  # for clients that want a tuple, which neither TOML nor JSON has
        given["auth"] = tuple(given["auth"])
    return given


_WEB: Final = ("http", "https")


def _on_the_web(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an archive's web address for aiohttp, which takes along every header but `Authorization` where a
    redirect leads to another host: redirects are not followed where another header may be secret."""
    given, client = dict(options), options.get("client_kwargs")
    if isinstance(auth := given.get("auth"), list | tuple):
        del given["auth"]
        basic = base64.b64encode(":".join(map(str, auth)).encode()).decode()
        given["headers"] = {**given.get("headers", {}), "Authorization": f"Basic {basic}"}
    for headers in (given.get("headers"), client.get("headers") if isinstance(client, Mapping) else None):
        if isinstance(headers, Mapping) and any(name.lower() not in _MAY_TRAVEL for name in headers):
            given["allow_redirects"] = False
    return given


_MAY_TRAVEL: Final = frozenset({"accept", "accept-language", "user-agent", "authorization"})


def _scheme(uri: str) -> str:
    return names.uri_scheme(uri) or "file"


def size_of(info: Mapping[str, Any]) -> int | None:
    """The size that a driver tells; None where it tells none."""
    size = info.get("size")
    return size if type(size) is int and size >= 0 else None


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _is_shared(fs: Any) -> bool:
    """Asynchronous drivers do the work of all threads in one loop of their own."""
    return bool(getattr(fs, "async_impl", False))


_DENIED: Final = re.compile("Auth|Credential|Denied|Forbidden|Permission|BadHostKey|PasswordRequired")
_BROKEN: Final = re.compile("Timeout|Connect|Network|Protocol|SSH|Channel|ReadError|gaierror|BrokenPipe")
_PARAMIKO: Final = {
    "No authentication methods available": "AuthenticationException",
    "Socket is closed": "ConnectionError",
}
"""What it says by a class that means anything → the class that means that."""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> object:
    """The HTTP status of an error, in the words of httpx, requests and aiohttp."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None) or getattr(error, "status", None)


def _strings(value: object) -> Iterator[str]:
    """The values of options that must not be shown: every text of some length."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str) and len(value) >= 4:
        yield value
