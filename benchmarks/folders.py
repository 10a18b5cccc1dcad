"""Measures folders of this machine: files hashed for the first time, and trees logged again that are as they were.

    python -m benchmarks.folders
    python -m benchmarks.folders --hash 20000x16384 --again 100000/100 --repeats 9

`hash` compares with the fastest of a loop of `readinto` and `hashlib.sha256` in 1, 2 and 4 threads over the same files,
listing included; `again` with one thread that lists the tree by `os.scandir` and looks each entry up by `stat`. The
files are in the page cache. refart is measured until the draft holds all entries, and until the version is logged:
a manifest and its digests are written, for `add_dir` also (the first time) a copy of all files.

Each repetition is a process of its own; floor and refart take turns. Prints one JSON record a figure: the least CPU and
the least wall seconds of all repetitions, and how many times those of the floor they are. The files need as much room
as they hold, `add_dir` as much again: TMPDIR says where.
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.children import run_child
from benchmarks.compare import write_files
from refart.artifact import Artifact
from refart.workspace import Workspace

HASHED: Final = ((20_000, 16 << 10), (4, 1 << 30))
"""Files, and the size of each."""

AGAIN: Final = ((100_000, 100), (100_000, 1_000), (100_000, 100_000))
"""Files, and how many of them share a folder."""

AGAIN_BYTES: Final = 64
THREADS: Final = (1, 2, 4)
BUFFER_BYTES: Final = 1 << 20
SETTLE_S: Final = 0.1
"""Files that were written a moment ago are waited for, until their modified time would tell of another write."""

TURNS: Final = 3
"""Measurements in one process of `again`, which takes a fraction of a second."""

Row = dict[str, Any]


def walk(folder: str) -> Iterator[tuple[str, int]]:
    """Every file below a folder, as `os.scandir` and `stat` tell of it."""
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    yield entry.path, entry.stat().st_size


def sha256(paths: list[str]) -> list[str]:
    """What `hashlib` can do: one buffer, one file after the other."""
    buffer = bytearray(BUFFER_BYTES)
    view = memoryview(buffer)
    found = []
    for path in paths:
        digest = hashlib.sha256()
        with Path(path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):  # type: ignore[attr-defined]  # unbuffered, so a FileIO
                digest.update(view[:count])
        found.append(digest.hexdigest())
    return found


def floor(source: str, threads: int) -> int:
    """List a tree and hash its files, each thread as many as any other."""
    paths = [path for path, _ in walk(source)]
    parts = [paths[number::threads] for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return sum(map(len, pool.map(sha256, parts)))


ADD: Final[dict[str, Callable[[Artifact, str], object]]] = {
    "add_reference": lambda artifact, source: artifact.add_reference(source),
    "add_dir": lambda artifact, source: artifact.add_dir(source),
}


class Clock:
    """The least CPU and wall seconds of what was measured, by name."""

    def __init__(self) -> None:
        self.least: dict[str, Row] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        yield
        spent = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
        least(self.least.setdefault(name, spent), spent)


def least(record: Row, other: Row) -> None:
    """Keep the lesser figures of two measurements of one thing."""
    for name in ("cpu_s", "wall_s"):
        record[name] = round(min(record[name], other[name]), 4)
    if "rss_mb" in other:
        record["rss_mb"] = max(record.get("rss_mb", 0), other["rss_mb"])


def hash_once(tool: str, source: str, home: str) -> dict[str, Row]:
    """In a process of its own: hash a tree with one tool."""
    clock = Clock()
    if tool.startswith("sha256"):
        with clock.timed(tool):
            floor(source, int(tool.split("-")[1]))
    else:
        _add_and_log(tool, source, home, clock)
    return clock.least


def again(tool: str, source: str, home: str) -> dict[str, Row]:
    """In a process of its own: walk a tree and log it again, in turns. The first time it is only logged."""
    clock = Clock()
    if not Path(home, "workspace").exists():
        _add_and_log(tool, source, home, Clock())
        return {}
    for _ in range(TURNS):
        with clock.timed("walk"):
            for _ in walk(source):
                pass
        _add_and_log(tool, source, home, clock)
    return clock.least


def _add_and_log(tool: str, source: str, home: str, clock: Clock) -> None:
    with Workspace.open(Path(home, "workspace")) as workspace, workspace.init() as run:
        artifact = workspace.draft("data")
        with clock.timed(f"{tool} to the log"):
            with clock.timed(f"{tool} to the draft"):
                ADD[tool](artifact, source)
            run.log_artifact(artifact)


STEPS: Final[dict[str, Callable[[str, str, str], dict[str, Row]]]] = {"hash": hash_once, "again": again}


def measured(step: str, tool: str, source: str, home: str) -> dict[str, Row]:
    """One step in a child process: each figure by name."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REFART_")},
        "REFART_CONFIG": os.devnull,
        "REFART_CACHE": f"{home}/cache",
    }
    command = [sys.executable, "-m", "benchmarks.folders", "--step", step, "--tool", tool]
    child = run_child([*command, source, home], environment, cwd=Path(__file__).parents[1])
    found: dict[str, Row] = json.loads(child["output"])
    return {name: figures | {"rss_mb": child["rss_mb"]} for name, figures in found.items()}


