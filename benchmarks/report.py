"""Makes a page of the measurements of `benchmarks.compare`: tables, a plot, and how each tool was called.

    python -m benchmarks.report --run

measures everything (some 25 minutes; `--quick`: a few) and writes docs/benchmarks.md and docs/benchmarks-listing.svg.
`--records FILE` keeps the measurements: a run that was stopped goes on from there, and without `--run` the page is
written again from the file alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.compare import LIMIT_S, SHORT_REPEATS, SHORT_S, Record, Records, add_options, compare
from benchmarks.simulated_s3 import ROOT
from benchmarks.venvs import python_of

PLOT: Final = "benchmarks-listing.svg"

TITLES: Final = {"floor": "*floor*", "refart": "**refart**"}
LEFT_OUT: Final = "–"

Cell = Callable[[Record, Record | None], str]
"""The text of a measurement, and of how it compares to refart's."""

LISTING: Final = """
Every tool is given one prefix of a bucket {versions}, which answers {latency}, and goes as far as it goes: refart to
a logged version with a sorted manifest on disk, others to a manifest, a dataset, columns, dictionaries or lines of
text, with or without version ids (see [below](#how-each-tool-was-called)).
"""
DOWNLOAD: Final = """
To a local folder, which is new. Tools that keep a record (refart, DataChain, quilt3, DVC, wandb) download by it; it is
made before, and not counted. refart compares every byte with the recorded checksum while it streams; what others
compare is said [below](#how-each-tool-was-called). S3 may send checksums of its own, which newer SDKs compare; this
endpoint sends none.
"""
FOLDER: Final = """
Files in the page cache, to a manifest with a checksum of each.
"""
FIGURES: Final[dict[str, Cell]] = {
    "CPU, s": lambda record, ours: _with_ratio(record, ours, "cpu_s"),
    "Wall time, s": lambda record, ours: _with_ratio(record, ours, "wall_s"),
    "Memory, MB / requests": lambda record, ours: f"{record['rss_mb']:,} / {record['requests']:,}",
}


