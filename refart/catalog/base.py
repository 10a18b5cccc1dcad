"""The protocol of a catalog: plain frozen rows in, plain frozen rows out, and few calls that change anything.

Rows are named by natural keys (project, name, number; run id), so that a REST client, or a catalog that lives
in a bucket, can implement the same protocol. A catalog never sees an entry: a version row holds the address
and the digests of its manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

EdgeKind = Literal["input", "output"]
RunState = Literal["running", "finished", "failed"]
Direction = Literal["upstream", "downstream", "both"]


class VersionKey(NamedTuple):
    """Names one version for ever: numbers are contiguous per collection and never reused."""

    project: str
    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.project}/{self.name}:v{self.number}"


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    """What a catalog keeps of a manifest."""

    address: str
    """Hex SHA-256 of the manifest index: its key in the store."""
    content_digest: str
    """`sha256:…` over path, size and content id of all entries."""
    manifest_digest: str
    """`sha256:…` over path, size, content id and URI: decides whether a version is new."""
    entry_count: int
    size_bytes: int
    """Sum of the known sizes of all entries."""
    referenced_bytes: int
    managed_bytes: int


class ShardUris(NamedTuple):
    """Where the URIs of one shard lie."""

    key: str
    """The shard's key in the store."""
    ranges: Sequence[tuple[str, str]] | None
    """First and last URI of each range; None where the catalog was told before."""


class Holder(NamedTuple):
    """A manifest that may hold entries in a range of URIs."""

    address: str
    shard_keys: tuple[str, ...]
    """The shards in question, sorted."""
    versions: tuple[VersionKey, ...]
    """Live versions that have this manifest, sorted."""


@dataclass(frozen=True, slots=True)
class VersionRow:
    key: VersionKey
    type: str
    manifest: ManifestInfo
    aliases: tuple[str, ...]
    """Sorted."""
    tags: tuple[str, ...]
    """Sorted."""
    description: str | None
    metadata: Mapping[str, Any]
    ttl_s: int | None
    """Time to live in seconds from `created_at`; None means for ever."""
    created_at: datetime
    """Aware, UTC."""
    created_by: str | None
    """Id of the run that logged it first."""
    source: VersionKey | None = None
    """The version that a linked version stands for."""
    deleted_at: datetime | None = None
    """Set on a deleted version, whose row stays so that lineage and numbers stay whole."""


@dataclass(frozen=True, slots=True)
class CollectionRow:
    project: str
    name: str
    type: str
    created_at: datetime
    version_count: int
    """Versions that are not deleted."""
    latest: int | None
    """Number of the version that `latest` names."""


@dataclass(frozen=True, slots=True)
class RunRow:
    id: str
    project: str
    name: str
    job_type: str | None
    group: str | None
    config: Mapping[str, Any]
    tags: tuple[str, ...]
    state: RunState
    created_at: datetime
    finished_at: datetime | None = None
    user: str | None = None
    host: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class EdgeRow:
    run_id: str
    version: VersionKey
    kind: EdgeKind
    at: datetime


class Lineage(NamedTuple):
    """A part of the graph of runs and versions. Every run and version that an edge names is in it."""

    versions: Sequence[VersionRow]
    """In the order they were met: the one it was asked for comes first. Deleted ones are among them."""
    runs: Sequence[RunRow]
    """Oldest first."""
    edges: Sequence[EdgeRow]
    """Oldest first."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    at: datetime
    project: str
    actor: str
    """Run id, or user name outside of a run."""
    action: str
    """`version.create`, `version.log_again`, `version.update`, `version.delete`, …"""
    subject: str
    """`project/name:v3`"""
    detail: Mapping[str, Any]
    """Old and new values."""


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part of a version that several processes build together (`upsert_artifact`)."""

    project: str
    name: str
    distributed_id: str
    address: str
    """Address of the part's manifest index in the store."""
    type: str
    run_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Commit:
    """A request to log a manifest as a version of `project/name`."""

    project: str
    name: str
    type: str
    manifest: ManifestInfo
    run_id: str | None
    """The run whose output edge is recorded; None outside of a run."""
    actor: str
    at: datetime
    aliases: tuple[str, ...] = ()
    """Besides `latest`, which always moves."""
    tags: tuple[str, ...] = ()
    description: str | None = None
    """None keeps the old one where the version exists already."""
    metadata: Mapping[str, Any] | None = None
    """None keeps the old one where the version exists already (a new version gets `{}`)."""
    ttl_s: int | None = None
    source: VersionKey | None = None
    inputs: tuple[VersionKey, ...] = ()
    """Versions whose entries this one refers to: recorded as inputs of the run, but for the version logged itself."""
    distributed_id: str | None = None
    """Parts of this id are removed in the same transaction."""
    uris: Sequence[ShardUris] | None = None
    """Of all shards of the manifest, for `holders`; None where the manifest was logged before."""


