"""Changes of a SQL catalog: each function is one transaction's work, and takes a connection inside of it.

Writers of one collection take turns: each locks the collection's row first (SQLite: the whole file, from
BEGIN). Any function may be run again by a caller that does not know whether the first try landed. What is not
the same a second time by nature carries a `request_id`; its audit row, once found *under the lock*, says that
it landed. As in `sql_read`, what every log needs is built once, at import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select, update

from refart import names
from refart.catalog import missing, sql_read, sql_uris
from refart.catalog import tables as t
from refart.catalog.base import Commit, Committed, EdgeKind, PartRow, Patch, RunRow, VersionKey, VersionRow
from refart.catalog.sql_insert import insert_missing, insert_of
from refart.errors import CatalogError, ConflictError, InvalidInputError

Changes = dict[str, Any]
"""What an audit row tells: a field's name and `{"old": …, "new": …}`."""


# -- versions -------------------------------------------------------------------------------------

_SAME_MANIFEST: Final = select(t.versions.c.id).where(
    t.versions.c.collection_id == bindparam("collection_id"),
    t.versions.c.manifest_digest == bindparam("manifest_digest"),
    t.versions.c.deleted_at.is_(None),
)


def commit(connection: Connection, request: Commit, request_id: str) -> Committed:
    """Log a manifest; see `Catalog.commit`."""
    collection = lock_or_create_collection(
        connection, request.project, request.name, request.type, request.at
    )
    landed = _landed(connection, request_id)
    if landed is not None:
        action, number = landed
        (row,) = sql_read.version_rows(connection, [VersionKey(request.project, request.name, number)])
        return Committed(row, created=action == "version.create")
    if request.run_id is not None:
        _check_run(connection, request.run_id)
    same = {"collection_id": collection.id, "manifest_digest": request.manifest.manifest_digest}
    version_id = connection.execute(_SAME_MANIFEST, same).scalar_one_or_none()
    created = version_id is None
    if version_id is None:
        version_id = _insert_version(connection, collection, request)
        changes: Changes = {"manifest_digest": {"old": None, "new": request.manifest.manifest_digest}}
    else:
        changes = _set_fields(
            connection,
            version_id,
            {
                field: value
                for field in ("description", "metadata", "ttl_s")
                if (value := getattr(request, field)) is not None
            },
        )
    if request.uris is not None:
        sql_uris.add(connection, request.manifest.address, request.uris)
    changes |= add_tags(connection, version_id, request.tags)
    changes |= move_aliases(connection, collection.id, version_id, (names.LATEST, *request.aliases))
    if request.run_id is not None:
        add_edges(connection, request.run_id, [version_id], "output", request.at)
        # A draft that is still the version it was made from makes nothing of it: the graph has no cycle.
        inputs = [each for each in _existing_ids(connection, request.inputs) if each != version_id]
        add_edges(connection, request.run_id, inputs, "input", request.at)
    if request.distributed_id is not None:
        connection.execute(
            delete(t.parts).where(
                t.parts.c.project_id == project_id_of(connection, request.project),
                t.parts.c.name == request.name,
                t.parts.c.distributed_id == request.distributed_id,
            )
        )
    row = sql_read.version_rows_by_id(connection, [version_id])[version_id]
    action = "version.create" if created else "version.log_again"
    write_audit(connection, request_id, request.at, request.actor, action, row.key, changes)
    return Committed(row, created)


def update_version(connection: Connection, key: VersionKey, patch: Patch, request_id: str) -> VersionRow:
    """Change editable fields; see `Catalog.update`. Removals come before additions."""
    collection_id = _lock_collection(connection, key)
    if _landed(connection, request_id) is not None:
        return sql_read.version_rows(connection, [key])[0]
    row = sql_read.version(connection, *key)
    version_id = sql_read.version_ids(connection, [key])[key]
    fields: dict[str, Any] = {}
    if patch.set_description:
        fields["description"] = patch.description
    if patch.metadata is not None:
        fields["metadata"] = patch.metadata
    if patch.set_ttl:
        fields["ttl_s"] = patch.ttl_s
    changes = _set_fields(connection, version_id, fields)
    changes |= _remove_tags(connection, version_id, row, patch.remove_tags)
    changes |= _remove_aliases(connection, collection_id, row, patch.remove_aliases)
    changes |= add_tags(connection, version_id, patch.add_tags)
    changes |= move_aliases(connection, collection_id, version_id, patch.add_aliases)
    if changes:
        write_audit(connection, request_id, patch.at, patch.actor, "version.update", key, changes)
    return sql_read.version_rows_by_id(connection, [version_id])[version_id]


