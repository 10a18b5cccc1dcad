"""The drift of a version: what became of each reference, and whether its recorded bytes can still be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, get_args

import pyarrow as pa
import pyarrow.compute as pc

from refart import names
from refart.context import Context, Local
from refart.entries import BATCH_ROWS, Entry
from refart.errors import InvalidInputError, PermissionDeniedError
from refart.manifest.changes import COMPARED
from refart.manifest.reader import Manifest, Scope
from refart.manifest.runs import concat
from refart.manifest.shards import exact_sum
from refart.ops import restore_files
from refart.ops.live import (
    STATES,
    Comparison,
    PinState,
    State,
    is_other_write,
    listed,
    narrowed,
    pin_state,
)
from refart.ops.select import beside
from refart.ops.shards import Worker
from refart.parallel import map_bounded, thread_pool
from refart.sources.base import KeepingSource

STATUS: Final[pa.Schema] = COMPARED.insert(2, pa.field("pin_state", pa.string()))
"""The columns of a page: those of a comparison, and behind `change` a `PinState`; null for what is new."""

PIN_STATES: Final[tuple[PinState, ...]] = get_args(PinState)
DRIFT: Final[tuple[State, ...]] = ("modified", "rewritten", "removed", "new")
_ASKED: Final = pa.array(["modified", "rewritten", "removed"])


@dataclass(slots=True)
class StatusSummary:
    """Counts and bytes of a status; they grow while its pages are taken. Unknown sizes count no bytes."""

    entries: dict[State, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    """References by what became of them; `new` are objects that were not logged."""
    size_bytes: dict[State, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    """What was recorded; what lies there for `new`."""
    pins: dict[PinState, int] = field(default_factory=lambda: dict.fromkeys(PIN_STATES, 0))
    """References by whether their recorded bytes can still be read."""
    pin_bytes: dict[PinState, int] = field(default_factory=lambda: dict.fromkeys(PIN_STATES, 0))
    refused: list[str] = field(default_factory=list)
    """Logged prefixes that may not be listed."""

    @property
    def has_drift(self) -> bool:
        """Whether the source is known to hold something else than what was recorded."""
        return any(self.entries[state] for state in DRIFT)

    @property
    def has_loss(self) -> bool:
        """Whether recorded bytes are known to be gone, and neither the store nor the cache of this machine has them."""
        return self.pins["lost"] > 0

    @property
    def is_denied(self) -> bool:
        """Whether something could not be looked at."""
        return bool(self.refused or self.pins["denied"])


class StatusReport:
    """A version beside what its references point at now: iterate once for pages of `STATUS`, by path.

    Managed files are in the store, and are left out. Raises `NotFoundError` for a prefix at which neither has anything.
    """

    def __init__(
        self,
        context: Context,
        manifest: Manifest,
        prefix: str | None = None,
        *,
        label: str = "the version",
        unchanged: bool = False,
        executor: Executor | None = None,
    ) -> None:
        Scope.of(prefix)
        self._summary, self._is_read = StatusSummary(), False
        pages = self._compare(context, manifest, prefix, unchanged, executor)
        self._pages = beside(manifest, pages, prefix, label)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._pages

    @property
    def summary(self) -> StatusSummary:
        """Counts and bytes. Raises `InvalidInputError` before the last page was taken, when what drifted may not be
        counted yet."""
        if not self._is_read:
            raise InvalidInputError(
                "the summary is known when all pages were taken: iterate to the end first, or call read()"
            )
        return self._summary

    def read(self) -> StatusSummary:
        """The whole summary: takes the pages that are left."""
        for _ in self._pages:
            pass
        return self.summary

    def _compare(
        self,
        context: Context,
        manifest: Manifest,
        prefix: str | None,
        unchanged: bool,
        executor: Executor | None,
    ) -> Iterator[pa.RecordBatch]:
        local, summary = context.local, self._summary
        with listed(local, narrowed(manifest.index.roots, prefix), executor=executor) as now:
            summary.refused += [refused.root.uri for refused in now.refused]
            compared = Comparison(local, manifest, now, prefix=prefix, changed_only=not unchanged)
            summary.entries, summary.size_bytes = compared.counts, compared.size_bytes
            for page in with_pin_states(context, compared):
                self._count(page)
                yield page
            self._count_unchanged(compared)
        self._is_read = True

    def _count(self, page: pa.RecordBatch) -> None:
        for state in pc.unique(page["pin_state"].drop_null()).to_pylist():
            rows = pc.and_(pc.equal(page["pin_state"], state), pc.not_equal(page["change"], "unchanged"))
            rows = pc.fill_null(rows, False)
            self._summary.pins[state] += rows.true_count
            self._summary.pin_bytes[state] += exact_sum(page["old_size"].filter(rows))

    def _count_unchanged(self, compared: Comparison) -> None:
        """From the comparison, which need not make rows of them."""
        counted = compared.rewritten_equally, compared.rewritten_equally_bytes
        for known, unchanged, equal in (
            (self._summary.pins, compared.counts["unchanged"], counted[0]),
            (self._summary.pin_bytes, compared.size_bytes["unchanged"], counted[1]),
        ):
            known["pinned"] += unchanged - equal
            known["equal"] += equal


def with_pin_states(
    context: Context | Worker, compared: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Pages of `COMPARED` as pages of `STATUS`. Only versions and generations of what changed are asked about: by one
    request each, or fewer where many lie close together. What its source has lost is looked up in the cache, and in
    the store."""
    with thread_pool(context.local.config.threads) as pool:
        for page in _together(compared):
            yield pa.RecordBatch.from_arrays(
                [*page.columns[:2], _pin_states(context, page, pool), *page.columns[2:]], schema=STATUS
            )


