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
from refart.catalog.base import RunRow, Snapshot, Taken, VersionKey, VersionRow
from refart.catalog.sql_read import IDS, chunks
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
            changes = {"manifest_digest": {"old": None, "new": row.manifest.manifest_digest}}
            sql_write.write_audit(connection, request, at, actor, "version.import", row.key, changes)
        if row.key not in here or request in landed:
            created.append(row.key)
    ids = sql_read.version_ids(connection, [row.key for row in rows])
    ids |= _same_elsewhere(connection, snapshot.elsewhere)
    for row in rows:
        if row.key not in here:
            _label(connection, locked[row.key[:2]], ids[row.key], row)
            if row.source in ids:
                source = {"source_id": ids[row.source]}
                connection.execute(update(t.versions).where(t.versions.c.id == ids[row.key]).values(source))
    kept = [edge for edge in snapshot.edges if edge.version in ids]
    for edge in kept:
        sql_write.add_edges(connection, edge.run_id, [ids[edge.version]], edge.kind, edge.at)
    for address, shards in snapshot.uris.items():
        sql_uris.add(connection, address, shards)
    present = tuple(row.key for row in rows if row.key not in created)
    return Taken(tuple(created), present, len(snapshot.edges) - len(kept))


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


_LANDED: Final = select(t.audit.c.request_id).where(t.audit.c.request_id.in_(IDS))


def _landed(connection: Connection, requests: Iterable[str]) -> set[str]:
    return {
        found for chunk in chunks(requests) for found in connection.execute(_LANDED, {"ids": chunk}).scalars()
    }


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


def _label(connection: Connection, collection_id: int, version_id: int, row: VersionRow) -> None:
    """Terms of the metadata, tags and aliases of a new version."""
    sql_write.insert_terms(connection, version_id, row.metadata)
    sql_write.add_tags(connection, version_id, row.tags)
    if row.deleted_at is not None:
        return
    aliases = [alias for alias in row.aliases if alias != names.LATEST]
    latest = connection.execute(_LATEST, {"of_collection": collection_id}).scalar_one_or_none()
    if latest is None or (names.LATEST in row.aliases and latest < row.key.number):
        aliases.append(names.LATEST)
    sql_write.move_aliases(connection, collection_id, version_id, aliases)


def _same_elsewhere(connection: Connection, elsewhere: Mapping[VersionKey, str]) -> dict[VersionKey, Any]:
    """The ids of those versions that are here with the same manifest digest."""
    found = sql_read.version_rows(connection, list(elsewhere))
    same = [row.key for row in found if row.manifest.manifest_digest == elsewhere[row.key]]
    return sql_read.version_ids(connection, same)
