"""Decides what a restore has to do for each entry, from what lies there now; writes nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.context import Context
from refart.entries import Entry, Page, page_of, prefixed
from refart.errors import (
    InvalidInputError,
    PermissionDeniedError,
)
from refart.manifest.changes import aligned
from refart.manifest.reader import Manifest
from refart.ops import live, restore_files
from refart.ops.live import PinState, State
from refart.ops.relocate import prefix_of
from refart.ops.restore_rows import Planned, same_content
from refart.ops.status import kept_pins
from refart.parallel import map_bounded, thread_pool
from refart.sources.base import PinnedSource, WritableSource

_ALIKE: Final = (("s3", "s3a"), ("gs", "gcs"), ("az", "abfs", "abfss"))
"""Schemes by which the same objects can be named."""

_DENIED: Final = "it may not be looked at: get access to it"

_BEYOND: Final = "it is reached through the symbolic link {link}, beyond which nothing is {done}"

_LOST: Final = {
    "removed": "it is gone, and no version of it is pinned",
    "modified": "it was overwritten, and no version of it is pinned",
    "rewritten": "it was written again, no version of it is pinned, and its content cannot be compared",
    "unverifiable": "no version of it is pinned, and its content cannot be compared",
}


class _Look(NamedTuple):
    """What is recorded of a path and what lies at its URI now."""

    state: State
    old: Entry | None
    new: Entry | None


class _Looked(NamedTuple):
    """A path with what was found where it is wanted, and where it was."""

    path: str
    here: _Look
    there: _Look


class Planner:
    """Decides about entries, by at most one request each."""

    def __init__(
        self, context: Context, to: str | None, delete: bool, folders: frozenset[str], shared: Shared
    ) -> None:
        self._context, self._local, self._to, self._delete = context, context.local, to, delete
        self._folders, self._shared = folders, shared

    def in_place(self, pages: Iterable[pa.RecordBatch]) -> Iterator[Iterable[Planned | None]]:
        """Rows for each page of a comparison with what lies where it was."""
        return self._each([_Looked(path, look, look) for path, look in _looked(page)] for page in pages)

    def elsewhere(
        self, was: Iterable[pa.RecordBatch], wanted: Iterable[pa.RecordBatch]
    ) -> Iterator[Iterable[Planned | None]]:
        """Rows for the pages of two comparisons: with what lies where it was, and where it is wanted."""

        def looks() -> Iterator[list[_Looked]]:
            for theirs, ours in aligned(was, wanted):
                if ours.num_rows:
                    theirs = theirs.filter(pc.is_in(theirs["path"], value_set=ours["path"]))
                    there = dict(_looked(theirs)) if theirs.num_rows else {}
                    yield [_Looked(path, look, there.get(path, look)) for path, look in _looked(ours)]

        return self._each(looks())

    def _each(self, pages: Iterable[list[_Looked]]) -> Iterator[Iterable[Planned | None]]:
        with thread_pool(self._local.config.threads) as pool:
            for rows in pages:
                # Of most, it is enough to know that the pinned write is kept; some servers tell that of many at once.
                asked = (row.there.old for row in rows if row.there.old and _is_told_by_pin(row.there))
                decide = partial(self._decide, kept_pins(self._local, asked, pool))
                yield map_bounded(pool, decide, rows, window=4 * self._local.config.threads)

    def _decide(self, kept: Mapping[str, PinState], looked: _Looked) -> Planned | None:
        path, here, there = looked
        now, state, uri = here.new, here.state, _uri_of(here)
        if state == "unchanged":
            return None
        if state == "new":
            assert now is not None
            why = self._cannot_delete(uri) if self._delete else None
            can = self._delete and why is None
            return Planned(path, "delete" if can else "new", now.size, uri, why, now=now)
        entry = there.old
        assert entry is not None
        row = Planned(path, "impossible", entry.size, uri, now=now)
        if state == "denied":
            return row._replace(why=_DENIED)
        if names.uri_scheme(uri) == "file":
            return self._from_here(row, entry, there)
        try:
            source = self._source(entry, there, kept.get(path))
        except PermissionDeniedError as error:
            return row._replace(why=str(error))
        if source is None:
            if state == "unverifiable" and self._to is None:
                return row._replace(action="unverifiable")
            kind = (entry.pin or "").partition(":")[0]
            gone = kind in ("version", "generation")
            return row._replace(why=f"the pinned {kind} is gone" if gone else _LOST.get(there.state, _DENIED))
        if same_content(now, source):
            return None  # what was recorded could not be compared with it; the pinned write itself can
        if self._to is None and self._shared.holds(entry):
            return (
                None  # the object is another entry's, and this one can be read from the version that it pins
            )
        if (why := self._cannot_write(str(source.uri), uri)) is not None:
            return row._replace(why=why)
        return row._replace(action="copy", source=source)

    def _from_here(self, row: Planned, entry: Entry, there: _Look) -> Planned | None:
        """A file: nobody keeps what it was, unless its bytes are in the store, the cache, or still where they were."""
        if names.uri_scheme(entry.uri or "") != "file":
            return row._replace(why="it is no file of this machine: refart get downloads it")
        kept = restore_files.kept(self._context, entry)
        if kept is not None and self._to is None and self._shared.holds(entry):
            return None
        if kept is not None or there.state == "unchanged":
            if (link := restore_files.link_to(row.uri, self._folders, itself=True)) is not None:
                return row._replace(why=_BEYOND.format(link=link, done="written"))
            return row._replace(action="write", source=kept or entry)
        if there.state == "unverifiable":
            return row._replace(action="unverifiable")
        return row._replace(why="neither the store nor the cache of this machine has its bytes")

    def _source(self, entry: Entry, there: _Look, kept: PinState | None) -> Entry | None:
        """The write to copy: the current one where that is right, else the pinned one where it is kept."""
        if there.state == "unchanged" and there.new is not None:
            return replace(there.new, path=entry.path)
        if kept in ("superseded", "lost"):
            return entry if kept == "superseded" else None
        source = self._local.sources.for_uri(entry.uri or "")
        if not isinstance(source, PinnedSource):
            return None
        found = source.pinned(entry)
        return None if found is None else replace(found, path=entry.path)

    def _cannot_delete(self, uri: str) -> str | None:
        """Why what lies at `uri` stays; None where it can go."""
        if names.uri_scheme(uri) != "file":
            return self._cannot_write(uri, uri)
        link = restore_files.link_to(uri, self._folders, itself=False)
        return None if link is None else _BEYOND.format(link=link, done="deleted")

    def _cannot_write(self, uri: str, to: str) -> str | None:
        """Why what lies at `uri` cannot be copied to `to`; None where it can."""
        source, target = self._local.sources.for_uri(uri), self._local.sources.for_uri(to)
        scheme = names.uri_scheme(to)
        if scheme == "file":
            return None
        if not isinstance(target, WritableSource):
            return f"{scheme}:// is only read by refart: write it by other means"
        if source is not target or not target.copies(uri, to):
            return (
                f"no server copies from {uri} to {to}: they are not reached by the same account and options"
            )
        return None


class Shared:
    """Which entries point at an object that is another entry's as well: added by another name, with a pin of its own.

    Only one of them can be what lies there; that is the one that the listing of a prefix tells.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._lock = threading.Lock()
        self._loose: set[str] | None = None

    def holds(self, entry: Entry) -> bool:
        roots = self._manifest.index.roots
        if live.covered(page_of([entry]), roots)[0].as_py():
            return False
        uri = str(entry.uri)
        for root in roots:
            base = f"{root.uri.rstrip('/')}/"
            if uri.startswith(base):
                path = names.path_from_key(uri[len(base) :])
                other = self._manifest.get(path if root.name is None else f"{root.name}/{path}")
                if other is not None and other.uri == uri:
                    return True
        return uri in self._twice()

    def _twice(self) -> set[str]:
        """The URIs of several entries among those that no listing of a prefix tells."""
        with self._lock:
            if self._loose is None:
                seen, self._loose = set[str](), set[str]()
                for page in self._manifest.pages():
                    loose = pc.invert(live.covered(page, self._manifest.index.roots))
                    for uri in page["uri"].filter(loose).drop_null().to_pylist():
                        (self._loose if uri in seen else seen).add(uri)
            return self._loose


