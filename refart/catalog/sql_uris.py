"""Where URIs are found: which shards may hold one, and which live versions have those shards.

Bounds are kept as UTF-8, which sorts as code points do, and shortened: a range may then be a little too wide, never
too narrow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, select

from refart.catalog import sql_read
from refart.catalog import tables as t
from refart.catalog.base import Holder, ShardUris
from refart.catalog.sql_insert import insert_missing
from refart.catalog.sql_read import IDS, chunks

MAX_BOUND_BYTES: Final = 512
"""Of a URI in an index: PostgreSQL takes a third of a page (2,704 bytes) for one row."""

_MANIFEST_ID: Final = select(t.manifests.c.id).where(t.manifests.c.address == bindparam("address"))
_SHARD_IDS: Final = select(t.shards.c.shard_key, t.shards.c.id).where(t.shards.c.shard_key.in_(IDS))


def add(connection: Connection, address: str, shards: Sequence[ShardUris]) -> None:
    """See `Catalog.add_uris`."""
    if connection.execute(_MANIFEST_ID, {"address": address}).scalar_one_or_none() is not None:
        return
    # In one order, so that two that add the same shards wait for each other instead of locking each other out.
    told = {shard.key: shard.ranges for shard in sorted(shards, key=_key) if shard.ranges is not None}
    insert_missing(connection, t.shards, [{"shard_key": key} for key in told])
    ids = shard_ids(connection, [shard.key for shard in shards])
    ranges = [
        {"shard_id": ids[key], "first_uri": _lower(first), "last_uri": _upper(last)}
        for key, found in told.items()
        for first, last in found
    ]
    insert_missing(connection, t.uri_ranges, ranges)
    if any(shard.key not in ids for shard in shards):
        return
    insert_missing(connection, t.manifests, [{"address": address}])
    manifest_id = connection.execute(_MANIFEST_ID, {"address": address}).scalar_one()
    rows = [{"manifest_id": manifest_id, "shard_id": shard_id} for shard_id in sorted(ids.values())]
    insert_missing(connection, t.manifest_shards, rows)


def shard_ids(connection: Connection, keys: Iterable[str]) -> dict[str, int]:
    """The id of each shard whose URIs are known."""
    found: dict[str, int] = {}
    for chunk in chunks(keys):
        found.update((key, shard_id) for key, shard_id in connection.execute(_SHARD_IDS, {"ids": chunk}))
    return found


_SHARDS_BETWEEN: Final = (
    select(t.shards.c.id, t.shards.c.shard_key)
    .distinct()
    .join(t.uri_ranges, t.uri_ranges.c.shard_id == t.shards.c.id)
    .where(t.uri_ranges.c.first_uri < bindparam("after"), t.uri_ranges.c.last_uri >= bindparam("first"))
)
_MANIFESTS_OF_SHARDS: Final = (
    select(t.manifests.c.address, t.manifest_shards.c.shard_id)
    .join(t.manifests, t.manifests.c.id == t.manifest_shards.c.manifest_id)
    .where(t.manifest_shards.c.shard_id.in_(IDS))
)
_LIVE_VERSIONS: Final = select(t.versions.c.address, t.versions.c.id).where(
    t.versions.c.address.in_(IDS), t.versions.c.deleted_at.is_(None)
)


def holders(connection: Connection, first: str, after: str) -> list[Holder]:
    """See `Catalog.holders`."""
    bounds = {"first": _lower(first), "after": _upper(after)}
    shard_keys: dict[int, str] = {}
    for shard_id, shard_key in connection.execute(_SHARDS_BETWEEN, bounds):
        shard_keys[shard_id] = shard_key
    shards: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks(shard_keys):
        for address, shard_id in connection.execute(_MANIFESTS_OF_SHARDS, {"ids": chunk}):
            shards[address].append(shard_keys[shard_id])
    live: dict[str, list[int]] = defaultdict(list)
    for addresses in chunks(shards):
        for address, version_id in connection.execute(_LIVE_VERSIONS, {"ids": addresses}):
            live[address].append(version_id)
    names = sql_read.keys_by_id(connection, [each for ids in live.values() for each in ids])
    found = (
        Holder(address, tuple(sorted(shards[address])), tuple(sorted(names[each] for each in ids)))
        for address, ids in live.items()
    )
    return sorted(found, key=lambda holder: holder.versions)


_WITHOUT: Final = (
    select(t.versions.c.address)
    .distinct()
    .outerjoin(t.manifests, t.manifests.c.address == t.versions.c.address)
    .where(t.versions.c.deleted_at.is_(None), t.manifests.c.id.is_(None))
)


def without(connection: Connection) -> list[str]:
    """See `Catalog.without_uris`."""
    return sorted(connection.execute(_WITHOUT).scalars())


def _key(shard: ShardUris) -> str:
    return shard.key


def _lower(uri: str) -> bytes:
    return uri.encode()[:MAX_BOUND_BYTES]


def _upper(uri: str) -> bytes:
    bound = uri.encode()
    return bound if len(bound) <= MAX_BOUND_BYTES else bound[:MAX_BOUND_BYTES] + b"\xff"  # beyond all UTF-8
