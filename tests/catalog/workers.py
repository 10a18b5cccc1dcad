"""What other processes do to a catalog; importable by them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier
from typing import Any

from refart.catalog.base import Commit, RunRow, VersionKey
from refart.catalog.sql import open_catalog

_barrier: Barrier


def prepare(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def together(function: Callable[[Any], Any], argument: Any) -> Any:
    _barrier.wait(timeout=120)
    return function(argument)


def open_and_close(url: str) -> None:
    open_catalog(url).close()


def commit(argument: tuple[str, RunRow, Commit]) -> tuple[VersionKey, bool]:
    """Open the catalog, save the run, commit."""
    url, run, request = argument
    catalog = open_catalog(url)
    try:
        catalog.save_run(run)
        committed = catalog.commit(request)
        return committed.version.key, committed.created
    finally:
        catalog.close()
