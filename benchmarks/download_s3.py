"""Measures downloads from a simulated S3 against the floor of `benchmarks.download_floor`, in one run.

    python -m benchmarks.download_s3 --files 2000 --size-bytes 65536 --latency-ms 0 50 --obstore

Every latency is measured on a simulated S3 of its own, every tool in a process of its own, into a folder of its own:

- `floor`: raw sockets, files, and the hashes by which refart verifies (`benchmarks.download_floor`);
- `refart`: `Artifact.download` of a version that was logged before, verified, without the local cache;
- `refart cached`: the same, and all of it is kept in the cache;
- `refart botocore`: as `refart`, but without the extra `fast`, by which small objects are read (only with `--obstore`);
- `obstore`: 32 tasks, verified by nothing (`benchmarks.peers.obstore`; only with `--obstore`, which makes a venv).

`--records FILE` appends one line of JSON a tool: bench (`download_s3`), tool, files, size_bytes, versions (`off`,
`on`), latency_ms; cpu_s, wall_s and rss_mb of the whole process; call_cpu_s and call_s of the download alone, when
everything is imported and opened (for refart: when one object has been downloaded already); requests (as the server
counted them), server_cpu_s. Of `--repeats` the one with the least CPU counts: on shared cores trust CPU seconds and
ratios. The server stands on the same cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final, cast

from benchmarks.children import run_child
from benchmarks.compare import environment, last_json
from benchmarks.simulated_s3 import simulated_s3, stats
from benchmarks.venvs import default_folder, python_of

TOOLS: Final = ("floor", "refart", "refart cached")
OBSTORE: Final = "obstore"
WITHOUT_FAST: Final = "refart botocore"


def _command(tool: str, where: list[str], *, is_slow: bool) -> list[str]:
    if tool == "floor":
        connections = ["--connections=32"] if is_slow else []
        return [sys.executable, "-m", "benchmarks.download_floor", *where, *connections]
    if tool == OBSTORE:
        python = str(python_of(OBSTORE, default_folder()))
        return [python, "-m", "benchmarks.peers", OBSTORE, "get_async", *where]
    return [sys.executable, "-m", "benchmarks.download_s3", "--step", tool]


def download(tool: str) -> dict[str, Any]:
    """The step of refart, in this process."""
    if tool == WITHOUT_FAST:
        sys.modules[OBSTORE] = cast(Any, None)  # as if it were not installed
    import refart

    with refart.init() as run:
        artifact = run.use_artifact("data:latest")
        artifact.download("first", include=[next(artifact.entries()).path])
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        artifact.download("out")
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return {"rows": artifact.file_count, "call_s": round(wall_s, 3), "call_cpu_s": round(cpu_s, 3)}


def measure(tool: str, ready: dict[str, Any], *, is_slow: bool = False) -> dict[str, Any]:
    """Run one tool in a child process, and check how much it did."""
    where = [f"--{name}={ready[name]}" for name in ("endpoint", "bucket", "prefix")]
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder), ready["endpoint"])
        if tool in ("refart", WITHOUT_FAST):
            env["REFART_CACHE_BYTES"] = "0"
        work = Path(folder, "work")
        work.mkdir()
        if tool.startswith("refart"):
            prepare = [sys.executable, "-m", "benchmarks.peers", "refart", "prepare_download"]
            run_child([*prepare, *where], env, cwd=work)
        before = stats(ready["endpoint"])
        cost = run_child(_command(tool, where, is_slow=is_slow), env, cwd=work)
        after = stats(ready["endpoint"])
        found_bytes = sum(path.stat().st_size for path in work.joinpath("out").rglob("*") if path.is_file())
    called = last_json(cost.pop("output"))
    if (called.pop("rows"), found_bytes) != (ready["objects"], ready["bytes"]):
        raise RuntimeError(f"{tool} left {found_bytes:,} bytes of {ready['bytes']:,} below its folder")
    return {
        **cost,
        **called,
        "requests": sum(after["requests"].values()) - sum(before["requests"].values()),
        "server_cpu_s": round(after["cpu_s"] - before["cpu_s"], 3),
    }


def run(
    files: int,
    size_bytes: int,
    latency_ms: float = 0,
    *,
    versions: str = "off",
    tools: Sequence[str] = TOOLS,
    repeats: int = 1,
) -> list[dict[str, Any]]:
    """The records of the tools on one simulated S3."""
    case = {"files": files, "size_bytes": size_bytes, "versions": versions, "latency_ms": latency_ms}
    with simulated_s3(
        objects=files, size_bytes=size_bytes, versions=versions, latency_ms=latency_ms
    ) as ready:
        taken: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        for _, tool in product(range(repeats), tools):
            taken[tool].append(measure(tool, ready, is_slow=latency_ms > 0))
    return [
        {"bench": "download_s3", "tool": tool, **case, **min(each, key=lambda record: float(record["cpu_s"]))}
        for tool, each in taken.items()
    ]


def table(records: list[dict[str, Any]]) -> str:
    """The records of one case for people; ratios are those of the calls to the first one's."""
    case, first = records[0], records[0]
    lines = [
        f"{case['files']:,} objects of {case['size_bytes']:,} bytes, {case['latency_ms']:g} ms a request",
        f"{'tool':16}{'cpu s':>9}{'wall s':>9}{'call cpu':>9}{'call s':>9}{'ratios':>12}{'RSS MB':>8}{'requests':>10}",
    ]
    for record in records:
        ratios = [f"{record[name] / first[name]:.2f}" for name in ("call_cpu_s", "call_s")]
        lines.append(
            f"{record['tool']:16}{record['cpu_s']:9.3f}{record['wall_s']:9.3f}{record['call_cpu_s']:9.3f}"
            f"{record['call_s']:9.3f}{' '.join(ratios):>12}{record['rss_mb']:8}{record['requests']:10,}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.download_s3", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--size-bytes", type=int, default=1 << 16)
    parser.add_argument("--versions", choices=("off", "on"), default="off")
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[0])
    parser.add_argument("--obstore", action="store_true", help="measure obstore too, and refart without it")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--records", type=Path, help="append the records to this file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(download(options.step)))
        return
    tools = (OBSTORE, *TOOLS, WITHOUT_FAST) if options.obstore else TOOLS
    if options.obstore:
        python_of(OBSTORE, default_folder())  # installs it before anything is measured
    for latency_ms in options.latency_ms:
        records = run(
            options.files,
            options.size_bytes,
            latency_ms,
            versions=options.versions,
            tools=tools,
            repeats=options.repeats,
        )
        print(table(records), flush=True)
        if options.records:
            with options.records.open("a") as file:
                file.writelines(f"{json.dumps(record)}\n" for record in records)


if __name__ == "__main__":
    main()
