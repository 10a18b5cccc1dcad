"""`refart sql`: questions about the entries of a version."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from refart.cli.common import Command, Settings, given
from refart.cli.output import Column, Record
from refart.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.argument("query", metavar="QUERY", type=given)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.pass_obj
def sql(settings: Settings, name: str, query: str, as_csv: bool) -> None:
    """Ask about the entries of a version, in SQL.

    QUERY is one SELECT of DuckDB's over the table `entries` (path, size, content_id, uri, pin). It reads the shards of
    the manifest where they lie, and of them what it needs; it can reach no other file. With --json, one document a row.
    Needs `pip install 'refart[sql]'`.

    \b
    Examples:
      refart sql images:v3 "select count(*), sum(size) from entries"
      refart sql images "select path, size from entries order by size desc limit 10"
      refart sql images:v3 "select uri from entries where path like 'train/%'" --csv
    """
    if as_csv and settings.json:
        raise click.UsageError("--csv and --json exclude each other")
    with settings.open() as workspace:
        result = settings.version(workspace, name).sql_batches(query)
        columns = result.schema.names
        if len(set(columns)) < len(columns):
            raise InvalidInputError(
                f"two columns of the result have one name, among {', '.join(columns)}: rename them with `as`"
            )
        if as_csv:
            settings.output.raw(_csv(result, columns))
        else:
            settings.output.rows(_rows(result), [_column(key) for key in columns])


def _column(key: str) -> Column:
    """A column that shows values as they are: the names are the user's, and say nothing of units."""

    def text(row: Record) -> str:
        return "-" if row[key] is None else str(row[key])

    return Column(key, key, text=text)


def _rows(result: pyarrow.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in result:
        for row in batch.to_pylist():
            yield {key: _plain(value) for key, value in row.items()}


def _csv(result: pyarrow.RecordBatchReader, columns: list[str]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    rows: Iterable[Any] = (list(row.values()) for row in _rows(result))
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        if text.tell() >= 1 << 16:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _plain(value: Any) -> Any:
    """A value of DuckDB's as JSON and CSV can carry it."""
    match value:
        case None | bool() | int() | str() | datetime():
            return value
        case float():
            return value if value - value == 0 else None  # JSON has no infinity, and no number that is none
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.hex()
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
