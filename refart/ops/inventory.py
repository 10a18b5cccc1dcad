"""Add what an S3 Inventory lists: the references to a bucket of any size, without one request to the bucket itself.

An inventory is a manifest (`manifest.json`) and data files of one format, each with its MD5. (Amazon S3 user guide,
"Locating your inventory list" and "Amazon S3 Inventory list"; the fields that say which version is the current one are
there only where the inventory covers all versions.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from typing import BinaryIO, Final
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.context import Local
from refart.entries import BATCH_ROWS, SCHEMA, Entry, Page, paths_of, prefixed
from refart.errors import (
    ChecksumError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    ReferenceChangedError,
    StoreError,
)
from refart.manifest.draft import Added, Draft
from refart.manifest.roots import Root
from refart.ops import pins
from refart.ops.add import limited, under
from refart.ops.patterns import Patterns, page_filter, patterns_of
from refart.ops.stream import stream
from refart.parallel import map_bounded, thread_pool
from refart.sources import objects
from refart.sources.local.source import canonical_uri

VERSION: Final = "2016-11-30"
"""The one version of the manifest that there is."""

MAX_MANIFEST_BYTES: Final = 1 << 26  # 64 MiB, or some 300,000 data files
CSV_BLOCK_BYTES: Final = 1 << 22  # 4 MiB; no row is longer

FILES_AHEAD: Final = 2
"""Data files that are fetched while rows are taken; each is a temporary file."""

FIELDS: Final = {
    "bucket": ("Bucket", pa.string()),
    "key": ("Key", pa.string()),
    "version_id": ("VersionId", pa.string()),
    "is_latest": ("IsLatest", pa.bool_()),
    "is_delete_marker": ("IsDeleteMarker", pa.bool_()),
    "size": ("Size", pa.int64()),
    "e_tag": ("ETag", pa.string()),
    "encryption_status": ("EncryptionStatus", pa.string()),
}
"""What is read: column of ORC and Parquet → column of CSV, and type. All but bucket and key are optional. The field
`ChecksumAlgorithm` names an algorithm, and no field has the checksum itself."""

NO_MD5: Final = ("SSE-C", "SSE-KMS", "DSSE-KMS")
"""Encryption by which the ETag of a single part is no MD5 of the bytes. (Amazon S3 API reference, "Object", ETag.)"""

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_MD5: Final = re.compile(r"[0-9a-f]{32}\Z")
_MD5_ETAG: Final = r"^[0-9a-f]{32}$"


def add_inventory(
    local: Local,
    draft: Draft,
    manifest_uri: str,
    *,
    prefix: str | None = None,
    name: str | None = None,
    max_objects: int | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    allow_empty: bool = False,
    overwrite: bool = False,
) -> Added:
    """Point at the objects that an inventory lists. See `Artifact.add_inventory`."""
    folder = names.check_path(name, "name") if name is not None else None
    if max_objects is not None and max_objects < 1:
        raise InvalidInputError(f"max_objects must be at least 1, not {max_objects}")
    include, exclude = patterns_of(include), patterns_of(exclude)
    keep = page_filter(include, exclude)
    inventory = read_manifest(local, manifest_uri)
    wanted = _Wanted.of(inventory, prefix)
    local.sources.for_uri(wanted.uri)  # entries that no source reads are of no use
    root = Root(wanted.uri, folder, include, exclude)
    with local.reporter.task(f"Reading {inventory.uri}", unit="objects") as task:

        def pages() -> Iterator[Page]:
            for batch in _batches(local, inventory):
                page = wanted.page_of(batch, inventory)
                task.advance(batch.num_rows)
                yield keep(page)

        found = limited(pages(), wanted.uri, max_objects, allow_empty)
        return draft.add(
            pins.noted(draft, (under(page, folder) for page in found)), overwrite=overwrite, roots=(root,)
        )


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file of rows."""

    uri: str
    size_bytes: int
    md5: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a manifest says."""

    uri: str
    bucket: str
    """Whose objects are listed."""
    read: Callable[[BinaryIO], Iterator[pa.RecordBatch]]
    """Reads one data file, in batches of any size."""
    keys_are_encoded: bool
    files: tuple[DataFile, ...]


def read_manifest(local: Local, uri: str) -> Inventory:
    """Read `manifest.json`. Raises `NotFoundError`, `FormatError` for what is none, or of another version."""
    uri = names.check_uri(uri)
    if names.uri_scheme(uri) in (None, "file"):
        uri = canonical_uri(uri)
    entry = local.sources.for_uri(uri).stat(uri)
    if entry is None:
        raise NotFoundError(
            f"there is no inventory at {uri}: name the manifest.json of one; nothing was added"
        )
    if entry.size is None or entry.size > MAX_MANIFEST_BYTES:
        raise FormatError(f"{uri} is no inventory manifest: it has more than {MAX_MANIFEST_BYTES:,} bytes")
    with stream(local, None, entry) as chunks:
        data = b"".join(chunks)
    try:
        return _inventory(uri, json.loads(data))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise FormatError(
            f"{uri} is not the manifest of an S3 Inventory ({type(error).__name__}: {str(error)[:100]});"
            " nothing was added"
        ) from error


def _inventory(uri: str, document: dict[str, object]) -> Inventory:
    version, bucket, kind = (str(document[key]) for key in ("version", "sourceBucket", "fileFormat"))
    if version != VERSION:
        raise FormatError(
            f"{uri} has the inventory version {version[:40]!r}, and {VERSION!r} is known; nothing was added"
        )
    if not _BUCKET.match(bucket):
        raise ValueError(f"sourceBucket {bucket[:40]!r} is no bucket")
    if kind not in _READERS:
        raise FormatError(f"{uri} has the file format {kind[:40]!r}; known are {', '.join(_READERS)}")
    destination = str(document["destinationBucket"]).rpartition(":")[2]
    schema, files = document["fileSchema"], document["files"]
    if not isinstance(schema, str) or not isinstance(files, list):
        raise TypeError("fileSchema must be text, and files a list")
    return Inventory(
        uri,
        bucket,
        partial(_READERS[kind], schema),
        keys_are_encoded=kind == "CSV",
        files=tuple(_data_file(uri, destination, file) for file in files),
    )


def _data_file(manifest_uri: str, destination: str, file: dict[str, object]) -> DataFile:
    key, size, md5 = file["key"], file["size"], file["MD5checksum"]
    if not isinstance(key, str) or type(size) is not int or not _MD5.match(str(md5)):
        raise ValueError("a file needs a key, a size and an MD5checksum of 32 hex digits")
    scheme = names.uri_scheme(manifest_uri)
    if scheme in ("s3", "s3a"):
        uri = f"{scheme}://{destination}/{key}"
    else:  # a copy: …/config/2026-01-01T00-00Z/manifest.json lies beside …/config/data/
        uri = f"{manifest_uri.rsplit('/', 2)[0]}/data/{key.rsplit('/', 1)[-1]}"
    return DataFile(names.check_uri(uri), size, str(md5))


# --- data files


def _batches(local: Local, inventory: Inventory) -> Iterator[pa.RecordBatch]:
    """All rows, in batches of at most `BATCH_ROWS` with the columns of `FIELDS` that there are."""
    with thread_pool(1) as pool:
        fetched = map_bounded(pool, partial(_fetched, local), inventory.files, window=FILES_AHEAD)
        for file, target in zip(inventory.files, fetched, strict=True):
            with target:
                try:
                    for batch in inventory.read(target):
                        for start in range(0, batch.num_rows, BATCH_ROWS):
                            yield _typed(batch.slice(start, BATCH_ROWS))
                except (pa.ArrowException, OSError, KeyError) as error:
                    raise FormatError(
                        f"{file.uri} cannot be read as the inventory says: {str(error)[:200]}; nothing was added"
                    ) from error


def _fetched(local: Local, file: DataFile) -> BinaryIO:
    """A data file as a temporary file, compared with the MD5 of the manifest."""
    entry = Entry(file.uri.rpartition("/")[2] or "data", file.size_bytes, f"md5:{file.md5}", file.uri)
    target = TemporaryFile(prefix="refart-inventory-")  # noqa: SIM115  # for the caller to close
    try:
        with stream(local, None, entry) as chunks:
            for chunk in chunks:
                _write(target, chunk)
    except (ChecksumError, ReferenceChangedError) as error:
        target.close()
        raise ChecksumError(
            f"{file.uri} is not the data file that the inventory names: expected {file.size_bytes:,} bytes with the MD5"
            f" {file.md5}; nothing was added"
        ) from error
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target


def _write(target: BinaryIO, chunk: bytes) -> None:
    try:
        target.write(chunk)
    except OSError as error:
        raise StoreError(
            f"the temporary folder cannot be written ({error.strerror}): make room, or set TMPDIR"
        ) from error


def _read_csv(schema: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    columns = [column.strip() for column in schema.split(",")]
    types = {named: kind for named, kind in FIELDS.values() if named in columns}
    reader = csv.open_csv(
        pa.CompressedInputStream(file, "gzip"),
        read_options=csv.ReadOptions(column_names=columns, block_size=CSV_BLOCK_BYTES),
        convert_options=csv.ConvertOptions(
            include_columns=list(types), column_types=types, null_values=[""], strings_can_be_null=True
        ),
    )
    snake = {named: column for column, (named, _) in FIELDS.items()}
    for batch in reader:
        yield batch.rename_columns([snake[column] for column in batch.schema.names])


def _read_parquet(_schema: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as reader:
        yield from reader.iter_batches(BATCH_ROWS, columns=_wanted_of(reader.schema_arrow), use_threads=False)


def _read_orc(_schema: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    from pyarrow import orc

    reader = orc.ORCFile(file)
    columns = _wanted_of(reader.schema)
    for stripe in range(reader.nstripes):
        yield reader.read_stripe(stripe, columns=columns)


_READERS: Final[dict[str, Callable[[str, BinaryIO], Iterator[pa.RecordBatch]]]] = {
    "CSV": _read_csv,
    "ORC": _read_orc,
    "Parquet": _read_parquet,
}


def _wanted_of(schema: pa.Schema) -> list[str]:
    return [column for column in FIELDS if column in schema.names]


def _typed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the types of `FIELDS`, whatever its writer took for them. Raises `pa.ArrowException`."""
    columns = [column.cast(FIELDS[name][1]) for name, column in zip(batch.schema.names, batch, strict=True)]
    for name in ("bucket", "key"):
        if columns[batch.schema.names.index(name)].null_count:  # ValueError where there is none
            raise pa.ArrowInvalid(f"a row has no {name}")
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


