"""Edges, and the walk over them: which runs and versions a version came from, and what came of it.

The walk asks by ids, a fixed number of statements a step whatever the width; names are looked up once, at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, select

from refart.catalog import sql_read
from refart.catalog import tables as t
from refart.catalog.base import Direction, EdgeKind, EdgeRow, Lineage, VersionKey
from refart.catalog.sql_read import IDS, chunks

_SELECT_EDGES: Final = select(t.edges).where(t.edges.c.kind.in_(bindparam("kinds", expanding=True)))
_EDGES_BY_RUN: Final = _SELECT_EDGES.where(t.edges.c.run_id.in_(IDS))
_EDGES_BY_VERSION: Final = _SELECT_EDGES.where(t.edges.c.version_id.in_(IDS))
_SOURCES: Final = select(t.versions.c.source_id).where(
    t.versions.c.id.in_(IDS), t.versions.c.source_id.is_not(None)
)
_LINKS: Final = select(t.versions.c.id).where(t.versions.c.source_id.in_(IDS))


def edges(
    connection: Connection,
    run_ids: Sequence[str] | None,
    versions: Sequence[VersionKey] | None,
    kind: EdgeKind | None,
) -> list[EdgeRow]:
    """Edges that touch any of the runs or versions, oldest first; none where neither is given."""
    kinds: tuple[EdgeKind, ...] = ("input", "output") if kind is None else (kind,)
    ids = sql_read.version_ids(connection, versions or ()).values()
    of_runs = _edges(connection, _EDGES_BY_RUN, dict.fromkeys(run_ids or ()), kinds)
    of_versions = _edges(connection, _EDGES_BY_VERSION, ids, kinds)
    found = {edge.id: edge for edge in (*of_runs, *of_versions)}
    keys = sql_read.keys_by_id(connection, {edge.version_id for edge in found.values()})
    return [
        EdgeRow(edge.run_id, keys[edge.version_id], edge.kind, edge.at)
        for edge in sorted(found.values(), key=_age)
    ]


def lineage(connection: Connection, start: VersionKey, direction: Direction, depth: int | None) -> Lineage:
    """See `Catalog.lineage`."""
    versions: dict[int, None] = {}  # an ordered set
    runs: set[str] = set()
    met: dict[int, Row[Any]] = {}
    ids = sql_read.version_ids(connection, [start]).values()
    for way in ("upstream", "downstream"):
        if direction in (way, "both"):
            _walk(connection, ids, way == "upstream", depth, versions, runs, met)
    rows = sql_read.version_rows_by_id(connection, versions)
    edges = [EdgeRow(e.run_id, rows[e.version_id].key, e.kind, e.at) for e in met.values()]
    return Lineage(
        [rows[each] for each in versions],
        sorted(sql_read.run_rows(connection, list(runs)), key=lambda run: (run.created_at, run.id)),
        sorted(edges, key=lambda edge: (edge.at, edge.run_id, edge.version, edge.kind)),
    )


def _walk(
    connection: Connection,
    start: Iterable[int],
    up: bool,
    depth: int | None,
    versions: dict[int, None],
    runs: set[str],
    met: dict[int, Row[Any]],
) -> None:
    """Go one way from version to version through runs, breadth first, and note what is met."""
    into: EdgeKind = "output" if up else "input"
    out_of: EdgeKind = "input" if up else "output"
    seen_runs: set[str] = set()
    seen: set[int] = set()
    frontier = _with_links(connection, start, up)
    versions |= dict.fromkeys(frontier)
    while frontier and depth != 0:
        depth = None if depth is None else depth - 1
        seen.update(frontier)
        near = _edges(connection, _EDGES_BY_VERSION, frontier, [into])
        new_runs = dict.fromkeys(edge.run_id for edge in near if edge.run_id not in seen_runs)
        seen_runs.update(new_runs)
        far = _edges(connection, _EDGES_BY_RUN, new_runs, [out_of])
        met |= {edge.id: edge for edge in (*near, *far)}
        found = _with_links(connection, (edge.version_id for edge in far), up)
        versions |= dict.fromkeys(found)
        frontier = [each for each in found if each not in seen]
    runs |= seen_runs


def _edges(
    connection: Connection, statement: Select[Any], ids: Iterable[Any], kinds: Sequence[EdgeKind]
) -> list[Row[Any]]:
    """Rows of `edges`, oldest first."""
    found: list[Row[Any]] = []
    for chunk in chunks(ids):
        found += connection.execute(statement, {"ids": chunk, "kinds": kinds})
    return sorted(found, key=_age)


def _age(edge: Row[Any]) -> tuple[datetime, int]:
    return edge.at, edge.id


def _with_links(connection: Connection, ids: Iterable[int], up: bool) -> list[int]:
    """These versions and those that are one with them.

    A linked version came from what its source came from; what came of its source and of all links of it came of
    one version.
    """
    met = dict.fromkeys(ids)
    todo = list(met)
    while todo:
        near: set[int] = set()
        for chunk in chunks(todo):
            for statement in (_SOURCES,) if up else (_SOURCES, _LINKS):
                near.update(connection.execute(statement, {"ids": chunk}).scalars())
        todo = sorted(near - met.keys())
        met |= dict.fromkeys(todo)
    return list(met)
