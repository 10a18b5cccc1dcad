"""Compare a version with what lies at its references now, or with a folder of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, files
from refart.checksums import StreamHasher
from refart.context import Local
from refart.entries import SCHEMA, Page, entries_of
from refart.manifest.changes import CHANGES, aligned, rows_of_change
from refart.manifest.compare import Diff, changes_between, in_order
from refart.manifest.reader import Manifest, Scope
from refart.manifest.runs import sort_pages
from refart.ops import seen, select, targets
from refart.ops.live import STATES, Comparison, State, listed, narrowed
from refart.parallel import map_bounded, thread_pool

_WORDS: Final[dict[State, str]] = {
    "new": "added",
    "rewritten": "unknown",
    "unverifiable": "unknown",
    "denied": "unknown",
}
"""What a diff calls a state that has another word there."""


def live(
    local: Local,
    manifest: Manifest,
    prefix: str | None = None,
    *,
    label: str = "the version",
    moves: bool = True,
    executor: Executor | None = None,
) -> Diff:
    """What changed from a version to what lies at its references now. See `Artifact.diff_live`."""

    def changes() -> Iterator[pa.RecordBatch]:
        roots = narrowed(manifest.index.roots, prefix)
        with listed(local, roots, executor=executor) as now:
            for page in Comparison(local, manifest, now, prefix=prefix, changed_only=True):
                yield _in_words(page)

    return Diff(select.beside(manifest, changes(), prefix, label), moves=moves)


def _in_words(page: pa.RecordBatch) -> pa.RecordBatch:
    """A page of comparisons as a page of changes."""
    words = pa.array([_WORDS.get(state, state) for state in STATES])
    change = words.take(pc.index_in(page["change"], value_set=pa.array(STATES)))
    path, _, *sides = page.columns
    nothing = pa.nulls(page.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([path, change, nothing, *sides], schema=CHANGES)


def folder(
    local: Local,
    manifest: Manifest,
    root: str | os.PathLike[str],
    prefix: str | None = None,
    *,
    label: str = "the version",
    moves: bool = True,
) -> Diff:
    """What changed from a version to a folder that it was downloaded to. See `Artifact.diff_folder`."""
    where = targets.open_root(root, create=False, must_exist=True)
    uri = f"file://{where.folder}"
    scope = Scope.of(prefix)

    def keep(page: Page) -> Page:
        page = page if scope is None else scope.select(page)
        unfinished = pc.match_substring_regex(page["path"], f"(^|/){files.TEMPORARY_PATTERN}")
        return page.filter(pc.invert(unfinished))

    def changes() -> Iterator[pa.RecordBatch]:
        with (
            local.reporter.task(f"Comparing {os.fspath(root)}", unit="files") as task,
            thread_pool(local.config.threads) as pool,
        ):
            # Links are not followed: a download makes none, and no file of a version may lie behind one.
            options: dict[str, Any] = {"follow_symlinks": False}
            scan = local.sources.for_uri(uri).scan(uri, keep=keep, on_page=task.advance, **options)
            here = sort_pages(scan.pages)
            known = map(partial(_with_sha256, local), manifest.pages(prefix))
            hashes = partial(map_bounded, pool, _hashed, window=4 * local.config.threads)
            for old, new in aligned(known, here.pages()):
                if (page := _compared(old, new, hashes)) is not None:
                    yield page

    return Diff(select.beside(manifest, changes(), prefix, label), moves=moves)


def _with_sha256(local: Local, page: Page) -> Page:
    """The entries with the SHA-256 that this machine saw when it downloaded them, where another id is recorded."""
    others = pc.invert(pc.starts_with(page["content_id"], "sha256:"))
    if not pc.any(others, min_count=0).as_py():
        return page
    found = seen.sha256_of_all(local.cache, list(entries_of(page.filter(others))))
    ids = pa.array([sha256 and f"sha256:{sha256}" for sha256 in found], pa.string())
    return _replaced(page, "content_id", others, pc.coalesce(ids, page["content_id"].filter(others)))


def _compared(
    old: Page, new: Page, hashes: Callable[[Iterator[tuple[str, str]]], Iterator[str | None]]
) -> pa.RecordBatch | None:
    """The changes of one range of paths. Files are hashed again only where another hash than SHA-256 is all that is
    recorded."""
    row = pc.index_in(old["path"], value_set=new["path"])
    size = new["size"].take(row)
    doubtful = pc.and_(
        pc.fill_null(pc.equal(pc.coalesce(old["size"], size), size), False),
        pc.invert(pc.starts_with(old["content_id"], "sha256:")),
    )
    if not pc.any(doubtful, min_count=0).as_py():
        return changes_between(old, new, compare_uris=False)
    was, now = old.filter(doubtful), new.take(row.filter(doubtful))
    ids = pa.array(
        hashes(zip(was["content_id"].to_pylist(), now["uri"].to_pylist(), strict=True)), pa.string()
    )
    now = now.set_column(2, SCHEMA.field("content_id"), pc.coalesce(ids, now["content_id"]))
    was = was.set_column(1, SCHEMA.field("size"), now["size"])
    unknown = rows_of_change("unknown", was.filter(ids.is_null()), now.filter(ids.is_null()))
    parts = [
        unknown,
        changes_between(was.filter(ids.is_valid()), now.filter(ids.is_valid()), compare_uris=False),
        changes_between(
            old.filter(pc.invert(doubtful)),
            new.filter(pc.invert(pc.is_in(new["path"], value_set=now["path"]))),
            compare_uris=False,
        ),
    ]
    return in_order([part for part in parts if part is not None])


def _hashed(recorded: tuple[str, str]) -> str | None:
    """The content id of a file by the algorithm of a recorded one; None where that cannot be computed."""
    algo, _ = checksums.split(recorded[0])
    if not checksums.can_compute(algo):
        return None
    hasher = StreamHasher(algo)
    with files.open_for_reading(recorded[1].removeprefix("file://")) as stream:
        for chunk in files.chunks(stream):
            hasher.update(chunk)
    return hasher.content_id(algo)


def _replaced(page: Page, name: str, mask: pa.BooleanArray, values: pa.Array) -> Page:
    at = SCHEMA.get_field_index(name)
    return page.set_column(at, SCHEMA.field(name), pc.replace_with_mask(page[name], mask, values))
