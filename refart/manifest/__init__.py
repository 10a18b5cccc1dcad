"""Manifests: the sorted entries of a version. Its modules need pyarrow, so they are imported when first used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refart.manifest import compare, draft, reader

__all__ = ["compare", "draft", "reader"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
