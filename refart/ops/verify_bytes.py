"""Read every byte that a version recorded, from where it lies, and keep none of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal, TypeAlias, get_args

from refart.context import Context
from refart.entries import Entry, entries_of
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
)
from refart.manifest.reader import Manifest, Scope
from refart.ops.add import past_time
from refart.ops.journal import Journal
from refart.ops.select import check_prefix
from refart.ops.shards import PART_BYTES, Part, Worker, add_up, map_parts, parts_of, sample_of
from refart.ops.stream import Rung, stream
from refart.parallel import Pace, available_cores, map_paced, thread_pool
from refart.progress import Task

_Wrong: TypeAlias = Literal["modified", "missing", "denied"]


@dataclass(slots=True)
class BytesReport:
    """What the bytes of a version are like where they lie. Paths are in order."""

    ok_entries: int = 0
    read_bytes: int = 0
    """Bytes that came in this call."""
    earlier_entries: int = 0
    """Of `ok_entries`, those that an earlier call had read."""
    earlier_bytes: int = 0
    """The bytes of these, which this call did not read."""
    checked_by: dict[str, int] = field(default_factory=dict)
    """How many of `ok_entries` each rung confirmed (see `ops.stream.Rung`), strongest first."""
    modified: list[str] = field(default_factory=list)
    """Other bytes than recorded came, or other ones lie there and no version is kept."""
    missing: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)
    """Bytes came that nothing could confirm: no hash, pin or ETag was recorded. They are none of `ok_entries`."""

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong, as far as could be told (see `unverified`)."""
        return not (self.modified or self.missing or self.denied)

    def check(self, label: str = "the version") -> None:
        """Raise `ChecksumError` where bytes are wrong or gone, `PermissionDeniedError` where some may not be read."""
        if self.modified or self.missing:
            first = (self.modified or self.missing)[0]
            raise ChecksumError(
                f"{label} is not what was logged: {len(self.modified):,} entries have other bytes and"
                f" {len(self.missing):,} are gone, such as {first!r}"
            )
        if self.denied:
            raise PermissionDeniedError(
                f"{label}: {len(self.denied):,} entries may not be read, such as {self.denied[0]!r}"
            )


def verify_bytes(
    context: Context,
    manifest: Manifest,
    prefix: str | None = None,
    *,
    label: str = "the version",
    sample: int | None = None,
    seed: int = 0,
    since: datetime | str | None = None,
    restart: bool = False,
    executor: Executor | None = None,
) -> BytesReport:
    """Stream and hash every entry. See `Artifact.verify_bytes`."""
    check_prefix(prefix, label, manifest)
    scope = Scope.of(prefix)
    with (
        closing(Journal(context.local.config.cache_folder(), context.store.url)) as journal,
        context.local.reporter.task(
            "Verifying", total=sample or sum(shard.rows for shard in manifest.shards(scope)), unit="entries"
        ) as task,
    ):
        if sample is not None:
            if since is not None or restart or prefix is not None:
                raise InvalidInputError(
                    "a sample (--sample) is drawn from all entries, and anew each time: it takes no path_prefix="
                    " (--path), no since= (--since) and no restart= (--restart)"
                )
            report = BytesReport()
            for _, found in map_parts(
                context,
                partial(verify_part, None),
                sample_of(manifest.index.shards, sample, seed),
                executor=executor,
                task=task,
            ):
                add_up(report, found)
        else:
            # A pass over a folder of the version is one of its own.
            whole = manifest.index.address if scope is None else f"{manifest.index.address} {scope.path}"
            known_since_s = _since(journal, whole, since, restart=restart)
            parts = parts_of(manifest.shards(scope), size_bytes=PART_BYTES)
            report = _pass(context, journal, parts, scope, known_since_s, executor, task)
            journal.finish(whole)
    for paths in (report.modified, report.missing, report.denied, report.unverified):
        paths.sort()
    report.checked_by = {rung: n for rung in get_args(Rung) if (n := report.checked_by.get(rung))}
    return report


def _since(journal: Journal, manifest: str, since: datetime | str | None, *, restart: bool) -> float:
    """From when on a part that was verified counts; begins a pass, or goes on with the one that was not finished."""
    wanted_s = None if since is None else past_time(since, "since= (--since)").timestamp()
    if restart and since is not None:
        raise InvalidInputError(
            "restart= (--restart) reads everything again, and since= (--since) less: choose one"
        )
    began_s = None if restart else journal.unfinished(manifest)
    if began_s is None:
        began_s = time.time()
        journal.begin(manifest, began_s)
    return began_s if wanted_s is None else wanted_s


def _pass(
    context: Context,
    journal: Journal,
    parts: Iterator[Part],
    scope: Scope | None,
    since_s: float,
    executor: Executor | None,
    task: Task,
) -> BytesReport:
    report = BytesReport()
    submitted_s: dict[Part, float] = {}  # by this clock, whoever reads

    def is_whole(part: Part) -> bool:
        """What is read of other parts is not all of them: notes say nothing of it."""
        return scope is None or scope.covers(part.shard.first_path, part.shard.last_path)

    def left() -> Iterator[Part]:
        for part in parts:
            known = journal.found(part, since_s) if is_whole(part) else None
            if known is None:
                submitted_s[part] = time.time()
                yield part
                continue
            found = BytesReport(**known)
            found.earlier_entries = found.ok_entries
            found.earlier_bytes, found.read_bytes = found.read_bytes, 0
            task.advance(part.rows)
            add_up(report, found)

    work = partial(verify_part, scope)
    for part, found in map_parts(context, work, left(), executor=executor, task=task):
        began_s = submitted_s.pop(part)
        add_up(report, found)
        if found.is_good and is_whole(part):  # what is wrong is looked at again
            journal.note(part, began_s, asdict(found))
    return report


def verify_part(scope: Scope | None, worker: Worker, part: Part) -> BytesReport:
    """Read every byte of what is in scope of a part, by threads of its own."""
    report = BytesReport()
    pages = (page if scope is None else scope.select(page) for page in worker.pages(part))

    def check(entry: Entry) -> tuple[str, Rung | _Wrong, int]:
        return entry.path, *_check(worker, entry)

    threads = worker.local.config.threads
    with thread_pool(threads) as pool:
        entries = (entry for page in pages for entry in entries_of(page))
        for results in map_paced(pool, check, entries, Pace(available_cores(), threads, least=1)):
            for path, found, size_bytes in results:
                report.read_bytes += size_bytes
                if found in ("modified", "missing", "denied", "unverified"):
                    getattr(report, found).append(path)
                else:
                    report.ok_entries += 1
                    report.checked_by[found] = report.checked_by.get(found, 0) + 1
            worker.advance(len(results), size_bytes=sum(size_bytes for _, _, size_bytes in results))
    return report


def _check(worker: Worker, entry: Entry) -> tuple[Rung | _Wrong, int]:
    size_bytes = 0
    try:
        with stream(worker.local, worker.store, entry) as chunks:
            for chunk in chunks:
                size_bytes += len(chunk)
        assert chunks.checked is not None
        return chunks.checked.rung, size_bytes
    except (ReferenceChangedError, ChecksumError):
        return "modified", size_bytes
    except NotFoundError:
        return "missing", size_bytes
    except PermissionDeniedError:
        return "denied", size_bytes
