"""Compare a version with what its references point at now: one listing of each prefix that it was logged from.

Shared by all verbs that look at the live source. Entries that no recorded prefix covers (single objects, HTTP,
versions that an older refart logged) are asked about one by one, and only they.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.context import Local
from refart.entries import SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import NotFoundError, PermissionDeniedError
from refart.manifest.changes import COMPARED, aligned
from refart.manifest.draft import Draft
from refart.manifest.roots import Root
from refart.manifest.runs import concat
from refart.manifest.shards import exact_sum
from refart.ops import elsewhere, identify
from refart.ops.add import limited, under
from refart.ops.patterns import page_filter
from refart.parallel import map_bounded, thread_pool
from refart.sources.base import ManySource, PinnedSource, Source
from refart.sources.object_source import ObjectSource

State: TypeAlias = Literal["unchanged", "modified", "rewritten", "unverifiable", "removed", "new", "denied"]
"""What became of an entry at its URI.

- `unchanged`: the pinned write is current, or another one with the same content id
- `modified`: other bytes lie there
- `rewritten`: another write of the same size lies there, and what is recorded cannot be compared with what a listing
  tells (an MD5 with the ETag of a multipart upload): only reading it would tell
- `unverifiable`: something of the same size lies there, and nothing more was recorded, or is told
- `removed`, `new`: nothing lies there; nothing was recorded of what lies there
- `denied`: the listing, or the request, was refused
"""

_ETAG_PIN = r"^etag:"


@dataclass(frozen=True, slots=True)
class _Part(Root):
    """A part of a root: what lies below it, and the object or file of exactly its name."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A root that could not be listed."""

    root: Root
    error: PermissionDeniedError


@dataclass(frozen=True)
class Live:
    """What lies below the roots of a version now, sorted by path; temporary files hold what is much."""

    draft: Draft
    roots: tuple[Root, ...]
    refused: tuple[Refused, ...]
    """Roots that may not be listed; their entries are `denied`."""

    def covers(self, page: Page) -> pa.BooleanArray:
        """Which rows a listing of the roots would tell, if they were there."""
        return covered(page, self.roots)

    def is_refused(self, page: Page) -> pa.BooleanArray:
        """Which rows lie below a root that may not be listed."""
        return covered(page, [refused.root for refused in self.refused])


@contextmanager
def listed(local: Local, roots: Iterable[Root], *, executor: Executor | None = None) -> Iterator[Live]:
    """List all roots anew, as they were listed when the version was logged.

    A bucket or folder that is gone is an empty one. Raises `SourceError` and `InvalidInputError` as
    `add_reference`.
    """
    draft, refused = Draft(), []
    roots = tuple(roots)
    try:
        for root in roots:
            try:
                draft.add(scan(local, root, executor=executor), overwrite=True)
            except PermissionDeniedError as error:
                refused.append(Refused(root, error))
        yield Live(draft, roots, tuple(refused))
    finally:
        draft.close()


def scan(local: Local, root: Root, *, executor: Executor | None = None) -> Iterator[Page]:
    """The pages of one root as they would be added now; none where its bucket or folder is gone.

    A root is what lies below it: an object, or a file, that has its very name since is none of it.
    """
    source = local.sources.for_uri(root.uri)
    uri = f"{root.uri.rstrip('/')}/" if isinstance(source, ObjectSource) else root.uri
    is_local = names.uri_scheme(root.uri) in (None, "file")
    options: dict[str, Any] = {} if root.follow_symlinks else {"follow_symlinks": False}
    if executor is not None:
        lists = elsewhere.listing(local, source, uri, executor)
        options |= {} if lists is None else {"elsewhere": lists}
    how = identify.of_scan(identify.by_name(root.checksum), None, is_local=is_local)
    if not is_local and how == "none":
        how = "best"  # costs nothing, and tells more
    keep = page_filter(root.include, root.exclude)
    with local.reporter.task(f"Listing {root.uri}", unit="objects") as task:
        try:
            if isinstance(root, _Part) and (one := source.stat(root.uri)) is not None:
                yield page_of([replace(one, path=root.name or one.path)])
            found = source.scan(uri, identify=how, keep=keep, on_page=task.advance, **options)
            if not found.is_object:
                for page in limited(found.pages, uri, None, allow_empty=True):
                    yield under(page, root.name)
        except NotFoundError:
            return


