"""References of a draft as managed files: their bytes in the store, so that no bucket can lose them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, files, names
from refart.context import Context
from refart.entries import SCHEMA, Entry, Page, entries_of, page_of
from refart.errors import RefartError, ReferenceChangedError, ReferenceMissingError, StoreError
from refart.manifest.draft import Draft
from refart.manifest.index import ManifestIndex
from refart.manifest.writer import write_manifest
from refart.ops import live, seen
from refart.ops.pins import KEPT
from refart.ops.select import nothing_at
from refart.ops.shards import PART_BYTES, Part, Worker, map_parts, parts_of
from refart.ops.stream import Rung, VerifiedStream, stream
from refart.parallel import Pace, available_cores, map_paced, thread_pool

IN_MEMORY_BYTES: Final = 1 << 20  # 1 MiB
"""Up to here bytes go to the store without a file between."""


@dataclass(slots=True)
class MaterializeReport:
    """What became of references."""

    stored_files: int = 0
    """References that are managed files now, and whose bytes are new in the store."""
    stored_bytes: int = 0
    kept_files: int = 0
    """References that are managed files now, and whose bytes the store had already."""
    moved_bytes: int = 0
    """Bytes that were read: also of files that the store turned out to have, where no SHA-256 told so before."""
    lost: list[str] = field(default_factory=list)
    """Paths that stay references, since their bytes are gone, or were overwritten (`allow_missing_references`)."""
    unverified: list[str] = field(default_factory=list)
    """Paths of which nothing confirms the bytes: no hash, no pin, no ETag."""


class _Outcome(NamedTuple):
    entry: Entry | None
    """The managed file; None where the bytes are gone."""
    path: str
    is_new: bool = False
    """Whether the store did not have the bytes yet."""
    moved_bytes: int = 0
    rung: Rung | None = None
    """None where nothing was read."""


class _Stored(NamedTuple):
    """What a worker tells of a part."""

    page: Page
    report: MaterializeReport


def materialize(
    context: Context,
    draft: Draft,
    *,
    path_prefix: str | None = None,
    at_risk: bool = False,
    allow_missing: bool = False,
    executor: Executor | None = None,
) -> MaterializeReport:
    """Bring the bytes of references into the store, and make them managed files. See `Artifact.materialize`."""
    prefix = names.check_path(path_prefix.rstrip("/"), "path_prefix") if path_prefix else None
    if prefix is not None and not any(page.num_rows for page in draft.pages(prefix)):
        raise nothing_at(prefix, "the draft")
    report = MaterializeReport()
    chosen = _references(context, draft, prefix, at_risk=at_risk)
    try:
        index = _in_store(context, chosen)
        work = partial(_store_part, allow_missing)
        parts = parts_of(index.shards, size_bytes=PART_BYTES)

        def pages(task: object) -> Iterator[Page]:
            for _, stored in map_parts(context, work, parts, executor=executor, task=task):  # type: ignore[arg-type]
                _count(report, stored.report)
                yield stored.page

        with context.local.reporter.task("Storing references", total=index.entry_count, unit="files") as task:
            draft.add(pages(task), overwrite=True)
    finally:
        chosen.close()
    report.lost.sort()
    report.unverified.sort()
    return report


def _references(context: Context, draft: Draft, prefix: str | None, *, at_risk: bool) -> Draft:
    """The references to store, as entries of their own."""
    chosen = Draft()
    try:
        if at_risk:
            with live.listed(context.local, live.narrowed(draft.roots, prefix)) as now:
                chosen.add(map(_risky, live.Comparison(context.local, draft, now, prefix=prefix)))
        else:
            chosen.add(page.filter(page["uri"].is_valid()) for page in draft.pages(prefix))
    except BaseException:
        chosen.close()
        raise
    return chosen


def _risky(page: pa.RecordBatch) -> Page:
    """The recorded entries among rows of `live.COMPARED` whose bytes only luck keeps: weakly identified, without a
    pinned version, or of which another write is current, so that a lifecycle rule or a purge may take the old one."""
    is_kept = pc.fill_null(pc.match_substring_regex(page["old_pin"], KEPT), False)
    is_current = pc.and_(pc.equal(page["change"], "unchanged"), pc.equal(page["old_pin"], page["new_pin"]))
    is_weak = pc.match_substring_regex(page["old_content_id"], checksums.WEAK_PATTERN)
    safe = pc.and_not(pc.and_(is_kept, pc.fill_null(is_current, False)), is_weak)
    rows = page.filter(pc.and_not(page["old_content_id"].is_valid(), pc.fill_null(safe, False)))
    columns = [rows["path"], *(rows[f"old_{field.name}"] for field in list(SCHEMA)[1:])]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _in_store(context: Context, chosen: Draft) -> ManifestIndex:
    """The shards of some entries, where workers find them. Nothing refers to those that are new."""
    with TemporaryDirectory(prefix="refart-manifest-") as folder:
        built = write_manifest(chosen.segments(), Path(folder), ())
        for info, path in built.new_shards:
            context.store.put_file("shards", info.key, path, sha256=False)
    return built.index


def _store_part(allow_missing: bool, worker: Worker, part: Part) -> _Stored:
    """Runs in a worker, perhaps on another machine."""
    report, stored = MaterializeReport(), []
    threads = worker.local.config.threads
    entries = (entry for page in worker.pages(part) for entry in entries_of(page))
    with thread_pool(threads) as pool:
        work = partial(_store, worker, allow_missing)
        for outcomes in map_paced(pool, work, entries, Pace(available_cores(), threads, least=1)):
            for outcome in outcomes:
                if outcome.entry is None:
                    report.lost.append(outcome.path)
                    continue
                stored.append(outcome.entry)
                if outcome.is_new:
                    report.stored_files += 1
                    report.stored_bytes += outcome.entry.size or 0
                else:
                    report.kept_files += 1
                report.moved_bytes += outcome.moved_bytes
                if outcome.rung == "unverified":
                    report.unverified.append(outcome.path)
            worker.advance(len(outcomes), size_bytes=sum(outcome.moved_bytes for outcome in outcomes))
    worker.store.sync()
    return _Stored(page_of(stored), report)


def _store(worker: Worker, allow_missing: bool, entry: Entry) -> _Outcome:
    cache, store = worker.local.cache, worker.store
    sha256 = seen.sha256_of(cache, entry)
    if sha256 is not None and store.has("blobs", sha256):
        return _Outcome(Entry(entry.path, store.size("blobs", sha256), f"sha256:{sha256}"), entry.path)
    try:
        with stream(worker.local, store, entry) as chunks:
            if entry.size is not None and entry.size <= IN_MEMORY_BYTES:
                data = b"".join(chunks)
                assert chunks.checked is not None
                is_new = store.put_bytes("blobs", chunks.checked.sha256, data)
            else:
                is_new = _store_large(worker, chunks, entry)
    except (ReferenceMissingError, ReferenceChangedError):
        if not allow_missing:
            raise
        return _Outcome(None, entry.path)
    checked = chunks.checked
    assert checked is not None
    seen.remember(cache, entry, checked.sha256, compared=checked.rung in checksums.IDENTIFYING)
    managed = Entry(entry.path, checked.size_bytes, f"sha256:{checked.sha256}")
    return _Outcome(managed, entry.path, is_new, checked.size_bytes, checked.rung)


def _store_large(worker: Worker, chunks: VerifiedStream, entry: Entry) -> bool:
    """By a temporary file: the store needs the hash before the bytes. Returns whether they were not there yet."""
    try:
        with files.temporary_file(tempfile.gettempdir()) as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            assert chunks.checked is not None
            return worker.store.put_file("blobs", chunks.checked.sha256, file.name)
    except OSError as error:
        if isinstance(error, RefartError):
            raise
        raise StoreError(
            f"{entry.path}: cannot be kept in {tempfile.gettempdir()}: {error.strerror}"
        ) from None


def _count(report: MaterializeReport, part: MaterializeReport) -> None:
    for name in ("stored_files", "stored_bytes", "kept_files", "moved_bytes"):
        setattr(report, name, getattr(report, name) + getattr(part, name))
    report.lost += part.lost
    report.unverified += part.unverified
