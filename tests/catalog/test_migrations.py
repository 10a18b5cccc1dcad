"""The schema: created once, upgraded step by step, never touched when it is newer than ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from refart.catalog import database, migrations, tables
from refart.catalog.base import VersionFilter
from refart.catalog.database import Database
from refart.catalog.sql import open_catalog
from refart.errors import FormatError, NotFoundError
from tests.catalog.suite import key, request

HERE = Path(__file__).parent
OURS = migrations.SCHEMA_VERSION


@pytest.fixture
def opened(catalog_url: str) -> Iterator[Database]:
    """A database without tables."""
    with closing(database.connect(catalog_url, create=True, deadline_s=10)) as opened:
        yield opened


def schema(connection: Connection) -> dict[str, Any]:
    """All tables, columns, keys and indexes, in the words of the database."""
    found = inspect(connection)
    described = {}
    for table in found.get_table_names():
        columns = [
            (column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)
        ]
        foreign = [(k["constrained_columns"], k["referred_table"]) for k in found.get_foreign_keys(table)]
        unique = [k["column_names"] for k in found.get_unique_constraints(table)]
        indexes = [
            (k["name"], k["column_names"], bool(k["unique"]), _where(k)) for k in found.get_indexes(table)
        ]
        primary = found.get_pk_constraint(table)["constrained_columns"]
        described[table] = (columns, primary, sorted(foreign), sorted(unique), sorted(indexes))
    return described


def _where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("sqlite_where", options.get("postgresql_where", ""))).strip("()")


def test_a_new_catalog_has_all_tables_and_our_number(opened: Database) -> None:
    migrations.migrate(opened, create=True)
    assert set(tables.metadata.tables) == set(opened.read(schema))
    number = opened.read(lambda connection: connection.scalar(text("SELECT version FROM schema_version")))
    assert number == OURS


def test_without_create_an_empty_database_stays_empty(opened: Database) -> None:
    with pytest.raises(NotFoundError, match="there is no refart catalog in"):
        migrations.migrate(opened, create=False)
    assert opened.read(schema) == {}


@pytest.mark.parametrize("version", range(1, OURS + 1))
def test_a_catalog_of_every_earlier_schema_becomes_like_a_new_one(
    opened: Database, catalog_url: str, tmp_path: Path, version: int
) -> None:
    """The files are dumps of catalogs as that version made them, and never change: for a new schema, add two."""
    kind = "sqlite" if opened.sqlite_path else "postgresql"
    statements = (HERE / f"schema_v{version}.{kind}.sql").read_text().split(";\n")
    opened.write(lambda connection: [connection.exec_driver_sql(each) for each in statements if each.strip()])
    with closing(open_catalog(catalog_url)) as catalog:
        assert catalog.commit(request()).created
        assert catalog.without_uris() == [request().manifest.address]
    upgraded = opened.read(schema)

    opened.write(tables.metadata.drop_all)
    migrations.migrate(opened, create=True)
    assert opened.read(schema) == upgraded


def test_a_newer_schema_is_refused_and_left_alone(opened: Database, catalog_url: str) -> None:
    with closing(open_catalog(catalog_url)) as catalog:
        catalog.commit(request())
    opened.write(lambda connection: connection.execute(text("UPDATE schema_version SET version = 99")))
    before = opened.read(schema)
    with pytest.raises(FormatError, match=f"has schema 99, this refart knows {OURS} at most: upgrade refart"):
        open_catalog(catalog_url)
    assert before == opened.read(schema)


def _add_column(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE projects ADD COLUMN note TEXT"))


def _add_table_and_fail(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE half_done (id INTEGER)"))
    raise RuntimeError("power cut")


def test_upgrades_run_in_order_up_to_ours(opened: Database) -> None:
    migrations.migrate(opened, create=True)
    upgrades = {OURS + 2: lambda c: c.execute(text("UPDATE projects SET note = 'x'")), OURS + 1: _add_column}
    migrations.migrate(opened, create=False, target=OURS + 2, upgrades=upgrades)
    assert "note" in [column[0] for column in opened.read(schema)["projects"][0]]
    with pytest.raises(FormatError, match=f"has schema {OURS + 2}"):
        migrations.migrate(opened, create=False, target=OURS + 1)


def test_an_interrupted_upgrade_leaves_the_schema_before_it(opened: Database, catalog_url: str) -> None:
    """The steps before it stay; the next opening goes on from there."""
    migrations.migrate(opened, create=True)
    upgrades = {OURS + 1: _add_column, OURS + 2: _add_table_and_fail}
    with pytest.raises(RuntimeError, match="power cut"):
        migrations.migrate(opened, create=False, target=OURS + 2, upgrades=upgrades)
    assert "half_done" not in opened.read(schema)
    migrations.migrate(opened, create=False, target=OURS + 1)  # nothing to do: that step is done


def test_an_interrupted_creation_leaves_nothing(opened: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    create_all = tables.metadata.create_all

    def fail_late(*arguments: Any, **options: Any) -> None:
        create_all(*arguments, **options)
        raise RuntimeError("power cut")

    monkeypatch.setattr(tables.metadata, "create_all", fail_late)
    with pytest.raises(RuntimeError, match="power cut"):
        migrations.migrate(opened, create=True)
    assert opened.read(schema) == {}
    monkeypatch.undo()
    migrations.migrate(opened, create=True)


def test_tables_of_another_program_are_left_alone(opened: Database) -> None:
    opened.write(lambda connection: connection.execute(text("CREATE TABLE runs (id INTEGER)")))
    with pytest.raises(FormatError, match=r"tables of another program \(runs\): use an empty database"):
        migrations.migrate(opened, create=True)
    assert list(opened.read(schema)) == ["runs"]


def test_another_program_may_call_its_table_schema_version(opened: Database) -> None:
    opened.write(lambda connection: connection.execute(text("CREATE TABLE schema_version (version TEXT)")))
    opened.write(lambda connection: connection.execute(text("INSERT INTO schema_version VALUES ('1.2')")))
    with pytest.raises(FormatError, match="it is not refart's"):
        migrations.migrate(opened, create=True)


def test_a_current_catalog_is_opened_without_a_write(sqlite_url: str, tmp_path: Path) -> None:
    """So that one on a read-only medium, or one that someone is writing to, opens at once."""
    with closing(open_catalog(sqlite_url)) as catalog:
        catalog.commit(request())
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with closing(open_catalog(sqlite_url, deadline_s=0)) as catalog:
            assert [key(0)] == [row.key for row in catalog.versions(VersionFilter())]
