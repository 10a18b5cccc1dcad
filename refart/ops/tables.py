"""A version as a table: batches of its entries for every library that reads Arrow, and SQL over its shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from refart.entries import SCHEMA, Page
from refart.errors import FormatError, InvalidInputError, NotInstalledError
from refart.manifest.index import ManifestIndex
from refart.manifest.shards import FILE_SCHEMA
from refart.store import Store

BATCH_ROWS: Final = 10_000
"""Rows of a batch of a result."""

_ENTRIES: Final = """
create view entries as
select path, size, content_id,
       case when uri_base is null then uri
            -- `uri_skip` counts bytes, and `substr` characters: two hexadecimal digits are a byte.
            else uri_base || decode(unhex(substr(hex(encode(path)), 2 * uri_skip + 1))) end as uri,
       pin
from _shards
"""
"""The columns of a page from those of a shard file (see `manifest.shards`)."""

_READING: Final = re.compile("stream registered as|arrow_scan", re.IGNORECASE)
"""What DuckDB says where it is the shards that cannot be read, and not the query that is wrong."""


def reader(pages: Iterable[Page], columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
    """Pages as a stream of these columns, in this order (default: all)."""
    chosen = SCHEMA.names if columns is None else columns
    if isinstance(chosen, str) or not chosen or not set(chosen) <= set(SCHEMA.names):
        raise InvalidInputError(f"columns must be some of {', '.join(SCHEMA.names)}, not {columns!r}")
    schema = pa.schema([SCHEMA.field(name) for name in chosen])
    return pa.RecordBatchReader.from_batches(schema, (page.select(list(chosen)) for page in pages))


def uris(pages: Iterable[Page]) -> Iterator[str]:
    """The URIs of references, in the order of their paths."""
    for page in pages:
        yield from page["uri"].drop_null().to_pylist()


def sql(store: Store, index: ManifestIndex, label: str, query: str) -> pa.RecordBatchReader:
    """The result of one SELECT over the table `entries`; see `Artifact.sql`. It is computed as it is read."""
    duckdb = _duckdb()
    connection = duckdb.connect(
        ":memory:",
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )
    try:
        connection.register("_shards", _dataset(store, index))
        connection.execute(_ENTRIES)
        # What was registered stays readable; whatever a query names from here on does not.
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        statements = connection.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise InvalidInputError(f"a query is one SELECT over the table 'entries', not {query[:200]!r}")
        result = connection.sql(query).to_arrow_reader(BATCH_ROWS)
    except duckdb.Error as error:
        connection.close()
        raise _translated(error, label) from None
    except BaseException:
        connection.close()
        raise

    def batches() -> Iterator[pa.RecordBatch]:
        with connection:
            try:
                yield from result
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise _translated(error, label) from None

    return pa.RecordBatchReader.from_batches(result.schema, batches())


def _dataset(store: Store, index: ManifestIndex) -> ds.FileSystemDataset:
    """The shards where they lie. Each is only opened where a query can want a path between its first and last."""
    paths, filesystem = store.for_arrow("shards", [shard.key for shard in index.shards])
    how = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    parquet = ds.ParquetFileFormat(default_fragment_scan_options=how)
    path = pc.field("path")
    fragments = [
        parquet.make_fragment(
            place, filesystem, partition_expression=(path >= shard.first_path) & (path <= shard.last_path)
        )
        for place, shard in zip(paths, index.shards, strict=True)
    ]
    return ds.FileSystemDataset(fragments, FILE_SCHEMA, parquet, filesystem)


def _translated(error: Exception, label: str) -> FormatError | InvalidInputError:
    said = " ".join(str(error).split())
    if _READING.search(said) or isinstance(error, (pa.ArrowInvalid, OSError)):
        return FormatError(f"the shards of {label} cannot be read, they are damaged or missing: {said}")
    return InvalidInputError(f"the query cannot be answered: {said}")


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise NotInstalledError.of("SQL", error, extra="sql") from error
    return duckdb