class Moved:
    """A manifest whose references lie below another prefix, each at its path."""

    def __init__(self, manifest: Manifest, to: str) -> None:
        self._manifest, self._to = manifest, to

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        for page in self._manifest.pages(prefix):
            columns = dict(zip(page.schema.names, page.columns, strict=True))
            nothing = pa.scalar(None, pa.string())
            columns["uri"] = pc.if_else(
                page["uri"].is_valid(), prefixed(f"{self._to}/", page["path"]), nothing
            )
            columns["pin"] = pa.nulls(page.num_rows, pa.string())
            yield pa.RecordBatch.from_arrays(list(columns.values()), schema=page.schema)


def target_of(to: str) -> str:
    if names.uri_scheme(names.check_uri(to)) in ("http", "https"):
        raise InvalidInputError(f"{to} is no prefix to restore to: name one, such as s3://bucket/prefix")
    return prefix_of(to)


def check_reachable(manifest: Manifest, label: str, prefix: str | None, target: str) -> None:
    """Raise `InvalidInputError` where the target is a folder, and none of the references is a file."""
    if names.uri_scheme(target) != "file":
        return
    other = None
    for page in manifest.pages(prefix):
        uris = page["uri"].drop_null()
        if pc.any(pc.starts_with(uris, "file://"), min_count=0).as_py():
            return
        other = other or (uris[0].as_py() if len(uris) else None)
    if other is not None:
        raise InvalidInputError(
            f"{label} cannot be restored to {target}: bytes cannot be copied by the server there, which holds {other}"
            f" and the like; use refart get (Artifact.download)"
        )


