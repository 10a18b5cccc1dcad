"""What other processes do to a catalog; importable by them."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from collections.abc import Callable
from threading import Barrier
from typing import Any

from refart.catalog.base import Commit, RunRow, VersionKey
from refart.catalog.sql import open_catalog
from tests.catalog.suite import request

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
    url, run, requested = argument
    catalog = open_catalog(url)
    try:
        catalog.save_run(run)
        committed = catalog.commit(requested)
        return committed.version.key, committed.created
    finally:
        catalog.close()


def hold_write_lock(path: str) -> None:
    """Lock a SQLite file as a writer does; say so on stdout, let go when stdin ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    sys.stdin.read()
    connection.close()


def commit_around_a_fork(url: str) -> None:
    """Commit, fork, commit in the child, commit in the parent."""
    catalog = open_catalog(url)
    catalog.commit(request("before"))
    child = os.fork()
    if child == 0:
        try:
            assert catalog._database.engine.pool.checkedin() == 0, "the parent's connection is not ours"
            assert catalog.commit(request("child")).version.key.number == 1
            catalog.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert catalog._database.engine.pool.checkedin() == 1
    assert catalog.commit(request("after")).version.key.number == 2
    catalog.close()


if __name__ == "__main__":
    {"hold_write_lock": hold_write_lock, "commit_around_a_fork": commit_around_a_fork}[sys.argv[1]](
        sys.argv[2]
    )