def narrowed(roots: Iterable[Root], prefix: str | None) -> Iterator[Root]:
    """What must be listed for the entries below a path prefix: without what lies beside it, where the path tells the
    key."""
    for root in roots:
        base = "" if root.name is None else f"{root.name}/"
        if prefix is None or base.startswith(f"{prefix}/"):
            yield root
        elif f"{prefix}/".startswith(base):
            rest = prefix[len(base) :]
            is_plain = not (root.include or root.exclude or "%" in rest or root.uri.startswith("https:"))
            is_plain &= root.follow_symlinks  # else a link below it would become a folder that is listed
            is_plain &= root.checksum != "stat"  # by which a file is not known that is looked at alone
            part = replace(root, uri=f"{root.uri.rstrip('/')}/{rest}", name=prefix)
            yield _Part(**asdict(part)) if is_plain else root


class Pages(Protocol):
    """Entries in the order of their paths: a manifest, a draft, or a part of one."""

    def pages(self, prefix: str | None = None) -> Iterator[Page]:
        """All of them, or those at and below a path."""


class Comparison:
    """Each reference of a version with what lies at its URI now: iterate once for pages of `COMPARED`, by path, with a
    `State` as `change`; `new_` is what lies there now.

    Managed files are left out, and so is what lies below a prefix in their place. With `changed_only`, so are rows
    whose state is `unchanged`. `counts` and `size_bytes` (of what was recorded; of what lies there for `new`) grow
    while pages are taken, unchanged rows included, and so do `rewritten_equally` and `rewritten_equally_bytes`: the
    unchanged ones that are another write than the pinned one.
    """

    def __init__(
        self,
        local: Local,
        manifest: Pages,
        live: Live,
        *,
        prefix: str | None = None,
        changed_only: bool = False,
    ) -> None:
        self.counts: dict[State, int] = dict.fromkeys(STATES, 0)
        self.size_bytes: dict[State, int] = dict.fromkeys(STATES, 0)
        self.rewritten_equally = self.rewritten_equally_bytes = 0
        self._local, self._live, self._changed_only = local, live, changed_only
        self._manifest = manifest
        self._elsewhere: pa.StringArray | None = None
        self._pages = aligned(manifest.pages(prefix), live.draft.pages(prefix))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with thread_pool(self._local.config.threads) as pool:
            for old, new in self._pages:
                if self._changed_only:
                    old, new = self._without_equal(old, new)
                page = self._compare(old, new, pool)
                self._count(page)
                if self._changed_only:
                    page = page.filter(pc.not_equal(page["change"], "unchanged"))
                if page.num_rows:
                    yield page

    def _without_equal(self, old: Page, new: Page) -> tuple[Page, Page]:
        """The rows that may have changed, where the two pages have the same paths, as nearly always; the others count
        as unchanged."""
        if not old.num_rows or not old["path"].equals(new["path"]):
            return old, new
        same = pc.and_(
            pc.equal(old["content_id"], new["content_id"]), _both(pc.equal, old["uri"], new["uri"])
        )
        same = pc.and_(same, pc.not_equal(old["content_id"], checksums.NONE))
        same = pc.and_not(same, _both(pc.not_equal, old["size"], new["size"]))
        if same.true_count == old.num_rows:  # as nearly always: nothing to copy
            self._count_unchanged(old, new)
            return old.slice(0, 0), new.slice(0, 0)
        self._count_unchanged(old.filter(same), new.filter(same))
        rest = pc.invert(same)
        return old.filter(rest), new.filter(rest)

    def _compare(self, old: Page, new: Page, pool: Executor) -> pa.RecordBatch:
        if old["uri"].null_count:
            managed = old["path"].filter(old["uri"].is_null())
            old = old.filter(old["uri"].is_valid())
            new = new.filter(pc.invert(pc.is_in(new["path"], value_set=managed)))
        row = pc.index_in(new["path"], value_set=old["path"])
        added = self._not_recorded(new.filter(row.is_null()))
        gone = old.filter(pc.invert(pc.is_in(old["path"], value_set=new["path"])))
        was, now = old.take(row.drop_null()), new.filter(row.is_valid())
        # An entry that took the place of what is listed there: of that, nothing was logged.
        moved = pc.not_equal(was["uri"], now["uri"])
        loose, pairs = [was.filter(moved)], [(was.filter(pc.invert(moved)), now.filter(pc.invert(moved)))]
        parts = []
        if gone.num_rows:
            covered, refused = self._live.covers(gone), self._live.is_refused(gone)
            loose.append(gone.filter(pc.invert(covered)))
            parts.append(_rows("denied", gone.filter(refused), None))
            parts.append(_rows("removed", gone.filter(pc.and_not(covered, refused)), None))
        if loose := [page for page in loose if page.num_rows]:
            there, missing, denied = self._ask(concat(loose), pool)
            pairs.append(there)
            parts += [_rows("removed", missing, None), _rows("denied", denied, None)]
        for was, now in pairs:
            states = judge(was, now)
            parts.append(_rows(states, was, now))
        parts.append(_rows("new", None, added))
        table = pa.Table.from_batches(parts)
        if len(parts) > 2 or added.num_rows:
            table = table.take(pc.sort_indices(table["path"]))
        return table.combine_chunks().to_batches()[0] if table.num_rows else parts[-1]

    def _not_recorded(self, added: Page) -> Page:
        """Without what the version holds by another path: the same object, added by a name of its own."""
        if not added.num_rows:
            return added
        if self._elsewhere is None:
            self._elsewhere = self._uris_of_loose()
        if not len(self._elsewhere):
            return added
        return added.filter(pc.invert(pc.is_in(added["uri"], value_set=self._elsewhere)))

    def _uris_of_loose(self) -> pa.StringArray:
        """The URIs of references below a root that a listing of it would not find under their paths: of few, as a
        rule. Whole, whatever prefix is compared."""
        found = [pa.array([], pa.string())]
        roots = [f"{root.uri.rstrip('/')}/" for root in self._live.roots]
        for page in self._manifest.pages() if roots else ():
            loose = page["uri"].filter(pc.invert(self._live.covers(page))).drop_null()
            below = pa.array([False] * len(loose), pa.bool_())
            for base in roots:
                below = pc.or_(below, pc.starts_with(loose, base))
            found.append(loose.filter(below))
        return pa.concat_arrays(found)

    def _ask(self, loose: Page, pool: Executor) -> tuple[tuple[Page, Page], Page, Page]:
        """What lies at the URIs of single objects: those there, with what is there; those gone; those
        that may not be looked at."""
        there: list[tuple[Entry, Entry]] = []
        missing, denied = [], []
        entries = list(entries_of(loose))
        found = dict(look_at_all(self._local, {str(entry.uri) for entry in entries}, pool))
        for entry in entries:
            now = found[str(entry.uri)]
            if isinstance(now, PermissionDeniedError):
                denied.append(entry)
            elif now is None:
                missing.append(entry)
            else:
                there.append((entry, replace(now, path=entry.path, uri=entry.uri)))
        was, current = ([pair[side] for pair in there] for side in (0, 1))
        return (page_of(was), page_of(current)), page_of(missing), page_of(denied)

    def _count_unchanged(self, old: Page, new: Page) -> None:
        self.counts["unchanged"] += old.num_rows
        self.size_bytes["unchanged"] += exact_sum(pc.coalesce(old["size"], new["size"]))
        self._count_rewritten(old["size"], is_other_write(old["pin"], new["pin"], new["content_id"]))

    def _count_rewritten(self, sizes: pa.Int64Array, mask: pa.BooleanArray) -> None:
        if mask.true_count:
            self.rewritten_equally += mask.true_count
            self.rewritten_equally_bytes += exact_sum(sizes.filter(mask))

    def _count(self, page: pa.RecordBatch) -> None:
        sizes = pc.coalesce(page["old_size"], page["new_size"])
        for state in pc.unique(page["change"]).to_pylist():
            mask = pc.equal(page["change"], state)
            self.counts[state] += pc.sum(mask).as_py() or 0
            self.size_bytes[state] += exact_sum(sizes.filter(mask))
            if state == "unchanged":
                other = is_other_write(page["old_pin"], page["new_pin"], page["new_content_id"])
                self._count_rewritten(sizes, pc.and_(mask, other))