def delete_version(
    connection: Connection,
    key: VersionKey,
    *,
    delete_aliases: bool,
    actor: str,
    at: datetime,
    request_id: str,
) -> VersionRow:
    """Mark a version deleted; see `Catalog.delete`."""
    collection_id = _lock_collection(connection, key)
    if _landed(connection, request_id) is not None:
        return sql_read.version_rows(connection, [key])[0]
    row = sql_read.version(connection, *key)
    if row.aliases and not delete_aliases:
        raise ConflictError(
            f"{key} has the aliases {', '.join(row.aliases)}: give them to another version,"
            " or delete them with it (delete_aliases)"
        )
    version_id = sql_read.version_ids(connection, [key])[key]
    connection.execute(delete(t.aliases).where(t.aliases.c.version_id == version_id))
    connection.execute(update(t.versions).where(t.versions.c.id == version_id).values(deleted_at=at))
    changes: Changes = {f"alias {alias}": {"old": key.number, "new": None} for alias in row.aliases}
    if names.LATEST in row.aliases:
        newest = connection.execute(
            select(t.versions.c.id)
            .where(t.versions.c.collection_id == collection_id, t.versions.c.deleted_at.is_(None))
            .order_by(t.versions.c.number.desc())
            .limit(1)
        ).scalar_one_or_none()
        if newest is not None:
            moved = move_aliases(connection, collection_id, newest, (names.LATEST,))
            changes[f"alias {names.LATEST}"]["new"] = moved[f"alias {names.LATEST}"]["new"]
    write_audit(connection, request_id, at, actor, "version.delete", key, changes)
    return sql_read.version_rows_by_id(connection, [version_id])[version_id]


_TAKE_NUMBER: Final = (
    update(t.collections)
    .where(
        t.collections.c.id == bindparam("collection_id"), t.collections.c.next_number == bindparam("number")
    )
    .values(next_number=t.collections.c.next_number + 1)
)
_INSERT_VERSION: Final = insert(t.versions)


def _insert_version(connection: Connection, collection: Row[Any], request: Commit) -> int:
    number = collection.next_number
    # The row is locked; compare-and-swap all the same, so that no setting of a server or a pooler between us
    # can ever make two versions of one number.
    swapped = connection.execute(_TAKE_NUMBER, {"collection_id": collection.id, "number": number})
    if swapped.rowcount != 1:
        raise CatalogError(
            f"v{number} of {request.project}/{request.name} was taken meanwhile: log again", transient=True
        )
    sources = _existing_ids(connection, [request.source] if request.source is not None else [])
    metadata = {} if request.metadata is None else request.metadata
    values = {
        "collection_id": collection.id,
        "number": number,
        **asdict(request.manifest),
        "description": request.description,
        "metadata": metadata,
        "ttl_s": request.ttl_s,
        "created_at": request.at,
        "created_by": request.run_id,
        "source_id": sources[0] if sources else None,
    }
    inserted = connection.execute(_INSERT_VERSION, values)
    version_id = int(inserted.inserted_primary_key[0])  # type: ignore[index]  # None only for many rows
    insert_terms(connection, version_id, metadata)
    return version_id


def _set_fields(connection: Connection, version_id: int, fields: Mapping[str, Any]) -> Changes:
    if not fields:
        return {}
    columns = [t.versions.c[field] for field in fields]
    old = connection.execute(select(*columns).where(t.versions.c.id == version_id)).one()._mapping
    # As JSON: to Python, 1 and True are equal.
    changed = {field: value for field, value in fields.items() if json.dumps(old[field]) != json.dumps(value)}
    if changed:
        connection.execute(update(t.versions).where(t.versions.c.id == version_id).values(changed))
    if "metadata" in changed:
        connection.execute(delete(t.metadata_terms).where(t.metadata_terms.c.version_id == version_id))
        insert_terms(connection, version_id, changed["metadata"])
    return {field: {"old": old[field], "new": value} for field, value in changed.items()}


def insert_terms(connection: Connection, version_id: int, metadata: Mapping[str, Any]) -> None:
    insert_missing(
        connection,
        t.metadata_terms,
        [{"version_id": version_id, "term": term} for term in sql_read.metadata_terms(metadata)],
    )


def add_tags(connection: Connection, version_id: int, tags: Sequence[str]) -> Changes:
    if not tags:
        return {}
    present = (
        connection.execute(select(t.tags.c.tag).where(t.tags.c.version_id == version_id)).scalars().all()
    )
    added = [tag for tag in dict.fromkeys(tags) if tag not in present]
    insert_missing(connection, t.tags, [{"version_id": version_id, "tag": tag} for tag in added])
    return {f"tag {tag}": {"old": False, "new": True} for tag in added}


