"""Walk the graph of runs and versions, one query a step whatever the width."""

from __future__ import annotations

from collections.abc import Iterable
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

    `depth` counts steps from version to version through runs; None goes to the ends. A linked version is one with its
    source: upstream the walk goes on through the source, downstream through the source and all its links.
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
    rows = catalog.run_rows(sorted(runs))
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
    frontier = _with_links(catalog, [start], way, versions)
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
        found = _with_links(catalog, [e.version for e in far], way, versions)
        frontier = [key for key in found if key not in seen]


def _with_links(
    catalog: Catalog, keys: Iterable[VersionKey], way: Direction, versions: dict[VersionKey, VersionRow]
) -> list[VersionKey]:
    """These versions and those that are one with them; their rows are loaded where they are not known yet.

    A linked version came from what its source came from; what came of its source and of all links of it came of
    one version.
    """
    met = dict.fromkeys(keys)
    todo = list(met)
    while todo:
        new = [key for key in todo if key not in versions]
        versions.update((row.key, row) for row in catalog.version_rows(new))
        near = [versions[key].source for key in todo if key in versions]
        if way == "downstream":
            near += catalog.links(todo)
        todo = [key for key in dict.fromkeys(near) if key is not None and key not in met]
        met.update(dict.fromkeys(todo))
    return list(met)
