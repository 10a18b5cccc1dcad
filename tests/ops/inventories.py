"""S3 Inventories, written as Amazon S3 writes them: a manifest and data files of one format."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote_plus

import pyarrow as pa
from pyarrow import orc, parquet

from refart.ops.inventory import FIELDS

Format = Literal["CSV", "ORC", "Parquet"]
FORMATS: Final[tuple[Format, ...]] = ("CSV", "ORC", "Parquet")
Row = Mapping[str, Any]
"""Values by the columns of `FIELDS`."""

MADE_AT: Final = "inventories/lake/daily/2026-01-01T00-00Z"
MANIFEST: Final = f"{MADE_AT}/manifest.json"
DATA: Final = "inventories/lake/daily/data"


def write(
    put: Callable[[str, bytes], object],
    files: Iterable[Iterable[Row]],
    file_format: Format = "CSV",
    /,
    *,
    columns: Iterable[str] = FIELDS,
    source: str = "lake",
    destination: str = "inventories",
    **manifest: Any,
) -> None:
    """Put the data files, of the given rows, and the manifest; `manifest` replaces fields of it."""
    columns = list(columns)
    told = []
    for number, rows in enumerate(files):
        data = _WRITERS[file_format]([{"bucket": source, **row} for row in rows], columns)
        key = f"{DATA}/{number}.{file_format.lower()}"
        put(key, data)
        told.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()})
    document = {
        "sourceBucket": source,
        "destinationBucket": f"arn:aws:s3:::{destination}",
        "version": "2016-11-30",
        "creationTimestamp": "1767225600000",
        "fileFormat": file_format,
        "fileSchema": ", ".join(FIELDS[column][0] for column in columns) if file_format == "CSV" else "…",
        "files": told,
        **manifest,
    }
    put(MANIFEST, json.dumps(document).encode())


def _csv(rows: list[Row], columns: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        writer.writerow([_csv_value(column, row.get(column)) for column in columns])
    return gzip.compress(text.getvalue().encode())


def _csv_value(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column == "key":
        return quote_plus(value, safe="/*-._")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[Row], columns: list[str]) -> pa.Table:
    return pa.table({c: pa.array([row.get(c) for row in rows], FIELDS[c][1]) for c in columns})


def _orc(rows: list[Row], columns: list[str]) -> bytes:
    sink = io.BytesIO()
    orc.write_table(_table(rows, columns), sink, compression="zlib")
    return sink.getvalue()


def _parquet(rows: list[Row], columns: list[str]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(_table(rows, columns), sink, compression="snappy", row_group_size=2)
    return sink.getvalue()


_WRITERS: Final[dict[str, Callable[[list[Row], list[str]], bytes]]] = {
    "CSV": _csv,
    "ORC": _orc,
    "Parquet": _parquet,
}
