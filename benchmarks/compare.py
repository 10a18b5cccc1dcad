"""Compares refart with other tools: listings, downloads and folders, on one simulated S3, in one run.

    python -m benchmarks.compare --records records.jsonl

Makes a venv for each tool (`requirements-peers.txt`) where there is none yet, calls each tool in a process of its own,
and appends one line of JSON a measurement, so that a run that was stopped goes on where it was. `benchmarks.report`
makes pages of the records. Nothing but 127.0.0.1 and the package index is spoken to. On shared cores trust CPU seconds
and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from benchmarks.children import run_child
from benchmarks.simulated_s3 import ROOT, simulated_s3, stats
from benchmarks.venvs import default_folder, python_of

KIB: Final = 1 << 10
MIB: Final = 1 << 20
LIMIT_S: Final = 130
"""A call that would take longer, going by the next smaller size, is left out."""
SHORT_S: Final = 3
SHORT_REPEATS: Final = 3
"""Calls that take less than `SHORT_S` are made so many times; the one with the least CPU counts."""
TIMEOUT_FACTOR: Final = 3
OURS: Final = ("floor", "refart")
"""What runs in this Python; all others have a venv."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One benchmark at one size."""

    bench: str
    objects: int
    size_bytes: int | None = None
    versions: str = "on"
    latency_ms: int = 0
    ways: tuple[str, ...] = ()
    """`tool way`, in the order of the report."""

    @property
    def key(self) -> dict[str, Any]:
        known = asdict(self)
        del known["ways"]
        return known


LISTING: Final = (
    "floor list_versions",
    "refart add_reference",
    "obstore list_arrow",
    "obstore list_dicts",
    "rclone lsf",
    "s5cmd ls",
    "boto3 list_objects",
    "boto3 list_versions",
    "s3fs find",
    "datachain read_storage",
    "quilt3 set_dir",
    "dvc import_url",
    "dvc import_url_versions",
    "wandb add_reference",
)
LISTING_FAST: Final = (
    "floor list_versions",
    "refart add_reference",
    "obstore list_arrow",
    "rclone lsf",
    "s5cmd ls",
)
LISTING_UNVERSIONED: Final = ("floor list_objects", "refart add_reference")
DOWNLOAD: Final = (
    "floor download",
    "refart download",
    "obstore get_async",
    "s5cmd cp",
    "rclone copy",
    "s3fs get",
    "datachain to_storage",
    "quilt3 fetch",
    "boto3 download_file",
    "dvc pull",
    "wandb download",
)
FOLDER: Final = (
    "floor sha256",
    "refart add_reference_folder",
    "refart add_dir",
    "quilt3 build",
    "wandb add_dir_xxh128",
    "wandb add_dir_immutable",
    "wandb add_dir",
    "dvc add",
)


def plan(*, quick: bool) -> list[Case]:
    """What is measured; the quick one takes a few minutes, and shows no more than that everything works."""
    sizes = (1_000, 10_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    listing = [Case("listing", size, ways=LISTING) for size in sizes]
    unversioned = [Case("listing", size, versions="off", ways=LISTING_UNVERSIONED) for size in sizes]
    slow = [Case("listing", sizes[0], latency_ms=50, ways=LISTING)]
    slow.append(Case("listing", sizes[-1], latency_ms=50, ways=LISTING_FAST))
    files = ((200, 64 * KIB), (2, 8 * MIB)) if quick else ((2_000, 64 * KIB), (8, 64 * MIB))
    downloads = [Case("download", number, size, ways=DOWNLOAD) for number, size in files]
    files = ((1_000, 16 * KIB), (4, 16 * MIB)) if quick else ((20_000, 16 * KIB), (4, 1_024 * MIB))
    folders = [Case("folder", number, size, ways=FOLDER) for number, size in files]
    return [*listing, *unversioned, *slow, *downloads, *folders]


def machine() -> Record:
    """What figures depend on; nothing that names the machine."""
    cpu, memory_kib = platform.processor() or platform.machine(), 0
    if sys.platform == "linux":
        told = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        cpu = next((value.strip() for name, _, value in told if name.strip() == "model name"), cpu)
        memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "date": date.today().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "cpu": cpu,
            "memory_gib": round(memory_kib / MIB),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "python": platform.python_version(),
        },
    }


