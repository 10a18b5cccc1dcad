"""Stronger content ids on request: the checksum that a server keeps, or the SHA-256 of every byte, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Final, Literal, TypeAlias, cast

from refart import checksums, names
from refart.config import Config
from refart.context import Local
from refart.entries import Entry, Page, entries_of, page_of
from refart.errors import InvalidInputError
from refart.local import local_side
from refart.ops.stream import stream
from refart.parallel import map_bounded, thread_pool, unlike_any
from refart.sources.base import ChecksumSource, Identify
from refart.sources.objects import pin_without_content_id

Checksum: TypeAlias = bool | Literal["sha256", "stored", "stat"]
"""True: what a listing tells. `sha256`: of the bytes, read once. `stored`: what the server keeps, one request each.
`stat`: size and modified time of files. False: nothing."""

_BATCH_ROWS = 1024  # rows whose entries exist as objects at one time
_TASK_ROWS = 32  # rows that travel to a worker of an executor together
_TASKS_AHEAD = 64


def check(
    checksum: Checksum, executor: Executor | None, *, is_local: bool, is_used: bool = False
) -> Checksum:
    """Check what was asked for. Raises `InvalidInputError`, also for an executor that would have nothing to do (unless
    it `is_used` for something else)."""
    if checksum not in (True, False, "sha256", "stored", "stat"):
        raise InvalidInputError(
            f"checksum must be True, False, 'sha256', 'stored' or 'stat', not {str(checksum)[:50]!r}"
        )
    if executor is not None and not is_used and not computes(checksum, is_local=is_local):
        raise InvalidInputError(
            "executor= computes checksums, and lists prefixes of S3 and GCS: it goes with checksum='sha256' or"
            " 'stored', with files of this machine, and with what these list in order"
        )
    return checksum


_NAMES: Final = {True: "best", False: "none"}


def name_of(checksum: Checksum) -> str:
    """What was asked for, as a root records it."""
    return _NAMES[checksum] if isinstance(checksum, bool) else checksum


def by_name(name: str) -> Checksum:
    """The inverse of `name_of`."""
    wanted: dict[str, Checksum] = {spelt: checksum for checksum, spelt in _NAMES.items()}
    return wanted.get(name, cast("Checksum", name))


def computes(checksum: Checksum, *, is_local: bool) -> bool:
    """Whether anything is asked or read of each object, so that an executor could do it."""
    return checksum in ("sha256", "stored") or (checksum is True and is_local)


def of_scan(checksum: Checksum, executor: Executor | None, *, is_local: bool) -> Identify:
    """How a source should identify what it lists; files that an executor will hash are not hashed before."""
    if checksum == "stat":
        return "stat"
    return "none" if checksum is False or (is_local and executor is not None) else "best"


def identified(
    local: Local, pages: Iterable[Page], checksum: Checksum, executor: Executor | None = None
) -> Iterable[Page]:
    """The pages with the content ids that were asked for.

    By default in threads of this process. With an `executor`, small pages travel to its workers, which open the
    sources by this machine's configuration themselves; nothing else needs to be shared but the code.
    """
    if executor is not None:
        return _by_executor(local, pages, checksum, executor)
    return _by_threads(local, pages, checksum) if checksum in ("sha256", "stored") else pages


def _by_threads(local: Local, pages: Iterable[Page], checksum: Checksum) -> Iterator[Page]:
    with (
        local.reporter.task("Hashing", unit="objects") as task,
        thread_pool(local.config.threads) as pool,
    ):

        def one(entry: Entry) -> Entry:
            stronger = strengthened(local, entry, checksum, lambda count: task.advance(0, size_bytes=count))
            task.advance()
            return stronger

        for page in pages:
            for start in range(0, page.num_rows, _BATCH_ROWS):
                rows = entries_of(page.slice(start, _BATCH_ROWS))
                yield page_of(map_bounded(pool, one, rows, window=2 * local.config.threads))


def _by_executor(
    local: Local, pages: Iterable[Page], checksum: Checksum, executor: Executor
) -> Iterator[Page]:
    with local.reporter.task("Hashing", unit="objects") as task:
        work = partial(_strengthened_page, unlike_any(), local.config, checksum)
        for page in map_bounded(executor, work, _tasks(pages), window=_TASKS_AHEAD):
            task.advance(page.num_rows, size_bytes=sum(filter(None, page.column("size").to_pylist())))
            yield page


def _tasks(pages: Iterable[Page]) -> Iterator[Page]:
    for page in pages:
        for start in range(0, page.num_rows, _TASK_ROWS):
            # Copied: a slice would be pickled with the whole page that it is a part of.
            yield page.take(list(range(start, min(start + _TASK_ROWS, page.num_rows))))


def _strengthened_page(_call: str, config: Config, checksum: Checksum, page: Page) -> Page:
    """Runs in a worker, perhaps on another machine."""
    local = local_side(config)
    return page_of(strengthened(local, entry, checksum, lambda _: None) for entry in entries_of(page))


def strengthened(local: Local, entry: Entry, checksum: Checksum, on_bytes: Callable[[int], object]) -> Entry:
    """The entry with a stronger content id, read under its pin and checked against what was recorded so far.

    As it is where it is a SHA-256 already, and where the server keeps nothing better than what its listing told.
    """
    if entry.content_id.startswith("sha256:"):
        return entry
    uri = entry.uri or ""
    if names.uri_scheme(uri) in (None, "file"):
        content_id, size = local.receipts.hash_file(uri.removeprefix("file://"))
        return Entry(entry.path, size, content_id, entry.uri)
    source = local.sources.for_uri(uri)
    if checksum == "stored":
        found = source.checksum(entry) if isinstance(source, ChecksumSource) else None
        return entry if found is None or not _is_stronger(found, entry.content_id) else _with(entry, found)
    with stream(local, None, entry) as chunks:
        for chunk in chunks:
            on_bytes(len(chunk))
    assert chunks.checked is not None
    return _with(entry, f"sha256:{chunks.checked.sha256}", chunks.checked.size_bytes)


def _is_stronger(found: str, than: str) -> bool:
    return checksums.LADDER.index(checksums.split(found)[0]) < checksums.LADDER.index(
        checksums.split(than)[0]
    )


def _with(entry: Entry, content_id: str, size: int | None = None) -> Entry:
    """The entry with another content id. The ETag it stood for stays as a pin, where nothing else pins the object."""
    # Only in S3 is an MD5 the ETag as well.
    is_etag = entry.content_id.startswith("etag:") or names.uri_scheme(entry.uri or "") in ("s3", "s3a")
    pin = pin_without_content_id(entry.content_id, entry.pin) if is_etag else entry.pin
    return Entry(entry.path, entry.size if size is None else size, content_id, entry.uri, pin)
