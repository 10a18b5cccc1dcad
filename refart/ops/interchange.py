"""Carry versions from one workspace to another in one tar file: catalog rows, manifests, shards and managed bytes.

`docs/interchange.md` has the format. Everything in it is named by its content, and is checked against its name before
the workspace sees it: bytes first, then one transaction of the catalog.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final, cast

import pyarrow.compute as pc

from refart import files, names
from refart.catalog.base import (
    ManifestInfo,
    MovedAlias,
    ShardUris,
    Snapshot,
    VersionFilter,
    VersionKey,
    VersionRow,
)
from refart.context import Context
from refart.entries import Page
from refart.errors import ConflictError, FormatError, InvalidInputError, NotFoundError, RefartError
from refart.manifest.index import ManifestIndex, ShardInfo
from refart.manifest.reader import Manifest
from refart.manifest.uris import UriRange, UriRanges
from refart.ops import interchange_records as records
from refart.ops.commit import info_of
from refart.parallel import map_bounded, thread_pool
from refart.store import SUFFIXES

FORMAT: Final = "refart.export/1"
HEADER: Final = "refart-export.json"
CATALOG: Final = "catalog.jsonl"
_MOST_BYTES: Final = {HEADER: 1 << 16, CATALOG: 1 << 30, "manifests": 1 << 28, "shards": 1 << 30}
"""Of one member; a blob may have any size."""
_ORDER: Final = (HEADER, CATALOG, "manifests", "shards", "blobs")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    file: str
    versions: int
    """Live ones."""
    runs: int
    manifests: int
    shards: int
    blobs: int
    size_bytes: int
    """Of the file."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was taken over."""

    created: tuple[str, ...]
    """`project/name:v3` of versions that were not here."""
    present: tuple[str, ...]
    """Versions that were here already, the same."""
    deleted_here: tuple[str, ...]
    """Versions of the file that were deleted here, and stay so: `as_project` brings them back under another name."""
    moved_aliases: tuple[str, ...]
    """Aliases that named another version before, as `project/name:alias: v0 -> v2`; `latest` is one."""
    dropped_edges: int
    """Edges of lineage to versions that are neither in the file nor here."""
    missing_blobs: int
    """Managed files whose bytes are neither in the file nor here; downloading them will fail."""


# -- export -----------------------------------------------------------------------------------------


def export_tar(
    context: Context,
    what: str,
    file: str | os.PathLike[str],
    *,
    blobs: bool = True,
    overwrite: bool = False,
) -> ExportReport:
    """Write versions with all that belongs to them. See `Workspace.export_tar`."""
    target = Path(os.fspath(file)).expanduser()
    _check_free(target, overwrite=overwrite)
    project, versions = _chosen(context, what)
    snapshot = _snapshot(context, versions)
    live = [row for row in versions if row.deleted_at is None]
    manifests = {a: Manifest.open(context.store, a) for a in sorted({row.manifest.address for row in live})}
    shards = {shard.key: (m, shard) for m in manifests.values() for shard in m.index.shards}
    managed = sorted(
        {key for each in shards.values() for key in _managed(each[0].shard_pages(each[1]))} if blobs else ()
    )
    header = {"format": FORMAT, "project": project, "what": what, "blobs": blobs}
    try:
        with (
            files.temporary_file(target.absolute().parent) as output,
            context.local.reporter.task(f"Writing {target}", unit="objects") as task,
        ):
            with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, HEADER, json.dumps(header, sort_keys=True).encode())
                _add(tar, CATALOG, "".join(line + "\n" for line in records.lines_of(snapshot)).encode())
                for address, manifest in manifests.items():
                    _add(tar, _member("manifests", address), manifest.index.to_json())
                for kind, keys in (("shards", sorted(shards)), ("blobs", managed)):
                    for key in keys:
                        with context.store.open(kind, key) as stream:
                            size_bytes = context.store.size(kind, key)
                            _add(tar, _member(kind, key), stream, size_bytes)
                        task.advance(1, size_bytes=size_bytes)
            files.sync(output)
            size_bytes = os.fstat(output.fileno()).st_size
            if overwrite:
                Path(output.name).replace(target)
            elif not files.place_new(output.name, target):
                raise _taken(target)
    except OSError as error:
        if isinstance(error, RefartError):
            raise
        raise InvalidInputError(f"{str(target)!r} cannot be written: {error.strerror or error}") from error
    return ExportReport(
        str(target), len(live), len(snapshot.runs), len(manifests), len(shards), len(managed), size_bytes
    )