def check_apart(manifest: Manifest, label: str, target: str) -> None:
    """Raise `InvalidInputError` where something that the version points at lies at or below the target: what is read
    there could be overwritten, or deleted, before its turn comes."""
    roots = {root.uri for root in manifest.index.roots if root.uri.startswith("file://")}
    for page in manifest.pages():
        uris = page["uri"].drop_null()
        for base in _spellings(target, roots):
            if pc.any(pc.or_(pc.equal(uris, base), pc.starts_with(uris, f"{base}/")), min_count=0).as_py():
                raise InvalidInputError(
                    f"{label} cannot be restored to {target}: it points at what lies there itself; restore it in place"
                    " (without to=, --to), or to another prefix"
                )


def _spellings(target: str, roots: Iterable[str]) -> Iterator[str]:
    """What the URIs of a version may begin with where they lie at the target."""
    scheme, _, rest = target.partition("://")
    for alike in next((several for several in _ALIKE if scheme in several), (scheme,)):
        yield f"{alike}://{rest}"
    if scheme == "file":
        real = os.path.realpath(rest)
        yield f"file://{real}"
        for root in roots:  # recorded by a path that leads there through a link
            folder = root.removeprefix("file://").rstrip("/")
            real_folder = os.path.realpath(folder)
            if f"{real_folder}/".startswith(f"{real}/"):
                yield f"file://{folder}"
            elif real.startswith(f"{real_folder}/"):
                yield f"file://{folder}{real[len(real_folder) :]}"


def count_managed(manifest: Manifest, prefix: str | None) -> int:
    if not manifest.index.managed_bytes and prefix is None:
        return 0
    return sum(page["uri"].null_count for page in manifest.pages(prefix))


def _looked(page: pa.RecordBatch) -> Iterator[tuple[str, _Look]]:
    """The rows of a page of `live.COMPARED`."""
    for row in page.to_pylist():
        old, new = (
            Entry(row["path"], *(row[f"{side}_{name}"] for name in ("size", "content_id", "uri", "pin")))
            if row[f"{side}_content_id"] is not None
            else None
            for side in ("old", "new")
        )
        yield row["path"], _Look(row["change"], old, new)


def _is_told_by_pin(look: _Look) -> bool:
    """Whether all that `PinnedSource.pinned` would tell of the recorded write is recorded, but whether it is kept."""
    algo = "" if look.old is None else checksums.split(look.old.content_id)[0]
    return look.state in ("modified", "removed") and algo in ("md5", "etag", "generation")


def _uri_of(look: _Look) -> str:
    entry = look.old or look.new
    assert entry is not None
    return str(entry.uri)
