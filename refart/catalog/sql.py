"""The catalog on SQLite and PostgreSQL: `Catalog`, one transaction a method."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from refart.catalog import database, migrations, sql_lineage, sql_read, sql_take, sql_uris, sql_write
from refart.catalog.base import (
    AuditRow,
    CollectionRow,
    Commit,
    Committed,
    Direction,
    EdgeKind,
    EdgeRow,
    Holder,
    Lineage,
    PartRow,
    Patch,
    RunRow,
    ShardUris,
    Snapshot,
    Taken,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.catalog.database import DEADLINE_S, Database


def open_catalog(url: str | Path, *, create: bool = True, deadline_s: float = DEADLINE_S) -> SqlCatalog:
    """Open the catalog at `sqlite:///path`, a path, or `postgresql://…`; bring an older schema up to ours.

    Creates the SQLite file (not its folder) and the tables where they are missing, unless `create` is False:
    `NotFoundError`. Each call goes on trying for `deadline_s` seconds while the database is locked or lost;
    opening itself waits for locks, not for a server that does not answer.

    `InvalidInputError` for another kind of URL or SQLite on a network file system, `PermissionDeniedError`
    where the server or the file refuses us, `CatalogError` for a server that cannot be reached or a database
    it does not have, `FormatError` for a newer schema or a file of another kind.
    """
    opened = database.connect(url, create=create, deadline_s=deadline_s)
    try:
        migrations.migrate(opened, create=create)
    except BaseException:
        opened.close()
        raise
    return SqlCatalog(opened)


class SqlCatalog:
    """A `Catalog` in a SQL database; `open_catalog` makes it. What each method promises is said in
    `base.Catalog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"SqlCatalog({self._database.shown})"

    @property
    def shown_url(self) -> str:
        """The catalog's URL or path without anything secret: for people, not for opening it again."""
        return self._database.shown

    # -- calls that change something -------------------------------------------------------------

    def commit(self, commit: Commit) -> Committed:
        request_id = _request_id()
        return self._database.write(lambda connection: sql_write.commit(connection, commit, request_id))

    def take(self, snapshot: Snapshot, *, actor: str, at: datetime) -> Taken:
        request_id = _request_id()
        return self._database.write(
            lambda connection: sql_take.take(connection, snapshot, actor, at, request_id)
        )

    def update(self, key: VersionKey, patch: Patch) -> VersionRow:
        request_id = _request_id()
        return self._database.write(
            lambda connection: sql_write.update_version(connection, key, patch, request_id)
        )

    def delete(self, key: VersionKey, *, delete_aliases: bool, actor: str, at: datetime) -> VersionRow:
        request_id = _request_id()
        return self._database.write(
            lambda connection: sql_write.delete_version(
                connection, key, delete_aliases=delete_aliases, actor=actor, at=at, request_id=request_id
            )
        )

    def save_run(self, run: RunRow) -> None:
        # That a run began, nobody relies on before it logs or ends: so its beginning waits for no disk.
        durable = run.state != "running"
        self._database.write(lambda connection: sql_write.save_run(connection, run), durable=durable)

    def record_use(self, run_id: str, key: VersionKey, at: datetime) -> None:
        self._database.write(lambda connection: sql_write.record_use(connection, run_id, key, at))

    def add_part(self, part: PartRow) -> None:
        self._database.write(lambda connection: sql_write.add_part(connection, part))

    def add_uris(self, address: str, shards: Sequence[ShardUris]) -> None:
        self._database.write(lambda connection: sql_uris.add(connection, address, shards))

    def put_setting(self, key: str, value: str) -> str:
        return self._database.write(lambda connection: sql_write.put_setting(connection, key, value))

    # -- calls that read ---------------------------------------------------------------------------

    def setting(self, key: str) -> str | None:
        return self._database.read(lambda connection: sql_read.setting(connection, key))

    def version(self, project: str, name: str, selector: int | str) -> VersionRow:
        return self._database.read(lambda connection: sql_read.version(connection, project, name, selector))

    def versions(
        self, where: VersionFilter, *, limit: int | None = None, before: VersionKey | None = None
    ) -> list[VersionRow]:
        return self._database.read(lambda connection: sql_read.versions(connection, where, limit, before))

    def version_rows(self, keys: Sequence[VersionKey]) -> list[VersionRow]:
        return self._database.read(lambda connection: sql_read.version_rows(connection, keys))

    def projects(self) -> list[str]:
        return self._database.read(sql_read.projects)

    def collections(self, project: str | None = None, type: str | None = None) -> list[CollectionRow]:
        return self._database.read(lambda connection: sql_read.collections(connection, project, type))

    def collection_type(self, project: str, name: str) -> str | None:
        found = self._database.read(lambda connection: sql_read.collection(connection, project, name))
        return None if found is None else found.type

    def run(self, run_id: str) -> RunRow:
        return self._database.read(lambda connection: sql_read.run(connection, run_id))

    def run_rows(self, run_ids: Sequence[str]) -> list[RunRow]:
        return self._database.read(lambda connection: sql_read.run_rows(connection, run_ids))

    def runs(self, project: str | None = None, *, limit: int | None = None) -> list[RunRow]:
        return self._database.read(lambda connection: sql_read.runs(connection, project, limit))

    def edges(
        self,
        *,
        run_ids: Sequence[str] | None = None,
        versions: Sequence[VersionKey] | None = None,
        kind: EdgeKind | None = None,
    ) -> list[EdgeRow]:
        return self._database.read(lambda connection: sql_lineage.edges(connection, run_ids, versions, kind))

    def lineage(self, start: VersionKey, direction: Direction, depth: int | None) -> Lineage:
        return self._database.read(
            lambda connection: sql_lineage.lineage(connection, start, direction, depth)
        )

    def holders(self, first: str, after: str) -> list[Holder]:
        return self._database.read(lambda connection: sql_uris.holders(connection, first, after))

    def without_uris(self) -> list[str]:
        return self._database.read(sql_uris.without)

    def shards_with_uris(self, keys: Sequence[str]) -> set[str]:
        return self._database.read(lambda connection: set(sql_uris.shard_ids(connection, keys)))

    def parts(self, project: str, name: str, distributed_id: str) -> list[PartRow]:
        return self._database.read(
            lambda connection: sql_read.parts(connection, project, name, distributed_id)
        )

    def audit(
        self, project: str | None = None, subject: str | None = None, *, limit: int = 100
    ) -> list[AuditRow]:
        return self._database.read(lambda connection: sql_read.audit(connection, project, subject, limit))

    def close(self) -> None:
        self._database.close()


def _request_id() -> str:
    """Names one call in the audit log, whatever number of tries it takes."""
    return uuid.uuid4().hex