class Tools:
    """How the tools are called, and what each tells about itself."""

    def __init__(self, python_of: Callable[[str], Path]) -> None:
        self._python_of = python_of
        self._told: dict[str, Record] = {}

    def command(self, tool: str, way: str, *options: str) -> list[str]:
        return [str(self._python_of(tool)), "-m", "benchmarks.peers", tool, way, *options]

    def describe(self, tool: str) -> Record:
        """Version and ways; it also compiles what later calls import."""
        if tool not in self._told:
            with tempfile.TemporaryDirectory() as folder:
                told = run_child(self.command(tool, "describe"), environment(Path(folder)), cwd=folder)
            self._told[tool] = last_json(told["output"])
        return self._told[tool]


def environment(folder: Path, endpoint: str = "") -> dict[str, str]:
    """All that a tool finds in its environment: a home of its own, an S3, and no leave to phone home."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    known = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "DATACHAIN_NO_ANALYTICS": "true",
        "DVC_NO_ANALYTICS": "true",
        "QUILT_DISABLE_USAGE_METRICS": "true",
        "RCLONE_CONFIG": os.devnull,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    if endpoint:
        known |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_S3_ENDPOINT_URL": endpoint,
        }  # wandb knows the second only
    return known


def last_json(output: str) -> Record:
    result: Record = json.loads(output.rstrip().rpartition("\n")[2])
    return result


def measure(tools: Tools, case: Case, tool: str, way: str, place: Record, limit_s: float) -> Record:
    """What one call costs. Raises `RuntimeError` where it fails, or did not deal with all objects."""
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder), place.get("endpoint", ""))
        options = [
            f"--{name}={place[name]}" for name in ("endpoint", "bucket", "prefix", "source") if name in place
        ]
        work = Path(folder, "work")
        work.mkdir()
        if f"prepare_{way}" in tools.describe(tool)["ways"]:
            run_child(tools.command(tool, f"prepare_{way}", *options), env, cwd=work)
        before = stats(place["endpoint"]) if "endpoint" in place else {}
        timeout_s = limit_s * TIMEOUT_FACTOR
        cost = run_child(tools.command(tool, way, *options), env, cwd=work, timeout_s=timeout_s)
        if before:
            after = stats(place["endpoint"])
            cost["requests"] = sum(after["requests"].values()) - sum(before["requests"].values())
            cost["server_cpu_s"] = round(after["cpu_s"] - before["cpu_s"], 3)
    called = last_json(cost.pop("output"))
    if called["rows"] != case.objects:
        raise RuntimeError(f"{tool} {way} dealt with {called['rows']:,} of {case.objects:,} objects")
    return {**cost, **called}


@contextmanager
def place_of(case: Case) -> Iterator[Record]:
    """What the tools deal with: a server, or a folder."""
    if case.bench == "folder":
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder, "source"), case.objects, case.size_bytes or 0)
            yield {"source": f"{folder}/source"}
    else:
        sizes = {} if case.size_bytes is None else {"size_bytes": case.size_bytes}
        options = {"objects": case.objects, "versions": case.versions, **sizes}
        with simulated_s3(latency_ms=case.latency_ms, **options) as server:
            yield server


def write_files(folder: Path, files: int, size_bytes: int, *, files_a_folder: int = 1_000) -> None:
    """Files of noise in folders, no two the same."""
    block = random.Random(files).randbytes(min(size_bytes, MIB))
    for number in range(files):
        path = folder / f"{number // files_a_folder:03d}" / f"part-{number:06d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(number.to_bytes(8, "big") + block[8:])
            for _ in range(1, size_bytes // len(block)):
                file.write(block)


class Records:
    """Measurements, one line of JSON each, in a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.all: list[Record] = []
        if path.exists():
            self.all = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, record: Record) -> None:
        self.all.append(record)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def has(self, case: Case, tool: str, way: str) -> bool:
        wanted = {**case.key, "tool": tool, "way": way}
        return any(wanted.items() <= record.items() for record in self.all)

    def expected_s(self, case: Case, tool: str, way: str) -> float:
        """How long a listing should take, going by the largest one so far; 0 where nothing is known."""
        wanted = {"bench": "listing", "versions": case.versions, "tool": tool, "way": way}
        known = [
            record
            for record in self.all
            if wanted.items() <= record.items()
            and "wall_s" in record
            and record["objects"] <= case.objects
            and record["latency_ms"] <= case.latency_ms
        ]
        if case.bench != "listing" or not known:
            return 0
        nearest = max(known, key=lambda record: (record["objects"], record["latency_ms"]))
        waited_s, waits_s = (
            nearest["requests"] * ms / 1_000 for ms in (nearest["latency_ms"], case.latency_ms)
        )
        working_s = min(
            nearest["wall_s"] - waited_s, nearest["cpu_s"]
        )  # wall time is longer on a busy machine
        return float((max(working_s, 0) + waits_s) * case.objects / nearest["objects"])


