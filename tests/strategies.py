"""Hypothesis strategies for what every manifest test needs: paths, entries, and pages of them.

@given(sorted_entries())            entries in path order, each path once
@given(st.lists(entries(paths=few_paths)))      entries whose paths collide often
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import hypothesis.strategies as st

from refart import checksums, names
from refart.entries import Entry, Page, page_of

# Neighbours of `/` in byte order (`.`, `0`), what URIs or shells give a meaning to, characters whose order
# differs between UTF-8 and UTF-16 (U+FF5E, U+1F600). A fixed alphabet: Unicode tables take seconds to build.
_CHARACTERS = "abAz.-0 #?%&~:=+*[]'\"\\éß\u0301\u0800\uffff\uff5e\U0001f600\U0010ffff"

_components = st.text(_CHARACTERS, min_size=1, max_size=6)


def _acceptable(path: str) -> bool:
    try:
        names.check_path(path)
    except ValueError:
        return False
    return True


paths: st.SearchStrategy[str] = (
    st.lists(_components, min_size=1, max_size=4).map("/".join).filter(_acceptable)
)
"""Any acceptable entry path, mostly of awkward characters."""

few_paths: st.SearchStrategy[str] = st.sampled_from(
    [
        f"{a}{b}"
        for a in ("a", "a-", "a0", "b", "é", "\uff5e", "\U0001f600")
        for b in ("", "/a", "/b", "/b/c", "/b.c")
    ]
)
"""A few dozen paths, folders and their look-alike neighbours among them: they collide within one example."""

_hex = {algo: st.integers(0, 16**n - 1).map(f"{{:0{n}x}}".format) for algo, n in checksums.HEX_DIGITS.items()}
_values = st.text("0123456789abcdef-", min_size=1, max_size=8)

content_ids: st.SearchStrategy[str] = st.one_of(
    *(digits.map(f"{algo}:{{}}".format) for algo, digits in _hex.items()),
    _values.map("etag:{}".format),
    st.integers(0, 10**18).map("generation:{}".format),
    st.integers(-(10**18), 10**18).map("stat:{}".format),
    st.just(checksums.NONE),
)
"""Every rung of the ladder."""

sizes: st.SearchStrategy[int | None] = st.none() | st.integers(0, 1 << 50)

pins: st.SearchStrategy[str | None] = st.none() | st.tuples(
    st.sampled_from(["version", "generation", "etag"]), _values
).map(":".join)


@st.composite
def references(draw: st.DrawFn, paths: st.SearchStrategy[str] = paths) -> Entry:
    """An entry that points at an object."""
    path = draw(paths)
    uri = draw(st.sampled_from(["s3://lake/", "s3://lake/other/", "file:///data/"])) + path
    return Entry(path, draw(sizes), draw(content_ids), uri, draw(pins))


@st.composite
def managed(draw: st.DrawFn, paths: st.SearchStrategy[str] = paths) -> Entry:
    """An entry whose bytes are in the store."""
    return Entry(draw(paths), draw(st.integers(0, 1 << 50)), "sha256:" + draw(_hex["sha256"]))


def entries(paths: st.SearchStrategy[str] = paths) -> st.SearchStrategy[Entry]:
    """A reference or a managed file."""
    return references(paths) | managed(paths)


def sorted_entries(
    paths: st.SearchStrategy[str] = paths, max_size: int = 30
) -> st.SearchStrategy[list[Entry]]:
    """Entries as a manifest holds them: in the byte order of their UTF-8 paths, each path once."""
    return st.lists(entries(paths), max_size=max_size, unique_by=lambda e: e.path).map(in_order)


def in_order(rows: Iterable[Entry]) -> list[Entry]:
    """Sort by the bytes of the path, which is the order of the format."""
    return sorted(rows, key=lambda e: e.path.encode())


def paged(rows: list[Entry], page_rows: int) -> Iterator[Page]:
    """The same rows in the same order, as pages of at most `page_rows`."""
    return (page_of(rows[i : i + page_rows]) for i in range(0, len(rows), page_rows))


def lake_pages(
    rows: int, *, page_rows: int = 10_000, seed: int = 0, prefix: str = "s3://lake/"
) -> Iterator[Page]:
    """Pages of `rows` realistic references with distinct paths, in no order: for tests of size."""
    choose = random.Random(seed)
    for start in range(0, rows, page_rows):
        page = []
        for number in range(start, min(start + page_rows, rows)):
            path = (
                f"year={choose.randrange(2000, 2026)}/part-{choose.getrandbits(32):08x}-{number:09d}.parquet"
            )
            tag, version = f"{choose.getrandbits(128):032x}", f"{choose.getrandbits(128):032x}"
            page.append(
                Entry(path, choose.randrange(1 << 30), f"md5:{tag}", prefix + path, f"version:{version}")
            )
        yield page_of(page)