def _check_free(target: Path, *, overwrite: bool) -> None:
    """Raise where something lies that must not be replaced: without `overwrite` anything, a link that leads nowhere
    too; with it a folder, a device or a pipe."""
    try:
        mode = target.lstat().st_mode
    except OSError:
        return  # what else is wrong, writing tells
    if not overwrite:
        raise _taken(target)
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise InvalidInputError(
            f"{str(target)!r} is no file, and only a file is overwritten: name another one"
        )


def _taken(target: Path) -> ConflictError:
    return ConflictError(
        f"{str(target)!r} exists already, nothing was written: name another file, or overwrite"
        " it (overwrite=True, --force)"
    )


def _chosen(context: Context, what: str) -> tuple[str, list[VersionRow]]:
    """The project and the versions that `PROJECT`, `PROJECT/NAME` or `[PROJECT/]NAME:VERSION` names."""
    if ":" in what:
        ref = names.parse_version_ref(what, context.local.config.project)
        return ref.project, [context.catalog.version(ref.project, ref.name, ref.selector)]
    if "/" in what:
        project, name = names.parse_collection_ref(what, "")
        where = VersionFilter(project=project, name=name, include_deleted=True)
    else:
        project = names.check_name(what, "project")
        where = VersionFilter(project=project, include_deleted=True)
    rows = context.catalog.versions(where)
    if not rows:
        named = [f"{row.project}/{row.name}" for row in context.catalog.collections() if row.name == what]
        hint = f"; did you mean {' or '.join(named[:3])}?" if named else ""
        raise NotFoundError(
            f"there is no version in {what}: name a PROJECT, a PROJECT/NAME, or a version as NAME:VERSION{hint}"
        )
    return project, rows


def _snapshot(context: Context, versions: list[VersionRow]) -> Snapshot:
    """The rows, all runs that logged or used them, and what these runs logged and used besides."""
    catalog = context.catalog
    keys = {row.key for row in versions}
    edges = set(catalog.edges(versions=list(keys)))
    edges.update(catalog.edges(run_ids=sorted({edge.run_id for edge in edges})))
    run_ids = {edge.run_id for edge in edges} | {row.created_by for row in versions if row.created_by}
    named = {edge.version for edge in edges} | {row.source for row in versions if row.source is not None}
    elsewhere = {row.key: row.manifest.manifest_digest for row in catalog.version_rows(sorted(named - keys))}
    return Snapshot(versions, catalog.run_rows(sorted(run_ids)), list(edges), elsewhere, {})


def _managed(pages: Iterable[Page]) -> Iterator[str]:
    """The keys of the blobs of managed files."""
    for page in pages:
        for content_id in page["content_id"].filter(pc.is_null(page["uri"])).to_pylist():
            yield content_id.removeprefix("sha256:")


def _member(kind: str, key: str) -> str:
    return f"{kind}/{key}{SUFFIXES[kind]}"


def _add(tar: tarfile.TarFile, name: str, data: bytes | BinaryIO, size_bytes: int | None = None) -> None:
    """Add a member that says nothing of who wrote it, or when: equal versions make equal files."""
    info = tarfile.TarInfo(name)
    info.size = len(data) if isinstance(data, bytes) else cast(int, size_bytes)
    tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else data)


