"""Which versions refer to an object, or to what lies below a prefix: what breaks where it is deleted.

The catalog names the shards that may hold such URIs; of those, the row groups in question are read, each shard once
however many versions share it.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from refart import names
from refart.catalog.base import EdgeKind, RunRow, ShardUris, VersionKey, VersionRow
from refart.context import Context
from refart.entries import Entry, Page, entries_of
from refart.errors import InvalidInputError, NotFoundError
from refart.manifest.reader import Manifest, open_shard
from refart.manifest.shards import exact_sum
from refart.manifest.uris import UriRanges
from refart.parallel import map_bounded, thread_pool
from refart.sources.local.source import canonical_uri

EXAMPLES: Final = 5

PinKind: TypeAlias = str
"""`version`, `generation`, `etag` (also where the content id is the ETag to ask for), or `none`."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What one version holds below the URI."""

    version: VersionRow
    entry_count: int
    size_bytes: int
    """Sum of the known sizes."""
    pins: Mapping[PinKind, int]
    """How many entries are pinned by what. `version` and `generation` outlive an overwritten or deleted object on a
    bucket that keeps old ones; the others are lost with it."""
    examples: tuple[Entry, ...]
    """The first few, by path."""
    logged_by: tuple[RunRow, ...]
    used_by: tuple[RunRow, ...]


@dataclass(frozen=True, slots=True)
class WhoReport:
    """Who refers to a URI."""

    uri: str
    holdings: tuple[Holding, ...]
    """Live versions, the newest of each collection first."""
    shards_read: int


@dataclass(slots=True)
class _Found:
    """What was found in some shards."""

    rows: int = 0
    size_bytes: int = 0
    pins: Counter[PinKind] = field(default_factory=Counter)
    examples: list[Entry] = field(default_factory=list)

    def add(self, other: _Found, most: int) -> None:
        self.rows += other.rows
        self.size_bytes += other.size_bytes
        self.pins.update(other.pins)
        self.examples = (self.examples + other.examples)[:most]


def who(context: Context, uri: str, *, examples: int = EXAMPLES) -> WhoReport:
    """The live versions with entries at `uri` or below it. See `Workspace.who`."""
    if examples < 0:
        raise InvalidInputError(f"examples must not be negative, is {examples}")
    uris = _spellings(uri)
    index(context)
    holders = [
        holder for each in uris for bounds in _bounds(each) for holder in context.catalog.holders(*bounds)
    ]
    shards: dict[str, list[str]] = defaultdict(list)  # of each manifest
    versions: dict[str, tuple[VersionKey, ...]] = {}
    for holder in holders:
        shards[holder.address] += holder.shard_keys
        versions[holder.address] = holder.versions
    found = _read(context, sorted({key for keys in shards.values() for key in keys}), uris, examples)
    held: dict[VersionKey, _Found] = {}
    for address, keys in shards.items():
        total = _Found()
        for part in sorted((found[k] for k in set(keys) if found[k].rows), key=_first_path):
            total.add(part, examples)
        if total.rows:
            held |= dict.fromkeys(versions[address], total)
    if not held:
        _check_path(context, uri)
    return WhoReport(uris[0], _holdings(context, held), len(found))


def _check_path(context: Context, uri: str) -> None:
    """Raise `NotFoundError` for a plain path that nothing holds and at which nothing lies: a typing error, or the name
    of a version, must not look like an object that nobody needs."""
    if names.uri_scheme(uri) is not None or os.path.lexists(canonical_uri(uri).removeprefix("file://")):
        return
    advice = (
        f"check it, or give a whole URI (file://…, s3://…): {canonical_uri(uri)} if this is what you mean"
    )
    with suppress(InvalidInputError, NotFoundError):
        ref = names.parse_version_ref(uri, context.local.config.project)
        context.catalog.version(ref.project, ref.name, ref.selector)
        advice = f"{ref} is a version: refart show tells who used it, refart ls which URIs it holds"
    raise NotFoundError(f"no version holds {uri!r}, and no such file or folder is here; {advice}")


def index(context: Context) -> None:
    """Tell the catalog of the URIs of manifests that an older refart logged: each is read once and for all.

    Raises `FormatError` or `NotFoundError` for one that cannot be read: it might hold what is asked for.
    """
    missing = context.catalog.without_uris()
    if not missing:
        return
    with context.local.reporter.task("Indexing earlier versions", unit="versions") as task:
        for address in missing:
            manifest = Manifest.open(context.store, address)
            known = context.catalog.shards_with_uris([shard.key for shard in manifest.index.shards])
            told = []
            for shard in manifest.index.shards:
                ranges = None
                if shard.key not in known:
                    ranges = UriRanges()
                    for page in manifest.shard_pages(shard):
                        ranges.add(page["uri"])
                told.append(ShardUris(shard.key, ranges.ranges() if ranges is not None else None))
            context.catalog.add_uris(address, told)
            task.advance(1)


