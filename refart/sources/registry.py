"""Which source serves which scheme. Nothing heavy is imported before a URI asks for it."""

from __future__ import annotations

import importlib
import json
import threading
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from refart import names
from refart.config import Config
from refart.errors import InvalidInputError, SourceError
from refart.sources.base import Source

if TYPE_CHECKING:
    from refart.receipts import Receipts

ENTRY_POINT_GROUP: Final = "refart.sources"
"""Third parties register `scheme = "module:Class"` here. A built-in scheme cannot be replaced."""

BUILT_IN: Final = {
    "file": "refart.sources.local:LocalSource",
    "gcs": "refart.sources.gcs:GCSSource",
    "gs": "refart.sources.gcs:GCSSource",
    "http": "refart.sources.http:HTTPSource",
    "https": "refart.sources.http:HTTPSource",
    "s3": "refart.sources.s3:S3Source",
    "s3a": "refart.sources.s3:S3Source",
}
"""Scheme → class. A class is called with one argument, the storage options of the URI's prefix; that of
`file` with the receipts of this machine as well."""

EXTRAS: Final = {"gcs": "gcs", "gs": "gcs", "http": "http", "https": "http", "s3": "s3", "s3a": "s3"}
"""Scheme → the extra of this package that installs what its source needs."""

PLANNED: Final = frozenset({"az", "abfs", "abfss", "refart"})


class Sources:
    """The sources of one configuration: one for each class and set of storage options, made when first asked
    for."""

    def __init__(self, config: Config, receipts: Receipts | None = None) -> None:
        """Without `receipts`, local files are read every time they are asked about."""
        self._config = config
        self._receipts = receipts
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Source] = {}

    def for_uri(self, uri: str) -> Source:
        """The source that reads `uri`; a plain path is one of the file system. From any thread.

        Raises `InvalidInputError` for a scheme nobody serves, or storage options that its source does not
        accept; `SourceError` where the driver is not installed.
        """
        scheme = names.uri_scheme(uri) or "file"
        target = BUILT_IN.get(scheme) or _third_party().get(scheme)
        if target is None:
            raise InvalidInputError(_unknown(scheme))
        options = self._config.options_for(uri)
        key = (str(target), json.dumps(options, sort_keys=True, default=repr))
        with self._lock:
            if key not in self._made:
                source_class = _load(scheme, target)
                local = (self._receipts,) if scheme == "file" else ()
                self._made[key] = source_class(options, *local)
            return self._made[key]


def known_schemes() -> list[str]:
    """Every scheme that can be read, sorted: built in and registered by third parties."""
    return sorted({*BUILT_IN, *_third_party()})


def _third_party() -> dict[str, EntryPoint]:
    return {point.name.lower(): point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _load(scheme: str, target: str | EntryPoint) -> Any:
    try:
        if isinstance(target, EntryPoint):
            return target.load()
        module, _, name = target.partition(":")
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        needed = getattr(error, "name", None) or str(error)
        extra = EXTRAS.get(scheme)
        what_to_do = (
            f"pip install 'refart[{extra}]'" if extra else f"install it, or remove the plug-in {target}"
        )
        raise SourceError(f"{scheme}:// needs {needed}, which is not installed: {what_to_do}") from error


def _unknown(scheme: str) -> str:
    known = ", ".join(f"{name}://" for name in known_schemes())
    why = (
        "not supported yet by this version of refart"
        if scheme in PLANNED
        else "not a scheme that refart knows"
    )
    return f"{scheme}:// is {why}; it reads {known} and plain paths"
