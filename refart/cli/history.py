"""`refart history` and `refart lineage`: what happened, and what came of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import click

from refart.cli import output
from refart.cli.common import Command, Settings
from refart.cli.output import Column, Node, Record
from refart.cli.shapes import audit_record, run_label
from refart.ops import lineage_formats

if TYPE_CHECKING:
    from refart.catalog.base import VersionKey
    from refart.ops.lineage import LineageGraph

    Direction = Literal["upstream", "downstream"]


def _changes(row: Record) -> str:
    """`alias best: v0 → v1`: what an audit row tells of old and new values, digests left to `show`."""

    def shown(field: str, value: object) -> str:
        return f"v{value}" if value is not None and field.startswith("alias ") else output.shown(field, value)

    changes = {field: change for field, change in row["detail"].items() if field != "manifest_digest"}
    return "; ".join(f"{f}: {shown(f, c['old'])} → {shown(f, c['new'])}" for f, c in changes.items())


_EVENTS: Final = [
    Column("at"),
    Column("name"),
    Column("action"),
    Column("actor", "by"),
    Column("changes", text=_changes),
]


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="At most N events.",
)
@click.pass_obj
def history(settings: Settings, name: str, limit: int) -> None:
    """Show what happened to a collection, newest first.

    Versions that were made, logged again and deleted, aliases and tags that moved, with the run or the user who did it.
    NAME:VERSION tells of one version. With --json, one event a line.

    \b
    Examples:
      refart history images
      refart history images:v0 --json
    """
    with settings.open() as workspace:
        newest = settings.version(
            workspace, name
        )  # says what is wrong with the name, and what there is instead
        subject = newest.qualified_name if ":" in name else f"{newest.project}/{newest.name}"
        rows = workspace.audit(newest.project, subject, limit=limit)
    settings.output.rows(map(audit_record, rows), _EVENTS)


@click.command(cls=Command)
@click.argument("name", metavar="NAME[:VERSION]")
@click.option("--up", "direction", flag_value="upstream", help="Only what it came from.")
@click.option("--down", "direction", flag_value="downstream", help="Only what came of it.")
@click.option(
    "--depth", type=click.IntRange(min=0), metavar="N", help="At most N steps from version to version."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "dot", "mermaid", "json"]),
    default="tree",
    show_default=True,
    help="A tree to read; a graph for Graphviz, for Markdown, or for programs (as --json).",
)
@click.pass_obj
def lineage(settings: Settings, name: str, direction: Direction | None, depth: int | None, form: str) -> None:
    """Show where a version came from and what came of it.

    A tree of versions and the runs between them; what stands in it a second time is not spread out again. With --json,
    the graph: versions, runs and edges.

    \b
    Examples:
      refart lineage model:v3
      refart lineage images:v0 --down --depth 2
      refart lineage model --format dot | dot -Tsvg > model.svg
    """
    if settings.json and form not in ("tree", "json"):
        raise click.UsageError(f"--json and --format {form} exclude each other")
    with settings.open() as workspace:
        graph = settings.version(workspace, name).lineage(direction or "both", depth)
    if form != "tree":
        text = {"dot": graph.to_dot, "mermaid": graph.to_mermaid, "json": graph.to_json}[form]()
        settings.output.raw([text.rstrip("\n").encode() + b"\n"])
        return
    directions: list[Direction] = ["upstream", "downstream"] if direction is None else [direction]
    settings.output.tree(lineage_tree(graph, directions), lineage_formats.record(graph))


def lineage_tree(graph: LineageGraph, directions: list[Direction]) -> Node:
    """The graph as a tree: a node is spread out where it stands first, and only named where it stands again."""
    versions = {row.key: row for row in graph.versions}
    runs = {row.id: row for row in graph.runs}

    def label(node: VersionKey | str) -> str:
        if isinstance(node, str):
            return run_label(runs[node])
        row = versions[node]
        notes = [row.type, *row.aliases, *(["deleted"] if row.deleted_at is not None else [])]
        return f"{node}  ({', '.join(notes)})"

    root = Node(label(graph.start))
    for direction in directions:
        parent = root
        if len(directions) > 1:
            parent = Node("came from" if direction == "upstream" else "led to")
        seen: set[VersionKey | str] = {graph.start}
        waiting = [(near, parent) for near in reversed(graph.neighbours(graph.start, direction))]
        if waiting and parent is not root:
            root.children.append(parent)
        while waiting:  # a stack and no recursion: a chain of versions has no bound
            at, parent = waiting.pop()
            node = Node(label(at) if at not in seen else f"{label(at)}  (shown above)")
            parent.children.append(node)
            if at not in seen:
                seen.add(at)
                waiting += [(near, node) for near in reversed(graph.neighbours(at, direction))]
    return root
