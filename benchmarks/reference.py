"""References one prefix in a new workspace and prints what it found: what `benchmarks.listing` measures of refart.

    python -m benchmarks.reference s3://lake/warehouse/events/ --folder empty --log

With `--processes N` that many list the prefix (`executor=`). Without `--log` the manifest of the draft is built in a
temporary folder, and nothing is stored. Prints JSON: rows, bytes (the sum of the sizes), version (of refart), add_cpu_s
(CPU until `add_reference` returned).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from refart import Workspace, __version__


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reference", description=__doc__.split("\n")[0]
    )
    parser.add_argument("uri")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--log", action="store_true")
    parser.add_argument("--processes", type=int, default=0)
    options = parser.parse_args()
    with ExitStack() as stack:
        executor = None
        if options.processes:
            started = multiprocessing.get_context("spawn")
            executor = stack.enter_context(ProcessPoolExecutor(options.processes, mp_context=started))
        print(json.dumps(measure(options.uri, options.folder, options.log, executor)))


def measure(uri: str, folder: Path, log: bool, executor: Executor | None) -> dict[str, object]:
    """Reference what is below `uri`, build or log its manifest."""
    with Workspace.open(folder / "workspace") as workspace, workspace.init() as run:
        artifact = workspace.draft("data")
        artifact.add_reference(uri, executor=executor)
        add_cpu_s = round(time.process_time(), 3)
        if log:
            artifact = run.log_artifact(artifact)
        # Of a draft, these build its manifest; of a version, they stand in the catalog.
        found = {"rows": artifact.file_count, "bytes": artifact.size}
    return {**found, "version": __version__, "add_cpu_s": add_cpu_s}


if __name__ == "__main__":
    main()
