"""Which source serves which scheme. Nothing heavy is imported before a URI asks for it."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from refart import names
from refart.config import Config
from refart.errors import InvalidInputError, NotInstalledError, RefartError, SourceError
from refart.sources.clients import harmless, harmless_cause
from refart.sources.generic import schemes as generic_schemes

if TYPE_CHECKING:
    from refart.receipts import Receipts
    from refart.sources.base import Source

ENTRY_POINT_GROUP: Final = "refart.sources"
"""Third parties register `scheme = "module:Class"` here. A built-in scheme cannot be replaced."""

BUILT_IN: Final = {
    "abfs": "refart.sources.azure.source:AzureSource",
    "abfss": "refart.sources.azure.source:AzureSource",
    "az": "refart.sources.azure.source:AzureSource",
    "file": "refart.sources.local.source:LocalSource",
    "gcs": "refart.sources.gcs.source:GCSSource",
    "gs": "refart.sources.gcs.source:GCSSource",
    "http": "refart.sources.http.source:HTTPSource",
    "https": "refart.sources.http.source:HTTPSource",
    "s3": "refart.sources.s3.source:S3Source",
    "s3a": "refart.sources.s3.source:S3Source",
}
"""Scheme → class. A class is called with one argument, the storage options of the URI's prefix; that of
`file` with the receipts of this machine as well."""

EXTRAS: Final = {
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "gcs": "gcs",
    "gs": "gcs",
    "http": "http",
    "https": "http",
    "s3": "s3",
    "s3a": "s3",
    "sftp": "sftp",
    "ssh": "sftp",
    "webdav": "webdav",
}
"""Scheme → the extra of this package that installs what its source needs."""

GENERIC: Final = "refart.sources.generic.source:GenericSource"
"""The source of every other scheme that fsspec has a driver for."""

METHODS: Final = ("scan", "stat", "fetch", "open")
"""What a source has to have (see `refart.sources.base.Source`)."""


class Sources:
    """The sources of one configuration: one for each class and set of storage options, made when first asked
    for."""

    def __init__(self, config: Config, receipts: Receipts | None = None) -> None:
        """Without `receipts`, local files are read every time they are asked about."""
        self._config = config
        self._receipts = receipts
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Source] = {}

    @cached_property
    def _third_party(self) -> dict[str, EntryPoint]:
        """Looked up once: it reads the metadata of every installed package."""
        return _third_party()

    def for_uri(self, uri: str) -> Source:
        """The source that reads `uri`; a plain path is one of the file system. From any thread.

        Whatever is added and whatever is read passes here, and a manifest may come from anybody: raises
        `InvalidInputError` for a URI that `names.check_uri` refuses, a scheme nobody serves or no reference may use
        (`generic.schemes`), and storage options that its source does not accept; `SourceError` where the driver is not
        installed.
        """
        names.check_uri(uri)
        scheme = _serving(uri)
        target = BUILT_IN.get(scheme) or self._third_party.get(scheme) or _of_fsspec(scheme)
        if target is None:
            raise InvalidInputError(_unknown(scheme))
        if target is GENERIC:
            generic_schemes.check_scheme(uri)
        options = self._options(uri, scheme, chain=target is GENERIC)
        served = scheme if target is GENERIC else str(target)
        key = (served, json.dumps(options, sort_keys=True, default=repr) if options else "")
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(scheme, target, options)
            return self._made[key]

    def _make(self, scheme: str, target: str | EntryPoint, options: dict[str, Any]) -> Source:
        if isinstance(target, EntryPoint):
            return _third_party_source(target, options)
        local = (self._receipts,) if scheme == "file" else ()
        source: Source = _load(scheme, target)(options, *local)
        return source

    def _options(self, uri: str, scheme: str, *, chain: bool) -> dict[str, Any]:
        """What is configured for a URI; for the further links of a chain under their scheme, as fsspec wants it."""
        options = self._config.options_for(uri)
        if scheme in _FSSPEC_PROTOCOLS:
            return {**fsspec_options(scheme), **options}
        if chain:
            for link in names.links(uri)[1:]:
                inner = names.uri_scheme(link) or "file"
                options[inner] = {**self._config.options_for(link), **options.get(inner, {})}
        return options


def _serving(uri: str) -> str:
    """The scheme that serves a URI: its own, but Azure's for the URL of a blob, and `file` for a plain path."""
    scheme = names.uri_scheme(uri) or "file"
    host = uri.partition("://")[2].partition("/")[0].lower()
    return "az" if scheme == "https" and host.endswith(".blob.core.windows.net") else scheme