def page(records: Sequence[Record]) -> str:
    """The page in Markdown."""
    parts = [_head(records)]
    measured = [record for record in records if "way" in record]
    for (bench, versions, latency_ms, size_bytes), of_group in _groups(
        measured, "bench", "versions", "latency_ms", "size_bytes"
    ):
        if bench == "listing":
            parts += _listing(of_group, versions, latency_ms)
        else:
            for (objects,), of_case in _groups(of_group, "objects"):
                parts.append(f"## {bench.capitalize()}: {objects:,} × {_size(size_bytes)}")
                parts += [DOWNLOAD if bench == "download" else FOLDER, _costs(of_case)]
    parts += ["## How each tool was called", _ways(measured)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _head(records: Sequence[Record]) -> str:
    dates = sorted({record["date"] for record in records})
    machines = {tuple(record["machine"].items()): record["machine"] for record in records}
    told = [
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, {machine['system']},"
        f" Python {machine['python']}"
        for machine in machines.values()
    ]
    return f"""
# Benchmarks

Written by `python -m benchmarks.report --run`, which anyone can run; nothing here is edited by hand.

- When and where: {" to ".join(dict.fromkeys((dates[0], dates[-1])))}; {"; ".join(told)}.
- Every tool runs in a process and a virtual environment of its own, against the same simulated S3 endpoint
  (`benchmarks/simulated_s3.py`) on the same machine, which takes its share of it.
- *CPU* is user and system time of the process and of all that it starts, imports included; on a shared machine it is
  the steadier figure. *MB* is the peak of resident memory of the largest process. *Requests* are counted by the
  endpoint. In brackets: how many times refart's.
- What takes less than {SHORT_S} s is measured {SHORT_REPEATS} times, and the one with the least CPU counts.
- {LEFT_OUT}: left out, since it would have taken more than {LIMIT_S} s going by the smaller size.
- *floor* is no tool: it is what the work costs in Python where nothing is kept and nothing checked.
"""


def _listing(records: Sequence[Record], versions: str, latency_ms: int) -> list[str]:
    known = {
        "versions": "with versions" if versions == "on" else "without versions",
        "latency": f"after {latency_ms} ms" if latency_ms else "at once",
    }
    parts = [
        f"## Listing: a bucket {known['versions']} that answers {known['latency']}",
        LISTING.format(**known),
    ]
    if versions == "on" and not latency_ms:
        parts.append(f"![CPU seconds by objects listed, both on logarithmic scales]({PLOT})")
    for title, cell in FIGURES.items():
        parts += [title, _by_size(records, cell)]
    return parts


def _by_size(records: Sequence[Record], cell: Cell) -> str:
    """A table with a row for each way and a column for each number of objects."""
    sizes = sorted({record["objects"] for record in records})
    ours = {record["objects"]: record for record in records if record["tool"] == "refart"}
    rows = []
    for (tool, way), of_way in _groups(records, "tool", "way"):
        known = {record["objects"]: record for record in of_way}
        cells = [
            cell(known[size], ours.get(size)) if "cpu_s" in known.get(size, {}) else LEFT_OUT
            for size in sizes
        ]
        rows.append([_name(tool, way), *cells])
    return _table(["", *(f"{size:,}" for size in sizes)], rows)


def _cell(record: Record, ours: Record | None, cell: Cell) -> str:
    return LEFT_OUT if "left_out_s" in record else cell(record, ours)


def _costs(records: Sequence[Record]) -> str:
    """A table of one case, with a column for each figure."""
    ours = next((record for record in records if record["tool"] == "refart"), None)
    has_requests = any("requests" in record for record in records)
    rows = []
    for record in records:
        costs = [_with_ratio(record, ours, figure) for figure in ("cpu_s", "wall_s")]
        requests = [f"{record['requests']:,}"] if has_requests else []
        rows.append([_name(record["tool"], record["way"]), *costs, f"{record['rss_mb']:,}", *requests])
    return _table(["", "CPU, s", "wall, s", "MB", *(["requests"] if has_requests else [])], rows)


def _ways(records: Sequence[Record]) -> str:
    latest = {(record["tool"], record["way"]): record for record in records}
    rows = [[_name(*key), record["version"], record["how"]] for key, record in latest.items()]
    return _table(["", "version", "call, and what is in hand then"], rows, align="---")


def _with_ratio(record: Record, ours: Record | None, figure: str) -> str:
    text = f"{record[figure]:,.2f}"
    if ours is None or record is ours or not ours[figure]:
        return text
    ratio = record[figure] / ours[figure]
    digits = 2 if ratio < 1 else 1 if ratio < 10 else 0
    return f"{text} ({ratio:,.{digits}f}×)"


def _name(tool: str, way: str) -> str:
    return f"{TITLES.get(tool, tool)} `{way}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "---:") -> str:
    lines = [head, ["---", *[align] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _size(size_bytes: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:g} {name}"
    return f"{size_bytes} B"


def _groups(records: Iterable[Record], *fields: str) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Records by some fields, in the order in which they first came."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[field] for field in fields), []).append(record)
    return list(groups.items())


def series(records: Iterable[Record]) -> dict[str, list[tuple[int, float]]]:
    """What is plotted of each way: (objects, CPU seconds) of listings of a bucket with versions, without latency."""
    wanted = {"bench": "listing", "versions": "on", "latency_ms": 0}
    known = [record for record in records if wanted.items() <= record.items() and "cpu_s" in record]
    return {
        f"{tool} {way}": sorted((record["objects"], record["cpu_s"]) for record in of_way)
        for (tool, way), of_way in _groups(known, "tool", "way")
    }


def write(records: Sequence[Record], folder: Path, python: Path) -> None:
    """Write the page, and the plot by a Python that has matplotlib."""
    (folder / "benchmarks.md").write_text(page(records))
    command = [str(python), "-m", "benchmarks.plot", str(folder / PLOT)]
    subprocess.run(command, cwd=ROOT, input=json.dumps(series(records)), text=True, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.split("\n")[0])
    parser.add_argument("--run", action="store_true", help="measure what there are no records of")
    parser.add_argument("--records", type=Path, help="a file of measurements, which a run adds to")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder to write to")
    add_options(parser)
    options = parser.parse_args()
    if not (options.run or options.records):
        parser.error("without --run there is nothing to report but what --records FILE holds")
    with tempfile.TemporaryDirectory() as folder:
        records = Records(options.records or Path(folder, "records.jsonl"))
        failures = compare(options, records) if options.run else []
        write(records.all, options.docs, python_of("plot", options.venvs))
    sys.exit("\n".join(failures) or None)


if __name__ == "__main__":
    main()
