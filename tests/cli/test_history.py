"""`refart history` and `refart lineage`"""

from __future__ import annotations

from pathlib import Path

import pytest

from refart.workspace import Workspace
from tests.cli.calls import Calls


def test_history_tells_what_happened_newest_first(cli: Calls, folder: Path) -> None:
    run = cli("put", "data", "--json").document["run"]
    cli("put", "data")
    cli("alias", "data:v0", "golden")
    Path("data/new.txt").write_text("new")
    cli("put", "data")
    cli("put", "data", "-n", "data2")
    cli("rm", "data:v1", "--delete-aliases", "--yes")
    rows = cli("history", "data", "--json").documents
    assert [(row["name"], row["action"]) for row in rows] == [
        ("default/data:v1", "version.delete"),
        ("default/data:v1", "version.create"),
        ("default/data:v0", "version.update"),
        ("default/data:v0", "version.log_again"),
        ("default/data:v0", "version.create"),
    ]
    assert rows[-1]["actor"] == run
    assert rows[2]["detail"] == {"alias golden": {"old": None, "new": 0}}
    assert len(cli("history", "data", "--limit", "2", "--json").documents) == 2
    assert {row["name"] for row in cli("history", "data:golden", "--json").documents} == {"default/data:v0"}
    assert "alias golden: - → v0" in cli("history", "data").stdout


@pytest.fixture
def graph(cli: Calls, folder: Path, refart_workspace: Workspace) -> dict[str, str]:
    """A diamond that closes to a circle: `data` feeds two trainings, both feed `report`, and `report` is used by a
    run that logs `data` again."""
    runs = {"put": cli("put", "data", "--json").document["run"]}
    for name in ("left", "right"):
        with refart_workspace.init(job_type=name) as run:
            run.use_artifact("data:v0")
            Path(f"{name}.bin").write_text(name)
            run.log_artifact(f"{name}.bin", name=name, type="model")
        runs[name] = run.id
    with refart_workspace.init(job_type="report") as run:
        run.use_artifact("left:v0")
        run.use_artifact("right:v0")
        Path("report.txt").write_text("report")
        run.log_artifact("report.txt", name="report", type="report")
    runs["report"] = run.id
    with refart_workspace.init(job_type="again") as run:
        run.use_artifact("report:v0")
        run.log_artifact("data", name="data")
    runs["again"] = run.id
    return runs


def test_lineage_spreads_each_node_once_through_diamonds_and_circles(
    cli: Calls, graph: dict[str, str]
) -> None:
    assert cli("lineage", "report", "--up").stdout.splitlines() == [
        "default/report:v0  (report, latest)",
        f"└── run {graph['report']} (report)",
        "    ├── default/left:v0  (model, latest)",
        f"    │   └── run {graph['left']} (left)",
        "    │       └── default/data:v0  (dataset, latest)",
        f"    │           ├── run {graph['put']} (put)",
        f"    │           └── run {graph['again']} (again)",
        "    │               └── default/report:v0  (report, latest)  (shown above)",
        "    └── default/right:v0  (model, latest)",
        f"        └── run {graph['right']} (right)",
        "            └── default/data:v0  (dataset, latest)  (shown above)",
    ]


def test_lineage_goes_both_ways_or_one_and_only_so_far(cli: Calls, graph: dict[str, str]) -> None:
    both = cli("lineage", "left", "--depth", "1").stdout.splitlines()
    assert both == [
        "default/left:v0  (model, latest)",
        "├── came from",
        f"│   └── run {graph['left']} (left)",
        "│       └── default/data:v0  (dataset, latest)",
        "└── led to",
        f"    └── run {graph['report']} (report)",
        "        └── default/report:v0  (report, latest)",
    ]
    down = cli("lineage", "left", "--down", "--depth", "1").stdout.splitlines()
    assert len(down) == 3
    assert down[1:] == [line.removeprefix("    ") for line in both[5:]]


def test_lineage_with_json_is_the_graph(cli: Calls, graph: dict[str, str]) -> None:
    found = cli("lineage", "left", "--up", "--depth", "1", "--json").document
    assert found["start"] == "default/left:v0"
    assert {version["name"] for version in found["versions"]} == {"default/left:v0", "default/data:v0"}
    assert [run["id"] for run in found["runs"]] == [graph["left"]]
    assert {(e["run"], e["version"], e["kind"]) for e in found["edges"]} == {
        (graph["left"], "default/data:v0", "input"),
        (graph["left"], "default/left:v0", "output"),
    }


def test_a_version_without_relations_is_a_tree_of_one(cli: Calls, graph: dict[str, str]) -> None:
    assert cli("lineage", "left", "--depth", "0").stdout == "default/left:v0  (model, latest)\n"


@pytest.mark.parametrize("command", ["history", "lineage"])
def test_an_unknown_name_ends_with_3(cli: Calls, graph: dict[str, str], command: str) -> None:
    cli(command, "nothing", code=3)


def test_lineage_as_a_graph_for_other_programs(cli: Calls, graph: dict[str, str]) -> None:
    assert cli("lineage", "report", "--format", "dot").stdout.startswith("digraph lineage {")
    assert cli("lineage", "report", "--format", "mermaid").stdout.startswith("flowchart LR\n")
    assert cli("lineage", "report", "--format", "json").stdout == cli("lineage", "report", "--json").stdout
    cli("lineage", "report", "--format", "dot", "--json", code=2)
