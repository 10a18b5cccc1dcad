"""Queries of a SQL catalog: each function takes a connection inside a transaction and returns plain rows.

Aliases and tags of many versions come in one query each; lists of ids go in chunks, because SQLite before
3.32 takes 999 variables a statement. What every log needs is built once, at import: to build a statement takes
SQLAlchemy longer than to run it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import BindParameter, Connection, Executable, Row, Select, and_, bindparam, func, select

from refart import names
from refart.catalog import missing
from refart.catalog import tables as t
from refart.catalog.base import (
    AuditRow,
    CollectionRow,
    ManifestInfo,
    PartRow,
    RunRow,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.errors import InvalidInputError, NotFoundError

CHUNK: Final = 400
_MAX_NUMBER: Final = 2**63 - 1

Item = TypeVar("Item")

IDS: Final[BindParameter[Any]] = bindparam("ids", expanding=True)
"""Of a statement about a chunk of ids."""

_collections = t.collections.join(t.projects, t.collections.c.project_id == t.projects.c.id)
_versions = t.versions.join(_collections, t.versions.c.collection_id == t.collections.c.id)
_key = (t.projects.c.name.label("project"), t.collections.c.name.label("name"), t.versions.c.number)


# -- versions -------------------------------------------------------------------------------------


_SELECT_VERSIONS: Final = select(*_key, t.collections.c.type, t.versions).select_from(_versions)


def _with_alias(query: Select[Any], alias: Any) -> Select[Any]:
    mine = and_(
        t.aliases.c.version_id == t.versions.c.id, t.aliases.c.collection_id == t.versions.c.collection_id
    )
    return query.join(t.aliases, mine).where(t.aliases.c.alias == alias)


_OF_COLLECTION: Final = (t.projects.c.name == bindparam("project"), t.collections.c.name == bindparam("name"))
_VERSION_BY_NUMBER: Final = _SELECT_VERSIONS.where(
    *_OF_COLLECTION, t.versions.c.number == bindparam("selector"), t.versions.c.deleted_at.is_(None)
)
_VERSION_BY_ALIAS: Final = _with_alias(_SELECT_VERSIONS.where(*_OF_COLLECTION), bindparam("selector"))


def version(connection: Connection, project: str, name: str, selector: int | str) -> VersionRow:
    """A live version by number or alias; `NotFoundError` says what is unknown."""
    statement = _VERSION_BY_ALIAS if isinstance(selector, str) else _VERSION_BY_NUMBER
    if isinstance(selector, str) or 0 <= selector <= _MAX_NUMBER:
        named = {"project": project, "name": name, "selector": selector}
        for row in _version_rows(connection, statement, named).values():
            return row
    raise missing.version(connection, project, name, selector)


def versions(
    connection: Connection, where: VersionFilter, limit: int | None, before: VersionKey | None
) -> list[VersionRow]:
    """Versions that pass the filter, newest first."""
    query = _SELECT_VERSIONS
    # Ids are given under the lock of the collection: within one collection they grow with the number,
    # whatever the clocks of the machines say.
    order = t.versions.c.id
    if where.project is not None and where.name is not None:
        # Looked up first: a planner that does not know which collection it is expects few versions, and sorts
        # all of them instead of reading the end of an index.
        found = collection(connection, where.project, where.name)
        query = query.where(t.versions.c.collection_id == (None if found is None else found.id))
        order = t.versions.c.number
    elif where.project is not None:
        query = query.where(t.projects.c.name == where.project)
    elif where.name is not None:
        query = query.where(t.collections.c.name == where.name)
    if where.type is not None:
        query = query.where(t.collections.c.type == where.type)
    if where.manifest_digest is not None:
        query = query.where(t.versions.c.manifest_digest == where.manifest_digest)
    if where.content_digest is not None:
        query = query.where(t.versions.c.content_digest == where.content_digest)
    if where.alias is not None:
        query = _with_alias(query, where.alias)
    if where.tag is not None:
        query = query.join(t.tags, t.tags.c.version_id == t.versions.c.id).where(t.tags.c.tag == where.tag)
    for key, value in where.metadata.items():
        having = select(t.metadata_terms.c.version_id).where(
            t.metadata_terms.c.term == metadata_term(key, value)
        )
        query = query.where(t.versions.c.id.in_(having))
    if not where.include_deleted:
        query = query.where(t.versions.c.deleted_at.is_(None))
    if before is not None:
        last = version_ids(connection, [before]).get(before)
        if last is None:
            raise NotFoundError(f"there is no {before} to go on after: begin again without it")
        query = query.where(order < (before.number if order is t.versions.c.number else last))
    return list(_version_rows(connection, query.order_by(order.desc()).limit(limit)).values())


def version_rows(connection: Connection, keys: Sequence[VersionKey]) -> list[VersionRow]:
    """The rows of these keys in their order, deleted ones included; unknown keys are left out."""
    rows = version_rows_by_id(connection, version_ids(connection, keys).values())
    by_key = {row.key: row for row in rows.values()}
    return [by_key[key] for key in keys if key in by_key]


_VERSIONS_BY_ID: Final = _SELECT_VERSIONS.where(t.versions.c.id.in_(IDS))


def version_rows_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, VersionRow]:
    """The rows of these ids, in no order."""
    found: dict[int, VersionRow] = {}
    for chunk in chunks(ids):
        found |= _version_rows(connection, _VERSIONS_BY_ID, {"ids": chunk})
    return found


_COLLECTIONS_BY_NAME: Final = (
    select(t.projects.c.name, t.collections.c.name, t.collections.c.id)
    .select_from(_collections)
    .where(
        t.projects.c.name.in_(bindparam("projects", expanding=True)),
        t.collections.c.name.in_(bindparam("names", expanding=True)),
    )
)
_IDS_BY_NUMBER: Final = select(t.versions.c.number, t.versions.c.id).where(
    t.versions.c.collection_id == bindparam("collection_id"),
    t.versions.c.number.in_(bindparam("numbers", expanding=True)),
)


def version_ids(connection: Connection, keys: Iterable[VersionKey]) -> dict[VersionKey, int]:
    """The id of each known version, deleted ones included."""
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    for project, name, number in keys:
        if 0 <= number <= _MAX_NUMBER:
            numbers[project, name].add(number)
    found: dict[VersionKey, int] = {}
    for pairs in chunks(numbers, CHUNK // 2):
        # Rectangles of projects and names hold a few pairs nobody asked for; they are dropped here.
        wanted = {"projects": list({p for p, _ in pairs}), "names": list({n for _, n in pairs})}
        for project, name, collection_id in connection.execute(_COLLECTIONS_BY_NAME, wanted):
            for chunk in chunks(numbers.get((project, name), ()) if (project, name) in pairs else ()):
                asked = {"collection_id": collection_id, "numbers": chunk}
                for number, row_id in connection.execute(_IDS_BY_NUMBER, asked):
                    found[VersionKey(project, name, number)] = row_id
    return found


def metadata_term(key: str, value: object) -> str:
    """What `metadata_terms` holds for a top-level key and a scalar: equal exactly where Python and JSON say
    equal.

    A number is the same however it is written (1, 1.0); a boolean is not a number. A hash, because values may
    be longer than an index takes.
    """
    if isinstance(value, str):
        shown = "s" + value
    elif isinstance(value, bool):
        shown = "b1" if value else "b0"
    elif isinstance(value, int):
        shown = f"n{value:x}"
    elif isinstance(value, float):
        shown = f"n{int(value):x}" if value.is_integer() else f"n{value!r}"
    else:
        raise InvalidInputError(
            f"metadata is searched for text, numbers and booleans, not {type(value).__name__} (key {key!r})"
        )
    return hashlib.sha256(f"{len(key)}:{key}{shown}".encode(errors="surrogatepass")).hexdigest()


def metadata_terms(values: Mapping[str, Any]) -> list[str]:
    """The terms of all top-level scalars."""
    return [
        metadata_term(key, value) for key, value in values.items() if isinstance(value, str | int | float)
    ]


_ALIASES: Final = select(t.aliases.c.version_id, t.aliases.c.alias).where(t.aliases.c.version_id.in_(IDS))
_TAGS: Final = select(t.tags.c.version_id, t.tags.c.tag).where(t.tags.c.version_id.in_(IDS))


def _version_rows(
    connection: Connection, statement: Executable, parameters: Mapping[str, Any] | None = None
) -> dict[int, VersionRow]:
    """The rows of a statement made of `_SELECT_VERSIONS` by id, in its order."""
    rows = connection.execute(statement, parameters).all()
    ids = [row.id for row in rows]
    aliases, tags = _words(connection, _ALIASES, ids), _words(connection, _TAGS, ids)
    sources = keys_by_id(connection, {row.source_id for row in rows if row.source_id is not None})
    return {
        row.id: VersionRow(
            key=VersionKey(row.project, row.name, row.number),
            type=row.type,
            manifest=ManifestInfo(
                address=row.address,
                content_digest=row.content_digest,
                manifest_digest=row.manifest_digest,
                entry_count=row.entry_count,
                size_bytes=row.size_bytes,
                referenced_bytes=row.referenced_bytes,
                managed_bytes=row.managed_bytes,
            ),
            aliases=tuple(sorted(aliases[row.id])),
            tags=tuple(sorted(tags[row.id])),
            description=row.description,
            metadata=row.metadata,
            ttl_s=row.ttl_s,
            created_at=row.created_at,
            created_by=row.created_by,
            source=sources.get(row.source_id),
            deleted_at=row.deleted_at,
        )
        for row in rows
    }


def _words(connection: Connection, statement: Executable, ids: Sequence[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for chunk in chunks(ids):
        for version_id, word in connection.execute(statement, {"ids": chunk}):
            found[version_id].append(word)
    return found


_KEYS: Final = select(t.versions.c.id, *_key).select_from(_versions).where(t.versions.c.id.in_(IDS))


def keys_by_id(connection: Connection, ids: Iterable[int]) -> dict[int, VersionKey]:
    """The names of the versions of these ids."""
    found: dict[int, VersionKey] = {}
    for chunk in chunks(ids):
        for version_id, *key in connection.execute(_KEYS, {"ids": chunk}):
            found[version_id] = VersionKey(*key)
    return found


# -- projects and collections ---------------------------------------------------------------------


def projects(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(t.projects.c.name)).scalars())  # not by the server's collation


_COLLECTION: Final[Select[Any]] = (
    select(t.collections.c.id, t.collections.c.type).select_from(_collections).where(*_OF_COLLECTION)
)


def collection(connection: Connection, project: str, name: str) -> Row[Any] | None:
    """`id` and `type` of a collection. Its versions are not counted: that grows with their number."""
    return connection.execute(_COLLECTION, {"project": project, "name": name}).one_or_none()


def collections(
    connection: Connection, project: str | None = None, type: str | None = None
) -> list[CollectionRow]:
    """Collections by project and name."""
    count = (
        select(func.count())
        .where(t.versions.c.collection_id == t.collections.c.id, t.versions.c.deleted_at.is_(None))
        .scalar_subquery()
    )
    latest = (
        select(t.versions.c.number)
        .join(t.aliases, t.aliases.c.version_id == t.versions.c.id)
        .where(t.aliases.c.collection_id == t.collections.c.id, t.aliases.c.alias == names.LATEST)
        .scalar_subquery()
    )
    query = select(
        t.projects.c.name.label("project"),
        t.collections.c.name,
        t.collections.c.type,
        t.collections.c.created_at,
        count.label("version_count"),
        latest.label("latest"),
    ).select_from(_collections)
    for column, value in ((t.projects.c.name, project), (t.collections.c.type, type)):
        if value is not None:
            query = query.where(column == value)
    rows = [CollectionRow(**row._mapping) for row in connection.execute(query)]
    return sorted(rows, key=lambda row: (row.project, row.name))


# -- runs -----------------------------------------------------------------------------------------

_SELECT_RUNS: Final = select(t.projects.c.name.label("project"), t.runs).select_from(
    t.runs.join(t.projects, t.runs.c.project_id == t.projects.c.id)
)
_RUNS_BY_ID: Final = _SELECT_RUNS.where(t.runs.c.id.in_(IDS))


def run(connection: Connection, run_id: str) -> RunRow:
    for row in run_rows(connection, [run_id]):
        return row
    raise missing.run(run_id)


def run_rows(connection: Connection, run_ids: Sequence[str]) -> list[RunRow]:
    """The rows of these runs in their order; unknown ids are left out."""
    found: dict[str, RunRow] = {}
    for chunk in chunks(dict.fromkeys(run_ids)):
        found.update((row.id, _run_row(row)) for row in connection.execute(_RUNS_BY_ID, {"ids": chunk}))
    return [found[run_id] for run_id in run_ids if run_id in found]


def runs(connection: Connection, project: str | None, limit: int | None) -> list[RunRow]:
    """Runs, newest first."""
    query = _SELECT_RUNS
    if project is not None:
        query = query.where(t.projects.c.name == project)
    query = query.order_by(t.runs.c.created_at.desc(), t.runs.c.id.desc()).limit(limit)
    return [_run_row(row) for row in connection.execute(query)]


def _run_row(row: Row[Any]) -> RunRow:
    return RunRow(
        id=row.id,
        project=row.project,
        name=row.name,
        job_type=row.job_type,
        group=row.run_group,
        config=row.config,
        tags=tuple(row.tags),
        state=row.state,
        created_at=row.created_at,
        finished_at=row.finished_at,
        user=row.user_name,
        host=row.host,
        pid=row.pid,
    )


# -- parts, audit, settings -----------------------------------------------------------------------


def parts(connection: Connection, project: str, name: str, distributed_id: str) -> list[PartRow]:
    """The parts of one version under construction, in the order they came."""
    query = (
        select(
            t.projects.c.name.label("project"),
            t.parts.c.name,
            t.parts.c.distributed_id,
            t.parts.c.address,
            t.parts.c.type,
            t.parts.c.run_id,
            t.parts.c.at,
        )
        .join(t.projects, t.parts.c.project_id == t.projects.c.id)
        .where(
            t.projects.c.name == project, t.parts.c.name == name, t.parts.c.distributed_id == distributed_id
        )
        .order_by(t.parts.c.id)
    )
    return [PartRow(**row._mapping) for row in connection.execute(query)]


def audit(connection: Connection, project: str | None, subject: str | None, limit: int) -> list[AuditRow]:
    """Audit rows, newest first."""
    columns = [column for column in t.audit.c if column.name not in ("id", "request_id")]
    query = select(*columns)
    if subject is not None and project is not None and not subject.startswith(f"{project}/"):
        return []
    if subject is not None and ":" in subject:
        query = query.where(t.audit.c.subject == subject)  # alone: few rows, in the order of their index
    elif subject is not None:
        versions = f"{subject}:"  # no LIKE: SQLite's does not tell A from a
        query = query.where(
            t.audit.c.project == subject.partition("/")[0],
            func.substr(t.audit.c.subject, 1, len(versions)) == versions,
        )
    elif project is not None:
        query = query.where(t.audit.c.project == project)
    query = query.order_by(t.audit.c.id.desc()).limit(limit)
    return [AuditRow(**row._mapping) for row in connection.execute(query)]


def setting(connection: Connection, key: str) -> str | None:
    return connection.execute(select(t.settings.c.value).where(t.settings.c.key == key)).scalar_one_or_none()


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    listed = list(items)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]
