"""Lineage: walking the graph of runs and versions, whatever shape it has."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from refart.artifact import Artifact
from refart.errors import InvalidInputError
from refart.ops.lineage import LineageGraph
from refart.workspace import Workspace


def run(
    workspace: Workspace, uses: list[Artifact], logs: str | None, name: str | None = None
) -> Artifact | None:
    """One run that uses versions and logs another, of content that is its own."""
    with workspace.init(name=name) as active:
        for artifact in uses:
            active.use_artifact(artifact)
        if logs is None:
            return None
        draft = workspace.draft(logs)
        with draft.new_file("content") as file:
            file.write(f"{logs} of {active.id}")
        return active.log_artifact(draft)


def names(graph: LineageGraph) -> list[str]:
    return sorted(f"{row.key.name}:v{row.key.number}" for row in graph.versions)


@pytest.fixture
def diamond(refart_workspace: Workspace) -> dict[str, Artifact]:
    """raw → left, right → joined"""
    raw = run(refart_workspace, [], "raw", "ingest")
    left, right = (run(refart_workspace, [raw], name, name) for name in ("left", "right"))
    return {
        "raw": raw,
        "left": left,
        "right": right,
        "joined": run(refart_workspace, [left, right], "joined", "join"),
    }


@pytest.mark.parametrize(
    ("start", "direction", "depth", "expected"),
    [
        ("joined", "upstream", None, ["joined", "left", "raw", "right"]),
        ("joined", "upstream", 1, ["joined", "left", "right"]),
        ("joined", "upstream", 0, ["joined"]),
        ("joined", "downstream", None, ["joined"]),
        ("raw", "downstream", None, ["joined", "left", "raw", "right"]),
        ("raw", "downstream", 1, ["left", "raw", "right"]),
        ("left", "upstream", None, ["left", "raw"]),
        ("left", "downstream", None, ["joined", "left"]),
        ("left", "both", None, ["joined", "left", "raw"]),
        ("left", "both", 0, ["left"]),
    ],
)
def test_a_diamond(
    diamond: dict[str, Artifact], start: str, direction: Any, depth: int | None, expected: list[str]
) -> None:
    graph = diamond[start].lineage(direction, depth)
    assert names(graph) == [f"{name}:v0" for name in expected]
    assert graph.start == diamond[start]._row.key


def test_each_run_and_edge_of_a_diamond_is_there_once(diamond: dict[str, Artifact]) -> None:
    graph = diamond["joined"].lineage("upstream")
    assert [run.name for run in graph.runs] == ["ingest", "left", "right", "join"]
    assert len(graph.edges) == len(set(graph.edges)) == 8
    assert {edge.kind for edge in graph.edges} == {"input", "output"}


def test_neighbours_lead_through_the_graph(diamond: dict[str, Artifact]) -> None:
    graph = diamond["joined"].lineage("both")
    (join,) = graph.neighbours(graph.start, "upstream")
    assert [key.name for key in graph.neighbours(join, "upstream")] == ["left", "right"]
    assert graph.neighbours(join, "downstream") == [graph.start]
    assert graph.neighbours(graph.start, "downstream") == []


def test_a_run_that_logs_what_it_used_makes_a_cycle_that_ends(refart_workspace: Workspace) -> None:
    first = run(refart_workspace, [], "data")
    with refart_workspace.init() as active:
        active.use_artifact(first)
        active.log_artifact(refart_workspace.artifact("data:v0"))
    for direction in ("upstream", "downstream", "both"):
        graph = first.lineage(direction)
        assert names(graph) == ["data:v0"]
    assert len(graph.runs) == 2
    assert len(graph.edges) == 3


def test_two_runs_that_feed_each_other_end_too(refart_workspace: Workspace) -> None:
    a, b = run(refart_workspace, [], "a"), run(refart_workspace, [], "b")
    for used, logged in ((a, b), (b, a)):
        with refart_workspace.init() as active:
            active.use_artifact(used)
            active.log_artifact(logged)
    assert names(a.lineage("upstream")) == names(b.lineage("downstream")) == ["a:v0", "b:v0"]


def test_a_deleted_version_stays_in_the_graph(refart_workspace: Workspace) -> None:
    raw = run(refart_workspace, [], "raw")
    made = run(refart_workspace, [raw], "made")
    raw.delete(delete_aliases=True)
    graph = made.lineage("upstream")
    assert names(graph) == ["made:v0", "raw:v0"]
    assert [row.key.name for row in graph.versions if row.deleted_at is not None] == ["raw"]


def test_the_walk_goes_on_through_a_linked_version(refart_workspace: Workspace) -> None:
    raw = run(refart_workspace, [], "raw", "ingest")
    made = run(refart_workspace, [raw], "made", "make")
    linked = made.link("registry/best")
    used = run(refart_workspace, [linked], "report", "report")
    assert names(linked.lineage("upstream")) == ["best:v0", "made:v0", "raw:v0"]
    assert names(used.lineage("upstream")) == ["best:v0", "made:v0", "raw:v0", "report:v0"]


def test_the_walk_goes_down_through_a_linked_version(refart_workspace: Workspace) -> None:
    raw = run(refart_workspace, [], "raw", "ingest")
    made = run(refart_workspace, [raw], "made", "make")
    run(refart_workspace, [made.link("registry/best")], "report", "report")
    assert names(raw.lineage("downstream")) == ["best:v0", "made:v0", "raw:v0", "report:v0"]


def test_a_version_logged_without_a_run_has_no_past(refart_workspace: Workspace) -> None:
    linked = run(refart_workspace, [], "data").link("registry/data")
    assert linked.logged_by() is None


def test_mistakes_are_told(diamond: dict[str, Artifact]) -> None:
    with pytest.raises(InvalidInputError, match="direction must be"):
        diamond["raw"].lineage("sideways")
    with pytest.raises(InvalidInputError, match="must not be negative"):
        diamond["raw"].lineage("both", -1)


@given(st.lists(st.tuples(st.sets(st.integers(0, 5), max_size=3), st.integers(0, 5)), max_size=6))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_graph_against_a_model(refart_workspace: Workspace, history: list[tuple[set[int], int]]) -> None:
    """Runs use any versions of six collections and log a new one; upstream is the transitive closure."""
    made: dict[int, Artifact] = {}
    parents: dict[str, set[str]] = {}
    for uses, logs in history:
        used = [made[n] for n in uses if n in made]
        artifact = run(refart_workspace, used, f"c{logs}")
        parents[artifact.qualified_name] = {a.qualified_name for a in used}
        made[logs] = artifact
    for artifact in made.values():
        expected, todo = set(), [artifact.qualified_name]
        while todo:
            name = todo.pop()
            if name not in expected:
                expected.add(name)
                todo += parents[name]
        assert {str(row.key) for row in artifact.lineage("upstream").versions} == expected
