"""Walk the graph of runs and versions, one query a step whatever the width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from refart.catalog.base import Catalog, EdgeKind, EdgeRow, RunRow, VersionKey, VersionRow
from refart.errors import InvalidInputError

Direction = Literal["upstream", "downstream", "both"]


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """The part of the graph that was walked. A deleted version stays in it, so that lineage is whole."""

    start: VersionKey
    versions: tuple[VersionRow, ...]
    runs: tuple[RunRow, ...]
    edges: tuple[EdgeRow, ...]
    """An `output` edge goes from a run to a version, an `input` edge from a version to a run."""

    def neighbours(
        self, node: VersionKey | str, direction: Literal["upstream", "downstream"]
    ) -> list[VersionKey | str]:
        """Nodes one edge away: version keys of a run id, run ids of a version key."""
        from_version: EdgeKind = "output" if direction == "upstream" else "input"
        found: list[VersionKey | str] = []
        for edge in self.edges:
            if isinstance(node, str) and edge.run_id == node and edge.kind != from_version:
                found.append(edge.version)
            elif edge.version == node and edge.kind == from_version:
                found.append(edge.run_id)
        return list(dict.fromkeys(found))


def lineage(
    catalog: Catalog, start: VersionKey, direction: Direction = "both", depth: int | None = None
) -> LineageGraph:
    """The versions and runs that `start` came from (`upstream`), that came of it (`downstream`), or both.

    `depth` counts steps from version to version through runs; None goes to the ends. From a linked version the walk
    goes on to its source as well; from a source it does not go on to its links.
    """
    if direction not in ("upstream", "downstream", "both"):
        raise InvalidInputError(f"direction must be upstream, downstream or both, not {direction!r}")
    if depth is not None and depth < 0:
        raise InvalidInputError(f"depth must not be negative, is {depth}")
    versions: dict[VersionKey, VersionRow] = {}
    runs: set[str] = set()
    edges: dict[tuple[str, VersionKey, str], EdgeRow] = {}
    ways: tuple[Direction, ...] = ("upstream", "downstream") if direction == "both" else (direction,)
    for way in ways:
        _walk(catalog, start, way, depth, versions, runs, edges)
    rows = [catalog.run(run_id) for run_id in sorted(runs)]
    return LineageGraph(
        start,
        tuple(versions.values()),
        tuple(sorted(rows, key=lambda r: (r.created_at, r.id))),
        tuple(sorted(edges.values(), key=lambda e: (e.at, e.run_id, e.version, e.kind))),
    )


def _walk(
    catalog: Catalog,
    start: VersionKey,
    way: Direction,
    depth: int | None,
    versions: dict[VersionKey, VersionRow],
    runs: set[str],
    edges: dict[tuple[str, VersionKey, str], EdgeRow],
) -> None:
    into: EdgeKind = "output" if way == "upstream" else "input"
    out_of: EdgeKind = "input" if way == "upstream" else "output"
    seen_runs: set[str] = set()
    seen: set[VersionKey] = set()
    frontier = _with_sources(catalog, [start], versions)
    step = 0
    while frontier:
        seen.update(frontier)
        if depth is not None and step >= depth:
            break
        step += 1
        near = catalog.edges(versions=frontier, kind=into)
        new_runs = [r for r in dict.fromkeys(e.run_id for e in near) if r not in seen_runs]
        seen_runs.update(new_runs)
        far = catalog.edges(run_ids=new_runs, kind=out_of) if new_runs else []
        for edge in (*near, *far):
            edges[(edge.run_id, edge.version, edge.kind)] = edge
        runs.update(new_runs)
        found = _with_sources(catalog, [e.version for e in far], versions)
        frontier = [key for key in found if key not in seen]


def _with_sources(
    catalog: Catalog, keys: Iterable[VersionKey], versions: dict[VersionKey, VersionRow]
) -> list[VersionKey]:
    """Load rows that are not known yet, and the sources of linked ones; returns all keys met."""
    met = list(dict.fromkeys(keys))
    todo: Sequence[VersionKey] = [key for key in met if key not in versions]
    while todo:
        rows = catalog.version_rows(todo)
        versions.update((row.key, row) for row in rows)
        sources = [row.source for row in rows if row.source is not None]
        met += [key for key in sources if key not in met]
        todo = [key for key in sources if key not in versions]
    return met
