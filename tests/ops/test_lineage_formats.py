"""Lineage as DOT, Mermaid and JSON: every node and arrow, whatever the names."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pydot
from hypothesis import given, settings

from refart.catalog.base import EdgeRow, VersionKey, VersionRow
from refart.ops.lineage import LineageGraph
from tests.catalog.suite import manifest, run_row

AT = datetime(2026, 3, 1, tzinfo=UTC)


def version(name: str, **changes: Any) -> VersionRow:
    row = VersionRow(VersionKey("p", name, 0), "dataset", manifest(name), (), (), None, {}, None, AT, None)
    return replace(row, **changes)


def graph(label: str = "train", alias: str = "latest") -> LineageGraph:
    """raw, used by a run that logged model; raw is deleted, and link stands for model."""
    raw, model = version("raw", deleted_at=AT), version("model", aliases=(alias,))
    link = version("link", source=model.key)
    return LineageGraph(
        model.key,
        (model, raw, link),
        (run_row("r1", job_type=label),),
        (EdgeRow("r1", raw.key, "input", AT), EdgeRow("r1", model.key, "output", AT)),
    )


def parsed(text: str) -> pydot.Dot:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own grammar library
        [dot] = pydot.graph_from_dot_data(text)
    return dot


def test_dot_has_every_node_and_arrow() -> None:
    dot = parsed(graph().to_dot())
    nodes = {node.get_name(): node.get_attributes() for node in dot.get_nodes() if node.get_name() != "node"}
    assert {name: (a["shape"], a.get("style"), a["label"]) for name, a in nodes.items()} == {
        "v0": ("box", "bold", r'"p/model:v0\ndataset, latest"'),
        "v1": ("box", "dashed", r'"p/raw:v0\ndataset, deleted"'),
        "v2": ("box", "solid", r'"p/link:v0\ndataset"'),
        "r0": ("ellipse", None, r'"train\nrun r1"'),
    }
    arrows = {(edge.get_source(), edge.get_destination()): edge.get_attributes() for edge in dot.get_edges()}
    assert list(arrows) == [("v1", "r0"), ("r0", "v0"), ("v0", "v2")]
    assert arrows["v0", "v2"]["label"] == '"link"'


def test_mermaid_has_every_node_and_arrow() -> None:
    assert graph().to_mermaid().splitlines() == [
        "flowchart LR",
        '  v0["p/model:v0<br/>dataset, latest"]',
        '  v1["p/raw:v0<br/>dataset, deleted"]',
        '  v2["p/link:v0<br/>dataset"]',
        '  r0(["train<br/>run r1"])',
        "  v1 --> r0",
        "  r0 --> v0",
        "  v0 -. link .-> v2",
        "  classDef deleted stroke-dasharray: 5 5",
        "  class v1 deleted",
    ]


def test_json_has_the_whole_graph() -> None:
    document = json.loads(graph().to_json())
    assert document["start"] == "p/model:v0"
    assert [(row["name"], row["deleted"]) for row in document["versions"]] == [
        ("p/model:v0", False),
        ("p/raw:v0", True),
        ("p/link:v0", False),
    ]
    assert document["edges"][0] == {
        "run": "r1",
        "version": "p/raw:v0",
        "kind": "input",
        "at": "2026-03-01T00:00:00Z",
    }
    assert document["runs"][0]["job_type"] == "train"


HOSTILE = st.text(
    st.characters(codec="utf-8") | st.sampled_from('"\\<>#;[](){}|`\n&'), min_size=1, max_size=12
)


@given(HOSTILE, HOSTILE)
@settings(max_examples=30)
def test_no_label_breaks_out_of_its_quotes(label: str, alias: str) -> None:
    hostile = graph(label, alias)
    dot = parsed(hostile.to_dot())
    assert len(dot.get_edges()) == 3
    assert {node.get_name() for node in dot.get_nodes()} >= {"v0", "v1", "v2", "r0"}
    lines = hostile.to_mermaid().splitlines()
    assert len(lines) == 10
    inside = [re.fullmatch(r'  \w+\(?\["([^"]*)"\]\)?', line) for line in lines[1:5]]
    texts = [match[1].replace("<br/>", "") for match in inside if match]
    assert len(texts) == 4
    assert not re.search(r"[<>\[\]`&]", "".join(texts))
