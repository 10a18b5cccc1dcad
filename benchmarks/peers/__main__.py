"""Calls one tool one way, and prints what the call cost as JSON; or describes the tool."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import Any, Final

from benchmarks.peers import Task

DESCRIBE: Final = "describe"


def describe(tool: str) -> dict[str, Any]:
    """The version of the tool, and how each of its ways calls it."""
    from importlib.metadata import version

    module = importlib.import_module(f"benchmarks.peers.{tool}")
    ways = {
        name: " ".join((way.__doc__ or "").split())
        for name, way in vars(module).items()
        if getattr(way, "__module__", None) == module.__name__ and not name.startswith(("_", "version"))
    }
    return {"version": module.version() if hasattr(module, "version") else version(tool), "ways": ways}


def call(tool: str, way: str, task: Task) -> dict[str, Any]:
    """What the call alone costs, its imports not counted."""
    function = getattr(importlib.import_module(f"benchmarks.peers.{tool}"), way)
    wall_s, cpu_s = time.perf_counter(), _cpu_s()
    rows = function(task)
    return {
        "rows": rows,
        "call_s": round(time.perf_counter() - wall_s, 3),
        "call_cpu_s": round(_cpu_s() - cpu_s, 3),
    }


def _cpu_s() -> float:
    usages = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("tool")
    parser.add_argument("way", help=f"a function of benchmarks/peers/TOOL.py, or {DESCRIBE!r}")
    for name in ("endpoint", "bucket", "prefix"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--source", type=Path, default=Path())
    options = vars(parser.parse_args())
    tool, way = options.pop("tool"), options.pop("way")
    result = describe(tool) if way == DESCRIBE else call(tool, way, Task(**options))
    sys.stdout.write(f"\n{json.dumps(result)}\n")  # on a line of its own, whatever the tool prints


if __name__ == "__main__":
    main()
