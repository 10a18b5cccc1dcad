"""The graph of runs and versions around a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refart.catalog.base import Catalog, Direction, EdgeKind, EdgeRow, RunRow, VersionKey, VersionRow
from refart.errors import InvalidInputError


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
    found = catalog.lineage(start, direction, depth)
    return LineageGraph(start, tuple(found.versions), tuple(found.runs), tuple(found.edges))
