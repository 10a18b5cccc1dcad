"""Measures manifests: adding pages in several orders, writing, opening, lookup, a prefix, diffs, samples, logging.

    python -m benchmarks.manifest --rows 1000000 10000000 --records records.jsonl

Every step runs in a process of its own, so that its peak of memory is its own. The rows are realistic references
(date-partitioned paths, random MD5s and version ids), made while they are added: what making them cost is taken off.
On shared cores trust CPU seconds and ratios; to compare two commits, run it on both.

Prints one record a step as JSON, and appends it to `--records`: bench (`manifest`), step, rows, cpu_s, wall_s, rss_mb,
us_a_row (CPU); where bytes are written bytes_an_entry, or written_share (of the bytes of the whole version).
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from refart.entries import PAGE_ROWS, SCHEMA, Page, prefixed
from refart.manifest.compare import diff
from refart.manifest.draft import Draft
from refart.manifest.index import KeptShard
from refart.manifest.reader import Manifest
from refart.manifest.shards import ShardTally
from refart.manifest.writer import write_manifest
from refart.ops.subset import chosen, subset
from refart.ops.subset import split as split_entries

RSS_BUDGET_MB: Final = 300
"""What any step may hold, whatever the number of entries."""
RSS_BUDGETS_MB: Final = {"diff_moved": 400}
"""Steps that may hold more: millions of changes are sorted by content, three times."""

ROWS_A_DAY: Final = 5_000
LISTED_ROWS: Final = 1_000
"""Rows of a page as a listing gives it."""
RANGES: Final = 32
"""Places at which a listing is read at once."""
SCATTERED: Final = 100
"""Changed entries of `change_scattered`."""
LOOKUPS: Final = 50


class Folder:
    """The least store that a manifest can be written to and read from."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for kind in ("shards", "manifests", "staging"):
            (root / kind).mkdir(exist_ok=True)

    def local_path(self, kind: str, key: str) -> str:
        return str(self.root / kind / key)

    def read(self, kind: str, key: str) -> bytes:
        return (self.root / kind / key).read_bytes()

    def write(self, pages: Iterable[Page | KeptShard]) -> dict[str, Any]:
        """Store a manifest; tells what it measures, and how much of it was new."""
        built = write_manifest(pages, self.root / "staging")
        written_bytes = shards_stored = 0
        for shard, path in built.new_shards:
            target = self.root / "shards" / shard.key
            if not target.exists():
                shards_stored += 1
                written_bytes += shard.file_bytes
            path.replace(target)
        index = built.index.to_json()
        (self.root / "manifests" / built.index.address).write_bytes(index)
        total_bytes = sum(shard.file_bytes for shard in built.index.shards) + len(index)
        return {
            "address": built.index.address,
            "shards": len(built.index.shards),
            "shards_stored": shards_stored,
            "bytes_an_entry": round(total_bytes / built.index.entry_count, 2),
            "written_share": round((written_bytes + len(index)) / total_bytes, 5),
        }