# --- rows


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The objects below a prefix."""

    uri: str
    root: str
    """`s3://bucket/`"""
    base: str
    """What their keys begin with."""
    exact: str | None
    """The key that would be an object where a prefix was asked for."""

    @classmethod
    def of(cls, inventory: Inventory, prefix: str | None) -> _Wanted:
        root, key = f"s3://{inventory.bucket}/", prefix or ""
        if names.uri_scheme(key) is not None:
            if not f"{key}/".startswith(root):
                raise InvalidInputError(
                    f"{key} does not lie in s3://{inventory.bucket}, which the inventory lists"
                )
            key = key[len(root) :]
        base = key if not key or key.endswith("/") else f"{key}/"
        return cls(names.check_uri(root + key), root, base, key if key != base else None)

    def page_of(self, batch: pa.RecordBatch, inventory: Inventory) -> Page:
        """The current objects among the rows."""
        if not pc.all(pc.equal(batch["bucket"], inventory.bucket), min_count=0).as_py():
            raise FormatError(f"{inventory.uri}: a row is of another bucket than {inventory.bucket!r}")
        batch = _current(batch)
        key = _decoded(batch["key"]) if inventory.keys_are_encoded else batch["key"]
        if self.exact is not None and pc.any(pc.equal(key, self.exact), min_count=0).as_py():
            raise InvalidInputError(
                f"{self.uri} is an object, and prefix= is for what lies below one: write {self.exact}/ for that;"
                " add_reference takes the object"
            )
        content_id, pin = _identities(batch)
        found = pa.RecordBatch.from_arrays(
            [key, _column(batch, "size"), content_id, pin], names=["key", "size", "content_id", "pin"]
        )
        key, size, content_id, pin = objects.objects_below(found, self.base).columns
        columns = [paths_of(objects.without(self.base, key)), size, content_id, prefixed(self.root, key), pin]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _current(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without old versions and delete markers; an inventory of current versions has neither, and says neither."""
    is_old = pc.fill_null(pc.invert(_column(batch, "is_latest")), False)
    is_marker = pc.fill_null(_column(batch, "is_delete_marker"), False)
    return batch.filter(pc.invert(pc.or_(is_old, is_marker)))


