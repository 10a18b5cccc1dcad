"""The manifest index: the list of shards of one version, and the digests that name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from refart.entries import Page


class ByteStore(Protocol):
    """What a manifest needs of the store: content-addressed files of two kinds, `shards` and `manifests`."""

    def read(self, kind: str, key: str) -> bytes:
        """All bytes of one object. `NotFoundError` where it is missing."""

    def local_path(self, kind: str, key: str) -> str | None:
        """A path to read the object in place, where the store is a local folder; else None."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One row of the index: a run of consecutive entries in one Parquet file."""

    key: str
    """Hex digest of all columns, pins included: the shard's key in the store."""
    content_digest: str
    """Hex digest over path, size and content id of the rows."""
    manifest_digest: str
    """Hex digest over path, size, content id and URI of the rows."""
    first_path: str
    last_path: str
    rows: int
    file_bytes: int
    size_bytes: int
    """Sum of the known sizes of the entries."""
    referenced_bytes: int
    managed_bytes: int


@dataclass(frozen=True, slots=True)
class KeptShard:
    """A whole shard of an earlier manifest that nothing changed: part of a stream of sorted pages."""

    info: ShardInfo
    pages: Callable[[], Iterator[Page]]
    """Reads the rows, for a writer that cannot take the shard over as it is."""
