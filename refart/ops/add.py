"""Add references and files to a draft."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from refart import names
from refart.context import Local
from refart.entries import SCHEMA, Entry, Page, check_page, check_paths, page_of
from refart.errors import InvalidInputError, NotFoundError
from refart.manifest.draft import Added, Draft
from refart.manifest.roots import Root
from refart.manifest.runs import concat, managed_page
from refart.ops import elsewhere, identify, pins
from refart.ops.identify import Checksum
from refart.ops.patterns import Patterns, page_filter, patterns_of
from refart.parallel import map_bounded, thread_pool
from refart.progress import Task
from refart.sources.base import HistorySource
from refart.sources.local.source import canonical_uri


def add_reference(
    local: Local,
    draft: Draft,
    uri: str,
    *,
    name: str | None = None,
    checksum: Checksum = True,
    max_objects: int | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    allow_empty: bool = False,
    overwrite: bool = False,
    follow_symlinks: bool = True,
    strip_signature: bool = False,
    executor: Executor | None = None,
    as_of: datetime | str | None = None,
) -> Added:
    """Point at the object, file, prefix or folder at `uri`. See `Artifact.add_reference`."""
    at = None if as_of is None else past_time(as_of, "as_of")
    uri = names.check_uri(names.strip_signature(uri) if strip_signature else uri)
    prefix = names.check_path(name, "name") if name is not None else None
    is_local = names.uri_scheme(uri) in (None, "file")
    source = local.sources.for_uri(uri)
    lists = elsewhere.listing(local, source, uri, executor) if executor is not None and at is None else None
    checksum = identify.check(checksum, executor, is_local=is_local, is_used=lists is not None)
    if at is not None and not isinstance(source, HistorySource):
        raise InvalidInputError(
            f"{uri} keeps no history; as_of= (--as-of) is for versioned buckets of S3 and GCS"
        )
    if not follow_symlinks and not is_local:
        raise InvalidInputError(
            f"{uri}: follow_symlinks=False (--no-follow-symlinks) is for files of this machine"
        )
    options: dict[str, Any] = {} if follow_symlinks else {"follow_symlinks": False}
    if lists is not None:
        options["elsewhere"] = lists
    if max_objects is not None and max_objects < 1:
        raise InvalidInputError(f"max_objects must be at least 1, not {max_objects}")
    include, exclude = patterns_of(include), patterns_of(exclude)
    keep = page_filter(include, exclude)
    root = Root(
        canonical_uri(uri) if is_local else uri,
        prefix,
        include,
        exclude,
        identify.name_of(checksum),
        follow_symlinks,
    )
    with local.reporter.task(f"Listing {uri}", unit="objects") as task:
        how = identify.of_scan(checksum, executor, is_local=is_local)
        if at is not None and isinstance(source, HistorySource):
            scan = source.scan_as_of(uri, at, identify=how, keep=keep, on_page=task.advance)
        else:
            scan = source.scan(uri, identify=how, keep=keep, on_page=task.advance, **options)
        found = limited(scan.pages, uri, max_objects, allow_empty)
        pages = (under(page, prefix, replace=scan.is_object) for page in pins.noted(draft, found))
        worker = executor if identify.computes(checksum, is_local=is_local) else None
        identified = identify.identified(local, pages, checksum, worker)
        return draft.add(identified, overwrite=overwrite, roots=() if scan.is_object else (root,))


def past_time(when: datetime | str, name: str) -> datetime:
    """A time that is over, as the argument `name` gives it. Raises `InvalidInputError` for one without a zone, too."""
    try:
        time = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError:
        raise InvalidInputError(
            f"{name} must be a time such as 2026-03-01T12:00:00+00:00, not {str(when)[:50]!r}"
        ) from None
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidInputError(
            f"{name} needs a time with its zone, such as 2026-03-01T12:00:00Z, not {str(when)[:50]!r}"
        )
    if time > datetime.now(UTC):
        raise InvalidInputError(
            f"{name}={time.isoformat()} is still to come; nobody knows what will lie there"
        )
    return time.astimezone(UTC)


def add_references(
    local: Local,
    draft: Draft,
    uris: Iterable[str],
    *,
    base: str | None = None,
    checksum: Checksum = True,
    strip_signature: bool = False,
    executor: Executor | None = None,
) -> Added:
    """Point at many single objects at once. See `Artifact.add_references`."""
    if isinstance(uris, str):
        raise InvalidInputError("add_references takes a list of URIs; add_reference takes one")
    prefix = None if base is None else names.check_uri(base).rstrip("/") + "/"
    checksum = identify.check(checksum, executor, is_local=False)

    def find(uri: str) -> Page:
        uri = names.check_uri(names.strip_signature(uri) if strip_signature else uri)
        if prefix is not None and not uri.startswith(prefix):
            raise InvalidInputError(f"{uri} does not lie below base={base}")
        page = check_page(_one_object(local, uri, checksum), uri)
        path = None if prefix is None else names.path_from_key(names.without_query(uri)[len(prefix) :])
        return under(page, path, replace=True)

    with (
        local.reporter.task("Looking at references", unit="objects") as task,
        thread_pool(local.config.threads) as pool,
    ):
        window = 4 * local.config.threads
        pages = pins.noted(draft, _told(_batched(map_bounded(pool, find, uris, window=window)), task))
        return draft.add(identify.identified(local, pages, checksum, executor))


def _one_object(local: Local, uri: str, checksum: Checksum) -> Page:
    """The page of the single object at `uri`: by one request, where it is the current object of a literal key."""
    source = local.sources.for_uri(uri)
    how = identify.of_scan(checksum, None, is_local=False)
    entry = source.stat(uri) if how == "best" else None
    if entry is not None:
        return page_of([entry])
    scan = source.scan(uri, identify=how)
    if scan.is_object:
        return next(scan.pages)
    if next(scan.pages, None) is None:
        raise NotFoundError(f"there is no object at {uri}; nothing was added")
    raise InvalidInputError(f"{uri} is a prefix; add_references takes single objects: use add_reference")


def add_file(
    local: Local,
    draft: Draft,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> Entry:
    """Add one local file as a managed file. See `Artifact.add_file`."""
    file = _local_path(path, "add_file")
    if file.is_dir():
        raise InvalidInputError(f"{file} is a folder: add_dir adds what lies in it")
    entry_path = names.check_path(name if name is not None else names.path_from_key(file.name), "name")
    content_id, size = local.receipts.hash_file(file, force=force)
    entry = Entry(entry_path, size, content_id)
    draft.put(entry, local_path=str(file.absolute()), overwrite=overwrite)
    return entry


def add_dir(
    local: Local,
    draft: Draft,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    overwrite: bool = False,
    allow_empty: bool = False,
    force: bool = False,
    follow_symlinks: bool = True,
) -> Added:
    """Add a local folder's files as managed files. See `Artifact.add_dir`."""
    folder = _local_path(path, "add_dir")
    if not folder.is_dir():
        what = "is a file: add_file adds it" if folder.exists() else "does not exist"
        raise (InvalidInputError if folder.exists() else NotFoundError)(f"folder {folder} {what}")
    prefix = names.check_path(name, "name") if name is not None else None
    keep = page_filter(include, exclude)
    uri = "file://" + str(folder.absolute())
    if force:
        local.receipts.forget_below(folder.absolute())
    with local.reporter.task(f"Reading {folder}", unit="files") as task:
        links: dict[str, Any] = {} if follow_symlinks else {"follow_symlinks": False}
        scan = local.sources.for_uri(uri).scan(uri, keep=keep, on_page=task.advance, **links)
        pages = limited(scan.pages, uri, None, allow_empty)
        return draft.add((managed_page(under(page, prefix)) for page in pages), overwrite=overwrite)