def run(
    cases: Iterable[Case],
    tools: Tools,
    records: Records,
    *,
    limit_s: float = LIMIT_S,
    repeats: int = SHORT_REPEATS,
) -> list[str]:
    """Measure whatever has no record yet. Returns what failed; it has no record then, and stops nothing else."""
    failures = []
    for case in cases:
        missing = [way.split() for way in case.ways if not records.has(case, *way.split())]
        if not missing:
            continue
        with place_of(case) as place:
            for tool, way in missing:
                told = tools.describe(tool)
                about = {"tool": tool, "way": way, "version": told["version"], "how": told["ways"][way]}
                expected_s = records.expected_s(case, tool, way)
                try:
                    if expected_s > limit_s:
                        costs: Record = {"left_out_s": round(expected_s)}
                    else:
                        costs = least(tools, case, tool, way, place, limit_s, repeats)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failures.append(f"{tool} {way}: {error}")
                    print(failures[-1], file=sys.stderr, flush=True)
                else:
                    records.add({**case.key, **about, **costs, **machine()})
                    print(line_of(records.all[-1]), file=sys.stderr, flush=True)
    return failures


def least(
    tools: Tools, case: Case, tool: str, way: str, place: Record, limit_s: float, repeats: int
) -> Record:
    """One measurement; of a short call several, of which the one with the least CPU counts."""
    found = [measure(tools, case, tool, way, place, limit_s)]
    while found[0]["wall_s"] < SHORT_S and len(found) < repeats:
        found.append(measure(tools, case, tool, way, place, limit_s))
    return min(found, key=lambda record: float(record["cpu_s"]))


def line_of(record: Record) -> str:
    what = f"{record['bench']} {record['objects']:>9,} {record['latency_ms']:>3} ms"
    tool = f"{record['tool']} {record['way']}"
    if "left_out_s" in record:
        return f"{what}  {tool:32} left out: would take {record['left_out_s']} s"
    cost = f"{record['cpu_s']:>9.2f} s CPU {record['wall_s']:>9.2f} s {record['rss_mb']:>6} MB"
    return f"{what}  {tool:32}{cost} {record.get('requests', 0):>8,} requests"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What there is to choose of a comparison."""
    parser.add_argument("--quick", action="store_true", help="small sizes: a few minutes")
    parser.add_argument("--bench", choices=("listing", "download", "folder"), help="only this one")
    parser.add_argument("--tool", action="append", metavar="TOOL", help="only this one (repeatable)")
    parser.add_argument("--venvs", type=Path, default=default_folder(), help="where the tools are installed")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="leave out what would take longer")


def compare(options: argparse.Namespace, records: Records) -> list[str]:
    """Measure what the options ask for. Returns what failed."""

    def python(tool: str) -> Path:
        return Path(sys.executable) if tool in OURS else python_of(tool, options.venvs)

    tools = Tools(python)
    chosen = [
        replace(
            case, ways=tuple(way for way in case.ways if not options.tool or way.split()[0] in options.tool)
        )
        for case in plan(quick=options.quick)
        if options.bench in (None, case.bench)
    ]
    for tool in sorted({way.split()[0] for case in chosen for way in case.ways}):
        tools.describe(tool)  # installs all before anything is measured
    return run(chosen, tools, records, limit_s=options.limit_s)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--records", type=Path, required=True, help="where measurements are kept and looked for"
    )
    add_options(parser)
    options = parser.parse_args()
    sys.exit("\n".join(compare(options, Records(options.records))) or None)


if __name__ == "__main__":
    main()
