"""The schema of a catalog has a number; opening a catalog brings an older one up to ours.

A new catalog is made from `tables` in its present form. `UPGRADES[n]` turns a catalog of schema n - 1 into
one of schema n; a test opens a catalog of every earlier schema and finds the same tables as in a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, insert, inspect, select, text, update

from refart.catalog import tables
from refart.catalog.database import Database
from refart.errors import CatalogError, FormatError, NotFoundError

SCHEMA_VERSION: Final = 2


def _add_uri_ranges(connection: Connection) -> None:
    """Only the tables: what they hold of earlier versions is read when somebody first asks for it."""
    added = (tables.manifests, tables.shards, tables.manifest_shards, tables.uri_ranges)
    tables.metadata.create_all(connection, added, checkfirst=False)
    connection.execute(text("CREATE INDEX ix_versions_address ON versions (address)"))


UPGRADES: Final[Mapping[int, Callable[[Connection], None]]] = {2: _add_uri_ranges}

_LOCK_ID: Final = 0x7265666172740001  # "refart", 1: the advisory lock of migrations


def migrate(
    database: Database,
    *,
    create: bool,
    target: int = SCHEMA_VERSION,
    upgrades: Mapping[int, Callable[[Connection], None]] = UPGRADES,
) -> None:
    """Create the tables, or upgrade them, one transaction a step; do nothing where the schema is ours
    already.

    Processes that open one catalog at the same time take turns. `FormatError` for a schema newer than
    `target`, which is left alone; `NotFoundError` where there is no catalog and `create` is False. A step
    that fails leaves the schema before it.
    """
    found = database.read(_schema_version)  # without a lock: nearly always there is nothing to do
    while found != target:
        if found is None and not create:
            raise NotFoundError(f"there is no refart catalog in {database.shown}")
        if found is not None and found > target:
            raise FormatError(
                f"the catalog {database.shown} has schema {found}, this refart knows {target} at most:"
                " upgrade refart"
            )

        def step(connection: Connection) -> int:
            if connection.dialect.name == "postgresql":  # BEGIN IMMEDIATE is SQLite's lock
                connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": _LOCK_ID})
            now = _schema_version(connection)  # someone else may have been faster
            if now is None:
                return _create(connection, target, database.shown)
            if now >= target:
                return now
            upgrades[now + 1](connection)
            connection.execute(update(tables.schema_version).values(version=now + 1))
            return now + 1

        found = database.write(step)


def _schema_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(tables.schema_version.name):
        return None
    found = connection.execute(select(tables.schema_version.c.version)).scalars().all()
    if len(found) != 1 or not isinstance(found[0], int):
        raise FormatError(
            f"the table schema_version holds {len(found)} rows, not one number: it is not refart's"
        )
    return found[0]


def _create(connection: Connection, version: int, shown: str) -> int:
    taken = set(inspect(connection).get_table_names()) & set(tables.metadata.tables)
    if taken:
        raise FormatError(
            f"{shown} has tables of another program ({', '.join(sorted(taken))}):"
            " use an empty database for the catalog"
        )
    if connection.dialect.name == "postgresql":
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            raise CatalogError(
                f"the database of {shown} is encoded in {encoding}: create it with ENCODING 'UTF8'"
            )
    tables.metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(tables.schema_version).values(version=version))
    return version
