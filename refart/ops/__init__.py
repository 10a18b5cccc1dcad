"""Verbs: one module each, imported when it is first used, since most of them need pyarrow."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refart.ops import (
        add,
        commit,
        diff,
        doctor,
        download,
        download_elsewhere,
        importers,
        interchange,
        inventory,
        lineage,
        materialize,
        openlineage,
        parts,
        pins,
        refresh,
        relocate,
        restore,
        reuse,
        select,
        status,
        stream,
        subset,
        tables,
        verify,
        verify_bytes,
        verify_remote,
        who,
    )

__all__ = [
    "add",
    "commit",
    "diff",
    "doctor",
    "download",
    "download_elsewhere",
    "importers",
    "interchange",
    "inventory",
    "lineage",
    "materialize",
    "openlineage",
    "parts",
    "pins",
    "refresh",
    "relocate",
    "restore",
    "reuse",
    "select",
    "status",
    "stream",
    "subset",
    "tables",
    "verify",
    "verify_bytes",
    "verify_remote",
    "who",
]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
