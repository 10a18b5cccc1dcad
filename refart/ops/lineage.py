"""The graph of runs and versions around a version."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from refart.catalog.base import Catalog, Direction, EdgeRow, RunRow, VersionKey, VersionRow
from refart.errors import InvalidInputError
from refart.ops import lineage_formats

Node: TypeAlias = VersionKey | str
"""A version, or the id of a run."""
Way: TypeAlias = Literal["upstream", "downstream"]


@dataclass(frozen=True)
class LineageGraph:
    """The part of the graph that was walked. A deleted version stays in it, so that lineage is whole."""

    start: VersionKey
    versions: tuple[VersionRow, ...]
    runs: tuple[RunRow, ...]
    edges: tuple[EdgeRow, ...]
    """An `output` edge goes from a run to a version, an `input` edge from a version to a run."""

    def neighbours(self, node: Node, direction: Way) -> list[Node]:
        """Nodes one edge away: version keys of a run id, run ids of a version key."""
        return list(self._near[direction].get(node, ()))

    def to_dot(self) -> str:
        """For Graphviz, from left to right: versions are boxes, runs ellipses, what was deleted is dashed."""
        return lineage_formats.to_dot(self)

    def to_mermaid(self) -> str:
        """A flowchart as GitHub and GitLab draw it in Markdown."""
        return lineage_formats.to_mermaid(self)

    def to_json(self) -> str:
        """One document of versions, runs and edges: that of `refart lineage --json`."""
        return lineage_formats.to_json(self)

    @cached_property
    def _near(self) -> dict[Way, dict[Node, dict[Node, None]]]:
        """The nodes one edge away of each node, in the order of the edges."""
        up: dict[Node, dict[Node, None]] = defaultdict(dict)
        down: dict[Node, dict[Node, None]] = defaultdict(dict)
        for edge in self.edges:
            source, target = (
                (edge.run_id, edge.version) if edge.kind == "output" else (edge.version, edge.run_id)
            )
            down[source][target] = None
            up[target][source] = None
        return {"upstream": up, "downstream": down}


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
