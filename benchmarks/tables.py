"""Measures versions as folders and tables: how much of a manifest is read to list a folder, and to answer SQL.

    python -m benchmarks.tables --rows 1000000

Every step runs in a process of its own, over versions of four layouts: ten folders, a thousand, a hundred with many
small ones inside (`deep`), none (`flat`). On shared cores trust CPU seconds and counts.

Prints one record a step as JSON: bench (`tables`), step, rows, shards, opened (shards that were opened), found (what
was listed, or rows of the answer), cpu_s, rss_mb.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from benchmarks.children import run_child
from benchmarks.manifest import Folder
from refart.entries import PAGE_ROWS, SCHEMA, Page, prefixed
from refart.manifest.folders import levels
from refart.manifest.reader import Manifest
from refart.ops.tables import reader, sql

LAYOUTS: Final[dict[str, Callable[[int, int], str]]] = {
    "ten": lambda row, rows: f"part-{row * 10 // rows}/{row // 1000:06}/{row:09}.jpg",
    "thousand": lambda row, rows: f"{row * 1000 // rows:04}/{row:09}.jpg",
    "deep": lambda row, rows: f"{row * 100 // rows:03}/{row // 10:08}/{row:09}.jpg",
    "flat": lambda row, rows: f"{row:09}.jpg",
}
"""Layout → the path of a row."""

INSIDE: Final = {"ten": "part-3", "thousand": "0500", "deep": "050"}

QUERIES: Final = {
    "totals": "select count(*), sum(size) from entries",
    "path": "select size, uri from entries where path = 'part-3/{:06}/{:09}.jpg'",
    "folder": "select count(*) from entries where path like 'part-3/%'",
    "groups": "select split_part(path, '/', 1) as folder, count(*), sum(size) from entries group by folder",
    "uris": "select count(distinct uri) from entries",
}
"""Over the layout `ten`."""

STEPS: Final = (
    *(f"ls_{layout}" for layout in LAYOUTS),
    *(f"ls_in_{layout}" for layout in INSIDE),
    *(f"sql_{name}" for name in QUERIES),
    "batches",
)


class Counted(Folder):
    """Counts the shards that are opened for listing; SQL opens them by itself."""

    opened = 0

    def local_path(self, kind: str, key: str) -> str:
        self.opened += 1
        return super().local_path(kind, key)

    def for_arrow(self, kind: str, keys: Iterable[str]) -> tuple[list[str], Any]:
        return [super(Counted, self).local_path(kind, key) for key in keys], LocalFileSystem()


def pages(layout: str, rows: int) -> Iterator[Page]:
    """References with version ids, by path."""
    path_of = LAYOUTS[layout]
    for start in range(0, rows, PAGE_ROWS):
        numbers = range(start, min(start + PAGE_ROWS, rows))
        paths = pa.array([path_of(row, rows) for row in numbers])
        columns = [
            paths,
            pa.array([row % 4096 for row in numbers], pa.int64()),
            pa.array([f"md5:{row * 0x9E3779B97F4A7C15 % 2**128:032x}" for row in numbers]),
            prefixed("s3://lake/data/", paths),
            pa.array([f"version:{row:032x}" for row in numbers]),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def measure(step: str, folder: Path, rows: int, address: str) -> dict[str, Any]:
    """Do one step."""
    kind, _, name = step.partition("_")
    store = Counted(folder)
    manifest = Manifest.open(store, address)
    if kind == "sql":
        sql(store, manifest.index, "x", "select 1").read_all()  # type: ignore[arg-type]  # what starts DuckDB
    begin_s = time.process_time()
    if kind == "ls":
        layout = name.removeprefix("in_")
        scan = levels(manifest, INSIDE[layout] if name != layout else None)
        found = sum(level.entries.num_rows + len(level.folders) for level in scan)
    elif kind == "sql":
        row = rows * 3 // 10 + 1
        query = QUERIES[name].format(row // 1000, row)
        found = sql(store, manifest.index, "x", query).read_all().num_rows  # type: ignore[arg-type]
    else:
        found = sum(batch.num_rows for batch in reader(manifest.pages()))
    record = {
        "bench": "tables",
        "step": step,
        "rows": rows,
        "shards": len(manifest.index.shards),
        "found": found,
    }
    opened = {} if kind == "sql" else {"opened": store.opened}
    return {**record, **opened, "cpu_s": round(time.process_time() - begin_s, 3)}


def run(rows: int, steps: Iterable[str] = STEPS) -> Iterator[dict[str, Any]]:
    """The record of each step, each from a child process."""
    addresses: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            layout = step.rpartition("_")[2] if step.startswith("ls_") else "ten"
            if layout not in addresses:
                addresses[layout] = Folder(Path(folder)).write(pages(layout, rows))["address"]
            command = [sys.executable, "-m", "benchmarks.tables", "--rows", str(rows), "--step", step]
            child = run_child(
                [*command, "--folder", folder, addresses[layout]], cwd=Path(__file__).parents[1]
            )
            yield {**json.loads(child["output"]), "rss_mb": child["rss_mb"]}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("address", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.rows, options.address)))
        return
    for record in run(options.rows):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
