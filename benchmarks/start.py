"""Measures what it costs to start: Python alone, `import refart`, short commands, and a first reference to S3.

    python -m benchmarks.start --repetitions 15

Every step is a process from its start to its end, in a home of its own; one before the measured ones compiles what
they import. Prints one JSON record a step: the least seconds of CPU and of wall of all repetitions, and the peak of
memory. `size` counts the artifacts of the workspace, or the objects of the bucket.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.children import run_child
from benchmarks.simulated_s3 import ROOT, simulated_s3
from refart.workspace import Workspace

ARTIFACTS: Final = 20
REFART: Final = ("-m", "refart")

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "python": ("-c", "pass"),
    "import": ("-c", "import refart"),
    "version": (*REFART, "--version"),
    "help": (*REFART, "--help"),
    "ls": (*REFART, "ls"),
    "ls_versions": (*REFART, "ls", "artifact-0"),
    "ls_entries": (*REFART, "ls", "artifact-0:latest"),
}
"""Arguments of Python."""


def run(objects: int, latency_ms: float, repetitions: int) -> Iterator[dict[str, Any]]:
    """The record of each step, and of `put_s3`: a prefix of `objects`, referenced by a version in a new workspace."""
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(folder)
        fill(Path(environment["REFART_URL"]))
        for step, arguments in STEPS.items():
            taken = [_run(arguments, environment, folder) for _ in range(1 + repetitions)]
            yield {"bench": "start", "step": step, "size": ARTIFACTS} | least(taken[1:])
        with simulated_s3(objects=objects, versions="on", latency_ms=latency_ms) as ready:
            environment["AWS_ENDPOINT_URL"] = ready["endpoint"]
            put = (*REFART, "put", f"s3://{ready['bucket']}/{ready['prefix']}", "--name", "data", "--json")
            taken = []
            for number in range(1 + repetitions):
                environment["REFART_URL"] = f"{folder}/new-{number}"
                taken.append(_run(put, environment, folder))
            found = json.loads(taken[-1]["output"])["entries"]
            case = {"bench": "start", "step": "put_s3", "size": found, "latency_ms": latency_ms}
            yield case | least(taken[1:])


def fill(workspace: Path) -> None:
    """Log some artifacts of one small file each."""
    with Workspace.open(workspace) as opened, opened.init() as run:
        for number in range(ARTIFACTS):
            artifact = opened.draft(f"artifact-{number}")
            with artifact.new_file("number") as file:
                file.write(str(number))
            run.log_artifact(artifact)


def least(taken: list[dict[str, Any]]) -> dict[str, Any]:
    """The least of each measure."""
    return {name: min(record[name] for record in taken) for name in ("cpu_s", "wall_s", "rss_mb")}


def _run(arguments: tuple[str, ...], environment: dict[str, str], folder: str) -> dict[str, Any]:
    return run_child([sys.executable, *arguments], environment, cwd=folder)


def _environment(folder: str) -> dict[str, str]:
    """A home, a cache and a workspace of its own; nothing else that changes what Python or a driver loads."""
    hidden = ("AWS_", "FSSPEC_", "PYTHON", "REFART_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        "PYTHONPATH": str(ROOT),
        "HOME": folder,
        "REFART_CONFIG": os.devnull,
        "REFART_CACHE": f"{folder}/cache",
        "REFART_URL": f"{folder}/workspace",
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        "AWS_REGION": "us-east-1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of each request to S3")
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()
    for record in run(options.objects, options.latency_ms, options.repetitions):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
