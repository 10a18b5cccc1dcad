"""Where shards end, and digests that follow from rows alone."""

from __future__ import annotations

import hashlib
import uuid
from itertools import pairwise

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from refart.entries import SCHEMA, Entry, page_of
from refart.manifest import canonical
from refart.manifest.canonical import RowDigest, ends, first_out_of_order, is_cut, root_digest
from tests.manifest.support import small_shards
from tests.strategies import paged, paths, sorted_entries


def digests(pages):
    digest = RowDigest()
    for page in pages:
        digest.update(page)
    return [digest.hexdigest(name) for name in ("content", "manifest", "key")]


PATHS = {
    "sequential": [f"part-{n:08d}" for n in range(400_000)],
    "dated": [
        f"year={2000 + n // 12_000}/month={n // 1_000 % 12:02d}/{n % 1_000}.json" for n in range(400_000)
    ],
    "uuid": [str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(400_000)],
}


@pytest.mark.parametrize("kind", PATHS)
def test_cuts_are_spread_evenly_however_paths_are_named(kind):
    """Lengths of shards are geometric: the mean is right, and so is the share of long ones."""
    with small_shards(cut_bits=8):
        found = ends(pa.array(PATHS[kind]), canonical.CUT_BITS)
    lengths = [after - before for before, after in pairwise(found)]
    mean = sum(lengths) / len(lengths)
    assert 256 * 0.9 < mean < 256 * 1.1
    assert max(lengths) < 256 * 14  # one in a million
    assert 0.32 < sum(length > 256 for length in lengths) / len(lengths) < 0.42  # 1/e


def test_cut_rule_is_sixteen_zero_bits_of_sha256():
    """The rule of the format, at its real size: the hex digest of a cut begins with four zeros."""
    found = [
        path for path in PATHS["sequential"] if hashlib.sha256(path.encode()).hexdigest().startswith("0000")
    ]
    assert [
        PATHS["sequential"][row] for row in ends(pa.array(PATHS["sequential"]), canonical.CUT_BITS)
    ] == found
    assert found
    assert all(map(is_cut, found))


@given(st.lists(paths), st.integers(0, 20), st.integers(0, 20))
def test_cuts_of_a_slice_are_those_of_the_whole(names, start, length):
    """A worker that holds a range of paths finds the cuts that lie in it."""
    whole = pa.array(names, pa.string())
    with small_shards(cut_bits=1):
        inside = [row - start for row in ends(whole, 1) if start <= row < start + length]
        assert ends(whole.slice(start, length), 1) == inside
        assert ends(whole, 1) == [row for row, path in enumerate(names) if is_cut(path)]


@given(sorted_entries(), st.integers(1, 30), st.integers(1, 30))
def test_digests_do_not_depend_on_page_sizes(rows, one, other):
    """The same rows in other pages have the same three digests."""
    assert digests(paged(rows, one)) == digests(paged(rows, other))


@given(sorted_entries(), st.integers(0, 30), st.integers(0, 30))
def test_digests_of_a_slice_are_those_of_a_copy(rows, start, length):
    """Offsets of Arrow slices, also into null bitmaps, are honoured."""
    view = page_of(rows).slice(start, length)
    copy = page_of(rows[start : start + length])
    assert digests([view]) == digests([copy])


def test_bytes_hidden_under_a_null_are_not_hashed():
    """Arrow lets a null slot cover bytes; they are no part of the value."""
    hidden = pa.Array.from_buffers(
        pa.string(),
        2,
        [pa.py_buffer(b"\x02"), pa.array([0, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"xyza")],
    )
    assert hidden.to_pylist() == [None, "a"]
    rows = [Entry("p", 1, "none", None), Entry("q", 1, "none", "a")]
    plain = page_of(rows)
    odd = pa.RecordBatch.from_arrays([*plain.columns[:3], hidden, plain.column(4)], schema=SCHEMA)
    assert digests([odd]) == digests([plain])


BASE = Entry("a/b", 3, "md5:" + "0" * 32, "s3://lake/a/b", "version:1")
CHANGES = {
    "path": (Entry("a/c", 3, BASE.content_id, BASE.uri, BASE.pin), "content manifest key"),
    "size": (Entry("a/b", None, BASE.content_id, BASE.uri, BASE.pin), "content manifest key"),
    "content_id": (Entry("a/b", 3, "md5:" + "1" * 32, BASE.uri, BASE.pin), "content manifest key"),
    "uri": (Entry("a/b", 3, BASE.content_id, "s3://lake/b", BASE.pin), "manifest key"),
    "pin": (Entry("a/b", 3, BASE.content_id, BASE.uri, "version:2"), "key"),
}


@pytest.mark.parametrize("column", CHANGES)
def test_each_digest_covers_its_columns_and_no_others(column):
    changed, covered = CHANGES[column]
    before, after = digests([page_of([BASE])]), digests([page_of([changed])])
    assert (
        " ".join(
            name for name, a, b in zip(("content", "manifest", "key"), before, after, strict=True) if a != b
        )
        == covered
    )


def test_null_and_empty_and_moved_boundaries_differ():
    """Lengths are hashed beside the bytes, so `ab`,`c` is not `a`,`bc`, and null is not the empty string."""

    def column(*values):
        others = [pa.nulls(len(values), field.type) for field in list(SCHEMA)[1:]]
        return [pa.RecordBatch.from_arrays([pa.array(values), *others], names=SCHEMA.names)]

    assert digests(column("ab", "c")) != digests(column("a", "bc"))
    assert digests(column("a", None)) != digests(column("a", ""))


def test_root_depends_on_order_number_and_name_of_shards():
    one, two = "1" * 64, "2" * 64
    roots = [
        root_digest(name, digests)
        for name in ("content", "manifest")
        for digests in ([], [one], [one, one], [one, two], [two, one])
    ]
    assert len(set(roots)) == len(roots)
    assert all(root.startswith("sha256:") for root in roots)


@given(st.lists(paths, unique=True), st.none() | paths)
def test_order_of_paths_is_that_of_their_utf8_bytes(names, after):
    encoded = [name.encode() for name in names]
    previous = after.encode() if after is not None else None
    wrong = None
    for name in encoded:
        if previous is not None and name <= previous:
            wrong = name.decode()
            break
        previous = name
    assert first_out_of_order(pa.array(names, pa.string()), after) == wrong


def test_a_repeated_path_is_out_of_order():
    assert first_out_of_order(pa.array(["a", "b", "b"]), None) == "b"
    assert first_out_of_order(pa.array(["b"]), "b") == "b"


def test_the_constant_of_the_format():
    """Changing it changes every digest: that is a new format version."""
    assert canonical.CUT_BITS == 16


def test_a_shard_ends_with_a_row_group():
    """The writer finds both by one hash of each path."""
    assert canonical.GROUP_BITS < canonical.CUT_BITS
