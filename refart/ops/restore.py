"""Bring a source back to a version, by copies that its servers make of the pinned writes.

First a plan, from one listing; then what it says, and nothing else. A second run plans what is left.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice, takewhile
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.context import Context
from refart.entries import Entry, Page, page_of, prefixed
from refart.errors import (
    ChecksumError,
    ConflictError,
    InvalidInputError,
    PermissionDeniedError,
    RefartError,
    ReferenceMissingError,
    SourceError,
)
from refart.manifest.changes import aligned
from refart.manifest.reader import Manifest
from refart.manifest.roots import Root
from refart.manifest.spill import Rows, Spill
from refart.ops import live, restore_files, select
from refart.ops.live import PinState, State
from refart.ops.relocate import prefix_of
from refart.ops.status import kept_pins
from refart.parallel import map_bounded, thread_pool
from refart.sources.base import PinnedSource, WritableSource

Action: TypeAlias = Literal["copy", "write", "delete", "new", "unverifiable", "impossible"]
"""What a plan says of an entry or object.

- `copy`: its server copies the pinned write; `write`: a file is written from the store or the cache
- `delete`: nothing was recorded of what lies there; `new`: the same, and it stays
- `unverifiable`: whether it changed cannot be told; it stays as it is
- `impossible`: it is not what was recorded, and cannot be brought back; `why` says so
"""

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
DOING: Final = frozenset({"copy", "write", "delete"})
"""What writes."""

PLANNED: Final[pa.Schema] = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("why", pa.string()),
        *(
            pa.field(f"{side}_{name}", kind)
            for side in ("from", "now")
            for name, kind in (
                ("size", pa.int64()),
                ("content_id", pa.string()),
                ("uri", pa.string()),
                ("pin", pa.string()),
            )
        ),
    ]
)
"""The columns of a page of a plan: `uri` is where something is done; `from_` what is copied; `now_` what lies there."""

NAMED: Final = 5
"""Entries that an error names."""

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


_Outcome: TypeAlias = Literal["done", "unverified", "already", "conflict"] | RefartError


class _Planned(NamedTuple):
    """A row of a plan, before it is one of `PLANNED`."""

    path: str
    action: Action
    size: int | None
    uri: str
    why: str | None = None
    source: Entry | None = None
    now: Entry | None = None


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


@dataclass(slots=True)
class RestoreReport:
    """What a restore did."""

    restored_files: int = 0
    restored_bytes: int = 0
    deleted_files: int = 0
    already_restored_files: int = 0
    """What was as the plan wants it when its turn came: by somebody else, or the same plan before."""
    unverified: list[str] = field(default_factory=list)
    """Paths of which the copy has the right size, and nothing more can be compared: another kind of content id."""
    conflicts: list[str] = field(default_factory=list)
    """Paths that changed since the plan was made, and were left as they are."""
    impossible: list[str] = field(default_factory=list)
    """Paths that could not be restored (`allow_missing`)."""
    failed: dict[str, RefartError] = field(default_factory=dict)
    """Path → why it was not written, or not as it should be: it is archived, say, or access is denied."""
    is_broken_off: bool = False
    """Whether a server could not be reached, or had too much to do, so that no more was tried."""

    def check(self) -> None:
        """Raise an error that names paths where not all was done: of the class of the first that failed, or
        `ConflictError` where some were left because they changed meanwhile."""
        if self.failed:
            count, errors = len(self.failed), list(self.failed.values())
            told = "; ".join(f"{path!r}: {error}" for path, error in islice(self.failed.items(), NAMED))
            more = f"; and {count - NAMED:,} more" if count > NAMED else ""
            message = f"{count:,} objects could not be restored: {told}{more}; put it right and restore again"
            raise type(errors[0])(message) from errors[0]
        if self.conflicts:
            count, named = len(self.conflicts), ", ".join(map(repr, self.conflicts[:NAMED]))
            raise ConflictError(
                f"{count:,} objects changed while the plan was carried out, and were left as they are: {named}"
                f"{', …' if count > NAMED else ''}; all else was restored: restore again to see what is left"
            )


class RestorePlan:
    """What a restore would do; nothing is done before `execute`."""

    def __init__(self, context: Context, label: str, to: str | None, folders: frozenset[str]) -> None:
        self.to = to
        """The prefix to restore to; None for where everything was."""
        self.counts: dict[Action, int] = dict.fromkeys(ACTIONS, 0)
        self.size_bytes: dict[Action, int] = dict.fromkeys(ACTIONS, 0)
        self.unchanged_files = 0
        """Entries that need nothing."""
        self.managed_files = 0
        """Entries whose bytes are in the store: no source has them."""
        self._context, self._label, self._folders = context, label, folders
        self._spill = Spill(None)
        self._pages: list[Rows] = []

    @property
    def is_empty(self) -> bool:
        """True where nothing is to be done: what can be restored is as it was."""
        return not any(self.counts[action] for action in ACTIONS if action in DOING)

    def pages(self) -> Iterator[pa.RecordBatch]:
        """Pages of `PLANNED`, by path, as often as asked for."""
        return (rows.read() for rows in self._pages)

    def check(self, *, allow_missing: bool = False) -> None:
        """Raise `ReferenceMissingError`, which names entries, where some cannot be restored; unless `allow_missing`."""
        count = self.counts["impossible"]
        if not count or allow_missing:
            return
        rows = (row for page in self.pages() for row in page.to_pylist() if row["action"] == "impossible")
        named = [
            f"{row['path']!r} ({row['uri']}): {row['why']}"
            for row, _ in zip(rows, range(NAMED), strict=False)
        ]
        more = f"; and {count - NAMED:,} more" if count > NAMED else ""
        raise ReferenceMissingError(
            f"{count:,} of the entries of {self._label} cannot be restored; nothing was written: {'; '.join(named)}"
            f"{more}; pass allow_missing=True (--allow-missing) to restore all others"
        )

    def execute(self, *, allow_missing: bool = False) -> RestoreReport:
        """Do what the plan says, many copies at once.

        What changed since is left as it is, and reported (`conflicts`), unless it became what the plan wants, as it has
        when the plan is carried out a second time (`already_restored_files`). What fails otherwise is reported too
        (`failed`), and all else is done, but deletions; unless a server cannot be reached or has too much to do: that
        ends the restore when what is under way has ended. A new plan then has what is left. `RestoreReport.check`
        raises what was reported. Raises as `check`, before anything is written.
        """
        self.check(allow_missing=allow_missing)
        report = RestoreReport()
        local = self._context.local
        total = sum(self.counts[action] for action in ACTIONS if action in DOING)
        with (
            local.reporter.task(f"Restoring {self._label}", unit="objects", total=total) as task,
            restore_files.working(self._folders) as tidy,
            thread_pool(local.config.threads) as pool,
        ):
            window = 4 * local.config.threads
            # Deletions when all copies are made: they can take away nothing then that is still to be read.
            outcomes = chain.from_iterable(
                map_bounded(pool, partial(self._do, tidy), rows, window=window)
                for rows in self._passes(report)
            )
            for row, outcome in outcomes:
                size = row.size or 0
                if isinstance(outcome, RefartError):
                    report.failed[row.path] = outcome
                    report.is_broken_off |= getattr(outcome, "transient", False)
                elif outcome == "conflict":
                    report.conflicts.append(row.path)
                elif outcome == "already":
                    report.already_restored_files += 1
                elif row.action == "delete":
                    report.deleted_files += 1
                else:
                    report.restored_files += 1
                    report.restored_bytes += size
                if outcome == "unverified":
                    report.unverified.append(row.path)
                task.advance(1, size_bytes=size)
        for paths in (report.conflicts, report.unverified):
            paths.sort()
        return report

    def _add(self, rows: Iterable[_Planned | None]) -> None:
        kept = []
        for row in rows:
            if row is None:
                self.unchanged_files += 1
                continue
            self.counts[row.action] += 1
            self.size_bytes[row.action] += row.size or 0
            kept.append(row)
        if kept:
            self._pages.append(self._spill.append(_page_of(kept)))

    def _passes(self, report: RestoreReport) -> Iterator[Iterator[_Planned]]:
        """What is to be written, then what is to be deleted; nothing more where the server is away, and nothing is
        deleted where something failed: it may be all that is left of that."""
        written = self._rows(DOING - {"delete"}, report.impossible)
        yield takewhile(lambda _: not report.is_broken_off, written)
        if not report.failed:
            deleted = self._rows(frozenset({"delete"}), [])
            yield takewhile(lambda _: not report.is_broken_off, deleted)

    def _rows(self, actions: frozenset[str], impossible: list[str]) -> Iterator[_Planned]:
        for page in self.pages():
            for row in map(_planned, page.to_pylist()):
                if row.action in actions:
                    yield row
                elif row.action == "impossible":
                    impossible.append(row.path)

    def _do(self, tidy: restore_files.Tidy, row: _Planned) -> tuple[_Planned, _Outcome]:
        """One write. What an answer leaves unclear is looked at."""
        try:
            try:
                return row, "done" if self._written(row, tidy) else "unverified"
            except ConflictError:
                return row, "already" if self._is_done(row) else "conflict"
            except SourceError as error:
                if not error.transient or not self._is_done(row):
                    raise
                return row, "done"  # only the answer was lost
        except RefartError as error:
            return row, error

    def _written(self, row: _Planned, tidy: restore_files.Tidy) -> bool:
        """Do it; whether the outcome was compared."""
        source, local = self._context.local.sources.for_uri(row.uri), self._context.local
        if row.action == "delete":
            assert row.now is not None
            if isinstance(source, WritableSource):
                source.delete(row.now)
            else:
                restore_files.delete(local, row.now, self._folders)
            return True
        assert row.source is not None
        if row.action == "write":
            restore_files.write(self._context, row.source, row.uri, over=row.now, folders=self._folders)
            tidy(row.uri)
            return True
        assert isinstance(source, WritableSource)
        copied = source.copy(row.source, row.uri, over=row.now)
        if _same_content(copied, row.source):
            return True
        if copied.size != row.source.size:
            raise ChecksumError(
                f"{row.path!r}: the copy at {row.uri} has another size than what was copied: expected"
                f" {row.source.size}, found {copied.size}; look at it before you go on"
            )
        return False

    def _is_done(self, row: _Planned) -> bool:
        found = self._context.local.sources.for_uri(row.uri).stat(row.uri)
        if row.action == "delete":
            return found is None
        return row.source is not None and _same_content(found, row.source)


def plan(
    context: Context,
    manifest: Manifest,
    label: str,
    *,
    path_prefix: str | None = None,
    to: str | None = None,
    delete: bool = False,
    executor: Executor | None = None,
) -> RestorePlan:
    """What is to be done so that the source holds what the version recorded. See `Artifact.restore_plan`."""
    select.selection(manifest, label, path_prefix=path_prefix)  # raises where there is nothing
    prefix = path_prefix.rstrip("/") if path_prefix else None
    target = None if to is None else _target(to)
    if target is not None:
        _check_reachable(manifest, label, prefix, target)
        _check_apart(manifest, label, target)
    folders = restore_files.folders_of(manifest.index.roots if target is None else [Root(target)])
    made = RestorePlan(context, label, target, folders)
    made.managed_files = _count_managed(manifest, prefix)
    planner = _Planner(context, target, delete, folders, _Shared(manifest))
    with ExitStack() as stack:

        def compared(source: live.Pages, roots: Iterable[Root], *, changed_only: bool) -> live.Comparison:
            listed = live.listed(context.local, live.narrowed(roots, prefix), executor=executor)
            here = stack.enter_context(listed)
            return live.Comparison(context.local, source, here, prefix=prefix, changed_only=changed_only)

        there = compared(manifest, manifest.index.roots, changed_only=target is None)
        if target is None:
            wanted, planned = there, planner.in_place(there)
        else:
            wanted = compared(_Moved(manifest, target), [Root(target)], changed_only=True)
            planned = planner.elsewhere(there, wanted)
        for rows in planned:
            made._add(rows)
        made.unchanged_files += wanted.counts["unchanged"]
    return made


class _Planner:
    """Decides about entries, by at most one request each."""

    def __init__(
        self, context: Context, to: str | None, delete: bool, folders: frozenset[str], shared: _Shared
    ) -> None:
        self._context, self._local, self._to, self._delete = context, context.local, to, delete
        self._folders, self._shared = folders, shared

    def in_place(self, pages: Iterable[pa.RecordBatch]) -> Iterator[Iterable[_Planned | None]]:
        """Rows for each page of a comparison with what lies where it was."""
        return self._each([_Looked(path, look, look) for path, look in _looked(page)] for page in pages)

    def elsewhere(
        self, was: Iterable[pa.RecordBatch], wanted: Iterable[pa.RecordBatch]
    ) -> Iterator[Iterable[_Planned | None]]:
        """Rows for the pages of two comparisons: with what lies where it was, and where it is wanted."""

        def looks() -> Iterator[list[_Looked]]:
            for theirs, ours in aligned(was, wanted):
                if ours.num_rows:
                    theirs = theirs.filter(pc.is_in(theirs["path"], value_set=ours["path"]))
                    there = dict(_looked(theirs)) if theirs.num_rows else {}
                    yield [_Looked(path, look, there.get(path, look)) for path, look in _looked(ours)]

        return self._each(looks())

    def _each(self, pages: Iterable[list[_Looked]]) -> Iterator[Iterable[_Planned | None]]:
        with thread_pool(self._local.config.threads) as pool:
            for rows in pages:
                # Of most, it is enough to know that the pinned write is kept; some servers tell that of many at once.
                asked = (row.there.old for row in rows if row.there.old and _is_told_by_pin(row.there))
                decide = partial(self._decide, kept_pins(self._local, asked, pool))
                yield map_bounded(pool, decide, rows, window=4 * self._local.config.threads)

    def _decide(self, kept: Mapping[str, PinState], looked: _Looked) -> _Planned | None:
        path, here, there = looked
        now, state, uri = here.new, here.state, _uri_of(here)
        if state == "unchanged":
            return None
        if state == "new":
            assert now is not None
            why = self._cannot_delete(uri) if self._delete else None
            can = self._delete and why is None
            return _Planned(path, "delete" if can else "new", now.size, uri, why, now=now)
        entry = there.old
        assert entry is not None
        row = _Planned(path, "impossible", entry.size, uri, now=now)
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
        if _same_content(now, source):
            return None  # what was recorded could not be compared with it; the pinned write itself can
        if self._to is None and self._shared.holds(entry):
            return (
                None  # the object is another entry's, and this one can be read from the version that it pins
            )
        if (why := self._cannot_write(str(source.uri), uri)) is not None:
            return row._replace(why=why)
        return row._replace(action="copy", source=source)

    def _from_here(self, row: _Planned, entry: Entry, there: _Look) -> _Planned | None:
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


class _Shared:
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


class _Moved:
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


def _target(to: str) -> str:
    if names.uri_scheme(names.check_uri(to)) in ("http", "https"):
        raise InvalidInputError(f"{to} is no prefix to restore to: name one, such as s3://bucket/prefix")
    return prefix_of(to)


def _check_reachable(manifest: Manifest, label: str, prefix: str | None, target: str) -> None:
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


def _check_apart(manifest: Manifest, label: str, target: str) -> None:
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


def _count_managed(manifest: Manifest, prefix: str | None) -> int:
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


def _same_content(found: Entry | None, wanted: Entry) -> bool:
    return (
        found is not None
        and found.content_id == wanted.content_id
        and found.size == wanted.size
        and not checksums.is_weak(wanted.content_id)
    )


def _page_of(rows: list[_Planned]) -> pa.RecordBatch:
    sides = ("source", "now")
    fields = ("size", "content_id", "uri", "pin")
    own = [[getattr(row, name) for row in rows] for name in ("path", "action", "size", "uri", "why")]
    others = [
        [None if (entry := getattr(row, side)) is None else getattr(entry, name) for row in rows]
        for side in sides
        for name in fields
    ]
    columns = [pa.array(values, field.type) for values, field in zip([*own, *others], PLANNED, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=PLANNED)


def _planned(row: dict[str, Any]) -> _Planned:
    source, now = (
        Entry(row["path"], *(row[f"{side}_{name}"] for name in ("size", "content_id", "uri", "pin")))
        if row[f"{side}_content_id"] is not None
        else None
        for side in ("from", "now")
    )
    return _Planned(row["path"], row["action"], row["size"], row["uri"], row["why"], source, now)