class Made:
    """Pages as they are made; knows what that cost."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self._pages = iter(pages)
        self.cpu_s = self.wall_s = 0.0

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        try:
            return next(self._pages)
        finally:
            self.cpu_s += time.process_time() - cpu_s
            self.wall_s += time.perf_counter() - wall_s


def path_of(row: int) -> str:
    return f"date={20_000_000 + row // ROWS_A_DAY}/part-{row % ROWS_A_DAY:05d}.parquet"


def page_of(rows: Iterable[int], *, pins: bool = True) -> Page:
    """References at these places: the same every time."""
    paths = [path_of(row) for row in rows]
    noise = random.Random(paths[0])
    md5s = noise.randbytes(16 * len(paths)).hex()
    versions = base64.b64encode(noise.randbytes(24 * len(paths)), b"._").decode()
    columns = [
        paths,
        [noise.getrandbits(20) for _ in paths],
        [f"md5:{md5s[at : at + 32]}" for at in range(0, len(md5s), 32)],
        [f"s3://lake/warehouse/events/{path}" for path in paths],
        [f"version:{versions[at : at + 32]}" if pins else None for at in range(0, len(versions), 32)],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def in_order(rows: int, *, pins: bool = True, page_rows: int = LISTED_ROWS) -> Iterator[Page]:
    """As one reader of the listing gives them."""
    for start in range(0, rows, page_rows):
        yield page_of(range(start, min(start + page_rows, rows)), pins=pins)


def in_ranges(rows: int, *, pins: bool = True) -> Iterator[Page]:
    """As many readers give them, each in a range of its own: sorted pages, side by side as chance will have it."""
    chance = random.Random(0)
    length = -(-rows // RANGES)
    readers = [_reader(start, min(start + length, rows)) for start in range(0, rows, length)]
    while readers:
        reader = chance.choice(readers)
        numbers = next(reader, None)
        if numbers is None:
            readers.remove(reader)
        else:
            yield page_of(numbers, pins=pins)


def _reader(start: int, end: int) -> Iterator[range]:
    return (range(at, min(at + LISTED_ROWS, end)) for at in range(start, end, LISTED_ROWS))


def shuffled(rows: int, *, pins: bool = True) -> Iterator[Page]:
    """Every page has rows from everywhere, in no order."""
    stride = next(step for step in range(0x9E3779B1, 1 << 33) if math.gcd(step, rows) == 1)
    for start in range(0, rows, LISTED_ROWS):
        page = range(start, min(start + LISTED_ROWS, rows))
        yield page_of([number * stride % rows for number in page], pins=pins)


def _add(store: Folder, pages: Iterable[Page]) -> dict[str, Any]:
    """From pages to a manifest on disk."""
    made = Made(pages)
    draft = Draft()
    started_s = time.process_time()
    draft.add(made)
    add_cpu_s = time.process_time() - started_s - made.cpu_s
    return {"add_cpu_s": round(add_cpu_s, 3), "made": made, **store.write(draft.segments())}


def add(store: Folder, rows: int) -> dict[str, Any]:
    return _add(store, in_order(rows))


def add_ranges(store: Folder, rows: int) -> dict[str, Any]:
    return _add(store, in_ranges(rows))


def add_ranges_without_pins(store: Folder, rows: int) -> dict[str, Any]:
    return _add(store, in_ranges(rows, pins=False))


def add_shuffled(store: Folder, rows: int) -> dict[str, Any]:
    return _add(store, shuffled(rows))


def digest(store: Folder, rows: int) -> dict[str, Any]:
    """The digests of full pages; no file."""
    tally = ShardTally()
    made = Made(in_order(rows, page_rows=PAGE_ROWS))
    for page in made:
        tally.update(page)
    return {"made": made}


def write(store: Folder, rows: int) -> dict[str, Any]:
    """Full pages that are in order already; nothing is sorted."""
    made = Made(in_order(rows, page_rows=PAGE_ROWS))
    return {"made": made, **store.write(made)}


def read(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """Every page, each shard checked against its digests."""
    return {"found": sum(page.num_rows for page in Manifest.open(store, address).pages())}


def open_(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """The index, and all that follows from it."""
    return {"found": Manifest.open(store, address).index.entry_count}


def look_up(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """Single paths all over the manifest, each in another row group; `first_ms` includes opening the manifest."""
    started_s = time.perf_counter()
    manifest = Manifest.open(store, address)
    found = [manifest.get(path_of(rows // 3)) is not None]
    first_s, times_s = time.perf_counter() - started_s, []
    for number in range(LOOKUPS):
        started_s = time.perf_counter()
        found.append(manifest.get(path_of(number * rows // LOOKUPS)) is not None)
        times_s.append(time.perf_counter() - started_s)
    times_s.sort()
    return {
        "found": sum(found),
        "first_ms": _ms(first_s),
        "median_ms": _ms(times_s[LOOKUPS // 2]),
        "longest_ms": _ms(times_s[-1]),
    }


def prefix(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """One day of entries, and again."""
    manifest = Manifest.open(store, address)
    day = path_of(rows // 3).split("/")[0]
    times_s = []
    for _ in range(5):
        started_s = time.perf_counter()
        found = sum(page.num_rows for page in manifest.pages(day))
        times_s.append(time.perf_counter() - started_s)
    return {"found": found, "first_ms": _ms(times_s[0]), "least_ms": _ms(min(times_s))}


def _changed(store: Folder, address: str, changed: Iterable[int]) -> dict[str, Any]:
    draft = Draft(Manifest.open(store, address))
    for row in changed:
        entry = draft.get(path_of(row))
        assert entry is not None
        changed_id = "md5:" + entry.content_id[-1:3:-1]
        draft.put(type(entry)(entry.path, entry.size, changed_id, entry.uri, entry.pin), overwrite=True)
    return store.write(draft.segments())


def change_one(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """A new version that differs in one entry."""
    return _changed(store, address, [rows // 2])


def change_scattered(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """One that differs in a few entries all over the manifest."""
    return _changed(store, address, random.Random(0).sample(range(rows), min(SCATTERED, rows)))


def diff_one(store: Folder, rows: int, address: str, other: str) -> dict[str, Any]:
    return _changes(Manifest.open(store, address), Manifest.open(store, other))


def change_ten(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """One that differs in ten entries, far from each other."""
    return _changed(store, address, range(rows // 20, rows, rows // 10))


diff_ten = diff_scattered = diff_one


def move_all(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """One whose entries all have another path."""
    pages = Manifest.open(store, address).pages()
    return store.write(
        page.set_column(0, SCHEMA.field("path"), prefixed("moved/", page["path"])) for page in pages
    )


def diff_moved(store: Folder, rows: int, address: str, other: str) -> dict[str, Any]:
    """Every entry was removed and added, and is found to have moved."""
    changes = diff(Manifest.open(store, address), Manifest.open(store, other))
    return {"changes": sum(page.num_rows for page in changes), "moved": changes.summary.moved}


def sample(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """A tenth of the entries, to the entry, as a draft."""
    choice = {"path_prefix": None, "include": None, "exclude": None}
    pages = chosen(Manifest.open(store, address), "events", **choice, sample=rows // 10, seed=0)
    return {"found": len(subset(pages, "events"))}


def split(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """Two drafts that hold every entry once."""
    parts = split_entries(Manifest.open(store, address).pages, "events", {"train": 0.8, "val": 0.2}, 0)
    return {"found": sum(map(len, parts.values())), "train": len(parts["train"])}


def diff_all(store: Folder, rows: int, address: str) -> dict[str, Any]:
    """A version against nothing: every shard is read, every entry is a change."""
    return _changes(None, Manifest.open(store, address))


def _changes(old: Manifest | None, new: Manifest) -> dict[str, Any]:
    changes = diff(old, new)
    return {"changes": sum(page.num_rows for page in changes), "shards_read": changes.summary.shards_read}


def log(store: Folder, rows: int) -> dict[str, Any]:
    """A first version in a workspace of its own, catalog and store included."""
    from refart.workspace import Workspace

    made = Made(in_ranges(rows))
    with Workspace.open(store.root / "workspace") as workspace, workspace.init() as run:
        artifact = workspace.draft("events")
        assert artifact._draft is not None
        artifact._draft.add(made)  # what `add_reference` does with the pages of a listing
        logged = run.log_artifact(artifact)
    return {"made": made, "found": logged.file_count, "bytes_an_entry": round(_stored_bytes(store) / rows, 2)}


def log_one(store: Folder, rows: int) -> dict[str, Any]:
    """A version that differs from the last in one entry, by the public API."""
    from refart.workspace import Workspace

    before = _stored_bytes(store)
    changed = store.root / "changed"
    changed.write_text("changed")
    with Workspace.open(store.root / "workspace") as workspace, workspace.init() as run:
        draft = workspace.artifact("events").new_draft()
        draft.add_reference(f"file://{changed}", name=path_of(rows // 2), overwrite=True)
        version = run.log_artifact(draft).version
    return {"version": version, "written_share": round((_stored_bytes(store) - before) / before, 5)}


def _stored_bytes(store: Folder) -> int:
    """What the workspace holds of shards and indexes."""
    files = (
        file for kind in ("shards", "manifests") for file in (store.root / "workspace").glob(f"**/{kind}/*/*")
    )
    return sum(file.stat().st_size for file in files)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


STEPS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "add": add,
    "add_ranges": add_ranges,
    "add_ranges_without_pins": add_ranges_without_pins,
    "add_shuffled": add_shuffled,
    "digest": digest,
    "write": write,
    "open": open_,
    "read": read,
    "look_up": look_up,
    "prefix": prefix,
    "change_one": change_one,
    "change_scattered": change_scattered,
    "change_ten": change_ten,
    "move_all": move_all,
    "diff_one": diff_one,
    "diff_ten": diff_ten,
    "diff_scattered": diff_scattered,
    "diff_all": diff_all,
    "diff_moved": diff_moved,
    "sample": sample,
    "split": split,
    "log": log,
    "log_one": log_one,
}

NEEDS: Final = {
    **dict.fromkeys(
        (
            *(
                "open",
                "read",
                "look_up",
                "prefix",
                "change_one",
                "change_scattered",
                "change_ten",
                "move_all",
            ),
            *("sample", "split"),
        ),
        ("add_ranges",),
    ),
    "diff_one": ("add_ranges", "change_one"),
    "diff_scattered": ("add_ranges", "change_scattered"),
    "diff_ten": ("add_ranges", "change_ten"),
    "diff_moved": ("add_ranges", "move_all"),
    "diff_all": ("add_ranges",),
}
"""The steps whose manifests a step works on."""


def measure(step: str, folder: Path, rows: int, addresses: list[str]) -> dict[str, Any]:
    """Run one step in this process."""
    store = Folder(folder)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = STEPS[step](store, rows, *addresses)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    made = result.pop("made", None)
    if made is not None:
        wall_s, cpu_s = wall_s - made.wall_s, cpu_s - made.cpu_s
    return {
        "bench": "manifest",
        "step": step,
        "rows": rows,
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "rss_mb": peak_rss_mb(),
        "us_a_row": round(1e6 * cpu_s / rows, 3),
        **result,
    }


def peak_rss_mb() -> int:
    """The largest resident memory of this process.

    `ru_maxrss` alone would do elsewhere; on Linux it starts with the peak of the process that started this
    one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) // 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def run(rows: int, steps: Iterable[str] = STEPS) -> Iterator[dict[str, Any]]:
    """The record of each step, each from a child process, over one temporary store."""
    addresses: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            command = [sys.executable, "-m", "benchmarks.manifest", "--rows", str(rows), "--step", step]
            needed = [addresses[other] for other in NEEDS.get(step, ())]
            child = subprocess.run(
                [*command, "--folder", folder, *needed],
                cwd=Path(__file__).parents[1],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            record = json.loads(child.stdout)
            addresses[step] = record.pop("address", "")
            yield record


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manifest", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--steps", choices=STEPS, nargs="+", default=list(STEPS), metavar="STEP")
    parser.add_argument("--records", type=Path, help="a file to append to")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("addresses", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(measure(options.step, options.folder, options.rows[0], options.addresses)))
        return
    over = []
    for rows in options.rows:
        for record in run(rows, options.steps):
            print(json.dumps(record), flush=True)
            if options.records:
                with options.records.open("a") as file:
                    file.write(f"{json.dumps(record)}\n")
            budget_mb = RSS_BUDGETS_MB.get(record["step"], RSS_BUDGET_MB)
            if record["rss_mb"] >= budget_mb:
                over.append(f"{record['step']} held {record['rss_mb']} MB; its budget is {budget_mb} MB")
    if over:
        sys.exit("\n".join(over))


if __name__ == "__main__":
    main()