STATES: Final[tuple[State, ...]] = State.__args__  # type: ignore[attr-defined]


def look_at_all(
    local: Local, uris: Iterable[str], pool: Executor
) -> Iterator[tuple[str, Entry | PermissionDeniedError | None]]:
    """What lies at each URI now, in any order; by fewer requests than URIs, where the source can."""
    window = 4 * local.config.threads
    several: dict[int, tuple[Source, list[str]]] = {}
    for uri in uris:
        source = local.sources.for_uri(uri)
        several.setdefault(id(source), (source, []))[1].append(uri)
    for source, wanted in several.values():
        if isinstance(source, ManySource):
            yield from source.stat_many(wanted, pool, window=window)
        else:
            yield from map_bounded(pool, partial(_look, source), wanted, window=window)


def _look(source: Source, uri: str) -> tuple[str, Entry | PermissionDeniedError | None]:
    try:
        return uri, source.stat(uri)
    except PermissionDeniedError as error:
        return uri, error
    except NotFoundError:
        return uri, None


def judge(old: Page, new: Page) -> pa.StringArray:
    """The `State` of each row of `old` beside the same row of `new`: unchanged, modified, rewritten, unverifiable."""
    other_size = _both(pc.not_equal, old["size"], new["size"])
    other_pin = is_other_write(old["pin"], new["pin"], new["content_id"])
    same_write = pc.and_not(pc.is_valid(old["pin"]), other_pin)
    is_known = pc.not_equal(old["content_id"], checksums.NONE)
    same_content = pc.and_(is_known, pc.equal(old["content_id"], new["content_id"]))
    same_algo = pc.equal(_algo(old["content_id"]), _algo(new["content_id"]))
    other_content = pc.and_(pc.and_(is_known, same_algo), pc.not_equal(old["content_id"], new["content_id"]))
    # A write that is pinned, and is not the one there now; of which the bytes may still be the same.
    other_write = pc.or_(
        other_pin,
        pc.and_(is_known, pc.not_equal(new["content_id"], checksums.NONE)),
    )
    return pc.case_when(
        pa.StructArray.from_arrays(
            [
                other_size,
                pc.or_(same_write, same_content),
                other_content,
                other_write,
            ],
            names=["modified", "unchanged", "other", "rewritten"],
        ),
        *(pa.scalar(state) for state in ("modified", "unchanged", "modified", "rewritten", "unverifiable")),
    )


