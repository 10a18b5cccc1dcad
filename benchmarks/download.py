"""Measures a download: many small files, logged by reference, downloaded twice and verified; seconds, CPU, memory.

    python -m benchmarks.download --files 100000 --size-bytes 100

Every step runs in a process of its own, so that its peak of memory is its own. The files lie in one temporary folder
(TMPDIR), as does what is downloaded: each file costs some six inodes. On shared cores trust CPU seconds and ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any, Final

from benchmarks.manifest import RSS_BUDGET_MB, peak_rss_mb
from refart.workspace import Workspace

FILES_A_FOLDER: Final = 1_000
NUMBER_BYTES: Final = 12
"""What a file begins with, and at least holds, so that no two are the same."""


def generate(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """Write the files, each with other bytes."""
    for number in range(files):
        parent = folder / "lake" / f"{number // FILES_A_FOLDER:06d}"
        if number % FILES_A_FOLDER == 0:
            parent.mkdir(parents=True)
        data = f"{number:0{NUMBER_BYTES}d}".encode().ljust(size_bytes, b".")
        (parent / f"part-{number % FILES_A_FOLDER:04d}.bin").write_bytes(data)
    return {"files": files}


def log(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """List, hash and log the files as references."""
    with Workspace.open(folder / "workspace") as workspace, workspace.init() as run:
        artifact = workspace.draft("data")
        artifact.add_reference(folder / "lake")
        return {"files": run.log_artifact(artifact).file_count}


def download(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """The first download: every file is read, hashed, written, and kept in the cache."""
    with Workspace.open(folder / "workspace") as workspace:
        report = workspace.artifact("data").download_report(folder / "root")
    return {"files": report.files, "moved_bytes": report.moved_bytes}


def download_again(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """The second download: only receipts are looked at."""
    with Workspace.open(folder / "workspace") as workspace:
        report = workspace.artifact("data").download_report(folder / "root")
    return {"kept_files": report.kept_files, "moved_bytes": report.moved_bytes}


def download_elsewhere(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """To another root: every file comes from the cache."""
    with Workspace.open(folder / "workspace") as workspace:
        report = workspace.artifact("data").download_report(folder / "elsewhere")
    return {"cached_files": report.cached_files, "moved_bytes": report.moved_bytes}


def verify(folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """Every file of the first root is read and hashed."""
    with Workspace.open(folder / "workspace") as workspace:
        report = workspace.artifact("data").verify(folder / "root")
    return {"ok_files": report.ok_files, "read_bytes": report.read_bytes}


STEPS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    step.__name__: step for step in (generate, log, download, download_again, download_elsewhere, verify)
}


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, where it is installed, with the first array: 50 MB that are not refart's."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(f"no {fullname} here", name=fullname)


def measure(step: str, folder: Path, files: int, size_bytes: int) -> dict[str, Any]:
    """Run one step in this process."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = STEPS[step](folder, files, size_bytes)
    result["seconds"] = round(time.perf_counter() - wall_s, 3)
    result["cpu_s"] = round(time.process_time() - cpu_s, 3)
    result["rss_mb"] = peak_rss_mb()
    return result


def run(files: int, size_bytes: int) -> dict[str, dict[str, Any]]:
    """All steps, each in a child process, over one temporary folder."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REFART_")},
            "REFART_CONFIG": os.devnull,
            "REFART_CACHE": f"{folder}/cache",
        }
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.download", "--step", step, "--folder", folder]
            child = subprocess.run(
                [*command, "--files", str(files), "--size-bytes", str(size_bytes)],
                cwd=Path(__file__).parents[1],
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            results[step] = json.loads(child.stdout)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.download", description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--size-bytes", type=int, default=100)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.size_bytes < NUMBER_BYTES:
        parser.error(f"--size-bytes must be at least {NUMBER_BYTES}")
    if options.step:
        sys.meta_path.insert(0, _WithoutPandas())
        print(json.dumps(measure(options.step, options.folder, options.files, options.size_bytes)))
        return
    results = run(options.files, options.size_bytes)
    print(f"{options.files:,} files of {options.size_bytes:,} bytes")
    print(f"{'step':20}{'seconds':>9}{'cpu s':>9}{'RSS MB':>8}")
    for step, result in results.items():
        told = ", ".join(
            f"{key} {value:,}" for key, value in result.items() if key not in ("seconds", "cpu_s", "rss_mb")
        )
        print(f"{step:20}{result['seconds']:9.3f}{result['cpu_s']:9.3f}{result['rss_mb']:8}  {told}")
    highest = max(result["rss_mb"] for result in results.values())
    if highest >= RSS_BUDGET_MB:
        sys.exit(f"peak RSS {highest} MB is over the budget of {RSS_BUDGET_MB} MB")


if __name__ == "__main__":
    main()
