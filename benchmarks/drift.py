"""Measures what it costs to ask whether a version still is what its source holds: status, verify, restore.

    python -m benchmarks.drift --objects 100000 1000000

On a simulated versioned S3, each step in a process of its own, the start of Python included:

- `add_reference`: the prefix listed and sorted, for comparison; nothing is logged
- `log`: the version that is asked about
- `status`: nothing changed
- `verify --remote --sample`: `--sample` entries by chance
- `status, all changed`: of a version of the old versions of all objects (`as_of`), in a bucket of its own
- `restore plan`: of both versions, nothing being executed
- `materialize`: with `--size-bytes`, the bytes of all objects come into the store
- `verify --bytes`, the same `--since` (all noted), and `--sample`: with `--size-bytes`, the size of every object

`--records FILE` appends one line of JSON a step: bench (`drift`), step, objects, size_bytes; cpu_s, wall_s, rss_mb;
requests by operation, as the server counted them; told (what the step said).
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
from benchmarks.simulated_s3 import ROOT, simulated_s3, stats

OLD: Final = "2026-06-30T00:00:00Z"
"""Before the current versions of a simulated bucket, and after the old ones."""

STEPS: Final = {
    "add_reference": "workspace.draft('data').add_reference(uri)",
    "log": "log(uri)",
    "status": "artifact().status().read()",
    "verify --remote --sample": "artifact().verify_remote(sample=sample)",
    "restore plan": "artifact().restore_plan()",
    "materialize": "artifact().new_draft().materialize()",
    "log, old versions": f"log(uri, as_of='{OLD}')",
    "status, all changed": "artifact().status().read()",
    "restore plan, all changed": "artifact().restore_plan()",
    "verify --bytes": "artifact().verify_bytes()",
    "verify --bytes --since": "artifact().verify_bytes(since='2026-01-01T00:00:00Z')",
    "verify --bytes --sample": "artifact().verify_bytes(sample=sample)",
}
_CHILD: Final = """
import json, sys
from dataclasses import asdict, is_dataclass
from refart import Workspace

step, uri, folder, sample = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
with Workspace.open(folder) as workspace:
    def artifact():
        return workspace.artifact("data")

    def log(uri, **options):
        with workspace.init() as run:
            draft = workspace.draft("data")
            draft.add_reference(uri, **options)
            run.log_artifact(draft)

    told = eval(step)
    print(json.dumps(asdict(told) if is_dataclass(told) else {}))
"""


def measure(step: str, ready: dict[str, Any], folder: str, sample: int) -> dict[str, Any]:
    """One step in a child process."""
    options = {"endpoint_url": ready["endpoint"], "key": "simulated", "secret": "simulated"}
    options |= {"client_kwargs": {"region_name": "us-east-1"}}
    hidden = ("REFART_", "AWS_")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(hidden)},
        "REFART_CONFIG": os.devnull,
        "REFART_CACHE": f"{folder}/cache",
        "REFART_STORAGE_OPTIONS": json.dumps({f"s3://{ready['bucket']}": options}),
        "TMPDIR": folder,
    }
    uri = f"s3://{ready['bucket']}/{ready['prefix']}"
    before = stats(ready["endpoint"])["requests"]
    command = [sys.executable, "-c", _CHILD, STEPS[step], uri, f"{folder}/workspace", str(sample)]
    child = run_child(command, environment, cwd=ROOT)
    after = stats(ready["endpoint"])["requests"]
    requests = {name: count - before.get(name, 0) for name, count in after.items()}
    told = json.loads(child.pop("output"))
    return {**child, "requests": {name: count for name, count in requests.items() if count}, "told": told}


def run(objects: int, *, size_bytes: int | None = None, sample: int = 1000) -> Iterator[dict[str, Any]]:
    """The records of all steps."""
    sized = {} if size_bytes is None else {"size_bytes": size_bytes}
    today = ["add_reference", "log", "status", "verify --remote --sample", "restore plan"]
    reading = (
        ["materialize", *(step for step in STEPS if "--bytes" in step)] if size_bytes is not None else []
    )
    past = ["log, old versions", "status, all changed", "restore plan, all changed"]
    for noncurrent, steps in ((0, [*today, *reading]), (1, past)):
        with (
            simulated_s3(objects=objects, versions="on", noncurrent=noncurrent, **sized) as ready,
            tempfile.TemporaryDirectory() as folder,
        ):
            for step in steps:
                record = measure(step, ready, folder, sample)
                yield {
                    "bench": "drift",
                    "step": step,
                    "objects": objects,
                    "size_bytes": size_bytes,
                    **record,
                }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__.split("\n")[0])
    parser.add_argument("--objects", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--size-bytes", type=int, help="of every object; without it none is read")
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--records", type=Path, help="a file to append to")
    options = parser.parse_args()
    print(f"{'objects':>10}  {'step':26}{'cpu s':>9}{'wall s':>9}{'RSS MB':>8}{'requests':>10}")
    for objects in options.objects:
        for record in run(objects, size_bytes=options.size_bytes, sample=options.sample):
            print(
                f"{objects:10,}  {record['step']:26}{record['cpu_s']:9.3f}{record['wall_s']:9.3f}"
                f"{record['rss_mb']:8}{sum(record['requests'].values()):10,}",
                flush=True,
            )
            if options.records:
                with options.records.open("a") as file:
                    file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
