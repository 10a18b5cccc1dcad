"""Roots: the prefixes and folders that a version was listed from, so that they can be listed again.

An entry does not tell what was chosen besides it: whether an object that is new below a prefix would have been taken is
known only from the prefix and the patterns that were given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from refart import names
from refart.errors import FormatError, InvalidInputError

CHECKSUMS: Final = ("best", "sha256", "stored", "stat", "none")
"""How entries were identified: `True`, `"sha256"`, `"stored"`, `"stat"` and `False` of `add_reference`."""

MAX_ROOTS: Final = 10_000
"""More prefixes than this are not kept: an index is read whole."""


@dataclass(frozen=True, slots=True)
class Root:
    """One `add_reference` of a prefix or folder."""

    uri: str
    """What was listed; of files of this machine, `file://` and an absolute path."""
    name: str | None = None
    """Folder of the artifact that its entries lie in; None for the top."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    checksum: str = "best"
    """One of `CHECKSUMS`."""
    follow_symlinks: bool = True

    def check(self, where: str) -> Root:
        """Raises `FormatError`, which begins with `where`, for what no `add_reference` takes."""
        try:
            names.check_uri(self.uri)
            if self.name is not None:
                names.check_path(self.name, "name")
        except InvalidInputError as error:
            raise FormatError(f"{where}: {error}") from None
        if self.checksum not in CHECKSUMS:
            raise FormatError(f"{where}: checksum must be one of {', '.join(CHECKSUMS)}")
        return self

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, document: Any, where: str) -> Root:
        """Read what anyone may have written. Raises `FormatError`."""
        if not isinstance(document, dict) or document.keys() != {field.name for field in fields(cls)}:
            raise FormatError(
                f"{where}: expected the fields {', '.join(field.name for field in fields(cls))}"
            )
        for name, kinds in _KINDS.items():
            if not isinstance(document[name], kinds):
                raise FormatError(f"{where}: {name} has the wrong type")
        for name in ("include", "exclude"):
            if not all(isinstance(pattern, str) for pattern in document[name]):
                raise FormatError(f"{where}: {name} must be a list of patterns")
        patterns = {name: tuple(document[name]) for name in ("include", "exclude")}
        return cls(**{**document, **patterns}).check(where)


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "uri": (str,),
    "name": (str, type(None)),
    "include": (list,),
    "exclude": (list,),
    "checksum": (str,),
    "follow_symlinks": (bool,),
}


def joined(*several: tuple[Root, ...]) -> tuple[Root, ...]:
    """All roots, each place once, in the order of their first mention; none where they are more than `MAX_ROOTS`.

    Of two that list one prefix into one folder, the later counts: it says what was wanted from there last.
    """
    roots = {(root.uri.rstrip("/"), root.name): root for roots in several for root in roots}
    return tuple(roots.values()) if len(roots) <= MAX_ROOTS else ()
