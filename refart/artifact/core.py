"""What a draft and a version have in common: what they are, and what holds their entries."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import finalize

from refart import manifest, names, ops
from refart.catalog.base import (
    Committed,
    ManifestInfo,
    VersionKey,
    VersionRow,
)
from refart.errors import ConflictError, FinalizedError, InvalidInputError
from refart.local import local_side
from refart.opening import shared_context

if TYPE_CHECKING:
    from refart.context import Context, Local
    from refart.entries import Entry
    from refart.handles import ArtifactEntry, Entries
    from refart.manifest.draft import Added, Draft
    from refart.manifest.index import ManifestIndex
    from refart.manifest.reader import Manifest


class Core:
    """The state behind an `Artifact`."""

    def __init__(
        self,
        name: str,
        type: str,
        description: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._begin(names.check_name(name, "artifact name"), names.check_name(type, "artifact type"))
        self._draft: Draft | None = manifest.draft.Draft()
        self.description = names.check_description(description)
        self.metadata: dict[str, Any] = names.check_metadata(metadata)
        """JSON-like; change it in place or assign it, then `save()` on a logged version."""
        self.aliases: list[str] = []
        self.tags: list[str] = []
        self.ttl: timedelta | None = None
        """Time to live from `created_at`; None is for ever. Recorded; nothing is removed by itself."""

    def _begin(self, name: str, type: str) -> None:
        self._name, self._type = name, type
        self._draft = None
        self._local: Local | None = None
        self._context: Context | None = None
        self._row: VersionRow | None = None
        self._created = False
        self._manifest: Manifest | None = None
        self._built: tuple[int, ManifestIndex] | None = None
        self._inputs: tuple[VersionKey, ...] = ()
        self._staging: Path | None = None

    @classmethod
    def _of(cls, context: Context, row: VersionRow) -> Self:
        self = cls.__new__(cls)
        self._begin(row.key.name, row.type)
        self._adopt(context, Committed(row, created=False))
        return self

    def _adopt(self, context: Context, committed: Committed) -> Self:
        """Become the version that was logged."""
        if self._draft is not None:
            self._draft.close()
        self._draft = None
        self._context = context
        self._created = committed.created
        self._read_row(committed.version)
        return self

    def _read_row(self, row: VersionRow) -> None:
        self._row = row
        self.description = row.description
        self.metadata = copy.deepcopy(dict(row.metadata))
        self.aliases, self.tags = list(row.aliases), list(row.tags)
        self.ttl = None if row.ttl_s is None else timedelta(seconds=min(row.ttl_s, names.MAX_TTL_S))

    # -- what it is ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The collection's name, without a version."""
        return self._name

    @property
    def type(self) -> str:
        """The kind of data, such as `dataset` or `model`; one for all versions of a name."""
        return self._type

    @property
    def state(self) -> Literal["draft", "logged", "deleted"]:
        """`draft` until it is logged; `deleted` for a version that is kept in the lineage only."""
        if self._row is None:
            return "draft"
        return "logged" if self._row.deleted_at is None else "deleted"

    @property
    def version(self) -> str:
        """`v0`, `v1`, …; numbers of a collection are contiguous and never reused."""
        return f"v{self._logged().key.number}"

    @property
    def project(self) -> str:
        """The project that the version belongs to."""
        return self._logged().key.project

    @property
    def qualified_name(self) -> str:
        """`project/name:v3`"""
        return str(self._logged().key)

    @property
    def source_version(self) -> str | None:
        """`project/name:v3` of the version that this linked version stands for, else None."""
        source = self._logged().source
        return None if source is None else str(source)

    @property
    def created(self) -> bool:
        """True where logging this object made a new version; False where the content was there already."""
        return self._created

    @property
    def created_at(self) -> datetime:
        """When the version was first logged (UTC)."""
        return self._logged().created_at

    @property
    def digest(self) -> str:
        """The content digest: `sha256:…` over path, size and content id of all entries, equal wherever they lie."""
        return self._info().content_digest

    @property
    def manifest_digest(self) -> str:
        """The digest that decides whether a version is new: like `digest`, with the URIs."""
        return self._info().manifest_digest

    @property
    def file_count(self) -> int:
        """How many entries there are."""
        return self._info().entry_count

    @property
    def size(self) -> int:
        """Bytes of all entries whose size is known."""
        return self._info().size_bytes

    @property
    def referenced_size(self) -> int:
        """Bytes of the references."""
        return self._info().referenced_bytes

    @property
    def stored_size(self) -> int:
        """Bytes of the managed files. Files that versions share are stored once and counted in each."""
        return self._info().managed_bytes

    @property
    def weak_count(self) -> int | None:
        """How many entries have a weak identity: another content of the same size may have it too.

        None for a version that an older refart logged, which did not count them.
        """
        return (self._measured() if self._row is None else self._reader().index).weak_count

    def default_root(self) -> str:
        """`./artifacts/name-v3`"""
        return f"./artifacts/{self._name}-{self.version}"

    def __repr__(self) -> str:
        what = self.qualified_name if self._row is not None else f"{self._name} (draft)"
        return f"<Artifact {what}, type {self._type}>"

    def _handle(self, entry: Entry) -> ArtifactEntry:
        from refart.handles import ArtifactEntry  # here, since it needs pyarrow

        return ArtifactEntry._of(self, entry)

    def _handles(self, added: Added) -> Entries:
        from refart.handles import Entries

        return Entries(self, added)

    def _add_version(self, uri: str, **choice: Any) -> Entries:
        """Add entries of a version of the workspace that this draft belongs to, else of the default one."""
        draft = self._editable()
        context = self._context if self._context is not None else shared_context(None)
        added, row = ops.reuse.add_version(context, draft, uri, **choice)
        # From now on it belongs there: managed files that were taken over lie in that workspace's store.
        self._context = context
        self._inputs = tuple(dict.fromkeys((*self._inputs, row.key)))
        return self._handles(added)

    def _label(self) -> str:
        return self._name if self._row is None else str(self._row.key)

    def _logged(self) -> VersionRow:
        if self._row is None:
            raise ConflictError(f"{self._name} is a draft; log_artifact() makes it a version first")
        return self._row

    def _logged_context(self) -> Context:
        self._logged()
        assert self._context is not None
        return self._context

    def _editable(self) -> Draft:
        if self._draft is None:
            raise FinalizedError(
                f"{self._label()} is logged and cannot change; new_draft() gives an editable copy"
            )
        return self._draft

    def _request(
        self, project: str, run_id: str | None, aliases: tuple[str, ...], tags: tuple[str, ...]
    ) -> ops.commit.Request:
        """What to log besides the entries. Of a logged version only the aliases and tags given now count."""
        plain = ops.commit.Request(project, self._name, self._type, run_id, aliases, tags)
        if self._row is not None:
            return plain
        return replace(
            plain,
            aliases=tuple(dict.fromkeys((*aliases, *names.check_aliases(self.aliases)))),
            tags=tuple(dict.fromkeys((*tags, *names.check_tags(self.tags)))),
            description=names.check_description(self.description),
            metadata=names.check_metadata(self.metadata) or None,
            ttl_s=ttl_s_of(self.ttl),
            inputs=self._inputs,
        )

    def _here(self) -> Local:
        if self._local is None:
            self._local = local_side()
        return self._local

    def _reader(self) -> Manifest:
        if self._manifest is None:
            store, address = self._logged_context().store, self._logged().manifest.address
            self._manifest = manifest.reader.Manifest.open(store, address)
        return self._manifest

    def _pages_below(self, prefix: str | None) -> Iterator[Any]:
        """As `_pages`, of a prefix as people write it."""
        return self._pages(names.check_path(prefix.rstrip("/"), "prefix") if prefix else None)

    def _pages(self, prefix: str | None = None) -> Iterator[Any]:
        return self._draft.pages(prefix) if self._draft is not None else self._reader().pages(prefix)

    def _info(self) -> ManifestInfo:
        """Digests and counts: recorded, or computed from the draft once a revision."""
        if self._row is not None:
            return self._row.manifest
        return ops.commit.info_of(self._measured())

    def _measured(self) -> ManifestIndex:
        draft = self._editable()
        if self._built is None or self._built[0] != draft.revision:
            self._built = (draft.revision, ops.commit.measure(draft))
        return self._built[1]

    def _staging_folder(self) -> Path:
        if self._staging is None:
            self._staging = Path(mkdtemp(prefix="refart-new-file-"))
            finalize(self, shutil.rmtree, self._staging, ignore_errors=True)
        return self._staging


def ttl_s_of(ttl: timedelta | None) -> int | None:
    if ttl is None:
        return None
    if not isinstance(ttl, timedelta) or ttl.total_seconds() < 1:
        raise InvalidInputError(f"ttl must be a timedelta of at least a second, or None, not {ttl!r}")
    return ttl // timedelta(seconds=1)


def folder_of(path_prefix: str | None) -> str | None:
    return path_prefix.rstrip("/") if path_prefix else None
