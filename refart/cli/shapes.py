"""The records that commands print, under the keys that docs/cli.md promises."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refart.artifact import Artifact, RunRecord
    from refart.catalog.base import AuditRow, CollectionRow, RunRow
    from refart.entries import Entry


def version_record(artifact: Artifact) -> dict[str, Any]:
    """A version, without what needs another query."""
    return {
        "name": artifact.qualified_name,
        "version": artifact.version,
        "type": artifact.type,
        "created_at": artifact.created_at,
        "entries": artifact.file_count,
        "size_bytes": artifact.size,
        "referenced_bytes": artifact.referenced_size,
        "managed_bytes": artifact.stored_size,
        "digest": artifact.digest,
        "manifest_digest": artifact.manifest_digest,
        "aliases": artifact.aliases,
        "tags": artifact.tags,
        "description": artifact.description,
        "metadata": artifact.metadata,
        "ttl_s": artifact.ttl // timedelta(seconds=1) if artifact.ttl is not None else None,
        "source_version": artifact.source_version,
    }


def collection_record(row: CollectionRow) -> dict[str, Any]:
    return {
        "name": f"{row.project}/{row.name}",
        "type": row.type,
        "versions": row.version_count,
        "latest": None if row.latest is None else f"v{row.latest}",
        "created_at": row.created_at,
    }


def entry_record(entry: Entry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "size": entry.size,
        "content_id": entry.content_id,
        "uri": entry.uri,
        "pin": entry.pin,
        "weak": entry.is_weak,
    }


def weak_text(artifact: Artifact) -> str | None:
    """What people are told about weak identities; None where there are none, or nobody counted."""
    count = artifact.weak_count
    if not count:
        return None
    return f"{count:,} (size and time, a weak ETag, or nothing; --checksum sha256 makes them strong)"


def run_record(run: RunRecord | RunRow) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "job_type": run.job_type,
        "state": run.state,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }


def run_label(run: RunRecord | RunRow) -> str:
    """`run 1a2b3c4d (train)`: its id, and what it did or what it is called."""
    return f"run {run.id} ({run.job_type or run.name})"


def audit_record(row: AuditRow) -> dict[str, Any]:
    return {
        "at": row.at,
        "name": row.subject,
        "action": row.action,
        "actor": row.actor,
        "detail": dict(row.detail),
    }
