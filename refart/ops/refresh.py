"""Bring a draft up to date with its sources: one listing, and the cost of what changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.context import Local
from refart.entries import SCHEMA, Page
from refart.errors import NotFoundError, PermissionDeniedError
from refart.manifest.changes import aligned
from refart.manifest.draft import Draft
from refart.manifest.roots import Root
from refart.manifest.runs import SortedRun, collect, differ, sort_pages
from refart.ops import identify
from refart.ops.live import Comparison, Live, etags_of, listed

_IDENTIFIED: Final = ("new", "modified", "rewritten", "unverifiable")
"""States of what has to be identified anew."""


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What became of the entries of a draft. An entry that moved was removed and added."""

    kept: int
    """Entries with the same size, content id and URI as before, managed files among them."""
    added: int
    changed: int
    removed: int
    repinned: int
    """Of those kept, how many are pinned to a newer write of the same bytes now."""

    @property
    def is_empty(self) -> bool:
        """True where no version would come of it."""
        return not (self.added or self.changed or self.removed)


def refresh(
    local: Local, draft: Draft, *, executor: Executor | None = None, allow_empty: bool = False
) -> RefreshReport:
    """List again what the entries of a draft were listed from. See `Artifact.refresh`."""
    before = len(draft)
    with listed(local, draft.roots, executor=executor) as now:
        for refused in now.refused:
            raise PermissionDeniedError(f"{refused.error}; nothing was changed") from None
        comparison = Comparison(local, draft, now)
        watched = _Watched(now, allow_empty=allow_empty)
        found = collect(filter(None, map(_of_interest, watched.pages(comparison))))
        watched.check(before, comparison.counts["removed"])
        fresh = sort_pages(chain.from_iterable(_identified(local, now, found, executor)))
    outcome = _Outcome(found, fresh)
    draft.update(outcome.rows(), (page.select(["path"]) for page in _rows(found, ["removed"])))
    changed, removed = outcome.changed, comparison.counts["removed"]
    return RefreshReport(before - changed - removed, outcome.added, changed, removed, outcome.repinned)