def _identities(batch: pa.RecordBatch) -> tuple[pa.StringArray, pa.StringArray]:
    """Content ids and pins: those that a listing of versions gives, but for ETags that are known to be no MD5."""
    etag = pc.utf8_trim(_column(batch, "e_tag"), '"')
    etag = pc.if_else(pc.equal(etag, ""), None, etag)
    is_md5 = pc.match_substring_regex(etag, _MD5_ETAG)
    is_encrypted = pc.is_in(_column(batch, "encryption_status"), value_set=pa.array(NO_MD5))
    by_md5, by_etag = prefixed("md5:", etag), prefixed("etag:", etag)
    content_id = pc.if_else(pc.and_not(is_md5, is_encrypted), by_md5, by_etag)
    version = _column(batch, "version_id")
    is_version = pc.fill_null(pc.invert(pc.is_in(version, value_set=pa.array(["", "null"]))), False)
    pin = pc.if_else(pc.and_(is_version, pc.is_valid(version)), prefixed("version:", version), None)
    # As a pin, the ETag is recognised in a listing, which takes it for an MD5.
    tells_less = pc.fill_null(pc.and_(is_md5, is_encrypted), False)
    pin = pc.if_else(pc.and_(tells_less, pc.is_null(pin)), by_etag, pin)
    return pc.fill_null(content_id, checksums.NONE), pin


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """One column; of nulls where the inventory does not have it."""
    return batch[name] if name in batch.schema.names else pa.nulls(batch.num_rows, FIELDS[name][1])


def _decoded(keys: pa.StringArray) -> pa.StringArray:
    """Keys as they are: in CSV they are URL-encoded as in listings, a space as `+` and a plus as `%2B`."""
    is_encoded = pc.match_substring_regex(keys, "[%+]")
    if not pc.any(is_encoded, min_count=0).as_py():
        return keys
    try:
        mended = [unquote_plus(key, errors="strict") for key in keys.filter(is_encoded).to_pylist()]
    except UnicodeDecodeError as error:
        raise FormatError("a key of the inventory is not UTF-8; nothing was added") from error
    return pc.replace_with_mask(keys, is_encoded, pa.array(mended, pa.string()))
