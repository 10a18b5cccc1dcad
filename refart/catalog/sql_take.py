"""Take over a part of another catalog: versions under their numbers, runs, edges. One transaction's work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from refart import names
from refart.catalog import sql_read, sql_uris, sql_write
from refart.catalog import tables as t
from refart.catalog.base import MovedAlias, RunRow, Snapshot, Taken, VersionKey, VersionRow
from refart.catalog.sql_read import IDS, chunks
from refart.catalog.sql_write import Changes
from refart.errors import ConflictError


def take(connection: Connection, snapshot: Snapshot, actor: str, at: datetime, request_id: str) -> Taken:
    """See `Catalog.take`."""
    rows = sorted(snapshot.versions, key=lambda row: row.key)
    locked = {key: _lock(connection, *key, type, at) for key, type in _collections(rows).items()}
    _take_runs(connection, snapshot.runs)
    requests = {f"{request_id}.{n}": row for n, row in enumerate(rows)}
    landed = _landed(connection, requests)  # by an earlier try, of which nobody heard whether it did
    here = {row.key: row for row in sql_read.version_rows(connection, [row.key for row in rows])}
    created: list[VersionKey] = []
    for request, row in requests.items():
        if row.key in here:
            _check_same(row, here[row.key])
        else:
            _insert(connection, locked[row.key[:2]], row)
        if row.key not in here or request in landed:
            created.append(row.key)
    ids = sql_read.version_ids(connection, [row.key for row in rows])
    ids |= _same_elsewhere(connection, snapshot.elsewhere)
    for request, row in requests.items():
        if row.key not in here:
            changes: Changes = {"manifest_digest": {"old": None, "new": row.manifest.manifest_digest}}
            changes |= _label(connection, locked[row.key[:2]], ids[row.key], row)
            sql_write.write_audit(connection, request, at, actor, "version.import", row.key, changes)
            landed[request] = changes
            if row.source in ids:
                source = {"source_id": ids[row.source]}
                connection.execute(update(t.versions).where(t.versions.c.id == ids[row.key]).values(source))
    kept = [edge for edge in snapshot.edges if edge.version in ids]
    for edge in kept:
        sql_write.add_edges(connection, edge.run_id, [ids[edge.version]], edge.kind, edge.at)
    for address, shards in snapshot.uris.items():
        sql_uris.add(connection, address, shards)
    old = [row for row in rows if row.key not in created]
    deleted = tuple(row.key for row in old if row.deleted_at is None and here[row.key].deleted_at is not None)
    return Taken(
        created=tuple(created),
        present=tuple(row.key for row in old if row.key not in deleted),
        deleted_here=deleted,
        moved_aliases=_moved(
            (requests[request].key, landed[request]) for request in requests if request in landed
        ),
        dropped_edges=len(snapshot.edges) - len(kept),
    )


def _collections(rows: Iterable[VersionRow]) -> dict[tuple[str, str], str]:
    """The type of each collection, in an order that all writers lock them in."""
    return {row.key[:2]: row.type for row in rows}


def _lock(connection: Connection, project: str, name: str, type: str, at: datetime) -> int:
    return int(sql_write.lock_or_create_collection(connection, project, name, type, at).id)


def _take_runs(connection: Connection, runs: Sequence[RunRow]) -> None:
    here = {run.id: run for run in sql_read.run_rows(connection, [run.id for run in runs])}
    for run in runs:
        mine = here.get(run.id)
        if mine is None:
            sql_write.save_run(connection, run)
        elif (mine.name, mine.created_at) != (run.name, run.created_at):
            raise ConflictError(
                f"another run has the id {run.id} here ({mine.project}/{mine.name}); nothing was imported"
            )


_LANDED: Final = select(t.audit.c.request_id, t.audit.c.detail).where(t.audit.c.request_id.in_(IDS))


def _landed(connection: Connection, requests: Iterable[str]) -> dict[str, Changes]:
    """The requests that were committed, and what they changed."""
    return {
        request: changes
        for chunk in chunks(requests)
        for request, changes in connection.execute(_LANDED, {"ids": chunk})
    }


def _moved(changed: Iterable[tuple[VersionKey, Changes]]) -> tuple[MovedAlias, ...]:
    """The aliases that had a version before all of these changes, each with its last one."""
    moves: dict[tuple[str, str, str], tuple[int | None, int]] = {}
    for key, changes in changed:
        for field, change in changes.items():
            kind, _, alias = field.partition(" ")
            if kind == "alias":
                place = (key.project, key.name, alias)
                first, _ = moves.get(place, (change["old"], None))
                moves[place] = (first, change["new"])
    return tuple(MovedAlias(*place, old, new) for place, (old, new) in moves.items() if old is not None)


def _check_same(row: VersionRow, mine: VersionRow) -> None:
    if row.manifest.manifest_digest != mine.manifest.manifest_digest:
        raise ConflictError(
            f"{row.key} is another version here (manifest {mine.manifest.manifest_digest}, not"
            f" {row.manifest.manifest_digest}); nothing was imported: import it as another project (--as-project)"
        )


_TWIN: Final = select(t.versions.c.number).where(
    t.versions.c.collection_id == bindparam("collection_id"),
    t.versions.c.manifest_digest == bindparam("manifest_digest"),
    t.versions.c.deleted_at.is_(None),
)


def _insert(connection: Connection, collection_id: int, row: VersionRow) -> None:
    if row.deleted_at is None:
        same = {"collection_id": collection_id, "manifest_digest": row.manifest.manifest_digest}
        twin = connection.execute(_TWIN, same).scalar_one_or_none()
        if twin is not None:
            raise ConflictError(
                f"{row.key} holds what v{twin} holds here, and a collection has one version of each content; nothing"
                " was imported: import it as another project (--as-project)"
            )
    values = {
        "collection_id": collection_id,
        "number": row.key.number,
        **asdict(row.manifest),
        "description": row.description,
        "metadata": row.metadata,
        "ttl_s": row.ttl_s,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "deleted_at": row.deleted_at,
    }
    connection.execute(insert(t.versions), values)
    connection.execute(
        update(t.collections)
        .where(t.collections.c.id == collection_id, t.collections.c.next_number <= row.key.number)
        .values(next_number=row.key.number + 1)
    )


_LATEST: Final = (
    select(t.versions.c.number)
    .join(t.aliases, t.aliases.c.version_id == t.versions.c.id)
    .where(t.aliases.c.collection_id == bindparam("of_collection"), t.aliases.c.alias == names.LATEST)
)


def _label(connection: Connection, collection_id: int, version_id: int, row: VersionRow) -> Changes:
    """Terms of the metadata, tags and aliases of a new version."""
    sql_write.insert_terms(connection, version_id, row.metadata)
    changes = sql_write.add_tags(connection, version_id, row.tags)
    if row.deleted_at is not None:
        return changes
    aliases = [alias for alias in row.aliases if alias != names.LATEST]
    latest = connection.execute(_LATEST, {"of_collection": collection_id}).scalar_one_or_none()
    if latest is None or (names.LATEST in row.aliases and latest < row.key.number):
        aliases.append(names.LATEST)
    return changes | sql_write.move_aliases(connection, collection_id, version_id, aliases)


def _same_elsewhere(connection: Connection, elsewhere: Mapping[VersionKey, str]) -> dict[VersionKey, Any]:
    """The ids of those versions that are here with the same manifest digest."""
    found = sql_read.version_rows(connection, list(elsewhere))
    same = [row.key for row in found if row.manifest.manifest_digest == elsewhere[row.key]]
    return sql_read.version_ids(connection, same)
