"""Measures manifests: writing, digests, opening, lookup, a prefix, a diff; seconds, memory, bytes an entry.

    python -m benchmarks.manifest --rows 1000000

Every step runs in a process of its own, so that its peak of memory is its own. The rows are realistic
references (date-partitioned paths, random MD5s and version ids) that arrive sorted: sorting is not measured
here. To compare two commits, run it on both; on shared cores trust CPU seconds and ratios.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from refart.entries import PAGE_ROWS, SCHEMA, Page
from refart.manifest.compare import diff
from refart.manifest.reader import Manifest
from refart.manifest.shards import ShardTally
from refart.manifest.writer import write_manifest

RSS_BUDGET_MB: Final = 400
"""What any step may hold, whatever the number of entries."""

ROWS_A_DAY: Final = 5_000


class Folder:
    """The least store that a manifest can be written to and read from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for kind in ("shards", "manifests", "staging"):
            (root / kind).mkdir(exist_ok=True)

    def local_path(self, kind: str, key: str) -> str:
        return str(self.root / kind / key)

    def read(self, kind: str, key: str) -> bytes:
        return (self.root / kind / key).read_bytes()

    def write(self, pages: Iterator[Page]) -> dict[str, Any]:
        """Store a manifest; tells what it measures, and how much of it was new."""
        built = write_manifest(pages, self.root / "staging")
        stored = 0
        for shard, path in built.new_shards:
            target = self.root / "shards" / shard.key
            stored += not target.exists()
            path.replace(target)
        index = built.index.to_json()
        (self.root / "manifests" / built.index.address).write_bytes(index)
        total_bytes = sum(shard.file_bytes for shard in built.index.shards) + len(index)
        return {
            "address": built.index.address,
            "shards": len(built.index.shards),
            "shards_stored": stored,
            "bytes_an_entry": round(total_bytes / built.index.entry_count, 2),
        }


def path_of(row: int) -> str:
    return f"date={20_000_000 + row // ROWS_A_DAY}/part-{row % ROWS_A_DAY:05d}.parquet"


def pages(rows: int, *, pins: bool = True, changed_row: int | None = None) -> Iterator[Page]:
    """Sorted references: the same every time, but for the content of `changed_row`."""
    for start in range(0, rows, PAGE_ROWS):
        numbers = range(start, min(start + PAGE_ROWS, rows))
        noise = random.Random(start)
        md5s = noise.randbytes(16 * len(numbers)).hex()
        versions = base64.b64encode(noise.randbytes(24 * len(numbers)), b"._").decode()
        content_ids = [f"md5:{md5s[at : at + 32]}" for at in range(0, len(md5s), 32)]
        if changed_row in numbers:
            content_ids[changed_row - start] = "md5:" + "0" * 32
        paths = [path_of(row) for row in numbers]
        columns = [
            paths,
            [noise.getrandbits(20) for _ in numbers],
            content_ids,
            [f"s3://lake/warehouse/events/{path}" for path in paths],
            [f"version:{versions[at : at + 32]}" if pins else None for at in range(0, len(versions), 32)],
        ]
        yield pa.RecordBatch.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )


def generate(store: Folder, rows: int) -> dict[str, Any]:
    """Makes the rows and drops them: what of the times below is the benchmark's own."""
    return {"rows": sum(page.num_rows for page in pages(rows))}


def digest(store: Folder, rows: int) -> dict[str, Any]:
    tally = ShardTally()
    for page in pages(rows):
        tally.update(page)
    return {"content_digest": tally.info(0).content_digest}


def write(store: Folder, rows: int) -> dict[str, Any]:
    return store.write(pages(rows))


def write_without_pins(store: Folder, rows: int) -> dict[str, Any]:
    return store.write(pages(rows, pins=False))


def overwrite_one(store: Folder, rows: int) -> dict[str, Any]:
    return store.write(pages(rows, changed_row=rows // 2))


def read(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """Every page, each shard checked against its digests."""
    return {"rows": sum(page.num_rows for page in Manifest.open(store, address).pages())}


def look_up(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """The first lookup of a process: opens the manifest and reads one row group."""
    entry = Manifest.open(store, address).get(path_of(rows // 3))
    return {"found": entry is not None}


def prefix(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """One day of entries."""
    day = path_of(rows // 3).split("/")[0]
    return {"rows": sum(page.num_rows for page in Manifest.open(store, address).pages(day))}


def diff_one(store: Folder, rows: int, address: str, other: str) -> dict[str, Any]:
    """Two versions that differ in one entry."""
    return _changes(Manifest.open(store, address), Manifest.open(store, other))


def diff_all(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """A version against nothing: every shard is read, every entry is a change."""
    return _changes(None, Manifest.open(store, address))


def _changes(old: Manifest | None, new: Manifest) -> dict[str, Any]:
    changes = diff(old, new)
    return {"changes": sum(page.num_rows for page in changes), "shards_read": changes.summary.shards_read}


STEPS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    step.__name__: step
    for step in (
        generate, digest, write, write_without_pins, overwrite_one, read, look_up, prefix, diff_one, diff_all
    )
}  # fmt: skip


def measure(step: str, folder: Path, rows: int, addresses: list[str]) -> dict[str, Any]:
    """Run one step in this process."""
    store = Folder(folder)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = STEPS[step](store, rows, *addresses)
    result["seconds"] = round(time.perf_counter() - wall_s, 3)
    result["cpu_s"] = round(time.process_time() - cpu_s, 3)
    result["rss_mb"] = peak_rss_mb()
    return result


def peak_rss_mb() -> int:
    """The largest resident memory of this process.

    `ru_maxrss` alone would do elsewhere; on Linux it starts with the peak of the process that started this
    one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) // 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def run(rows: int) -> dict[str, dict[str, Any]]:
    """All steps, each in a child process, over one temporary store."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in STEPS:
            addresses = []
            if step in ("read", "look_up", "prefix", "diff_one", "diff_all"):
                addresses.append(results["write"]["address"])
            if step == "diff_one":
                addresses.append(results["overwrite_one"]["address"])
            command = [sys.executable, "-m", "benchmarks.manifest", "--rows", str(rows), "--step", step]
            child = subprocess.run(
                [*command, "--folder", folder, *addresses],
                cwd=Path(__file__).parents[1],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            results[step] = json.loads(child.stdout)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manifest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("addresses", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.rows, options.addresses)))
        return
    results = run(options.rows)
    print(f"{options.rows:,} entries\n{'step':20}{'seconds':>9}{'cpu s':>9}{'RSS MB':>8}")
    for step, result in results.items():
        rest = {k: v for k, v in result.items() if k not in ("seconds", "cpu_s", "rss_mb", "address")}
        told = ", ".join(f"{key} {value}" for key, value in rest.items())
        print(f"{step:20}{result['seconds']:9.3f}{result['cpu_s']:9.3f}{result['rss_mb']:8}  {told}")
    highest = max(result["rss_mb"] for result in results.values())
    if highest >= RSS_BUDGET_MB:
        sys.exit(f"peak RSS {highest} MB is over the budget of {RSS_BUDGET_MB} MB")
    if results["overwrite_one"]["shards_stored"] != 1:
        sys.exit("overwriting one entry stored more than one shard")


if __name__ == "__main__":
    main()
