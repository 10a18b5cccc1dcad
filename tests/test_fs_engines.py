"""What people read tables with reads the logged bytes of a lake that was overwritten since, and only what it needs."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import refart
from refart import Workspace
from refart.fs import RefartFileSystem
from refart.s3server import S3Requests
from refart.sources.s3 import reading as s3_reading
from refart.testing import Lake

ROWS = 20_000
FIRST = "refart://trips:v0/year=2025/1.parquet"


def trips(month: int) -> pa.Table:
    """A narrow column of numbers beside a wide one, which is nine tenths of the bytes."""
    numbers = range(month * ROWS, (month + 1) * ROWS)
    return pa.table({"fare": [n % 97 for n in numbers], "note": [f"{n * 7919 % 10**9:040}" for n in numbers]})


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="none", use_dictionary=False, row_group_size=ROWS // 4)
    return file.getvalue()


@dataclass
class Trips:
    """`trips:v0` in a bucket of which every object was overwritten."""

    fares: dict[int, int]
    """The sum of each year."""
    size_bytes: int
    """Of one file."""
    read_bytes: int = 0
    """That came from the bucket."""

    @property
    def sum(self) -> int:
        return sum(self.fares.values())


@pytest.fixture
def logged(
    versioned_lake: Lake,
    refart_workspace: Workspace,
    s3_requests: S3Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Trips]:
    months = {2025: (1, 2), 2026: (3, 4)}
    for year, numbers in months.items():
        for number in numbers:
            versioned_lake.put(f"trips/year={year}/{number}.parquet", parquet(trips(number)))
    with refart_workspace.init() as run:
        draft = refart.Artifact("trips", "dataset")
        draft.add_reference(f"{versioned_lake.uri}/trips")
        run.log_artifact(draft)
    for year, numbers in months.items():
        for number in numbers:
            versioned_lake.put(f"trips/year={year}/{number}.parquet", parquet(trips(0).slice(0, 10)))
    fares = {year: sum(pc.sum(trips(n)["fare"]).as_py() for n in numbers) for year, numbers in months.items()}
    found = Trips(fares, len(parquet(trips(1))))
    original = s3_reading._chunks

    def counted(*args: Any) -> Generator[bytes]:
        for chunk in original(*args):
            found.read_bytes += len(chunk)
            yield chunk

    monkeypatch.setattr(s3_reading, "_chunks", counted)
    RefartFileSystem.clear_instance_cache()
    s3_requests.clear()
    yield found
    RefartFileSystem.clear_instance_cache()


def test_pandas(logged: Trips) -> None:
    import pandas

    assert pandas.read_parquet("refart://trips:v0")["fare"].sum() == logged.sum
    assert len(pandas.read_parquet(FIRST, columns=["note"])) == ROWS
    assert sorted(pandas.read_parquet("refart://trips")["year"].unique()) == [2025, 2026]


def test_pyarrow_dataset(logged: Trips) -> None:
    dataset = ds.dataset("trips:v0", filesystem=refart.filesystem(), partitioning="hive")
    assert dataset.count_rows() == 4 * ROWS
    part = dataset.to_table(columns=["fare"], filter=ds.field("year") == 2026)
    assert pc.sum(part["fare"]).as_py() == logged.fares[2026]


def test_polars(logged: Trips) -> None:
    import polars

    fs = refart.filesystem()
    dataset = ds.dataset("trips:v0", filesystem=fs, partitioning="hive")
    lazy = polars.scan_pyarrow_dataset(dataset).filter(polars.col("year") == 2025).select("fare")
    assert lazy.collect()["fare"].sum() == logged.fares[2025]
    with fs.open(FIRST) as file:
        assert polars.read_parquet(file, columns=["fare"]).height == ROWS


def test_duckdb(logged: Trips) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register_filesystem(refart.filesystem())
        ask = "select sum(fare) from read_parquet('refart://trips:v0/{}', hive_partitioning = true) where year < {}"
        assert connection.sql(ask.format("*/*.parquet", 2026)).fetchall() == [(logged.fares[2025],)]
        assert connection.sql(ask.format("**/*.parquet", 2027)).fetchall() == [(logged.sum,)]
        assert connection.sql(f"select count(*) from '{FIRST}'").fetchall() == [(ROWS,)]


@pytest.mark.filterwarnings(
    "ignore:The inplace keyword:DeprecationWarning"
)  # Dask, of what pandas 3.1 deprecates
def test_dask(logged: Trips) -> None:
    import dask.dataframe

    frame = dask.dataframe.read_parquet("refart://trips:v0", columns=["fare"])
    assert frame["fare"].sum().compute(scheduler="threads") == logged.sum


def test_a_column_is_read_by_ranges(logged: Trips, s3_requests: S3Requests) -> None:
    """The first range that finds the object, the end of the file, and one range for each of four row groups."""
    fs = refart.filesystem()
    table = pq.read_table("trips:v0/year=2025/1.parquet", columns=["fare"], filesystem=fs, partitioning=None)
    assert table.num_rows == ROWS
    assert logged.read_bytes < logged.size_bytes / 2
    assert set(s3_requests.operations) == {"GetObject"}
    assert len(s3_requests.operations) <= 6
    logged.read_bytes = 0
    assert len(fs.cat_file("trips:v0/year=2025/1.parquet")) == logged.read_bytes == logged.size_bytes
