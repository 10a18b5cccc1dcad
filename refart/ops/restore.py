"""Bring a source back to a version, by copies that its servers make of the pinned writes.

First a plan, from one listing; then what it says, and nothing else. A second run plans what is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, takewhile
from typing import Final, Literal, TypeAlias

import pyarrow as pa

from refart.context import Context
from refart.errors import (
    ChecksumError,
    ConflictError,
    RefartError,
    ReferenceMissingError,
    SourceError,
)
from refart.manifest.reader import Manifest
from refart.manifest.roots import Root
from refart.manifest.spill import Rows, Spill
from refart.ops import live, restore_files, select
from refart.ops.restore_planner import (
    Moved,
    Planner,
    Shared,
    check_apart,
    check_reachable,
    count_managed,
    target_of,
)
from refart.ops.restore_rows import (
    ACTIONS,
    DOING,
    Action,
    Planned,
    page_of_rows,
    row_of,
    same_content,
)
from refart.parallel import map_bounded, thread_pool
from refart.sources.base import WritableSource

NAMED: Final = 5
"""Entries that an error names."""

_Outcome: TypeAlias = Literal["done", "unverified", "already", "conflict"] | RefartError


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

    def _add(self, rows: Iterable[Planned | None]) -> None:
        kept = []
        for row in rows:
            if row is None:
                self.unchanged_files += 1
                continue
            self.counts[row.action] += 1
            self.size_bytes[row.action] += row.size or 0
            kept.append(row)
        if kept:
            self._pages.append(self._spill.append(page_of_rows(kept)))

    def _passes(self, report: RestoreReport) -> Iterator[Iterator[Planned]]:
        """What is to be written, then what is to be deleted; nothing more where the server is away, and nothing is
        deleted where something failed: it may be all that is left of that."""
        written = self._rows(DOING - {"delete"}, report.impossible)
        yield takewhile(lambda _: not report.is_broken_off, written)
        if not report.failed:
            deleted = self._rows(frozenset({"delete"}), [])
            yield takewhile(lambda _: not report.is_broken_off, deleted)

    def _rows(self, actions: frozenset[str], impossible: list[str]) -> Iterator[Planned]:
        for page in self.pages():
            for row in map(row_of, page.to_pylist()):
                if row.action in actions:
                    yield row
                elif row.action == "impossible":
                    impossible.append(row.path)

    def _do(self, tidy: restore_files.Tidy, row: Planned) -> tuple[Planned, _Outcome]:
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

    def _written(self, row: Planned, tidy: restore_files.Tidy) -> bool:
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
        if same_content(copied, row.source):
            return True
        if copied.size != row.source.size:
            raise ChecksumError(
                f"{row.path!r}: the copy at {row.uri} has another size than what was copied: expected"
                f" {row.source.size}, found {copied.size}; look at it before you go on"
            )
        return False

    def _is_done(self, row: Planned) -> bool:
        found = self._context.local.sources.for_uri(row.uri).stat(row.uri)
        if row.action == "delete":
            return found is None
        return row.source is not None and same_content(found, row.source)


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
    target = None if to is None else target_of(to)
    if target is not None:
        check_reachable(manifest, label, prefix, target)
        check_apart(manifest, label, target)
    folders = restore_files.folders_of(manifest.index.roots if target is None else [Root(target)])
    made = RestorePlan(context, label, target, folders)
    made.managed_files = count_managed(manifest, prefix)
    planner = Planner(context, target, delete, folders, Shared(manifest))
    with ExitStack() as stack:

        def compared(source: live.Pages, roots: Iterable[Root], *, changed_only: bool) -> live.Comparison:
            listed = live.listed(context.local, live.narrowed(roots, prefix), executor=executor)
            here = stack.enter_context(listed)
            return live.Comparison(context.local, source, here, prefix=prefix, changed_only=changed_only)

        there = compared(manifest, manifest.index.roots, changed_only=target is None)
        if target is None:
            wanted, planned = there, planner.in_place(there)
        else:
            wanted = compared(Moved(manifest, target), [Root(target)], changed_only=True)
            planned = planner.elsewhere(there, wanted)
        for rows in planned:
            made._add(rows)
        made.unchanged_files += wanted.counts["unchanged"]
    return made