def _remove_tags(connection: Connection, version_id: int, row: VersionRow, tags: Sequence[str]) -> Changes:
    for tag in tags:
        if tag not in row.tags:
            raise missing.label(row.key, "tag", tag, row.tags)
        connection.execute(delete(t.tags).where(t.tags.c.version_id == version_id, t.tags.c.tag == tag))
    return {f"tag {tag}": {"old": True, "new": False} for tag in tags}


_NUMBER: Final = select(t.versions.c.number).where(t.versions.c.id == bindparam("version_id"))
_NUMBER_BY_ALIAS: Final = (
    select(t.versions.c.number)
    .join(t.aliases, t.aliases.c.version_id == t.versions.c.id)
    .where(t.aliases.c.collection_id == bindparam("of_collection"), t.aliases.c.alias == bindparam("word"))
)
_INSERT_ALIAS: Final = insert(t.aliases)
_MOVE_ALIAS: Final = update(t.aliases).where(
    t.aliases.c.collection_id == bindparam("of_collection"), t.aliases.c.alias == bindparam("word")
)


def move_aliases(
    connection: Connection, collection_id: int, version_id: int, aliases: Sequence[str]
) -> Changes:
    """Make each alias name this version, wherever it was before."""
    number = connection.execute(_NUMBER, {"version_id": version_id}).scalar_one()
    changes: Changes = {}
    for alias in dict.fromkeys(aliases):
        mine = {"of_collection": collection_id, "word": alias}
        old = connection.execute(_NUMBER_BY_ALIAS, mine).scalar_one_or_none()
        if old == number:
            continue
        if old is None:
            row = {"collection_id": collection_id, "alias": alias, "version_id": version_id}
            connection.execute(_INSERT_ALIAS, row)
        else:
            connection.execute(_MOVE_ALIAS, mine | {"version_id": version_id})
        changes[f"alias {alias}"] = {"old": old, "new": number}
    return changes


def _remove_aliases(
    connection: Connection, collection_id: int, row: VersionRow, aliases: Sequence[str]
) -> Changes:
    for alias in aliases:
        if alias == names.LATEST:
            raise InvalidInputError(
                f"the alias {names.LATEST!r} of {row.key} cannot be removed, only given to another version"
            )
        if alias not in row.aliases:
            raise missing.label(row.key, "alias", alias, row.aliases)
        connection.execute(
            delete(t.aliases).where(t.aliases.c.collection_id == collection_id, t.aliases.c.alias == alias)
        )
    return {f"alias {alias}": {"old": row.key.number, "new": None} for alias in aliases}


# -- runs, parts, settings ------------------------------------------------------------------------


def save_run(connection: Connection, run: RunRow) -> None:
    """Create the run, or replace the row of the same id."""
    values = {
        "id": run.id,
        "project_id": project_id_of(connection, run.project),
        "name": run.name,
        "job_type": run.job_type,
        "run_group": run.group,
        "config": run.config,
        "tags": list(run.tags),
        "state": run.state,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "user_name": run.user,
        "host": run.host,
        "pid": run.pid,
    }
    connection.execute(_save_run(connection.dialect.name), values)


@cache
def _save_run(dialect: str) -> Any:
    statement = insert_of(dialect, t.runs)
    replaced = {column.name: statement.excluded[column.name] for column in t.runs.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=[t.runs.c.id], set_=replaced)


def record_use(connection: Connection, run_id: str, key: VersionKey, at: datetime) -> None:
    """Record an input edge; a second time changes nothing."""
    _check_run(connection, run_id)
    add_edges(connection, run_id, _existing_ids(connection, [key]), "input", at)


def add_part(connection: Connection, part: PartRow) -> None:
    """Record a part; see `Catalog.add_part`."""
    project_id = project_id_of(connection, part.project)
    # Parts of one version may come before there is a collection to lock.
    connection.execute(_locking(select(t.projects.c.id).where(t.projects.c.id == project_id)))
    if part.run_id is not None:
        _check_run(connection, part.run_id)
    others = {row.type for row in sql_read.parts(connection, part.project, part.name, part.distributed_id)}
    collection = sql_read.collection(connection, part.project, part.name)
    if collection is not None:
        others.add(collection.type)
    if others - {part.type}:
        raise _other_type(part.project, part.name, (others - {part.type}).pop(), part.type)
    values = {
        "project_id": project_id,
        "name": part.name,
        "distributed_id": part.distributed_id,
        "address": part.address,
        "type": part.type,
        "run_id": part.run_id,
        "at": part.at,
    }
    insert_missing(connection, t.parts, [values])


