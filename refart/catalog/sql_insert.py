"""INSERT … ON CONFLICT, which both databases have and SQLAlchemy's common INSERT has not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Table


def insert_of(dialect: str, table: Table) -> Any:
    """The INSERT of a dialect."""
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


@cache
def _insert_if_missing(dialect: str, table: Table) -> Any:
    return insert_of(dialect, table).on_conflict_do_nothing()


def insert_missing(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert the rows that are not there, by any of the table's keys."""
    if rows:
        connection.execute(_insert_if_missing(connection.dialect.name, table), rows)
