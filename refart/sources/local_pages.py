"""Pages of files that a walk found: whole columns at a time, since a tree may hold millions."""

from __future__ import annotations

import os
from array import array
from binascii import hexlify
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums, names
from refart.entries import SCHEMA, Page
from refart.errors import InvalidInputError
from refart.receiptblocks import DIGEST_BYTES, Recalled
from refart.sources.base import Keep
from refart.sources.local_walk import Found

FILE_PREFIX: Final = "file://"

Item = TypeVar("Item")


def grouped(listed: Iterable[Found], most_files: int, most_bytes: int | None) -> Iterator[list[Found]]:
    """Files by the page: `most_files`, or fewer where they hold `most_bytes`."""
    group: list[Found] = []
    files = held_bytes = 0
    for found in listed:
        while True:
            sizes = found.files.sizes
            end = min(len(sizes), most_files - files)
            if most_bytes is not None and held_bytes + sum(sizes[:end]) >= most_bytes:
                end = bisect_left(list(accumulate(sizes[:end])), most_bytes - held_bytes) + 1
            part = found if end == len(sizes) else found.part(0, end)
            group.append(part)
            files += end
            held_bytes += sum(part.files.sizes)
            if files >= most_files or (most_bytes is not None and held_bytes >= most_bytes):
                yield group
                group, files, held_bytes = [], 0, 0
            if end == len(sizes):
                break
            found = found.part(end, len(sizes))
    if group:
        yield group


def page_of(group: Sequence[Found], content_id: pa.Array, keep: Keep | None) -> Page:
    """A page of those files that are wanted.

    Raises `InvalidInputError` for a wanted one that cannot be an entry. Until then it has no URI.
    """
    if any(found.problems for found in group):
        return _page_with_problems(group, content_id, keep)
    base = _base(group)
    key = _split("\0".join(found.key + ("\0" + found.key).join(found.files.names) for found in group))
    page = _page(group, key, _joined(pa.scalar(FILE_PREFIX + base), key), content_id)
    return page if keep is None else keep(page)


def _page_with_problems(group: Sequence[Found], content_id: pa.Array, keep: Keep | None) -> Page:
    base = _base(group)
    problems: list[str | None] = []
    keys: list[str] = []
    for key, files, why in group:
        problems += map(why.get, range(len(files.names)))
        # Patterns see U+FFFD where a name is not UTF-8.
        keys += (os.fsencode(key + name).decode(errors="replace") for name in files.names)
    uris = [
        FILE_PREFIX + base + key if problem is None else None
        for key, problem in zip(keys, problems, strict=True)
    ]
    page = _page(group, pa.array(keys, pa.string()), pa.array(uris, pa.string()), content_id)
    paths = page.column("path").to_pylist()
    page = page if keep is None else keep(page)
    if page.column("uri").null_count:
        wanted = page.filter(page.column("uri").is_null()).column("path")[0].as_py()
        told = zip(paths, problems, strict=True)
        problem = next(problem for path, problem in told if problem is not None and path == wanted)
        raise InvalidInputError(f"{problem}; exclude= leaves it out")
    return page


def _base(group: Sequence[Found]) -> str:
    """The scanned folder."""
    return group[0].files.folder.removesuffix(group[0].key)


def _page(group: Sequence[Found], key: pa.Array, uri: pa.Array, content_id: pa.Array) -> Page:
    size = pa.array(_column(group, lambda found: found.files.sizes), pa.int64())
    columns = [_paths(key), size, content_id, uri, pa.nulls(len(key), pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _paths(key: pa.Array) -> pa.Array:
    """`names.path_from_key` of a column: nearly always the column itself."""
    odd = pc.match_substring_regex(key, names.BAD_PATH_PATTERN)
    if not pc.any(odd, min_count=0).as_py():
        return key
    return pc.replace_with_mask(
        key, odd, pa.array(map(names.path_from_key, key.filter(odd).to_pylist()), pa.string())
    )


# --- content ids


def digest_ids(recalled: Recalled) -> pa.Array:
    """`sha256:…` where a receipt holds, `none` elsewhere."""
    count = len(recalled.known)
    if not any(recalled.known):
        return no_ids(count)
    step = 2 * DIGEST_BYTES
    offsets = array("i", range(0, step * count + 1, step))
    digests = pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(hexlify(recalled.digests))
    )
    ids = _joined(pa.scalar("sha256:"), digests)
    if all(recalled.known):
        return ids
    known = pa.UInt8Array.from_buffers(pa.uint8(), count, [None, pa.py_buffer(recalled.known)]).cast(
        pa.bool_()
    )
    return pc.if_else(known, ids, checksums.NONE)


def stat_ids(group: Sequence[Found]) -> pa.Array:
    mtimes_ns = pa.array(_column(group, lambda found: found.files.mtimes_ns), pa.int64())
    return _joined(pa.scalar("stat:"), mtimes_ns.cast(pa.string()))


def no_ids(count: int) -> pa.Array:
    return pa.repeat(pa.scalar(checksums.NONE), count)


# --- columns


def _column(group: Sequence[Found], part: Callable[[Found], Iterable[Item]]) -> list[Item]:
    return list(chain.from_iterable(map(part, group)))


def _split(text: str) -> pa.Array:
    """The parts of a text between NUL characters, of which no path has one: half the cost of so many strings."""
    return pc.split_pattern(pa.array([text], pa.string()), "\0").values


def _joined(left: Any, right: Any) -> pa.Array:
    return pc.binary_join_element_wise(left, right, "")
