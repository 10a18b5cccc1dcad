"""The tables of a catalog in SQL, and the two column types that SQLite and PostgreSQL would otherwise treat
differently.

`projects` → `collections` → `versions` → `aliases`, `tags`, `metadata_terms`; `runs` and `versions` meet in
`edges`; `manifests` → `shards` → `uri_ranges`.
Rows refer to each other by integer ids that never leave the database: its callers see natural keys only.
Changing anything here needs a migration (see `migrations`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)
from sqlalchemy.types import TypeDecorator


class UtcTime(TypeDecorator[datetime]):
    """An aware time: UTC in the database, UTC on the way out. SQLite has no zones, so there it is stored
    without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs a time zone: {value!r}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """JSON as ASCII text.

    Not the databases' JSON types: `jsonb` refuses U+0000 and lone surrogates, forgets the order of keys and
    turns numbers into decimals, SQLite keeps them all; as text, what goes in comes out on both. Searching
    metadata goes through `metadata_terms`.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


Id = BigInteger().with_variant(
    Integer, "sqlite"
)  # SQLite numbers rows by itself only where the type is INTEGER

metadata = MetaData()

schema_version = Table(
    "schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False)
)

projects = Table(
    "projects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String, nullable=False, unique=True),
)

collections = Table(
    "collections",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("type", String, nullable=False),
    Column("next_number", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("project_id", "name"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("job_type", String),
    Column("run_group", String),
    Column("config", JsonText, nullable=False),
    Column("tags", JsonText, nullable=False),
    Column("state", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("user_name", String),
    Column("host", String),
    Column("pid", BigInteger),
    Index("ix_runs_created", "created_at", "id"),
    Index("ix_runs_project", "project_id", "created_at", "id"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("address", String, nullable=False),
    Column("content_digest", String, nullable=False),
    Column("manifest_digest", String, nullable=False),
    Column("entry_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("referenced_bytes", BigInteger, nullable=False),
    Column("managed_bytes", BigInteger, nullable=False),
    Column("description", Text),
    Column("metadata", JsonText, nullable=False),
    Column("ttl_s", BigInteger),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", ForeignKey("runs.id")),
    Column("source_id", ForeignKey("versions.id")),
    Column("deleted_at", UtcTime),
    UniqueConstraint("collection_id", "number"),
    Index("ix_versions_content", "content_digest"),
    Index("ix_versions_manifest", "manifest_digest"),
    Index("ix_versions_source", "source_id"),
    Index("ix_versions_address", "address"),
)
# The database itself refuses a second live version of one manifest. In words that both take: `postgresql_where=`
# would import the dialect of PostgreSQL wherever SQLite is used.
event.listen(
    versions,
    "after_create",
    DDL(  # type: ignore[no-untyped-call]
        "CREATE UNIQUE INDEX uq_versions_live_manifest ON versions (collection_id, manifest_digest)"
        " WHERE deleted_at IS NULL"
    ),
)

aliases = Table(
    "aliases",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("alias", String, nullable=False),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    PrimaryKeyConstraint("collection_id", "alias"),
    Index("ix_aliases_version", "version_id"),
)

tags = Table(
    "tags",
    metadata,
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("tag", String, nullable=False),
    PrimaryKeyConstraint("version_id", "tag"),
    Index("ix_tags_tag", "tag", "version_id"),
)

metadata_terms = Table(
    "metadata_terms",
    metadata,
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("term", String, nullable=False),  # SHA-256 of a top-level key and its scalar value
    PrimaryKeyConstraint("version_id", "term"),
    Index("ix_metadata_terms_term", "term", "version_id"),
)

edges = Table(
    "edges",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("run_id", "version_id", "kind"),
    Index("ix_edges_version", "version_id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("request_id", String, nullable=False, unique=True),  # tells a retry that the first try had landed
    Column("at", UtcTime, nullable=False),
    Column("project", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", JsonText, nullable=False),
    Index("ix_audit_project", "project", "id"),
    Index("ix_audit_subject", "subject", "id"),
)

parts = Table(
    "parts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("distributed_id", String, nullable=False),
    Column("address", String, nullable=False),
    Column("type", String, nullable=False),
    Column("run_id", ForeignKey("runs.id")),
    Column("at", UtcTime, nullable=False),
    UniqueConstraint("project_id", "name", "distributed_id", "address"),
)

# Where the URIs of references are found: versions → manifests → shards → ranges of URIs. A manifest that is not here
# was logged by an older refart, and is not searched before it has been read.
manifests = Table(
    "manifests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("address", String, nullable=False, unique=True),
)

shards = Table(
    "shards",
    metadata,
    Column("id", Id, primary_key=True),
    Column("shard_key", String, nullable=False, unique=True),
)

manifest_shards = Table(
    "manifest_shards",
    metadata,
    Column("manifest_id", ForeignKey("manifests.id"), nullable=False),
    Column("shard_id", ForeignKey("shards.id"), nullable=False),
    PrimaryKeyConstraint("manifest_id", "shard_id"),
    Index("ix_manifest_shards_shard", "shard_id"),
)

uri_ranges = Table(
    "uri_ranges",
    metadata,
    Column("shard_id", ForeignKey("shards.id"), nullable=False),
    # UTF-8, shortened: bytes compare alike on both databases and whatever the locale, and fit into an index.
    Column("first_uri", LargeBinary, nullable=False),
    Column("last_uri", LargeBinary, nullable=False),
    PrimaryKeyConstraint("shard_id", "first_uri"),
    Index("ix_uri_ranges_first", "first_uri", "last_uri"),
)

settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)