# -- import -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Read:
    """What was read of a file so far."""

    snapshot: Snapshot
    manifests: dict[str, ManifestInfo] = field(init=False)
    """Of live versions."""
    indexes: dict[str, ManifestIndex] = field(default_factory=dict)
    shards: dict[str, ShardInfo] = field(default_factory=dict)
    """Of all indexes."""
    ranges: dict[str, tuple[UriRange, ...]] = field(default_factory=dict)
    """Of the shards that were read."""
    managed: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.manifests = {}
        for row in self.snapshot.versions:
            if (
                row.deleted_at is None
                and self.manifests.setdefault(row.manifest.address, row.manifest) != row.manifest
            ):
                raise FormatError(
                    f"{row.key} contradicts another version of the manifest {row.manifest.address}"
                )


def import_tar(
    context: Context, file: str | os.PathLike[str], *, as_project: str | None = None
) -> ImportReport:
    """Take over the versions of a file that `export_tar` wrote. See `Workspace.import_tar`."""
    path = os.fspath(file)
    if as_project is not None:
        names.check_name(as_project, "project")
    with (
        files.open_for_reading(Path(path).expanduser()) as source,
        context.local.reporter.task(f"Reading {path}", unit="objects") as task,
        TemporaryDirectory(prefix="refart-import-") as folder,
    ):
        members = _members(source, path)
        with _blamed(path):
            header = _header(next(members, _NOTHING))
            kind, _, _, stream = next(members, _NOTHING)
            if kind != CATALOG:
                raise FormatError(f"expected {CATALOG} behind {HEADER}")
            read = _Read(records.read(stream.read().decode().splitlines()))
        for kind, key, size_bytes, stream in members:
            with _blamed(path):
                if kind == "manifests":
                    _take_manifest(context, read, key, stream.read())
                else:
                    _take_file(context, read, kind, key, stream, Path(folder, "member"))
            task.advance(1, size_bytes=size_bytes)
    with _blamed(path):
        missing = _check_complete(context, read, has_blobs=bool(header["blobs"]))
    context.store.sync()
    uris = {
        address: [ShardUris(shard.key, read.ranges[shard.key]) for shard in index.shards]
        for address, index in read.indexes.items()
    }
    snapshot = replace(read.snapshot, uris=uris)
    if as_project is not None:
        snapshot = records.renamed(snapshot, str(header["project"]), as_project)
    taken = context.catalog.take(snapshot, actor=context.actor, at=datetime.now(UTC))
    return ImportReport(
        created=_shown(taken.created),
        present=_shown(taken.present),
        deleted_here=_shown(taken.deleted_here),
        moved_aliases=_shown(taken.moved_aliases),
        dropped_edges=taken.dropped_edges,
        missing_blobs=missing,
    )


def _shown(named: Iterable[VersionKey | MovedAlias]) -> tuple[str, ...]:
    return tuple(map(str, named))