def known_schemes() -> list[str]:
    """Every scheme that can be read, sorted: built in and registered by third parties."""
    return sorted({*BUILT_IN, *_third_party()})


def fsspec_options(scheme: str) -> dict[str, Any]:
    """The defaults for a driver from fsspec's own configuration: `FSSPEC_S3_KEY=…`, `~/.config/fsspec/*.json`.

    As everywhere in fsspec, they are read once a process. Drivers that fsspec makes for us apply them themselves.
    """
    if not _fsspec_is_configured():
        return {}
    import fsspec.config

    return {
        name: value
        for protocol in _FSSPEC_PROTOCOLS[scheme]
        for name, value in fsspec.config.conf.get(protocol, {}).items()
    }


def _fsspec_is_configured() -> bool:
    """Whether there can be any such default: our own sources need fsspec, which is slow to load, for nothing else."""
    return "fsspec" in sys.modules or _fsspec_would_be_configured()  # a program may have set some


@cache
def _fsspec_would_be_configured() -> bool:
    return any(name.startswith("FSSPEC_") for name in os.environ) or os.path.isdir(
        os.path.expanduser("~/.config/fsspec")
    )


_FSSPEC_PROTOCOLS: Final = {
    scheme: protocols
    for protocols in (("s3", "s3a"), ("gs", "gcs"), ("abfs", "az", "abfss"), ("http", "https"))
    for scheme in protocols
}
"""Scheme with a source of its own → the names of its driver, in the driver's order, which later ones override."""


def _third_party() -> dict[str, EntryPoint]:
    return {point.name.lower(): point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _third_party_source(point: EntryPoint, options: dict[str, Any]) -> Source:
    try:
        source_class = point.load()
    except ImportError as error:
        advice = "install it, or remove the plug-in"
        raise NotInstalledError.of(_plug_in(point), error, advice=advice) from error
    except Exception as error:
        raise _unusable(point, error) from error
    missing = [name for name in METHODS if not callable(getattr(source_class, name, None))]
    if missing:
        raise SourceError(
            f"{_plug_in(point)} is no source: it has no method {missing[0]}(); a source has {', '.join(METHODS)}"
        )
    try:
        source: Source = source_class(options)
    except RefartError:
        raise
    except Exception as error:
        raise _unusable(point, error) from harmless_cause(error)
    return source


def _plug_in(point: EntryPoint) -> str:
    return f"the plug-in for {point.name}:// ({point.value}{f' of {point.dist.name}' if point.dist else ''})"


def _unusable(point: EntryPoint, error: Exception) -> SourceError:
    said = harmless(str(error))
    return SourceError(
        f"{_plug_in(point)} cannot be used: {type(error).__name__}{': ' if said else ''}{said}"
    )


def _of_fsspec(scheme: str) -> str | None:
    """The generic source, where fsspec knows a driver of the scheme."""
    from fsspec.registry import known_implementations, registry

    return GENERIC if scheme in known_implementations or scheme in registry else None


def _load(scheme: str, target: str) -> Any:
    try:
        if target is GENERIC:
            import fsspec

            fsspec.get_filesystem_class(scheme)
        module, _, name = target.partition(":")
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:  # fsspec names a class that the package of the driver has no more
        raise SourceError(f"the driver of {scheme}:// cannot be used: {error}") from error
    except ImportError as error:
        hint = str(error)  # fsspec's own, of drivers that no extra brings
        raise NotInstalledError.of(f"{scheme}://", error, extra=EXTRAS.get(scheme), advice=hint) from error


def _unknown(scheme: str) -> str:
    known = ", ".join(f"{name}://" for name in known_schemes())
    return (
        f"{scheme}:// is not a scheme that refart knows; it reads {known}, plain paths, and what fsspec has drivers for"
        " (fsspec.available_protocols())"
    )
