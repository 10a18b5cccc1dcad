"""Measures inventories: adding what an S3 Inventory lists, in each format, and logging it.

    python -m benchmarks.inventory --rows 1000000 10000000 --formats CSV ORC Parquet --records records.jsonl

The inventory lies in a folder as a copy of one (date-partitioned keys in their order, random MD5s and version ids);
writing it is not measured. Every step runs in a process of its own, so that its peak of memory is its own: `add` makes
the entries of a draft, `log` logs them as a version of a workspace as well.

Prints one record a step as JSON, and appends it to `--records`: bench (`inventory`), step, format, rows, file_mb (of
all data files), cpu_s, wall_s, rss_mb, us_a_row (CPU).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv, orc, parquet

from benchmarks.children import run_child
from refart.ops.inventory import FIELDS

RSS_BUDGET_MB: Final = 1_000
"""What any step may hold, whatever the number of rows."""

FORMATS: Final = ("CSV", "ORC", "Parquet")
STEPS: Final = ("add", "log")
FILE_ROWS: Final = 1_000_000
BATCH_ROWS: Final = 100_000
ROWS_A_DAY: Final = 5_000


def _batch(start: int, end: int) -> pa.RecordBatch:
    """Rows of an inventory of all versions: the same every time."""
    noise, count = random.Random(start), end - start
    md5s, versions = noise.randbytes(16 * count).hex(), noise.randbytes(16 * count).hex()
    keys = [
        f"date={20_000_000 + row // ROWS_A_DAY}/part {row % ROWS_A_DAY:05d}.bin" for row in range(start, end)
    ]
    columns = {
        "bucket": ["lake"] * count,
        "key": keys,
        "version_id": [versions[at : at + 32] for at in range(0, 32 * count, 32)],
        "is_latest": [True] * count,
        "is_delete_marker": [False] * count,
        "size": [noise.getrandbits(20) for _ in range(count)],
        "e_tag": [md5s[at : at + 32] for at in range(0, 32 * count, 32)],
        "encryption_status": ["SSE-S3"] * count,
    }
    arrays = [pa.array(values, FIELDS[name][1]) for name, values in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _batches(start: int, end: int) -> Iterator[pa.RecordBatch]:
    for at in range(start, end, BATCH_ROWS):
        yield _batch(at, min(at + BATCH_ROWS, end))


def _write_file(path: Path, file_format: str, start: int, end: int) -> None:
    schema = _batch(0, 1).schema
    if file_format == "Parquet":
        with parquet.ParquetWriter(path, schema, compression="snappy") as writer:
            for batch in _batches(start, end):
                writer.write_batch(batch)
    elif file_format == "ORC":
        with orc.ORCWriter(path, compression="zlib") as writer:
            for batch in _batches(start, end):
                writer.write(pa.Table.from_batches([batch]))
    else:
        with gzip.open(path, "wb", compresslevel=1) as sink:
            for batch in _batches(start, end):
                keys = pa.array(
                    [key.replace("=", "%3D").replace(" ", "+") for key in batch["key"].to_pylist()]
                )
                encoded = batch.set_column(1, "key", keys)
                csv.write_csv(
                    encoded, sink, csv.WriteOptions(include_header=False, quoting_style="all_valid")
                )


def write(folder: Path, file_format: str, rows: int) -> Path:
    """Write an inventory of so many rows; the path of its manifest."""
    made_at, data = folder / "lake/daily/2026-01-01T00-00Z", folder / "lake/daily/data"
    made_at.mkdir(parents=True)
    data.mkdir()
    files = []
    for start in range(0, rows, FILE_ROWS):
        path = data / f"{start:09d}.{file_format.lower()}"
        _write_file(path, file_format, start, min(start + FILE_ROWS, rows))
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        files.append({"key": f"lake/daily/data/{path.name}", "size": path.stat().st_size, "MD5checksum": md5})
    document = {
        "sourceBucket": "lake",
        "destinationBucket": "arn:aws:s3:::inventories",
        "version": "2016-11-30",
        "creationTimestamp": "1767225600000",
        "fileFormat": file_format,
        "fileSchema": ", ".join(named for named, _ in FIELDS.values()),
        "files": files,
    }
    manifest = made_at / "manifest.json"
    manifest.write_text(json.dumps(document))
    return manifest


def add(manifest: str) -> int:
    """The entries of a draft."""
    from refart import Artifact

    artifact = Artifact("lake", "dataset")
    artifact.add_inventory(manifest)
    return len(artifact._editable())


def log(manifest: str) -> int:
    """And a version of a workspace."""
    import refart

    with refart.init() as run:
        artifact = refart.Artifact("lake", "dataset")
        artifact.add_inventory(manifest)
        return run.log_artifact(artifact).file_count


def run(
    rows: int, formats: tuple[str, ...] = FORMATS, steps: tuple[str, ...] = STEPS
) -> Iterator[dict[str, Any]]:
    """A record of each step in each format."""
    for file_format in formats:
        with tempfile.TemporaryDirectory(prefix="refart-inventory-") as folder:
            manifest = write(Path(folder), file_format, rows)
            file_bytes = sum(path.stat().st_size for path in Path(folder).glob("lake/daily/data/*"))
            for step in steps:
                environment = {
                    **os.environ,
                    "REFART_CONFIG": os.devnull,
                    "REFART_URL": f"{folder}/workspace",
                    "REFART_CACHE": f"{folder}/cache",
                }
                child = run_child(
                    [sys.executable, "-m", "benchmarks.inventory", "--step", step, str(manifest)], environment
                )
                assert int(child.pop("output")) == rows
                yield {
                    "bench": "inventory",
                    "step": step,
                    "format": file_format,
                    "rows": rows,
                    "file_mb": round(file_bytes / 1e6),
                    **child,
                    "us_a_row": round(1e6 * child["cpu_s"] / rows, 2),
                }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--records", type=Path)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, manifest = options.step
        print({"add": add, "log": log}[step](manifest))
        return
    for rows in options.rows:
        for record in run(rows, tuple(options.formats), tuple(options.steps)):
            print(json.dumps(record), flush=True)
            if options.records:
                with options.records.open("a") as file:
                    file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
