"""Measures the listing of one prefix, to a finished manifest, against the floor of `benchmarks.floor`, in one run.

    python -m benchmarks.listing --objects 1000000 --versions on --latency-ms 0 50 --layout flat hot dates

Every combination of what is given is measured on a simulated S3 of its own, every tool in a process of its own:

- `floor`: raw sockets and one regular expression a page, nothing kept (`benchmarks.floor`);
- `refart manifest`: `add_reference`, and the manifest of the draft built in a temporary folder;
- `refart manifest, N processes` (`--processes N …`): the same, listed by N processes (`executor=`);
- `refart log`: `add_reference` and `log_artifact` into a new folder workspace, catalog and store included.

Each must find every object and the right sum of sizes. `--records FILE` appends one line of JSON a tool: bench
(`listing`), tool, version, objects, layout, versions (`off`, `on`), noncurrent, latency_ms; cpu_s (user and system,
from the start of the process), wall_s, rss_mb; requests (by operation, as the server counted them), server_cpu_s;
rows; add_cpu_s (of refart: until `add_reference` returned). Of `--repeats` the one with the least CPU counts: on
shared cores trust CPU seconds and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from benchmarks.children import run_child
from benchmarks.lake import LAYOUTS
from benchmarks.simulated_s3 import ROOT, simulated_s3, stats

FLOORS: Final = 2.5
MANIFEST_S_A_ROW: Final = 4e-6
"""A finished manifest may cost `FLOORS` times the floor, and this much a row."""

TOOLS: Final = ("floor", "refart manifest", "refart log")


def _command(tool: str, ready: dict[str, Any], versions: str, folder: str) -> list[str]:
    if tool == "floor":
        where = [f"--{name}={ready[name]}" for name in ("endpoint", "bucket", "prefix")]
        return [sys.executable, "-m", "benchmarks.floor", *where, "--versions", versions]
    uri, how = f"s3://{ready['bucket']}/{ready['prefix']}", ["--log"] if tool == "refart log" else []
    if match := re.search("([0-9]+) processes", tool):
        how = ["--processes", match[1]]
    return [sys.executable, "-m", "benchmarks.reference", uri, "--folder", folder, *how]


def measure(tool: str, ready: dict[str, Any], versions: str) -> dict[str, Any]:
    """Run one tool in a child process, and check what it found."""
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "endpoint_url": ready["endpoint"],
            "key": "simulated",
            "secret": "simulated",
            "client_kwargs": {"region_name": "us-east-1"},
        }
        hidden = ("REFART_", "AWS_")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            "REFART_CONFIG": os.devnull,
            "REFART_CACHE": f"{folder}/cache",
            "REFART_STORAGE_OPTIONS": json.dumps({f"s3://{ready['bucket']}": options}),
            "TMPDIR": folder,
        }
        before = stats(ready["endpoint"])
        child = run_child(_command(tool, ready, versions, folder), environment, cwd=ROOT)
        after = stats(ready["endpoint"])
    found = json.loads(child.pop("output"))
    if (found["rows"], found.pop("bytes")) != (ready["objects"], ready["bytes"]):
        raise RuntimeError(f"{tool} found {found['rows']:,} of {ready['objects']:,} objects, or other sizes")
    requests = {name: count - before["requests"].get(name, 0) for name, count in after["requests"].items()}
    return {
        "version": f"Python {platform.python_version()}",
        **found,
        **child,
        "requests": {name: count for name, count in requests.items() if count},
        "server_cpu_s": round(after["cpu_s"] - before["cpu_s"], 3),
    }


def run(
    objects: int,
    layout: str,
    versions: str,
    latency_ms: float,
    *,
    noncurrent: int = 0,
    repeats: int = 1,
    processes: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """The records of all tools on one simulated S3."""
    case = {
        "objects": objects,
        "layout": layout,
        "versions": versions,
        "noncurrent": noncurrent if versions == "on" else 0,
        "latency_ms": latency_ms,
    }
    with simulated_s3(**case) as ready:
        records = []
        for tool in [*TOOLS, *(f"refart manifest, {count} processes" for count in processes)]:
            taken = [measure(tool, ready, versions) for _ in range(repeats)]
            best = min(taken, key=lambda record: record["cpu_s"])
            records.append({"bench": "listing", "tool": tool, **case, **best})
        return records


def table(records: list[dict[str, Any]]) -> str:
    """The records of one case for people, and how near to its budget the manifest came."""
    case = records[0]
    lines = [
        f"{case['objects']:,} objects, layout {case['layout']}, versions {case['versions']}"
        f" ({case['noncurrent']} noncurrent), {case['latency_ms']:g} ms a request",
        f"{'tool':18}{'cpu s':>9}{'wall s':>9}{'RSS MB':>8}{'requests':>10}{'us a row':>10}",
    ]
    for record in records:
        lines.append(
            f"{record['tool']:18}{record['cpu_s']:9.3f}{record['wall_s']:9.3f}{record['rss_mb']:8}"
            f"{sum(record['requests'].values()):10,}{record['cpu_s'] / record['rows'] * 1e6:10.2f}"
        )
    lowest, built = (next(r for r in records if r["tool"] == tool) for tool in ("floor", "refart manifest"))
    budget_s = FLOORS * lowest["cpu_s"] + MANIFEST_S_A_ROW * built["rows"]
    lines.append(f"manifest: {built['cpu_s'] / budget_s:.2f} of the budget of {budget_s:.3f} s of CPU")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listing", description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--layout", choices=LAYOUTS, nargs="+", default=["flat"])
    parser.add_argument("--versions", choices=("off", "on"), nargs="+", default=["off", "on"])
    parser.add_argument("--noncurrent", type=int, default=0, help="old versions behind each object")
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0.0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[])
    parser.add_argument("--records", type=Path, help="a file to append to")
    options = parser.parse_args()
    for case in product(options.objects, options.layout, options.versions, options.latency_ms):
        records = run(
            *case, noncurrent=options.noncurrent, repeats=options.repeats, processes=options.processes
        )
        print(table(records), flush=True)
        if options.records:
            with options.records.open("a") as file:
                file.writelines(f"{json.dumps(record)}\n" for record in records)


if __name__ == "__main__":
    main()
