"""Which drivers of fsspec a reference may use, and how they may be chained.

A manifest may come from anybody, and some drivers do more than read what a URI names: they keep files in folders of
their own, render templates, or read wherever a file tells them to. Adding and reading both ask here.
"""

from __future__ import annotations

from typing import Any, Final

from refart import names
from refart.errors import InvalidInputError

MAX_LINKS: Final = 4
"""Of a chain: an archive in an archive in an archive, and where that lies."""

_CACHES: Final = (
    "keeps bytes that may have changed since in a folder of its own, and refart has a cache itself"
)
_LEADS_ON: Final = "only leads on to another place"

_REFUSED: Final = {
    "asyncwrapper": _LEADS_ON,
    "blockcache": _CACHES,
    "cached": _CACHES,
    "dask": "reads on other machines, in whatever cluster is at hand",
    "data": "holds the bytes in the URI itself",
    "dir": _LEADS_ON,
    "filecache": _CACHES,
    "generic": _LEADS_ON,
    "local": "is another word for file://, by which files are hashed",
    "pyscript": _LEADS_ON,
    "reference": "reads wherever a file tells it to, and renders the templates in it",
    "refart": "stands for a version, which add_reference takes entries from",
    "simplecache": _CACHES,
}
"""Scheme → why it is no place of a reference."""

_REFUSED_CLASSES: Final = {
    "fsspec.generic": _LEADS_ON,
    "fsspec.implementations.cached": _CACHES,
    "fsspec.implementations.dask": _REFUSED["dask"],
    "fsspec.implementations.data": _REFUSED["data"],
    "fsspec.implementations.dirfs": _LEADS_ON,
    "fsspec.implementations.reference": _REFUSED["reference"],
}
"""Module that defines the class of a driver, or one it inherits from → the same, under whatever scheme."""


def check_scheme(uri: str) -> None:
    """Raises `InvalidInputError` for a URI whose scheme no reference may use; imports nothing for it."""
    _refuse(uri, _REFUSED.get(names.uri_scheme(uri) or "file"))


def check(uri: str, driver: Any) -> None:
    """Check the first link of a chain, which the class `driver` serves, and how the chain goes on.

    Only archives stand before the place they lie in, and no further link holds a `::` at which fsspec would split
    it: so there is one place, which alone gets the options of its prefix. Raises `InvalidInputError`.
    """
    defined_in = [base.__module__ for base in driver.__mro__]
    _refuse(uri, next(filter(None, map(_REFUSED_CLASSES.get, defined_in)), None))
    first, *others = names.links(uri)
    scheme, _, rest = first.partition("://")
    is_archive = "fsspec.archive" in defined_in
    if not is_archive and "::" in rest.partition("/")[0]:
        raise InvalidInputError(
            f"{uri}: drivers of fsspec do not understand '::' in {scheme}://…; an IPv6 address needs a host name"
        )
    if is_archive and not others:
        raise InvalidInputError(
            f"{uri} does not say where the archive lies: write {scheme}://path/inside::file:///the/archive"
        )
    if others and not is_archive:
        raise InvalidInputError(
            f"{uri}: {scheme}:// reads no archive, so that no place can follow after '::'"
        )
    if len(others) >= MAX_LINKS:
        raise InvalidInputError(f"{uri[:200]}… has {len(others) + 1} links; at most {MAX_LINKS} are followed")
    if any("::" in link for link in others):
        raise InvalidInputError(f"{uri}: fsspec cannot find an archive that has '::' in its name")


def _refuse(uri: str, why: str | None) -> None:
    if why is not None:
        raise InvalidInputError(
            f"{uri}: {names.uri_scheme(uri)}:// {why}; name the place where the bytes lie"
        )