@dataclass(frozen=True, slots=True)
class Committed:
    version: VersionRow
    created: bool
    """False where a live version of the collection had this manifest digest already."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part of another catalog, to be taken over as it is."""

    versions: Sequence[VersionRow]
    """Deleted ones are among them: they keep numbers and lineage whole."""
    runs: Sequence[RunRow]
    """All that versions were created by and edges name."""
    edges: Sequence[EdgeRow]
    elsewhere: Mapping[VersionKey, str]
    """Manifest digests of the versions that edges and sources name, and that are not among `versions`."""
    uris: Mapping[str, Sequence[ShardUris]]
    """Address of a manifest → the URIs of its shards."""


class MovedAlias(NamedTuple):
    """An alias of a collection that names another version than before; `old` and `new` are version numbers."""

    project: str
    name: str
    alias: str
    old: int
    new: int

    def __str__(self) -> str:
        return f"{self.project}/{self.name}:{self.alias}: v{self.old} -> v{self.new}"


class Taken(NamedTuple):
    """What came of a snapshot."""

    created: tuple[VersionKey, ...]
    present: tuple[VersionKey, ...]
    """Versions that were here already, the same; those of `deleted_here` are not among them."""
    deleted_here: tuple[VersionKey, ...]
    """Live versions of the snapshot that were deleted here, and stay so."""
    moved_aliases: tuple[MovedAlias, ...]
    """Aliases that named another version before."""
    dropped_edges: int
    """Edges to versions that are neither in the snapshot nor here."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Changes of one version's editable fields; a field left at its default is not touched."""

    actor: str
    at: datetime
    set_description: bool = False
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    set_ttl: bool = False
    ttl_s: int | None = None
    add_aliases: tuple[str, ...] = ()
    """An alias that names another version of the collection moves here."""
    remove_aliases: tuple[str, ...] = ()
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionFilter:
    """Which live versions to list; fields that are None do not filter."""

    project: str | None = None
    name: str | None = None
    type: str | None = None
    alias: str | None = None
    tag: str | None = None
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Top-level keys and the scalar values they must have."""
    manifest_digest: str | None = None
    content_digest: str | None = None
    include_deleted: bool = False


class Catalog(Protocol):
    """Every method is one transaction; every method may be called from many threads and processes.

    Errors: `NotFoundError`, `ConflictError` (another type), `CatalogError(transient=True)` when the database
    stays locked past its deadline or is unreachable, `PermissionDeniedError`, `FormatError` for a newer
    schema.
    """

    # -- calls that change something -------------------------------------------------------------

    def commit(self, commit: Commit) -> Committed:
        """Log a manifest: the whole transaction of DESIGN's commit.

        Creates project and collection where they are missing; `ConflictError` where the collection has
        another type. If a live version of the collection has the manifest digest, no version is made: that
        one is returned with `created=False`, description and metadata that were passed are written (old
        values go to the audit log), tags are added. Otherwise the next number is taken by compare-and-swap.
        In both cases `latest` and the aliases move, the output edge (and `inputs`) of the run are recorded,
        parts of `distributed_id` are removed, and one audit row is written. `NotFoundError` for a run, an
        input or a source that the catalog does not know.
        """

    def take(self, snapshot: Snapshot, *, actor: str, at: datetime) -> Taken:
        """Take over versions under their numbers, with runs and edges; a second time changes nothing.

        What is here stays as it is: a version of the same number and manifest digest (a deleted one stays deleted), a
        run of the same id, name and time. Aliases of a new version move to it, `latest` only where it names an older
        one. Edges and sources are kept where the version they name is in the snapshot, or here with the same manifest
        digest. One audit row for each new version, with the labels it got. `ConflictError`, and nothing is taken, for a
        number that another version has, a manifest that another live version of the collection has, another type, or
        another run of the same id.
        """

    def update(self, key: VersionKey, patch: Patch) -> VersionRow:
        """Change editable fields, removals before additions; one audit row, if anything changed.

        `NotFoundError` for removing an alias or tag that the version does not have, `InvalidInputError` for
        removing `latest`, which can only be given to another version.
        """

    def delete(self, key: VersionKey, *, delete_aliases: bool, actor: str, at: datetime) -> VersionRow:
        """Mark a version deleted; `ConflictError` where it has aliases (`latest` is one) and `delete_aliases` is
        False.

        If it was `latest`, the newest live version of the collection becomes `latest`.
        """

    def save_run(self, run: RunRow) -> None:
        """Create the run, or replace the row of the same id."""

    def record_use(self, run_id: str, key: VersionKey, at: datetime) -> None:
        """Record an input edge; a second time changes nothing."""

    def add_part(self, part: PartRow) -> None:
        """Record a part; the same part a second time changes nothing. `ConflictError` for another type."""

    def add_uris(self, address: str, shards: Sequence[ShardUris]) -> None:
        """Make a manifest known to `holders`; a second time changes nothing.

        With a shard without ranges of which the catalog was never told, it stays among those `without_uris`.
        """

    def put_setting(self, key: str, value: str) -> str:
        """Set a setting once; returns the value that holds (the first writer's)."""

    # -- calls that read ---------------------------------------------------------------------------

    def setting(self, key: str) -> str | None: ...

    def version(self, project: str, name: str, selector: int | str) -> VersionRow:
        """A live version by number or alias. `NotFoundError` says whether the project, the artifact, the
        version or the alias is unknown (and lists close aliases), or that the version was deleted."""

    def versions(
        self, where: VersionFilter, *, limit: int | None = None, before: VersionKey | None = None
    ) -> list[VersionRow]:
        """Versions, newest first (by creation within several collections, by number within one); `before`
        goes on after the last row of an earlier call."""

    def version_rows(self, keys: Sequence[VersionKey]) -> list[VersionRow]:
        """The rows of these keys, deleted ones included, in the order given; unknown keys are left out."""

    def projects(self) -> list[str]: ...

    def collections(self, project: str | None = None, type: str | None = None) -> list[CollectionRow]:
        """Collections by project and name."""

    def collection_type(self, project: str, name: str) -> str | None:
        """The type of a collection, None where there is no such collection."""

    def run(self, run_id: str) -> RunRow:
        """One run. `NotFoundError` for an unknown id."""

    def run_rows(self, run_ids: Sequence[str]) -> list[RunRow]:
        """The rows of these runs, in the order given; unknown ids are left out."""

    def runs(self, project: str | None = None, *, limit: int | None = None) -> list[RunRow]:
        """Runs, newest first."""

    def edges(
        self,
        *,
        run_ids: Sequence[str] | None = None,
        versions: Sequence[VersionKey] | None = None,
        kind: EdgeKind | None = None,
    ) -> list[EdgeRow]:
        """Edges that touch any of the runs or versions given, oldest first; none where neither is given."""

    def lineage(self, start: VersionKey, direction: Direction, depth: int | None) -> Lineage:
        """The versions and runs that `start` came from (`upstream`), that came of it (`downstream`), or both.

        `depth` counts steps from version to version through runs; None goes to the ends. A linked version is one with
        its source: upstream the walk goes on through the source, downstream through the source and all its links.
        Nothing where `start` is unknown.
        """

    def holders(self, first: str, after: str) -> list[Holder]:
        """The manifests of live versions with shards that may hold a URI from `first` up to but without `after`, by
        code points. Those `without_uris` are not among them."""

    def without_uris(self) -> list[str]:
        """Addresses of the manifests of live versions that `holders` does not know, sorted."""

    def shards_with_uris(self, keys: Sequence[str]) -> set[str]:
        """Those of these shards of which the catalog was told already."""

    def parts(self, project: str, name: str, distributed_id: str) -> list[PartRow]: ...

    def audit(
        self, project: str | None = None, subject: str | None = None, *, limit: int = 100
    ) -> list[AuditRow]:
        """Audit rows, newest first; `subject` is `project/name:v3`, or `project/name` for all its versions."""

    def close(self) -> None:
        """Release connections; the catalog must not be used afterwards."""
