"""Choose entries of a version: by folder or file, and by patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