def is_other_write(old_pin: pa.StringArray, new_pin: pa.StringArray, new_content_id: pa.StringArray) -> Any:
    """Which rows are pinned, and are another write now."""
    other = pc.and_(pc.is_valid(old_pin), pc.invert(_both(pc.equal, old_pin, new_pin)))
    if not other.true_count:
        return other
    is_etag = pc.fill_null(pc.match_substring_regex(old_pin, _ETAG_PIN), False)
    return pc.and_not(other, pc.and_(is_etag, _both(pc.equal, old_pin, etags_of(new_content_id))))


def etags_of(content_ids: pa.StringArray) -> pa.StringArray:
    """The pins `etag:TAG` that content ids stand for (`checksums.etag_of`); null where they stand for none."""
    algo = _algo(content_ids)
    is_one = pc.and_not(
        pc.or_(pc.equal(algo, "md5"), pc.equal(algo, "etag")),
        pc.starts_with(content_ids, f"etag:{checksums.WEAK_ETAG}"),
    )
    tags = pc.replace_substring_regex(content_ids, r"^[a-z0-9]+:", "etag:")
    return pc.if_else(is_one, tags, pa.scalar(None, pa.string()))


def _algo(content_ids: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(content_ids, r"(?s):.*$", "")


def _both(function: Any, old: pa.Array, new: pa.Array) -> pa.BooleanArray:
    """A comparison that is false where either side is unknown."""
    return pc.fill_null(function(old, new), False)


def covered(page: Page, roots: Iterable[Root]) -> pa.BooleanArray:
    """Which rows a listing of one of the roots would find under their path and URI. Of keys that no path can spell, and
    of what was given a path of its own, nobody knows: such entries are asked about one by one."""
    told = pa.array([False] * page.num_rows, pa.bool_())
    for root in roots:
        base, paths = f"{root.uri.rstrip('/')}/", page["path"].cast(pa.binary())
        if root.name is None:
            found = pc.binary_join_element_wise(base.encode(), paths, b"")
        else:
            inside, skipped = f"{root.name}/".encode(), len(root.name.encode()) + 1
            found = pc.if_else(
                pc.starts_with(paths, inside), pc.binary_replace_slice(paths, 0, skipped, base.encode()), None
            )
        told = pc.or_(told, _both(pc.equal, page["uri"].cast(pa.binary()), found))
    return told


def _rows(state: str | pa.StringArray, old: Page | None, new: Page | None) -> pa.RecordBatch:
    """Rows of `COMPARED` from the rows of either side."""
    present = old if old is not None else new
    assert present is not None
    states = pa.repeat(state, present.num_rows) if isinstance(state, str) else state
    columns = [present["path"], states]
    for field in list(SCHEMA)[1:]:
        for side in (old, new):
            columns.append(side[field.name] if side is not None else pa.nulls(present.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=COMPARED)


PinState: TypeAlias = Literal["pinned", "equal", "superseded", "stored", "lost", "unverifiable", "denied"]
"""Whether the recorded bytes can still be read.

- `pinned`: the recorded write is what lies there (for a file: the recorded bytes)
- `equal`: another write with the same content id lies there; whether the pinned one is kept was not asked
- `superseded`: the object moved on, and the pinned version or generation is kept
- `stored`: as `lost`, but the store, or the cache of this machine, has the bytes by their SHA-256
- `lost`: neither the pinned write nor equal content is there
- `unverifiable`: nothing was recorded, or is told, by which to know
- `denied`: the request was refused
"""


def pin_state(local: Local, entry: Entry, state: State) -> PinState:
    """The state of an entry's pin, given what became of its object; one request only where the object moved on and a
    version or generation of it is pinned, or may be kept from before its bucket had versions. Never `stored`, which
    `ops.status` looks up."""
    if state in ("unchanged", "unverifiable", "denied"):
        return "pinned" if state == "unchanged" else state
    source = local.sources.for_uri(entry.uri or "")
    is_pinned = (entry.pin or "").startswith(("version:", "generation:"))
    if isinstance(source, PinnedSource):
        try:
            if source.pinned(entry) is not None:
                return "superseded"
        except PermissionDeniedError:
            return "denied"
    return "unverifiable" if state == "rewritten" and not is_pinned else "lost"
