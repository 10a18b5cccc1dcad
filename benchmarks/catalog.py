"""Measures questions to a large catalog, and what logging one more small version costs in it.

    python -m benchmarks.catalog --versions 10000 --runs 100000

The catalog is in SQLite. One collection has all the versions, each logged by a run that used the version before it;
the other runs used two neighbouring versions and the newest model, and one in three logged a model. The rows go into
the catalog's tables in bulk (one by one, the public API would take an hour) and name manifests that do not exist: no
question opens one. What is measured goes through the public API, in a process of its own that has done it once before.

Prints one JSON record a step: the least seconds of CPU and of wall of all repetitions, and the median of the wall,
which on a disk is mostly what its syncs take.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy import insert

from benchmarks.children import run_child
from refart.artifact import Artifact
from refart.catalog import database, tables
from refart.workspace import Workspace

PROJECT: Final = "lake"
FILES: Final = 3
MODEL_EVERY: Final = 3
"""One in so many of the runs that only use versions logs a model."""

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
BATCH_ROWS: Final = 5_000
IMAGES, MODELS = 1, 2  # ids of the collections

SETTLE_S: Final = 0.1
"""A file that was written a moment ago is waited for, until its modified time would tell of another write."""

Row = dict[str, Any]


def make(workspace: Workspace, versions: int, runs: int) -> None:
    """Fill the catalog of a new workspace."""
    models = (runs - versions) // MODEL_EVERY
    rows: dict[Any, Any] = {
        tables.projects: [{"id": 1, "name": PROJECT}],
        tables.collections: [
            {"id": IMAGES, "project_id": 1, "name": "images", "type": "dataset", "next_number": versions}
            | {"created_at": START},
            {"id": MODELS, "project_id": 1, "name": "classifier", "type": "model", "next_number": models}
            | {"created_at": START},
        ],
        tables.runs: (_run(number, versions) for number in range(runs)),
        tables.versions: _versions(versions, runs),
        tables.aliases: [
            {"collection_id": IMAGES, "alias": "latest", "version_id": versions},
            {"collection_id": MODELS, "alias": "latest", "version_id": versions + models},
        ],
        tables.tags: ({"version_id": 1 + number, "tag": "checked"} for number in range(0, versions, 5)),
        tables.edges: _edges(versions, runs),
        tables.audit: _audit(versions),
    }

    def fill(connection: Any) -> None:
        for table, several in rows.items():
            left = iter(several)
            while batch := list(islice(left, BATCH_ROWS)):
                connection.execute(insert(table), batch)

    path = Path(workspace.url, "catalog.sqlite")
    with closing(database.connect(path, create=False, deadline_s=60)) as catalog:
        catalog.write(fill)


def _run(number: int, versions: int) -> Row:
    begun = START + timedelta(seconds=number)
    return {
        "id": f"{number:08x}",
        "project_id": 1,
        "name": f"run-{number:08x}",
        "job_type": "ingest" if number < versions else "train",
        "config": {"lr": 0.1, "seed": number},
        "tags": ["nightly"],
        "state": "finished",
        "created_at": begun,
        "finished_at": begun + timedelta(seconds=1),
        "user_name": "ada",
        "host": "node1",
        "pid": 1,
    }


def _versions(versions: int, runs: int) -> Iterator[Row]:
    for number in range(versions):
        yield _version(1 + number, IMAGES, number, number)
    for number, run in enumerate(range(versions, runs - MODEL_EVERY + 1, MODEL_EVERY)):
        yield _version(1 + versions + number, MODELS, number, run)


def _version(row_id: int, collection_id: int, number: int, run: int) -> Row:
    digest = hashlib.sha256(b"%d" % row_id).hexdigest()
    return {
        "id": row_id,
        "collection_id": collection_id,
        "number": number,
        "address": digest,
        "content_digest": f"sha256:{digest}",
        "manifest_digest": f"sha256:{digest}",
        "entry_count": 1_000,
        "size_bytes": 1 << 30,
        "referenced_bytes": 1 << 30,
        "managed_bytes": 0,
        "metadata": {"camera": "north", "day": number},
        "created_at": START + timedelta(seconds=run),
        "created_by": f"{run:08x}",
    }


def _edges(versions: int, runs: int) -> Iterator[Row]:
    """An ingest takes the images before and logs the next; a training takes two neighbours and the last model."""

    def edge(run: int, kind: str, version_id: int) -> Row:
        at = START + timedelta(seconds=run)
        return {"run_id": f"{run:08x}", "version_id": version_id, "kind": kind, "at": at}

    for run in range(versions):
        yield edge(run, "output", 1 + run)
        if run > 0:
            yield edge(run, "input", run)
    trainings = runs - versions
    for training in range(trainings):
        run, image, model = versions + training, training * versions // trainings, training // MODEL_EVERY
        yield edge(run, "input", 1 + image)
        yield edge(run, "input", 1 + (image + 1) % versions)
        if model > 0:
            yield edge(run, "input", versions + model)
        if training % MODEL_EVERY == 0 and model < trainings // MODEL_EVERY:
            yield edge(run, "output", 1 + versions + model)


def _audit(versions: int) -> Iterator[Row]:
    for number in range(versions):
        yield {
            "request_id": f"{number:032x}",
            "at": START + timedelta(seconds=number),
            "project": PROJECT,
            "actor": f"{number:08x}",
            "action": "version.create",
            "subject": f"{PROJECT}/images:v{number}",
            "detail": {"manifest_digest": {"old": None, "new": f"{number:064x}"}},
        }


# -- what is measured -----------------------------------------------------------------------------------------------

Measured = Callable[[int], Any]


def latest(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """The newest version by its alias."""
    return lambda _: workspace.artifact("images:latest").version


def newest_50(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """The newest 50 versions of the collection."""
    return lambda _: len(workspace.artifacts("images", limit=50))


def used_by(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """The runs that used a version in the middle."""
    artifact = _middle(workspace)
    return lambda _: len(artifact.used_by())


def lineage_upstream(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """What a version in the middle came from, three steps up."""
    artifact = _middle(workspace)
    return lambda _: len(artifact.lineage("upstream", depth=3).versions)


def lineage_both(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """What a version in the middle came from and what came of it, three steps each way."""
    artifact = _middle(workspace)
    return lambda _: len(artifact.lineage("both", depth=3).versions)


def log_references(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """A run, from its beginning to its end, that logs three local files by reference, hashed before."""
    data = _small_files(folder / "referenced", 0)

    def log(number: int) -> str:
        with workspace.init() as run:
            artifact = Artifact("images", "dataset")
            artifact.add_reference(data, name=f"day={number}")
            return run.log_artifact(artifact).version

    return log


def log_files(workspace: Workspace, folder: Path, calls: int) -> Measured:
    """A run, from its beginning to its end, that logs three new files of some bytes, stored by refart."""

    several = [_small_files(folder / f"managed-{number}", number) for number in range(calls)]
    time.sleep(SETTLE_S)

    def log(number: int) -> str:
        with workspace.init() as run:
            artifact = Artifact("images", "dataset")
            artifact.add_dir(several[number])
            return run.log_artifact(artifact).version

    return log


STEPS: Final = {
    step.__name__: step
    for step in (latest, newest_50, used_by, lineage_upstream, lineage_both, log_references, log_files)
}


def _middle(workspace: Workspace) -> Artifact:
    (images,) = workspace.collections(type="dataset")
    return workspace.artifact(f"images:v{images.version_count // 2}")


def _small_files(folder: Path, number: int) -> Path:
    folder.mkdir()
    for file in range(FILES):
        (folder / f"part-{file}").write_text(f"{number} {file}")
    return folder


def measure(step: str, folder: Path, repetitions: int) -> Row:
    """Run one step in this process, once unmeasured."""
    cpu_s, wall_s = [], []
    with Workspace.open(folder / "workspace") as workspace:
        call = STEPS[step](workspace, folder, 1 + repetitions)
        for number in range(1 + repetitions):
            start_cpu_s, start_wall_s = time.process_time(), time.perf_counter()
            result = call(number)
            wall_s.append(time.perf_counter() - start_wall_s)
            cpu_s.append(time.process_time() - start_cpu_s)
    return {
        "cpu_s": round(min(cpu_s[1:]), 5),
        "wall_s": round(min(wall_s[1:]), 5),
        "median_wall_s": round(median(wall_s[1:]), 5),
        "result": result,
    }


def run(versions: int, runs: int, repetitions: int) -> Iterator[Row]:
    """The record of each step, each measured in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REFART_")},
            "REFART_CONFIG": os.devnull,
            "REFART_CACHE": f"{folder}/cache",
            "REFART_PROJECT": PROJECT,
        }
        with Workspace.open(Path(folder, "workspace")) as workspace:
            make(workspace, versions, runs)
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.catalog", "--step", step, "--folder", folder]
            command += ["--repetitions", str(repetitions)]
            child = run_child(command, environment, cwd=Path(__file__).parents[1])
            yield {"bench": "catalog", "step": step, "size": versions, "runs": runs} | json.loads(
                child["output"]
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description=__doc__.split("\n")[0])
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.repetitions)))
        return
    if not 1 < options.versions < options.runs:
        parser.error("there must be at least two versions, and more runs")
    for record in run(options.versions, options.runs, options.repetitions):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
