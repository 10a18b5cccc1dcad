"""Opening, waiting, retrying, and what is said when the database refuses."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event, make_url

from refart.catalog import database, proc
from refart.catalog.base import VersionFilter
from refart.catalog.database import Database
from refart.catalog.sql import SqlCatalog, open_catalog
from refart.errors import (
    CatalogError,
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    NotInstalledError,
    PermissionDeniedError,
    RefartError,
)
from tests.catalog.suite import NOW, key, patch, request, run_row

ROOT = Path(__file__).parents[2]


# -- URLs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:hunter2@h/db", "a catalog cannot live at mysql://"),
        ("postgresql+asyncpg://u:hunter2@h/db", "a catalog cannot live at postgresql\\+asyncpg://"),
        ("postgresql://u:hunter2@h:port/db", "cannot be read"),
        ("hunter2", "cannot be read"),
        ("", "cannot be read"),
        ("sqlite://", "needs the path of a file"),
        ("sqlite:///:memory:", "needs the path of a file"),
        ("sqlite:////tmp/x?password=hunter2", "no options"),
        ("sqlite://host/x", "needs the path of a file"),
    ],
)
def test_another_kind_of_url_is_refused_with_an_example_and_without_its_password(
    url: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_catalog(url)
    assert "use sqlite:///path/to/catalog.db or postgresql://user@host:5432/database" in str(caught.value)
    assert "hunter2" not in _everything(caught.value)


def _everything(error: BaseException | None) -> str:
    """All that a traceback would show of an error and its causes."""
    shown = ""
    while error is not None:
        shown += repr(error) + str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown


def test_a_path_may_hold_what_a_url_may_not(tmp_path: Path) -> None:
    path = tmp_path / "a ?#%20&'\" b.db"
    with closing(open_catalog(path)) as catalog:
        catalog.commit(request())
        assert str(path) == catalog.shown_url
    assert path.read_bytes().startswith(b"SQLite format 3")


# -- SQLite files --------------------------------------------------------------------------------


def test_a_missing_file_is_created_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no catalog at .*catalog\.db"):
        open_catalog(tmp_path / "catalog.db", create=False)
    assert list(tmp_path.iterdir()) == []
    open_catalog(tmp_path / "catalog.db").close()
    open_catalog(tmp_path / "catalog.db", create=False).close()


def test_a_missing_folder_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"the folder of the catalog .* does not exist"):
        open_catalog(tmp_path / "nowhere" / "catalog.db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"a diary\n" * 200)
    with pytest.raises(FormatError, match=r"catalog\.db is not a SQLite database"):
        open_catalog(path)
    assert path.read_bytes() == b"a diary\n" * 200


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="must be a file"):
        open_catalog(tmp_path)


def test_a_damaged_file_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with closing(open_catalog(path)) as catalog:
        catalog.commit(request())
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)  # every page but the first
    path.write_bytes(content)
    with pytest.raises(FormatError, match="damaged"), closing(open_catalog(path)) as catalog:
        catalog.version("vision", "cats", 0)


def test_a_missing_table_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    open_catalog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE audit")
    with closing(open_catalog(path)) as catalog, pytest.raises(FormatError, match="no such table: audit"):
        catalog.audit()


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {tmp_path} rw shared:1 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(proc, "MOUNTS", mounts)
    with pytest.raises(InvalidInputError, match=r"would lie on nfs4 .*use a PostgreSQL catalog"):
        open_catalog(tmp_path / "catalog.db")
    assert [mounts] == list(tmp_path.iterdir())


def test_the_file_is_written_ahead_and_keys_are_enforced(sqlite_url: str) -> None:
    with closing(open_catalog(sqlite_url)) as catalog, catalog._database.engine.connect() as connection:
        pragmas = ("journal_mode", "foreign_keys")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in pragmas]
    assert values == ["wal", 1]


def test_every_write_waits_for_the_disk_but_the_one_that_need_not(catalog_url: str) -> None:
    """A connection that was hasty once is careful again."""
    on_sqlite = catalog_url.startswith("sqlite")
    query = "PRAGMA synchronous" if on_sqlite else "SHOW synchronous_commit"
    careful, hasty = (2, 1) if on_sqlite else ("local", "off")

    def how(connection: Connection) -> object:
        return connection.exec_driver_sql(query).scalar_one()

    url = make_url(catalog_url)
    if not on_sqlite:  # the test server's own setting is "off"
        url = url.update_query_dict({"options": "-c synchronous_commit=local"})
    shown = url.render_as_string(hide_password=False)
    with closing(database.connect(shown, create=True, deadline_s=10)) as opened:
        found = [opened.write(how, durable=durable) for durable in (True, False, True)]
    assert found == [careful, hasty, careful]


def test_only_the_beginning_of_a_run_does_not_wait_for_the_disk(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []
    write = Database.write

    def noted(opened: Database, work: Any, *, durable: bool = True) -> Any:
        waits.append(durable)
        return write(opened, work, durable=durable)

    with closing(open_catalog(sqlite_url)) as catalog:
        monkeypatch.setattr(Database, "write", noted)
        catalog.save_run(run_row(state="running"))
        catalog.commit(request(run_id="r1"))
        catalog.record_use("r1", key(0), NOW)
        catalog.save_run(run_row(state="finished"))
    assert waits == [False, True, True, True]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere: be nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_catalog_can_be_read_and_says_that_it_cannot_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog.db")
        with closing(open_catalog(path)) as catalog:
            catalog.commit(request())
            Path(folder).chmod(0o555)
            for file in Path(folder).iterdir():
                file.chmod(0o444)
            with unprivileged(), closing(open_catalog(path)) as reader:
                assert key(0) == reader.version("vision", "cats", "latest").key
                with pytest.raises(PermissionDeniedError, match=r"catalog\.db is read-only for this user"):
                    reader.commit(request("b"))
        Path(folder).chmod(0o755)


def test_a_file_that_may_not_be_read_is_permission_denied() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog.db")
        open_catalog(path).close()
        path.chmod(0o000)
        Path(folder).chmod(0o555)
        with unprivileged(), pytest.raises(PermissionDeniedError, match="get read and write access"):
            open_catalog(path)
        Path(folder).chmod(0o755)


# -- locks ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not proc.LOCKS.exists(), reason="only Linux tells who holds a lock")
def test_a_locked_file_ends_in_an_error_that_names_the_holder(sqlite_url: str) -> None:
    path = make_url(sqlite_url).database or ""
    with closing(open_catalog(sqlite_url, deadline_s=0.05)) as catalog:
        catalog.commit(request("a"))
        command = [sys.executable, "-m", "tests.catalog.workers", "hold_write_lock", path]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            with pytest.raises(CatalogError, match=f"is locked by process {holder.pid} ") as caught:
                catalog.commit(request("b"))
            assert caught.value.transient
            assert "wait for it or end it, then try again" in str(caught.value)
            assert key(0) == catalog.version("vision", "cats", "latest").key, "readers go on"
            holder.communicate(b"")
        assert catalog.commit(request("b")).created


def test_a_locked_row_ends_in_an_error_that_says_where_to_look(postgres_url: str) -> None:
    with closing(open_catalog(postgres_url, deadline_s=0.05)) as catalog:
        catalog.commit(request("a"))
        with psycopg.connect(postgres_url) as holder:
            holder.execute("SELECT * FROM collections FOR UPDATE")
            with pytest.raises(CatalogError, match="locked by another session: pg_stat_activity") as caught:
                catalog.commit(request("b"))
            assert caught.value.transient
            assert key(0) == catalog.version("vision", "cats", "latest").key
        assert catalog.commit(request("b")).created


def test_an_error_of_the_work_itself_is_not_tried_again(catalog: SqlCatalog) -> None:
    tries = []

    def work(_connection: Any) -> None:
        tries.append(1)
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        catalog._database.write(work)
    assert len(tries) == 1


# -- lost connections ----------------------------------------------------------------------------


def _at_commit(catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch, happens: Any, *, landed: bool) -> None:
    """Let `happens` happen at the next COMMIT: once the server has done it (`landed`), or before it is sent."""
    dialect = catalog._database.engine.dialect
    commit = dialect.do_commit

    def do_commit(connection: Any) -> None:
        monkeypatch.setattr(dialect, "do_commit", commit)
        if landed:
            commit(connection)
        happens(connection)
        connection.execute("SELECT 1")  # notices what happened
        commit(connection)

    monkeypatch.setattr(dialect, "do_commit", do_commit)


def _cut(connection: Any) -> None:
    """The server ends the session: what was sent before has happened, what follows has not."""
    with psycopg.connect(connection.driver_connection.info.dsn, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [connection.driver_connection.info.backend_pid]
        )


@pytest.mark.parametrize("landed", [False, True])
def test_a_connection_lost_at_commit_ends_with_one_version(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """Whether the first try had landed is read back: the answer is the one that it would have given."""
    with closing(open_catalog(postgres_url)) as catalog:
        _at_commit(catalog, monkeypatch, _cut, landed=landed)
        committed = catalog.commit(request(aliases=("best",), tags=("t",)))
        assert committed.created
        assert [committed.version] == catalog.versions(VersionFilter())
        assert len(catalog.audit()) == 1


@pytest.mark.parametrize("landed", [False, True])
def test_a_connection_lost_while_logging_again_still_says_that_nothing_was_created(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    with closing(open_catalog(postgres_url)) as catalog:
        catalog.commit(request())
        _at_commit(catalog, monkeypatch, _cut, landed=landed)
        assert not catalog.commit(request()).created
        assert len(catalog.audit()) == 2


@pytest.mark.parametrize("landed", [False, True])
def test_a_connection_lost_while_updating_or_deleting_is_no_failure(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, landed: bool
) -> None:
    """Run again blindly, both would find nothing left to remove."""
    with closing(open_catalog(postgres_url)) as catalog:
        catalog.commit(request(aliases=("best",)))
        _at_commit(catalog, monkeypatch, _cut, landed=landed)
        assert catalog.update(key(0), patch(remove_aliases=("best",))).aliases == ("latest",)
        _at_commit(catalog, monkeypatch, _cut, landed=landed)
        deleted = catalog.delete(key(0), delete_aliases=True, actor="ada", at=request().at)
        assert deleted.deleted_at is not None
        assert len(catalog.audit()) == 3


def test_a_server_that_stays_away_is_a_transient_error(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_catalog(postgres_url, deadline_s=0.05)) as catalog:

        def cut_for_good(connection: Any) -> None:
            _cut(connection)
            _at_commit(catalog, monkeypatch, cut_for_good, landed=False)

        _at_commit(catalog, monkeypatch, cut_for_good, landed=False)
        with pytest.raises(CatalogError, match=r"nothing is saved twice|busy or restarting") as caught:
            catalog.commit(request())
        assert caught.value.transient


def test_deadlocks_and_serialisation_failures_are_tried_again(postgres_url: str) -> None:
    states = ["40P01", "40001"]

    def work(connection: Any) -> str:
        if states:
            raising = f"RAISE EXCEPTION 'x' USING ERRCODE = '{states.pop()}'"
            connection.exec_driver_sql(f"DO $$ BEGIN {raising}; END $$")
        return "done"

    with closing(open_catalog(postgres_url)) as catalog:
        assert catalog._database.write(work) == "done"


# -- PostgreSQL refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "family", "message", "transient"),
    [
        ({"host": "127.0.0.1", "port": 1, "query": {}}, CatalogError, "cannot be reached.*refused", True),
        ({"database": "no_such_database"}, CatalogError, 'cannot be opened.*"no_such_database"', False),
        ({"username": "no_such_role"}, PermissionDeniedError, "refuses the login.*no_such_role", None),
    ],
)
def test_a_server_that_refuses_is_quoted_without_the_password(
    postgres_url: str,
    changes: dict[str, Any],
    family: type[RefartError],
    message: str,
    transient: bool | None,
) -> None:
    url = make_url(postgres_url).set(password="hunter2").set(**changes)
    with pytest.raises(family, match=message) as caught:
        open_catalog(url.render_as_string(hide_password=False))
    assert "hunter2" not in _everything(caught.value)
    assert "\n" not in str(caught.value)
    assert transient == getattr(caught.value, "transient", None)


def test_a_password_is_never_shown(postgres_url: str) -> None:
    url = make_url(postgres_url).set(password="hunter2").update_query_dict({"password": "hunter3"})
    with closing(open_catalog(url.render_as_string(hide_password=False))) as catalog:
        shown = repr(catalog) + catalog.shown_url
    assert "hunter" not in shown
    assert catalog.shown_url.startswith("postgresql://")


def test_a_role_without_rights_is_permission_denied(postgres_url: str) -> None:
    with closing(open_catalog(postgres_url)) as catalog:
        catalog.commit(request())
    role = f"reader_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
        try:
            admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            url = make_url(postgres_url).set(username=role, password="hunter2")
            with closing(open_catalog(url.render_as_string(hide_password=False))) as reader:
                assert key(0) == reader.version("vision", "cats", "latest").key
                with pytest.raises(PermissionDeniedError, match="may not be written by this user"):
                    reader.commit(request("b"))
        finally:
            admin.execute(f"DROP OWNED BY {role}")
            admin.execute(f"DROP ROLE {role}")


def test_a_database_that_is_not_utf8_is_refused(postgres_admin_url: str) -> None:
    name = f"refart_latin1_{os.getpid()}"
    with psycopg.connect(postgres_admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        try:
            url = make_url(postgres_admin_url).set(database=name).render_as_string(hide_password=False)
            with pytest.raises(CatalogError, match="encoded in LATIN1: create it with ENCODING 'UTF8'"):
                open_catalog(url)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_text_with_nul_is_refused_by_postgresql(postgres_url: str) -> None:
    """`names` refuses it for both databases, before it gets here."""
    with closing(open_catalog(postgres_url)) as catalog, pytest.raises(InvalidInputError, match="NUL"):
        catalog.commit(request(description="a\x00b"))


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(NotInstalledError, match=r"needs psycopg, .*: pip install 'refart\[postgres\]'"):
        open_catalog("postgresql://127.0.0.1:1/x")


# -- processes and reads -------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_its_own_connections(catalog_url: str) -> None:
    command = [sys.executable, "-m", "tests.catalog.workers", "commit_around_a_fork", catalog_url]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_read_sees_one_state_although_others_write(catalog: SqlCatalog) -> None:
    """The rows of versions, aliases and tags belong together, however long their queries take."""
    catalog.commit(request("a", aliases=("best",)))
    engine = catalog._database.engine
    moved: list[bool] = []

    @event.listens_for(engine, "before_cursor_execute")
    def move_before_the_aliases_are_read(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT aliases.version_id") and not moved:
            moved.append(True)
            catalog.commit(request("b", aliases=("best",)))

    (row,) = catalog.versions(VersionFilter())
    assert (key(0), ("best", "latest")) == (row.key, row.aliases)
    assert moved == [True]


def test_an_address_is_given_up_at_once_when_opening(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for the deadline is for a server that was there before."""
    monkeypatch.setattr(database.time, "sleep", lambda _seconds: pytest.fail("waited"))
    url = make_url(postgres_url).set(host="127.0.0.1", port=1, query={})
    with pytest.raises(CatalogError, match="cannot be reached"):
        open_catalog(url.render_as_string(hide_password=False))


def test_errors_do_not_quote_the_values_of_a_statement(catalog: SqlCatalog) -> None:
    """SQLAlchemy's do, unless told not to."""
    catalog.save_run(run_row())
    with pytest.raises(InvalidInputError) as caught:
        catalog.save_run(run_row(host="\ud800", name="hunter2"))
    assert "hunter2" not in _everything(caught.value)