def _together(pages: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small pages as larger ones: the more is asked about at once, the fewer requests it takes."""
    waiting: list[pa.RecordBatch] = []
    for page in pages:
        waiting.append(page)
        if sum(batch.num_rows for batch in waiting) >= BATCH_ROWS:
            yield concat(waiting)
            waiting = []
    if waiting:
        yield concat(waiting)


def _pin_states(context: Context | Worker, page: pa.RecordBatch, pool: Executor) -> pa.StringArray:
    change = page["change"]
    other = is_other_write(page["old_pin"], page["new_pin"], page["new_content_id"])
    nothing = pa.scalar(None, pa.string())
    told = pc.if_else(pc.equal(change, "unchanged"), pc.if_else(other, "equal", "pinned"), change)
    told = pc.if_else(pc.equal(change, "new"), nothing, told)
    asked = pc.is_in(change, value_set=_ASKED)
    if not asked.true_count:
        return told

    local, rows = context.local, list(_entries(page.filter(asked)))
    found = kept_pins(local, (entry for entry, _ in rows), pool)
    states = [found.get(entry.path) or pin_state(local, entry, state) for entry, state in rows]
    lost = [n for n, state in enumerate(states) if state == "lost"]
    look = partial(_is_stored, context)
    stored = map_bounded(pool, look, (rows[n][0] for n in lost), window=4 * local.config.threads)
    for n, is_stored in zip(lost, stored, strict=True):
        states[n] = "stored" if is_stored else "lost"
    return pc.replace_with_mask(told, asked, pa.array(states, pa.string()))


def _is_stored(context: Context | Worker, entry: Entry) -> bool:
    """Whether the store, or the cache of this machine, has the bytes of what its source has lost: by the recorded
    SHA-256; of files of this machine also by the one seen, as `restore` writes them back from there."""
    is_known = entry.content_id.startswith("sha256:") or names.uri_scheme(entry.uri or "") == "file"
    return is_known and restore_files.kept(context, entry) is not None


def kept_pins(local: Local, entries: Iterable[Entry], pool: Executor) -> dict[str, PinState]:
    """The states of the pins of versions and generations, where the source tells of many at once, by path."""
    several: dict[int, tuple[KeepingSource, list[Entry]]] = {}
    for entry in entries:
        source = local.sources.for_uri(entry.uri or "")
        if (entry.pin or "").startswith(("version:", "generation:")) and isinstance(source, KeepingSource):
            several.setdefault(id(source), (source, []))[1].append(entry)
    states: dict[str, PinState] = {}
    for keeping, wanted in several.values():
        for entry, is_kept in keeping.kept(wanted, pool, window=4 * local.config.threads):
            if isinstance(is_kept, PermissionDeniedError):
                states[entry.path] = "denied"
            else:
                states[entry.path] = "superseded" if is_kept else "lost"
    return states


def _entries(page: pa.RecordBatch) -> Iterator[tuple[Entry, State]]:
    """What was recorded of each row, and what became of it."""
    columns = (page[f"old_{name}"].to_pylist() for name in ("size", "content_id", "uri", "pin"))
    for path, state, *recorded in zip(
        page["path"].to_pylist(), page["change"].to_pylist(), *columns, strict=True
    ):
        yield Entry(path, *recorded), state