def run_hash(files: int, size_bytes: int, repeats: int) -> Iterator[Row]:
    """The figures of files that are hashed for the first time, each time from an empty workspace."""
    figures: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/source"
        write_files(Path(source), files, size_bytes)
        time.sleep(SETTLE_S)
        for _ in range(repeats):
            for tool in [f"sha256-{threads}" for threads in THREADS] + list(ADD):
                with tempfile.TemporaryDirectory(dir=folder) as home:
                    _merge(figures, measured("hash", tool, source, home))
    best = min(
        (name for name in figures if name.startswith("sha256")), key=lambda name: figures[name]["wall_s"]
    )
    yield from _records("hash", {"files": files, "size_bytes": size_bytes}, figures, best)


def run_again(files: int, files_a_folder: int, repeats: int) -> Iterator[Row]:
    """The figures of an unchanged tree that is logged again."""
    figures: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/source"
        write_files(Path(source), files, AGAIN_BYTES, files_a_folder=files_a_folder)
        time.sleep(SETTLE_S)
        for _ in range(1 + repeats):
            for tool in ADD:
                _merge(figures, measured("again", tool, source, f"{folder}/{tool}"))
    case = {"files": files, "size_bytes": AGAIN_BYTES, "files_a_folder": files_a_folder}
    yield from _records("again", case, figures, "walk")


def _merge(figures: dict[str, Row], more: dict[str, Row]) -> None:
    for name, figure in more.items():
        least(figures.setdefault(name, figure), figure)


def _records(step: str, case: Row, figures: dict[str, Row], floor: str) -> Iterator[Row]:
    """Each figure with what it is of the floor: of the rate where bytes are hashed, of the time where none is."""
    for name, figure in figures.items():
        yield {
            "bench": "folders",
            "step": step,
            "tool": name,
            **case,
            **figure,
            "floor": floor,
            "cpu_to_floor": round(figure["cpu_s"] / figures[floor]["cpu_s"], 2),
            "wall_to_floor": round(figure["wall_s"] / figures[floor]["wall_s"], 2),
        }


def _pair(separator: str) -> Callable[[str], tuple[int, int]]:
    def parse(text: str) -> tuple[int, int]:
        first, _, second = text.partition(separator)
        return int(first), int(second)

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folders", description=__doc__.split("\n")[0])
    parser.add_argument("--hash", nargs="*", type=_pair("x"), metavar="FILESxBYTES", help="what to hash")
    parser.add_argument("--again", nargs="*", type=_pair("/"), metavar="FILES/FILES_A_FOLDER", help="trees")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("places", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step](options.tool, *options.places)))
        return
    named = options.hash is not None or options.again is not None
    for files, size_bytes in options.hash or (() if named else HASHED):
        for record in run_hash(files, size_bytes, options.repeats):
            print(json.dumps(record), flush=True)
    for files, files_a_folder in options.again or (() if named else AGAIN):
        for record in run_again(files, files_a_folder, options.repeats):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