def _local_path(path: str | os.PathLike[str], verb: str) -> Path:
    text = os.fspath(path)
    scheme = names.uri_scheme(text)
    if scheme is not None:  # not shown: it may carry credentials
        raise InvalidInputError(
            f"{verb} takes a path of this machine, not a {scheme}:// URI: add_reference points at what lies there"
        )
    if not text or "\0" in text:
        raise InvalidInputError(
            f"{verb} takes a path of this machine, and {text[:200]!r} is none: it is empty or holds a NUL character"
        )
    return Path(os.path.expanduser(text))


def under(page: Page, prefix: str | None, *, replace: bool = False) -> Page:
    """Put the paths of a page below `prefix` (or, for the page of a single object, in place of its base name)."""
    if prefix is None:
        return page
    path: Any = page.column("path")
    if replace:
        path = pa.array([prefix] * page.num_rows, pa.string())
    else:
        path = pc.binary_join_element_wise(pa.scalar(prefix), path, "/")
    # Two paths that are short enough alone may be too long together.
    return check_paths(page.set_column(0, SCHEMA.field("path"), path), f"below {prefix[:80]!r}")


def limited(pages: Iterable[Page], uri: str, max_objects: int | None, allow_empty: bool) -> Iterator[Page]:
    """Check and pass on pages; a limit that is hit, or nothing at all, is an error (a draft then adds nothing)."""
    count = 0
    for page in pages:
        check_page(page, uri)
        count += page.num_rows
        if max_objects is not None and count > max_objects:
            raise InvalidInputError(
                f"{uri} holds more than max_objects={max_objects:,} wanted objects; nothing was added: raise the limit,"
                " or narrow the choice with include and exclude"
            )
        if page.num_rows:
            yield page
    if count == 0 and not allow_empty:
        raise NotFoundError(
            f"{uri} matches no object (after include and exclude); nothing was added: check the URI, or pass"
            " allow_empty=True (--allow-empty)"
        )


def _told(pages: Iterable[Page], task: Task) -> Iterator[Page]:
    for page in pages:
        task.advance(page.num_rows)
        yield page


def _batched(pages: Iterable[Page], rows: int = 4096) -> Iterator[Page]:
    """Join one-row pages, so that what follows works on batches."""
    waiting: list[Page] = []
    for page in pages:
        waiting.append(page)
        if len(waiting) >= rows:
            yield concat(waiting)
            waiting = []
    if waiting:
        yield concat(waiting)


def new_file_target(folder: Callable[[], Path], name: str) -> Path:
    """Where the bytes of `Artifact.new_file` are written until they are added."""
    names.check_path(name, "name")
    return folder() / os.urandom(8).hex()