@contextmanager
def _blamed(path: str) -> Iterator[None]:
    """Say which file was wrong."""
    try:
        yield
    except tarfile.TarError as error:
        raise FormatError(
            f"{path} cannot be imported, nothing was: it is no tar file, or ends early ({error})"
        ) from None
    except (FormatError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be imported, nothing was: {error}") from None


_NOTHING: Final = ("nothing", "", 0, io.BytesIO())


def _members(source: BinaryIO, path: str) -> Iterator[tuple[str, str, int, BinaryIO]]:
    """Kind, key, size and bytes of each member, in their one order; everything else is refused."""
    last = (-1, "")
    with _blamed(path), tarfile.open(fileobj=source, mode="r|") as tar:
        for info in tar:
            kind, key = _kind_of(info.name)
            if kind is None or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
                raise FormatError(f"the member {info.name[:200]!r} does not belong into an export")
            if info.size > _MOST_BYTES.get(kind, info.size):
                raise FormatError(f"the member {info.name!r} is too large ({info.size:,} bytes)")
            place = (_ORDER.index(kind), key)
            if place <= last:
                raise FormatError(f"the member {info.name!r} is there twice, or out of order")
            last = place
            yield kind, key, info.size, cast(BinaryIO, tar.extractfile(info))


def _kind_of(name: str) -> tuple[str | None, str]:
    if name in (HEADER, CATALOG):
        return name, name
    kind, _, rest = name.partition("/")
    key = rest[:64]
    is_key = len(key) == 64 and not key.strip("0123456789abcdef")
    return (kind, key) if kind in SUFFIXES and is_key and rest[64:] == SUFFIXES[kind] else (None, "")


def _header(member: tuple[str, str, int, BinaryIO]) -> dict[str, object]:
    kind, _, _, stream = member
    try:
        header: dict[str, object] = json.loads(stream.read()) if kind == HEADER else {}
        found = header["format"]
        if found == FORMAT:
            names.check_name(header["project"], "project")
            if isinstance(header["blobs"], bool):
                return header
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if isinstance(found, str) and found.startswith("refart.export/") and found != FORMAT:
        raise FormatError(f"it has the format {found[:80]}, this refart reads {FORMAT}: upgrade refart")
    raise FormatError(f"it does not begin with {HEADER}: refart export writes one")


def _take_manifest(context: Context, read: _Read, address: str, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != address:
        raise FormatError(f"manifest {address} has other bytes than its name says")
    index = ManifestIndex.from_json(data)
    if read.manifests.get(address) != info_of(index):
        raise FormatError(f"manifest {address} is not that of a version of the file")
    read.indexes[address] = index
    read.shards.update((shard.key, shard) for shard in index.shards)
    context.store.put_bytes("manifests", address, data)


def _take_file(context: Context, read: _Read, kind: str, key: str, stream: BinaryIO, temporary: Path) -> None:
    """Check a shard or a blob on this machine's disk, then store it."""
    with temporary.open("wb") as copy:
        found = files.copy_hashed(stream, copy)
    if kind == "shards":
        shard = read.shards.get(key)
        if shard is None:
            raise FormatError(f"shard {key} is in no manifest of the file")
        ranges = UriRanges()
        manifest = Manifest(_OneShard(temporary), ManifestIndex((shard,)))
        for page in manifest.shard_pages(
            shard
        ):  # compares the rows with what the manifest states, and so with the key
            ranges.add(page["uri"])
            read.managed.update(_managed([page]))
        read.ranges[key] = ranges.ranges()
    elif found != key:
        raise FormatError(f"blob {key} has other bytes than its name says")
    elif key not in read.managed:
        raise FormatError(f"blob {key} belongs to no managed file of the export")
    else:
        read.blobs.add(key)
    context.store.put_file(kind, key, temporary, sha256=False)
    temporary.unlink()


def _check_complete(context: Context, read: _Read, *, has_blobs: bool) -> int:
    """Raise `FormatError` where something is missing that the file should have; of an export without blobs, count those
    that are not here."""
    if read.manifests.keys() != read.indexes.keys() or read.shards.keys() != read.ranges.keys():
        missing = sorted(
            read.manifests.keys() - read.indexes.keys() or read.shards.keys() - read.ranges.keys()
        )
        raise FormatError(
            f"it ends early: {missing[0]} and {len(missing) - 1:,} more manifests or shards are missing"
        )
    absent = sorted(read.managed - read.blobs)
    if absent and has_blobs:
        raise FormatError(f"it ends early: blob {absent[0]} and {len(absent) - 1:,} more are missing")
    with thread_pool(context.local.config.threads) as pool:
        there = map_bounded(pool, lambda key: context.store.has("blobs", key), absent, window=256)
        return sum(not found for found in there)


class _OneShard:
    """A store that holds one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, kind: str, key: str) -> bytes:
        return self._path.read_bytes()

    def local_path(self, kind: str, key: str) -> str:
        return str(self._path)
