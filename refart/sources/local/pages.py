"""Pages of files that a walk found: whole columns at a time, since a tree may hold millions."""

from __future__ import annotations

import os
from array import array
from binascii import hexlify
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import SCHEMA, Page, paths_of, prefixed
from refart.errors import InvalidInputError
from refart.receiptblocks import DIGEST_BYTES, NUMBER_BYTES, TIME_LIMIT_NS, Recalled
from refart.sources.base import Keep
from refart.sources.local.walk import Found

FILE_PREFIX: Final = "file://"


def grouped(listed: Iterable[Found], enough_files: int, enough_bytes: int | None) -> Iterator[list[Found]]:
    """Files by the page: as soon as there are enough of them, or they hold enough."""
    group: list[Found] = []
    files = held_bytes = 0
    for found in listed:
        for part in _cut(found, held_bytes, enough_bytes):
            group.append(part)
            files += part.files.rows
            held_bytes += part.files.size_bytes
            if files >= enough_files or (enough_bytes is not None and held_bytes >= enough_bytes):
                yield group
                group, files, held_bytes = [], 0, 0
    if group:
        yield group


def _cut(found: Found, held_bytes: int, enough_bytes: int | None) -> Iterator[Found]:
    """Cut after each file with which there is enough."""
    start = 0
    if enough_bytes is not None and held_bytes + found.files.size_bytes > enough_bytes:
        for end, size in enumerate(found.files.columns()[0], 1):
            held_bytes += size
            if held_bytes >= enough_bytes:
                yield found.part(start, end)
                start, held_bytes = end, 0
    if start == 0:
        yield found
    elif start < found.files.rows:
        yield found.part(start, found.files.rows)


def page_of(group: Sequence[Found], content_id: pa.Array, keep: Keep | None) -> Page:
    """A page of those files that are wanted.

    Raises `InvalidInputError` for a wanted one that cannot be an entry. Until then it has no URI.
    """
    if any(found.problems for found in group):
        return _page_with_problems(group, content_id, keep)
    base = _base(group)
    key = _split("\0".join(found.key + found.files.names.replace("/", "\0" + found.key) for found in group))
    page = _page(group, key, prefixed(FILE_PREFIX + base, key), content_id)
    return page if keep is None else keep(page)


def _page_with_problems(group: Sequence[Found], content_id: pa.Array, keep: Keep | None) -> Page:
    base = _base(group)
    problems: list[str | None] = []
    keys: list[str] = []
    for key, files, why in group:
        problems += map(why.get, range(files.rows))
        # Patterns see U+FFFD where a name is not UTF-8.
        keys += (os.fsencode(key + name).decode(errors="replace") for name in files.names.split("/"))
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
    columns = [paths_of(key), _column(group, 0), content_id, uri, pa.nulls(len(key), pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


# --- content ids


def digest_ids(recalled: Recalled) -> pa.Array:
    """`sha256:…` where a receipt holds, `none` elsewhere."""
    count = len(recalled.known)
    if 1 not in recalled.known:
        return no_ids(count)
    step = 2 * DIGEST_BYTES
    offsets = array("i", range(0, step * count + 1, step))
    digests = pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(hexlify(recalled.digests))
    )
    ids = prefixed("sha256:", digests)
    if 0 not in recalled.known:
        return ids
    known = pa.UInt8Array.from_buffers(pa.uint8(), count, [None, pa.py_buffer(recalled.known)]).cast(
        pa.bool_()
    )
    return pc.if_else(known, ids, checksums.NONE)


def stat_ids(group: Sequence[Found]) -> pa.Array:
    """`stat:` and the modified time."""
    mtimes_ns = _column(group, 1)
    ids = prefixed("stat:", mtimes_ns.cast(pa.string()))
    far_off = pc.is_in(mtimes_ns, pa.array([TIME_LIMIT_NS, -TIME_LIMIT_NS]))
    if not pc.any(far_off).as_py():
        return ids
    paths = chain.from_iterable(
        (f"{some.folder}{name}" for name in some.names.split("/"))
        for some in (found.files for found in group)
    )
    exact = [f"stat:{os.stat(path).st_mtime_ns}" for path in compress(paths, far_off.to_pylist())]
    return pc.replace_with_mask(ids, far_off, pa.array(exact, pa.string()))


def no_ids(count: int) -> pa.Array:
    return pa.repeat(pa.scalar(checksums.NONE), count)


# --- columns


def _column(group: Sequence[Found], number: int) -> pa.Array:
    packed = b"".join(found.files.column(number) for found in group)
    return pa.Int64Array.from_buffers(pa.int64(), len(packed) // NUMBER_BYTES, [None, pa.py_buffer(packed)])


def _split(text: str) -> pa.Array:
    """The parts of a text between NUL characters, of which no path has one: half the cost of so many strings."""
    return pc.split_pattern(pa.array([text], pa.string()), "\0").values
