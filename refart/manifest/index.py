"""The manifest index: the list of shards of one version, and the digests that name it.

The index is canonical JSON, addressed by its own SHA-256; `docs/format.md` describes every field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Protocol

from refart import names
from refart.entries import Page
from refart.errors import FormatError, InvalidInputError
from refart.manifest.canonical import is_cut, root_digest
from refart.manifest.roots import MAX_ROOTS, Root

FORMATS: Final = ("refart.manifest/1", "refart.manifest/2", "refart.manifest/3")
"""By which readers know the fields. The second states the weak entries of each shard, which the first does not know;
the third has roots, and may hold shards of the first."""

MAX_COUNT: Final = (1 << 63) - 1
"""The largest number of rows or bytes an index can state: what a catalog's 64-bit columns hold."""

_FORMAT_TAG = re.compile(r"refart\.manifest/([1-9][0-9]{0,8})\Z")
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


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
    """Size of the file as it was written; another writer may have stored the same rows in fewer or more
    bytes."""
    size_bytes: int
    """Sum of the known sizes of the entries."""
    referenced_bytes: int
    managed_bytes: int
    weak_rows: int | None = None
    """Entries with a weak identity (`checksums.is_weak`); None where the first format stated the shard."""


@dataclass(frozen=True, slots=True)
class KeptShard:
    """A whole shard of an earlier manifest that nothing changed: part of a stream of sorted pages."""

    info: ShardInfo
    pages: Callable[[], Iterator[Page]]
    """Reads the rows, for a writer that cannot take the shard over as it is."""


@dataclass(frozen=True)
class ManifestIndex:
    """All shards of one version in the order of their paths. Digests and totals follow from them."""

    shards: tuple[ShardInfo, ...]
    roots: tuple[Root, ...] = ()
    """What was listed for it; in neither digest. Empty in the first two formats."""
    read_as: str | None = field(default=None, compare=False)
    """The format it was read in; None for a new one, which has the last format that its shards allow."""

    @cached_property
    def format(self) -> str:
        """The tag by which readers know the fields: the first that has room for them."""
        if self.read_as is not None:
            return self.read_as
        return FORMATS[2 if self.roots else None not in (shard.weak_rows for shard in self.shards)]

    @cached_property
    def content_digest(self) -> str:
        """`sha256:…` over path, size and content id of all entries: equal wherever the same bytes lie."""
        return root_digest("content", (shard.content_digest for shard in self.shards))

    @cached_property
    def manifest_digest(self) -> str:
        """`sha256:…` over path, size, content id and URI of all entries: decides whether a version is new."""
        return root_digest("manifest", (shard.manifest_digest for shard in self.shards))

    @cached_property
    def entry_count(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @cached_property
    def size_bytes(self) -> int:
        """Sum of the sizes of all entries; an entry of unknown size counts nothing."""
        return sum(shard.size_bytes for shard in self.shards)

    @cached_property
    def referenced_bytes(self) -> int:
        return sum(shard.referenced_bytes for shard in self.shards)

    @cached_property
    def managed_bytes(self) -> int:
        return sum(shard.managed_bytes for shard in self.shards)

    @cached_property
    def weak_count(self) -> int | None:
        """Entries with a weak identity; None where a shard does not know."""
        counts = [shard.weak_rows for shard in self.shards]
        if self.format == FORMATS[0] or None in counts:
            return None
        return sum(count or 0 for count in counts)

    @cached_property
    def address(self) -> str:
        """Hex SHA-256 of `to_json()`: the key of the index in the store."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """The canonical bytes: UTF-8, sorted keys, no spaces."""
        knows_weak = self.format != FORMATS[0]
        document = {
            "format": self.format,
            "content_digest": self.content_digest,
            "manifest_digest": self.manifest_digest,
            "entry_count": self.entry_count,
            "size_bytes": self.size_bytes,
            "referenced_bytes": self.referenced_bytes,
            "managed_bytes": self.managed_bytes,
            "shards": [_fields_of(shard, knows_weak=knows_weak) for shard in self.shards],
        }
        if knows_weak:
            document["weak_count"] = self.weak_count
        if self.format not in FORMATS[:2]:
            document["roots"] = [root.to_json() for root in self.roots]
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ManifestIndex:
        """Read an index that may have been written by anyone.

        Raises `FormatError` unless every field is there with its type, shards are sorted, disjoint and end
        where the cut rule says, and totals, digests and the bytes themselves are what the shards give; also
        for an index of a later format version.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"the manifest index is not JSON: {error}") from None
        tag = _check_format(document)
        rows = document.get("shards")
        if not isinstance(rows, list):
            raise FormatError("the manifest index has no list of shards")
        shards = (_shard_of(row, number, tag) for number, row in enumerate(rows))
        index = cls(tuple(shards), _roots_of(document, tag), read_as=tag)
        _check_order(index.shards)
        # One comparison covers totals, roots, unknown or repeated fields and the spelling of every value.
        if index.to_json() != data:
            raise FormatError(
                "the manifest index contradicts itself: its totals, its digests or its spelling do not follow"
                " from its shards; it was damaged or not written by refart"
            )
        return index


