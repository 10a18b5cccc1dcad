"""From a URI to a driver and a path in its words, and back, without anyone's reading of `?`, `#` or `%`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refart import names
from refart.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URI leads.

    The driver is asked what it makes of the beginning of a URI (`scheme://authority/`); to that the rest is appended as
    it stands. For some drivers the authority is a server, for others it is the first folder of the path.
    """

    uri: str
    root: str
    """`scheme://authority/`: the URI's beginning."""

    base: str
    """What the driver makes of it."""

    path: str
    """The whole in the driver's words, without a slash at the end."""

    must_be_folder: bool
    """The URI ends with a slash."""

    tail: str
    """`::b://…`, where what the driver reads lies; `""` for a URI that is no chain."""

    @classmethod
    def of(cls, uri: str, driver: Any) -> Place:
        """`driver` is the class that serves the scheme.

        Raises `InvalidInputError` for a URI that the driver would take for another one than it says.
        """
        head = names.links(uri)[0]
        tail = uri[len(head) :]
        scheme, _, rest = head.partition("://")
        authority, _, rest = rest.partition("/")
        root = f"{scheme.lower()}://{authority}/"
        base = _stripped(driver, f"{root}x", uri).removesuffix("x")
        path = base + rest if rest else base
        if path.endswith("/"):
            path = path[:-1] or _stripped(driver, path, uri)
        if _stripped(driver, path, uri) != path:
            raise InvalidInputError(
                f"{uri}: the driver of {scheme}:// cannot be asked for this name as it stands; it would read"
                f" {_stripped(driver, path, uri)!r} instead of {path!r}"
            )
        return cls(uri, root, base, path, head.endswith("/"), tail)

    @property
    def folder(self) -> str:
        """What the names of everything below begin with."""
        if len(self.path) < len(self.base):
            return self.base
        return self.path if not self.path or self.path.endswith("/") else f"{self.path}/"

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    def uri_of(self, name: str) -> str:
        """The URI of what the driver lists as `name`; `Place.of` leads from it back to that name."""
        return f"{self.root}{name[len(self.base) :]}{self.tail}"

    def problem_of(self, name: str, driver: Any) -> str | None:
        """Why a listed name cannot be an entry; None where it can."""
        try:
            if Place.of(self.uri_of(name), driver).path == name:
                return None
        except InvalidInputError as error:
            return str(error)
        return f"{self.uri_of(name)} would not lead back to the name {name!r} that the driver lists"


def _stripped(driver: Any, path: str, uri: str) -> str:
    try:
        return str(driver._strip_protocol(path))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{uri} is no URI that its driver can read") from error
