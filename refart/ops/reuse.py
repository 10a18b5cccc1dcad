"""Take entries of a logged version into a draft: where they point stays as it is, and no byte is copied."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from refart import names
from refart.catalog.base import VersionRow
from refart.context import Context
from refart.entries import SCHEMA, Page
from refart.manifest.draft import Added, Draft
from refart.manifest.reader import Manifest
from refart.ops.add import limited, under
from refart.ops.patterns import Patterns, page_filter


def add_version(
    context: Context,
    draft: Draft,
    uri: str,
    *,
    name: str | None = None,
    max_objects: int | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    allow_empty: bool = False,
    overwrite: bool = False,
) -> tuple[Added, VersionRow]:
    """Add the entries at `refart://[project/]name[:version][/path]`; returns them, and the version they come from.

    URIs, pins, sizes and content ids are copied from it; managed files are those of the same store. Paths are the
    rest below `path`, or its base name where it is one entry. Raises `NotFoundError`, `InvalidInputError`.
    """
    ref, path = names.parse_version_uri(uri, context.local.config.project)
    prefix = names.check_path(name, "name") if name is not None else None
    row = context.catalog.version(ref.project, ref.name, ref.selector)
    manifest = Manifest.open(context.store, row.manifest.address)
    is_entry = path is not None and manifest.get(path) is not None
    keep = page_filter(include, exclude)

    def moved() -> Iterator[Page]:
        above = "" if path is None else f"{path}/"
        if is_entry:
            above = above[: above.rstrip("/").rfind("/") + 1]
        pages = (keep(_below(page, above)) for page in manifest.pages(path))
        for page in limited(pages, uri, max_objects, allow_empty):
            yield under(page, prefix, replace=is_entry)

    return draft.add(moved(), overwrite=overwrite), row


def _below(page: Page, above: str) -> Page:
    """The page with paths relative to a folder that all of them lie in."""
    if not above:
        return page
    path = pc.utf8_slice_codeunits(page.column("path"), len(above))
    return page.set_column(0, SCHEMA.field("path"), path)