def _fields_of(shard: ShardInfo, *, knows_weak: bool) -> dict[str, Any]:
    row = asdict(shard)
    if not knows_weak:
        del row["weak_rows"]
    return row


def _check_format(document: Any) -> str:
    tag = document.get("format") if isinstance(document, dict) else None
    match = _FORMAT_TAG.match(tag) if isinstance(tag, str) else None
    if match is None:
        raise FormatError(
            f"this is not a manifest index: expected the format {FORMATS[-1]!r}, found {str(tag)[:100]!r}"
        )
    if tag not in FORMATS:
        raise FormatError(
            f"the manifest was written by a newer refart (format {tag}, this one reads {FORMATS[-1]}):"
            " upgrade refart"
        )
    return str(tag)


_SHARD_FIELDS = {known.name: known.type for known in fields(ShardInfo)}  # the types as they are spelled above
_FIRST_FIELDS = {name: kind for name, kind in _SHARD_FIELDS.items() if name != "weak_rows"}


def _roots_of(document: dict[str, Any], tag: str) -> tuple[Root, ...]:
    if tag in FORMATS[:2]:
        return ()
    roots = document.get("roots")
    if not isinstance(roots, list) or len(roots) > MAX_ROOTS:
        raise FormatError(f"the manifest index has no list of at most {MAX_ROOTS:,} roots")
    return tuple(
        Root.from_json(root, f"root {number} of the manifest index") for number, root in enumerate(roots)
    )


def _shard_of(row: Any, number: int, tag: str) -> ShardInfo:
    where = f"shard {number} of the manifest index"
    expected = _FIRST_FIELDS if tag == FORMATS[0] else _SHARD_FIELDS
    if not isinstance(row, dict) or row.keys() != expected.keys():
        raise FormatError(f"{where}: expected the fields {', '.join(sorted(expected))}")
    for name, kind in expected.items():
        value = row[name]
        if value is None and name == "weak_rows" and tag != FORMATS[1]:
            continue
        if kind != "str":
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                raise FormatError(f"{where}: {name} must be a whole number, found {str(value)[:100]}")
        elif name.endswith("_path"):
            try:
                names.check_path(value, name)
            except InvalidInputError as error:
                raise FormatError(f"{where}: {error}") from None
        elif not isinstance(value, str) or not _HEX_DIGEST.match(value):
            raise FormatError(f"{where}: {name} must be 64 hex digits, found {str(value)[:100]!r}")
    shard = ShardInfo(**row)
    if shard.rows == 0 or (shard.rows == 1) != (shard.first_path == shard.last_path):
        raise FormatError(f"{where}: {shard.rows:,} rows cannot reach from the first path to the last")
    if shard.size_bytes != shard.referenced_bytes + shard.managed_bytes:
        raise FormatError(f"{where}: size_bytes is not the sum of referenced_bytes and managed_bytes")
    if (shard.weak_rows or 0) > shard.rows:
        raise FormatError(f"{where}: {shard.weak_rows:,} of {shard.rows:,} rows cannot be weak")
    return shard


def _check_order(shards: tuple[ShardInfo, ...]) -> None:
    previous: ShardInfo | None = None
    for number, shard in enumerate(shards):
        where = f"shard {number} of the manifest index"
        if shard.first_path > shard.last_path or (previous and shard.first_path <= previous.last_path):
            raise FormatError(f"{where}: its paths are not in order, or overlap those of the shard before")
        if previous and not is_cut(previous.last_path):
            raise FormatError(f"{where}: the shard before ends at a path where no shard may end")
        previous = shard
    for total in ("rows", "size_bytes"):
        if sum(getattr(shard, total) for shard in shards) > MAX_COUNT:
            raise FormatError(f"the manifest index: the sum of {total} is larger than {MAX_COUNT:,}")