_SPELLINGS: Final = {"s3": "s3a", "s3a": "s3", "gs": "gcs", "gcs": "gs"}


def _spellings(uri: str) -> list[str]:
    """The URI as entries may have it, its usual form first; a path of this machine is one of `file://`."""
    uri = names.check_uri(uri)
    scheme = names.uri_scheme(uri)
    if scheme == "refart":
        raise InvalidInputError(
            f"{uri} names a version, and who asks about objects and prefixes such as s3://bucket/key:"
            " refart show tells who used a version"
        )
    if scheme in (None, "file"):
        return [canonical_uri(uri)]
    uri = f"{scheme}{uri[len(scheme) :]}".rstrip("/")
    return [uri, *([f"{_SPELLINGS[scheme]}{uri[len(scheme) :]}"] if scheme in _SPELLINGS else [])]


def _bounds(uri: str) -> list[tuple[str, str]]:
    """The URI itself, and those below it; between them lie others (`a`, `a-b`, `a/c`)."""
    return [(uri, uri + "\0"), (uri + "/", uri + "0")]  # "0" follows "/"


def _chosen(page: Page, uris: Sequence[str]) -> Page:
    uri = page["uri"]
    mask = pa.array([False] * page.num_rows)
    for each in uris:
        for first, after in _bounds(each):
            mask = pc.or_(mask, pc.and_(pc.greater_equal(uri, first), pc.less(uri, after)))
    return page.filter(mask)  # a row without a URI is null, and left out


def _read(context: Context, keys: Sequence[str], uris: Sequence[str], examples: int) -> dict[str, _Found]:
    """What each of these shards holds at or below the URIs."""

    def read(key: str) -> _Found:
        total = _Found()
        with closing(open_shard(context.store, key)) as file:
            bounds = [each for uri in uris for each in _bounds(uri)]
            groups = [group for group in range(file.group_count) if file.may_hold(group, bounds)]
            for page in file.pages(groups):
                total.add(_told(_chosen(page, uris), examples), examples)
        task.advance(1)
        return total

    with (
        context.local.reporter.task("Reading shards", unit="shards") as task,
        thread_pool(context.local.config.threads) as pool,
    ):
        found = map_bounded(pool, read, keys, window=2 * context.local.config.threads)
        return dict(zip(keys, found, strict=True))


def _told(page: Page, examples: int) -> _Found:
    by_content = pc.if_else(pc.starts_with(page["content_id"], "etag:"), "etag:", "none:")
    kinds = pc.replace_substring_regex(pc.coalesce(page["pin"], by_content), r"(?s):.*", "")
    counts = {row["values"]: row["counts"] for row in pc.value_counts(kinds).to_pylist()}
    return _Found(
        page.num_rows, exact_sum(page["size"]), Counter(counts), list(entries_of(page.slice(0, examples)))
    )


def _first_path(found: _Found) -> str:
    return found.examples[0].path if found.examples else ""


def _holdings(context: Context, held: Mapping[VersionKey, _Found]) -> tuple[Holding, ...]:
    rows = context.catalog.version_rows(list(held))
    runs = {kind: _runs(context, held, kind) for kind in ("output", "input")}
    holdings = (
        Holding(
            row,
            held[row.key].rows,
            held[row.key].size_bytes,
            dict(held[row.key].pins),
            tuple(held[row.key].examples),
            tuple(runs["output"][row.key]),
            tuple(runs["input"][row.key]),
        )
        for row in rows
    )
    return tuple(sorted(holdings, key=lambda each: (*each.version.key[:2], -each.version.key.number)))


def _runs(context: Context, keys: Iterable[VersionKey], kind: EdgeKind) -> Mapping[VersionKey, list[RunRow]]:
    edges = context.catalog.edges(versions=list(keys), kind=kind)
    rows = {row.id: row for row in context.catalog.run_rows(list({edge.run_id for edge in edges}))}
    found: dict[VersionKey, list[RunRow]] = defaultdict(list)
    for edge in edges:
        found[edge.version].append(rows[edge.run_id])
    return found
