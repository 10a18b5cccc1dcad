"""Downloads whose bytes are moved by the workers of an executor, into a folder that all of them see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import get_args

from refart.context import Context
from refart.entries import Page
from refart.manifest.reader import Manifest, Scope
from refart.ops import targets
from refart.ops.download import DownloadReport, Link, check_link, download
from refart.ops.patterns import Patterns, page_filter
from refart.ops.shards import PART_BYTES, Part, Worker, add_up, map_parts, parts_of
from refart.ops.stream import Rung


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a worker is told besides a part."""

    root: str
    prefix: str | None
    include: Patterns
    exclude: Patterns
    allow_missing: bool
    link: Link


def download_elsewhere(
    context: Context,
    manifest: Manifest,
    pages: Callable[[], Iterable[Page]],
    root: str | os.PathLike[str],
    executor: Executor,
    *,
    prefix: str | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    allow_missing_references: bool = False,
    link: Link = "auto",
) -> DownloadReport:
    """As `download`, by the workers of an executor; `pages` are what the other arguments choose.

    That all paths can be files under the root is checked here, before any worker writes. Each worker has the cache and
    the receipts of its own machine.
    """
    check_link(link)
    folder = targets.open_root(root, create=False)
    count = targets.check_paths(pages, folder)
    folder.make()
    choice = _Choice(str(folder.folder), prefix, include, exclude, allow_missing_references, link)
    report = DownloadReport(os.fspath(root))
    parts = parts_of(manifest.shards(Scope.of(prefix)), size_bytes=PART_BYTES)
    with (
        folder.working(),
        context.local.reporter.task(f"Downloading to {os.fspath(root)}", total=count, unit="files") as task,
    ):
        work: Callable[[Worker, Part], DownloadReport] = partial(_download_part, choice)
        for _, done in map_parts(context, work, parts, executor=executor):
            task.advance(done.files, size_bytes=done.moved_bytes)
            add_up(report, done)
    report.missing.sort()
    report.unverified.sort()
    report.checked_by = {rung: n for rung in get_args(Rung) if (n := report.checked_by.get(rung))}
    return report


def _download_part(choice: _Choice, worker: Worker, part: Part) -> DownloadReport:
    """Runs in a worker, perhaps on another machine."""
    scope, keep = Scope.of(choice.prefix), page_filter(choice.include, choice.exclude)

    def pages() -> Iterator[Page]:
        chosen = (keep(page if scope is None else scope.select(page)) for page in worker.pages(part))
        return (page for page in chosen if page.num_rows)

    return download(
        worker, pages, choice.root, allow_missing_references=choice.allow_missing, link=choice.link
    )