def put_setting(connection: Connection, key: str, value: str) -> str:
    """Set a setting once; returns the value that holds."""
    insert_missing(connection, t.settings, [{"key": key, "value": value}])
    return str(connection.execute(select(t.settings.c.value).where(t.settings.c.key == key)).scalar_one())


# -- shared steps ---------------------------------------------------------------------------------


_PROJECT_ID: Final = select(t.projects.c.id).where(t.projects.c.name == bindparam("project"))


def project_id_of(connection: Connection, project: str) -> int:
    """The id of a project, which is created where it is missing."""
    found = connection.execute(_PROJECT_ID, {"project": project}).scalar_one_or_none()
    if found is None:
        insert_missing(connection, t.projects, [{"name": project}])
        found = connection.execute(_PROJECT_ID, {"project": project}).scalar_one()
    return int(found)


def _locking(query: Any, of: Table | None = None) -> Any:
    """FOR NO KEY UPDATE, which lets others insert rows that refer to the locked one. SQLite has locked
    already."""
    return query.with_for_update(key_share=True, of=of)


_LOCK_COLLECTION: Final = _locking(
    select(t.collections.c.id, t.collections.c.type, t.collections.c.next_number).where(
        t.collections.c.project_id == bindparam("project_id"), t.collections.c.name == bindparam("name")
    )
)


def lock_or_create_collection(
    connection: Connection, project: str, name: str, type: str, at: datetime
) -> Row[Any]:
    """`id`, `type` and `next_number` of the collection."""
    project_id = project_id_of(connection, project)
    mine = {"project_id": project_id, "name": name}
    row = connection.execute(_LOCK_COLLECTION, mine).one_or_none()
    if row is None:
        values = {
            "project_id": project_id,
            "name": name,
            "type": type,
            "next_number": 0,
            "created_at": at,
        }
        insert_missing(connection, t.collections, [values])
        row = connection.execute(_LOCK_COLLECTION, mine).one()
    if row.type != type:
        raise _other_type(project, name, row.type, type)
    return row


def _lock_collection(connection: Connection, key: VersionKey) -> int:
    row = connection.execute(
        _locking(
            select(t.collections.c.id)
            .join(t.projects, t.collections.c.project_id == t.projects.c.id)
            .where(t.projects.c.name == key.project, t.collections.c.name == key.name),
            of=t.collections,
        )
    ).one_or_none()
    if row is None:
        raise missing.version(connection, *key)
    return int(row.id)


_LANDED: Final = select(t.audit.c.action, t.audit.c.subject).where(
    t.audit.c.request_id == bindparam("request_id")
)


def _landed(connection: Connection, request_id: str) -> tuple[str, int] | None:
    """Action and version number of a request whose transaction was committed; None where it was not."""
    row = connection.execute(_LANDED, {"request_id": request_id}).one_or_none()
    return None if row is None else (row.action, int(row.subject.rpartition(":v")[2]))


_INSERT_AUDIT: Final = insert(t.audit)


def write_audit(
    connection: Connection,
    request_id: str,
    at: datetime,
    actor: str,
    action: str,
    key: VersionKey,
    changes: Changes,
) -> None:
    values = {
        "request_id": request_id,
        "at": at,
        "project": key.project,
        "actor": actor,
        "action": action,
        "subject": str(key),
        "detail": changes,
    }
    connection.execute(_INSERT_AUDIT, values)


_RUN: Final = select(t.runs.c.id).where(t.runs.c.id == bindparam("run_id"))


def _check_run(connection: Connection, run_id: str) -> None:
    if connection.execute(_RUN, {"run_id": run_id}).one_or_none() is None:
        raise missing.run(run_id)


def _existing_ids(connection: Connection, keys: Sequence[VersionKey]) -> list[int]:
    """Ids of versions that must exist; a deleted one counts, lineage is about the past."""
    found = sql_read.version_ids(connection, keys)
    for key in keys:
        if key not in found:
            raise missing.version(connection, *key)
    return list(found.values())


def add_edges(
    connection: Connection, run_id: str, version_ids: Sequence[int], kind: EdgeKind, at: datetime
) -> None:
    insert_missing(
        connection,
        t.edges,
        [{"run_id": run_id, "version_id": version_id, "kind": kind, "at": at} for version_id in version_ids],
    )


def _other_type(project: str, name: str, found: str, wanted: str) -> ConflictError:
    return ConflictError(
        f"{project}/{name} has type {found!r}, not {wanted!r}: use that type, or another name"
    )
