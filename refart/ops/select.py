"""Choose entries of a version: by folder or file, and by patterns. What chooses nothing is an error, so that a typing
error does not look like a good result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import pyarrow as pa

from refart import names
from refart.entries import Page
from refart.errors import NotFoundError
from refart.manifest.reader import Manifest
from refart.ops.patterns import Patterns, page_filter


def selection(
    manifest: Manifest,
    label: str,
    *,
    path_prefix: str | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
) -> Callable[[], Iterator[Page]]:
    """A function that streams the chosen pages, as often as it is called.

    `path_prefix` is a whole path or folder (`a` is never `ab/…`). Raises `NotFoundError` where the version has
    nothing there, so that a typing error does not look like an empty success; a version without entries is fine.
    """
    keep = page_filter(include, exclude)
    prefix = names.check_path(path_prefix.rstrip("/"), "path_prefix") if path_prefix else None

    def pages() -> Iterator[Page]:
        return (page for page in map(keep, manifest.pages(prefix)) if page.num_rows)

    if (prefix or include) and manifest.index.entry_count and next(pages(), None) is None:
        asked = [f"path_prefix={path_prefix!r}"] if prefix else []
        asked += [f"include={include!r}"] if include else []
        raise NotFoundError(f"{label} has no entry for {' and '.join(asked)}")
    return pages


def check_prefix(prefix: str | None, label: str, *manifests: Manifest) -> None:
    """Raise `NotFoundError` where none of these versions has an entry at `prefix` or below it; versions without any
    entry are fine. Reads a page at most of each."""
    if prefix is None or not any(manifest.index.entry_count for manifest in manifests):
        return
    if not any(manifest.has_any(prefix) for manifest in manifests):
        raise nothing_at(prefix, label)


def beside(
    manifest: Manifest, pages: Iterator[pa.RecordBatch], prefix: str | None, label: str
) -> Iterator[pa.RecordBatch]:
    """The pages of what differs between a version and something else, such as the live source, below `prefix`.

    Raises `NotFoundError` at once where neither has anything there: where the version has nothing, the first page is
    taken now.
    """
    if prefix is None or not manifest.index.entry_count or manifest.has_any(prefix):
        return pages
    first = next(pages, None)
    if first is None:
        raise nothing_at(prefix, label)
    return chain([first], pages)


def nothing_at(prefix: str, label: str) -> NotFoundError:
    return NotFoundError(
        f"nothing of {label} is at {prefix!r} or below it; check the path (refart ls shows all)"
    )
