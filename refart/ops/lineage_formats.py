"""A lineage graph as text that other tools draw or read: DOT (Graphviz), Mermaid, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from refart.catalog.base import RunRow, VersionKey, VersionRow
from refart.progress import printable

if TYPE_CHECKING:
    from refart.ops.lineage import LineageGraph


def to_dot(graph: LineageGraph) -> str:
    """A digraph for Graphviz, from left to right: versions are boxes, runs ellipses, what was deleted is dashed."""
    lines = ["digraph lineage {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    ids = _ids(graph)
    for row in graph.versions:
        style = "dashed" if row.deleted_at is not None else "bold" if row.key == graph.start else "solid"
        lines.append(f'  {ids[row.key]} [shape=box, style={style}, label="{_dot(_version(row))}"];')
    for run in graph.runs:
        lines.append(f'  {ids[run.id]} [shape=ellipse, label="{_dot(_run(run))}"];')
    lines += [f"  {ids[source]} -> {ids[target]};" for source, target in _arrows(graph)]
    lines += [
        f'  {ids[source]} -> {ids[target]} [style=dotted, label="link"];' for source, target in _links(graph)
    ]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: LineageGraph) -> str:
    """A flowchart for Mermaid, as GitHub and GitLab draw it: versions are boxes, runs rounded, what was deleted is
    dashed."""
    lines = ["flowchart LR"]
    ids = _ids(graph)
    lines += [f'  {ids[row.key]}["{_mermaid(_version(row))}"]' for row in graph.versions]
    lines += [f'  {ids[run.id]}(["{_mermaid(_run(run))}"])' for run in graph.runs]
    lines += [f"  {ids[source]} --> {ids[target]}" for source, target in _arrows(graph)]
    lines += [f"  {ids[source]} -. link .-> {ids[target]}" for source, target in _links(graph)]
    deleted = [ids[row.key] for row in graph.versions if row.deleted_at is not None]
    if deleted:
        lines += ["  classDef deleted stroke-dasharray: 5 5", f"  class {','.join(deleted)} deleted"]
    return "\n".join([*lines, ""])


def to_json(graph: LineageGraph) -> str:
    """One document: `start`, `versions`, `runs` and `edges`; times are UTC in ISO 8601."""
    return json.dumps(record(graph), indent=2, default=lambda at: at.isoformat().replace("+00:00", "Z"))


def record(graph: LineageGraph) -> dict[str, Any]:
    """The graph as plain data, but for times."""
    return {
        "start": str(graph.start),
        "versions": [
            {
                "name": str(row.key),
                "type": row.type,
                "created_at": row.created_at,
                "entries": row.manifest.entry_count,
                "aliases": list(row.aliases),
                "deleted": row.deleted_at is not None,
                "source_version": None if row.source is None else str(row.source),
            }
            for row in graph.versions
        ],
        "runs": [
            {
                "id": run.id,
                "name": run.name,
                "project": run.project,
                "job_type": run.job_type,
                "state": run.state,
                "created_at": run.created_at,
                "finished_at": run.finished_at,
            }
            for run in graph.runs
        ],
        "edges": [
            {"run": edge.run_id, "version": str(edge.version), "kind": edge.kind, "at": edge.at}
            for edge in graph.edges
        ],
    }


def _ids(graph: LineageGraph) -> dict[Any, str]:
    """Names of nodes that need no quoting in any language."""
    ids: dict[Any, str] = {row.key: f"v{n}" for n, row in enumerate(graph.versions)}
    return ids | {run.id: f"r{n}" for n, run in enumerate(graph.runs)}


def _arrows(graph: LineageGraph) -> dict[tuple[VersionKey | str, VersionKey | str], None]:
    """The way of the data, each arrow once."""
    return {
        ((edge.run_id, edge.version) if edge.kind == "output" else (edge.version, edge.run_id)): None
        for edge in graph.edges
    }


def _links(graph: LineageGraph) -> Iterator[tuple[VersionKey, VersionKey]]:
    """A version, and one that stands for it."""
    keys = {row.key for row in graph.versions}
    return ((row.source, row.key) for row in graph.versions if row.source is not None and row.source in keys)


def _version(row: VersionRow) -> list[str]:
    return [
        str(row.key),
        ", ".join([row.type, *row.aliases, *(["deleted"] if row.deleted_at is not None else [])]),
    ]


def _run(run: RunRow) -> list[str]:
    return [run.job_type or run.name, f"run {run.id}"]


def _dot(lines: list[str]) -> str:
    """Inside double quotes, DOT knows `\\"` and escapes such as `\\n` and `\\N`."""
    return r"\n".join(printable(line).replace("\\", "\\\\").replace('"', r"\"") for line in lines)


def _mermaid(lines: list[str]) -> str:
    """Inside double quotes, Mermaid takes Markdown and HTML, and entities by number for anything else."""
    return "<br/>".join(
        "".join(c if c.isalnum() or c in " _.-/:," else f"#{ord(c)};" for c in printable(line))
        for line in lines
    )