class _Watched:
    """Notices a root of which no recorded entry is left: a lost mount or an expired credential looks like that, too."""

    def __init__(self, now: Live, *, allow_empty: bool) -> None:
        self._lost: dict[Root, int] = {} if allow_empty else dict.fromkeys(now.roots, 0)
        self._others: set[Root] = set()
        self._now, self._allow_empty = now, allow_empty

    def pages(self, comparison: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for page in comparison:
            denied = pc.index(page["change"], "denied").as_py()
            if denied >= 0:
                raise PermissionDeniedError(
                    f"{page['path'][denied]}: {page['old_uri'][denied]} may not be looked at; nothing was changed"
                )
            gone, new = pc.equal(page["change"], "removed"), pc.equal(page["change"], "new")
            still = _new_side(page.filter(pc.invert(pc.or_(gone, new))))
            for root in list(self._lost):
                alone = replace(self._now, roots=(root,))
                if pc.any(alone.covers(still), min_count=0).as_py():
                    del self._lost[root]
                    continue
                if gone.true_count:
                    self._lost[root] += alone.covers(_old_side(page.filter(gone))).true_count
                if new.true_count and root not in self._others:
                    others = alone.covers(_new_side(page.filter(new)))
                    self._others |= {root} if others.true_count else set()
            yield page

    def check(self, entries: int, removed: int) -> None:
        """Raises `NotFoundError` where something would be emptied."""
        ways = (
            "nothing was changed: check the URI, its mount and who may list it, or pass allow_empty=True"
            " (--allow-empty)"
        )
        for root, count in self._lost.items():
            if count and root in self._others:
                raise NotFoundError(
                    f"none of the {count:,} entries of {root.uri} is there now, and others are; {ways}"
                )
            if count:
                raise NotFoundError(f"nothing lies at {root.uri} now, where {count:,} entries were; {ways}")
        if removed == entries > 0 and not self._allow_empty:
            raise NotFoundError(f"nothing is left of {entries:,} entries; {ways}")


def _of_interest(page: pa.RecordBatch) -> pa.RecordBatch | None:
    """The rows that are not simply kept: what changed, and what is another write of the same bytes."""
    old, new = page["old_pin"], page["new_pin"]
    # Without a pin, the content id or what was its ETag is what a reader asks for.
    other = pc.if_else(
        new.is_valid(),
        pc.fill_null(pc.not_equal(old, new), True),
        pc.fill_null(pc.match_substring_regex(old, "^(version|generation):"), False),
    )
    page = page.filter(pc.or_(pc.not_equal(page["change"], "unchanged"), other))
    return page if page.num_rows else None


def _rows(found: SortedRun, states: Iterable[str]) -> Iterator[pa.RecordBatch]:
    wanted = pa.array(list(states))
    for page in found.batches():
        rows = page.filter(pc.is_in(page["change"], value_set=wanted))
        if rows.num_rows:
            yield rows


def _side(page: pa.RecordBatch, names: list[str]) -> Page:
    return pa.RecordBatch.from_arrays([page[name] for name in names], schema=SCHEMA)


def _old_side(page: pa.RecordBatch) -> Page:
    return _side(page, ["path", *(f"old_{name}" for name in SCHEMA.names[1:])])


def _new_side(page: pa.RecordBatch) -> Page:
    return _side(page, ["path", *(f"new_{name}" for name in SCHEMA.names[1:])])


def _identified(
    local: Local, now: Live, found: SortedRun, executor: Executor | None
) -> Iterator[Iterable[Page]]:
    """What is new or may have changed, with the content ids that its root asks for; each kind of them in one go."""
    kinds = {kind for rows in _rows(found, _IDENTIFIED) for kind in _kinds(now, rows).unique().to_pylist()}
    for kind in sorted(kinds):
        pages = (
            _new_side(rows.filter(pc.equal(_kinds(now, rows), kind))) for rows in _rows(found, _IDENTIFIED)
        )
        checksum = identify.by_name(kind)
        if checksum is False:
            yield map(_unidentified, pages)
        else:
            worker = executor if checksum in ("sha256", "stored") else None
            yield identify.identified(local, pages, checksum, worker)


def _kinds(now: Live, rows: pa.RecordBatch) -> pa.StringArray:
    """How each row is identified: as its root says, or, of a single object, as it was before."""
    algo = pc.replace_substring_regex(rows["old_content_id"], r"(?s):.*$", "")
    crc = pc.is_in(algo, value_set=pa.array(sorted(checksums.CRCS)))
    strong = pc.is_in(algo, value_set=pa.array(["sha256", "none"]))
    kinds = pc.if_else(strong, algo, pc.if_else(crc, "stored", "best"))
    page = _new_side(rows)
    for root in now.roots:
        kinds = pc.if_else(replace(now, roots=(root,)).covers(page), root.checksum, kinds)
    return kinds


def _unidentified(page: Page) -> Page:
    """Without content ids; the ETag that one stood for is the pin where there is no other."""
    path, size, content_id, uri, pin = page.columns
    nothing = pa.repeat(checksums.NONE, page.num_rows)
    columns: list[Any] = [path, size, nothing, uri, pc.coalesce(pin, etags_of(content_id))]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class _Outcome:
    """What to put into the draft, and counts that are right once that was taken."""

    def __init__(self, found: SortedRun, fresh: SortedRun) -> None:
        self.added = self.changed = self.repinned = 0
        self._found, self._fresh = found, fresh

    def rows(self) -> Iterator[Page]:
        for page in _rows(self._found, ["unchanged"]):
            self.repinned += page.num_rows
            old, new = _old_side(page), _new_side(page)
            yield old.set_column(4, SCHEMA.field("pin"), new["pin"])
        for rows, page in aligned(_rows(self._found, _IDENTIFIED), self._fresh.pages()):
            if not rows.num_rows:
                continue
            is_new = pc.equal(rows["change"], "new")
            old, new = _old_side(rows.filter(pc.invert(is_new))), page.filter(pc.invert(is_new))
            changed = differ(old, new)
            other_pin = pc.and_not(
                pc.coalesce(
                    pc.not_equal(old["pin"], new["pin"]), pc.xor(old["pin"].is_null(), new["pin"].is_null())
                ),
                changed,
            )
            self.added += is_new.true_count
            self.changed += changed.true_count
            self.repinned += other_pin.true_count
            yield page.filter(is_new)
            yield new.filter(pc.or_(changed, other_pin))
