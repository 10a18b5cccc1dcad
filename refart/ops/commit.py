"""Log a draft as a version.

The order is the contract: managed bytes, then shards, then the manifest index, then one catalog transaction. Readers
go the other way. Each step is idempotent, so a crash at any point leaves at most bytes that nothing refers to, and the
next log of the same content takes up what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from refart.catalog.base import (
    Commit,
    Committed,
    ManifestInfo,
    ShardUris,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.context import Context
from refart.errors import ConflictError
from refart.manifest.draft import Draft
from refart.manifest.index import ManifestIndex
from refart.manifest.writer import Built, write_manifest
from refart.parallel import map_bounded, thread_pool


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asked to log, besides the entries."""

    project: str
    name: str
    type: str
    run_id: str | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    ttl_s: int | None = None
    inputs: tuple[VersionKey, ...] = ()
    distributed_id: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def log(context: Context, draft: Draft, request: Request) -> Committed:
    """Make the draft's entries a version of `request.project/request.name`.

    Nothing is uploaded, and no version is made, where a live version of the collection has the same manifest digest.
    Raises `ConflictError` where the collection has another type, or where a file changed since it was added;
    `StoreError` and `CatalogError` where they fail. After an error every earlier version is as it was.
    """
    known = context.catalog.collection_type(request.project, request.name)
    if known is not None and known != request.type:
        raise ConflictError(
            f"{request.project}/{request.name} has the type {known!r}, not {request.type!r}: an artifact name has"
            " one type in its project"
        )
    with TemporaryDirectory(prefix="refart-manifest-") as folder:
        built = write_manifest(draft.segments(), Path(folder), draft.roots)
        manifest = info_of(built.index)
        if known is not None:
            same = VersionFilter(
                project=request.project, name=request.name, manifest_digest=manifest.manifest_digest
            )
            found = context.catalog.versions(same, limit=1)
            if found:
                # The whole manifest of the version found, not ours: should it be deleted before the next line, the
                # version that is then made points at bytes that exist.
                return context.catalog.commit(_commit_row(context, request, found[0].manifest))
        upload_managed(context, draft)
        upload_manifest(context, built)
        uris = [ShardUris(shard.key, built.uri_ranges.get(shard.key)) for shard in built.index.shards]
        return context.catalog.commit(replace(_commit_row(context, request, manifest), uris=uris))


def log_again(context: Context, version: VersionRow, request: Request) -> Committed:
    """Log a version that is logged already: `latest`, aliases, tags and the output edge of the run."""
    if version.deleted_at is not None:
        raise ConflictError(f"{version.key} was deleted; a deleted version cannot be logged again")
    return context.catalog.commit(_commit_row(context, request, version.manifest))


def _commit_row(context: Context, request: Request, manifest: ManifestInfo) -> Commit:
    return Commit(
        project=request.project,
        name=request.name,
        type=request.type,
        manifest=manifest,
        run_id=request.run_id,
        actor=request.run_id or context.actor,
        at=request.at,
        aliases=request.aliases,
        tags=request.tags,
        description=request.description,
        metadata=request.metadata,
        ttl_s=request.ttl_s,
        inputs=request.inputs,
        distributed_id=request.distributed_id,
    )


def info_of(index: ManifestIndex) -> ManifestInfo:
    """What the catalog keeps of a manifest."""
    return ManifestInfo(
        address=index.address,
        content_digest=index.content_digest,
        manifest_digest=index.manifest_digest,
        entry_count=index.entry_count,
        size_bytes=index.size_bytes,
        referenced_bytes=index.referenced_bytes,
        managed_bytes=index.managed_bytes,
    )


@contextmanager
def _pool(context: Context) -> Any:
    with thread_pool(context.local.config.threads) as pool:
        yield pool, 2 * context.local.config.threads


def upload_managed(context: Context, draft: Draft) -> None:
    """Bring the bytes of managed files into the store: each content once, hashed again while it is copied."""

    def put(row: tuple[str, int, str]) -> None:
        content_id, size, local_path = row
        context.store.put_file("blobs", content_id.removeprefix("sha256:"), local_path)
        task.advance(1, size_bytes=size)

    with context.local.reporter.task("Storing files", unit="files") as task, _pool(context) as (pool, window):
        for batch in draft.local_files():
            columns = (batch.column(c).to_pylist() for c in ("content_id", "size", "local_path"))
            rows = zip(*columns, strict=True)
            for _ in map_bounded(pool, put, rows, window=window):
                pass


def upload_manifest(context: Context, built: Built) -> None:
    """Bring the new shards, then the index, into the store; then make sure that nothing put so far can be lost."""
    with _pool(context) as (pool, window):
        shards = ((info.key, path) for info, path in built.new_shards)
        for _ in map_bounded(
            pool, lambda s: context.store.put_file("shards", *s, sha256=False), shards, window=window
        ):
            pass
    context.store.put_bytes("manifests", built.index.address, built.index.to_json())
    context.store.sync()


def measure(draft: Draft) -> ManifestIndex:
    """Digests and counts of a draft as it stands; writes only to a temporary folder."""
    with TemporaryDirectory(prefix="refart-manifest-") as folder:
        return write_manifest(draft.segments(), Path(folder), draft.roots).index


def link(
    context: Context, source: VersionRow, project: str, name: str, aliases: tuple[str, ...]
) -> Committed:
    """Make a version of another collection that stands for `source`: the same manifest, no bytes.

    Raises `ConflictError` where the source is deleted, or the target is its own collection or has another type.
    """
    if source.deleted_at is not None:
        raise ConflictError(f"{source.key} was deleted; a deleted version cannot be linked")
    if (project, name) == (source.key.project, source.key.name):
        raise ConflictError(f"{source.key} cannot be linked to its own collection; give it an alias instead")
    return context.catalog.commit(
        Commit(
            project=project,
            name=name,
            type=source.type,
            manifest=source.manifest,
            run_id=None,
            actor=context.actor,
            at=datetime.now(UTC),
            aliases=aliases,
            tags=source.tags,
            description=source.description,
            metadata=source.metadata,
            ttl_s=source.ttl_s,
            source=source.source or source.key,
        )
    )
