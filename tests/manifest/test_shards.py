"""Shard files: exact round trips, bytes an entry, and damage that is noticed."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from refart.entries import PAGE_ROWS, Entry, page_of
from refart.errors import FormatError, NotFoundError, StoreError
from refart.manifest import canonical, shards
from refart.manifest.shards import FILE_SCHEMA, MAX_URI_BASES, ShardFile, ShardTally, ShardWriter, exact_sum
from tests.manifest.support import listed, reference, small_shards
from tests.strategies import paged, sorted_entries


def write(folder: Path, pages):
    writer = ShardWriter(folder)
    for page in pages:
        writer.add(page, [row + 1 for row in canonical.ends(page["path"], canonical.GROUP_BITS)])
    return writer.close()


def read(path: Path):
    file = ShardFile(str(path), "test")
    pages = list(file.pages())
    file.close()
    return pages


def stored(path: Path) -> pa.Table:
    """What any Parquet reader finds."""
    return pq.read_table(path)


@given(rows=sorted_entries().filter(bool), page_rows=st.integers(1, 9))
def test_round_trip(tmp_path_factory, rows, page_rows):
    """Every entry comes back exactly, whatever its URI looks like."""
    with small_shards():
        info, path = write(tmp_path_factory.mktemp("shard"), paged(rows, page_rows))
        assert listed(read(path)) == rows
        assert (info.rows, info.first_path, info.last_path) == (len(rows), rows[0].path, rows[-1].path)
        assert info.managed_bytes == sum(e.size or 0 for e in rows if e.uri is None)
        assert info.size_bytes == sum(e.size or 0 for e in rows)
        assert info.file_bytes == path.stat().st_size


@given(rows=sorted_entries().filter(bool), one=st.integers(1, 9), other=st.integers(1, 9))
def test_equal_rows_make_equal_files(tmp_path_factory, rows, one, other):
    """Row groups do not depend on the pages that came in."""
    with small_shards():
        (a, path_a), (b, path_b) = (write(tmp_path_factory.mktemp("s"), paged(rows, n)) for n in (one, other))
        assert a == b
        assert path_a.read_bytes() == path_b.read_bytes()


def test_uri_costs_a_base_where_it_follows_from_the_path(tmp_path):
    rows = [reference(f"d/{n:03d}", base="s3://lake/x/") for n in range(50)]
    table = stored(write(tmp_path, [page_of(rows)])[1])
    assert table["uri"].null_count == 50
    assert set(table["uri_base"].to_pylist()) == {"s3://lake/x/"}


def test_uri_rules_of_several_prefixes_share_a_row_group(tmp_path):
    """A prefix under another name, a key that is not its path, and a managed file, side by side."""
    rows = [
        *(Entry(f"a/{n}", 1, "none", f"s3://one/p/{n}") for n in range(5)),
        *(Entry(f"b/é/{n}", 1, "none", f"s3://two/ĩ/{n}") for n in range(5)),
        Entry("c", 1, "none", "s3://three/other"),
        Entry("d", 1, "sha256:" + "0" * 64),
    ]
    path = write(tmp_path, [page_of(rows)])[1]
    assert listed(read(path)) == rows
    assert set(stored(path)["uri_base"].to_pylist()) == {"s3://one/p", "s3://two/ĩ", "s3://three/other", None}


def test_a_uri_base_never_splits_a_character(tmp_path):
    """`é` and `ĩ` end in the same byte; the common end of path and URI begins after it."""
    rows = [Entry("é", 1, "none", "s3://b/ĩ")]
    path = write(tmp_path, [page_of(rows)])[1]
    assert listed(read(path)) == rows
    assert stored(path)["uri_base"].to_pylist() == ["s3://b/ĩ"]


def test_more_prefixes_than_rules_are_spelled_out(tmp_path):
    rows = [Entry(f"p{n:03d}", 1, "none", f"s3://bucket-{n * 7919}/key") for n in range(MAX_URI_BASES + 5)]
    path = write(tmp_path, [page_of(rows)])[1]
    assert listed(read(path)) == rows
    assert stored(path)["uri"].null_count == MAX_URI_BASES


@pytest.mark.parametrize(("pins", "budget"), [(False, 22), (True, 46)])
def test_bytes_an_entry_stay_within_the_budget(tmp_path, pins, budget):
    noise = random.Random(0)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._"
    rows = [
        Entry(
            f"date=2026-{n // 1000:02d}/part-{n % 1000:05d}.parquet",
            noise.getrandbits(20),
            f"md5:{noise.getrandbits(128):032x}",
            f"s3://lake/events/date=2026-{n // 1000:02d}/part-{n % 1000:05d}.parquet",
            "version:" + "".join(noise.choices(letters, k=32)) if pins else None,
        )
        for n in range(20_000)
    ]
    info, _ = write(tmp_path, [page_of(rows)])
    assert info.file_bytes / info.rows <= budget


def test_only_paths_have_statistics(tmp_path):
    """They prune lookups; statistics of other columns would be bytes nobody reads."""
    _, path = write(tmp_path, [page_of([reference("a"), reference("b")])])
    group = pq.ParquetFile(path).metadata.row_group(0)
    named = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    assert (named.pop("path").min, set(named.values())) == ("a", {None})


def test_sums_beyond_64_bits_are_exact():
    assert exact_sum(pa.array([2**63 - 1, None, 2**63 - 1, 5])) == 2**64 + 3
    assert exact_sum(pa.array([], pa.int64())) == 0


def test_a_discarded_writer_leaves_no_file(tmp_path):
    writer = ShardWriter(tmp_path)
    writer.add(page_of([reference("a")]), [])
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def shard(tmp_path):
    """A shard of 200 entries in one file."""
    noise = random.Random(1)
    rows = [reference(f"{n:04d}", md5=f"{noise.getrandbits(128):032x}") for n in range(200)]
    return write(tmp_path, [page_of(rows)])[1]


def test_every_truncation_is_noticed(shard):
    whole = shard.read_bytes()
    for size in range(0, len(whole), 97):
        shard.write_bytes(whole[:size])
        with pytest.raises(FormatError, match="shard test is damaged"):
            read(shard)


def test_a_flipped_bit_never_changes_a_row_in_silence(shard):
    """Page checksums find it, or the decoder does; in the footer it may also be harmless."""
    whole, good = shard.read_bytes(), listed(read(shard))
    noticed = 0
    for at in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        shard.write_bytes(damaged)
        try:
            assert listed(read(shard)) == good
        except FormatError:
            noticed += 1
    assert noticed > len(whole) / 41 / 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="shard test is missing"):
        read(tmp_path / "nothing")


def test_a_failing_disk_is_no_format_error(shard, monkeypatch):
    """What the operating system refuses says nothing about the bytes."""

    def fail(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pq, "ParquetFile", fail)
    with pytest.raises(StoreError, match=r"shard test cannot be read: .*Input/output error"):
        read(shard)


def hostile(folder: Path, schema: pa.Schema = FILE_SCHEMA, **columns) -> Path:
    """A Parquet file with these columns; the others are as in a shard of one reference."""
    row = {
        "path": ["a"],
        "size": [1],
        "content_id": ["none"],
        "uri_base": ["s3://b/"],
        "uri_skip": [0],
        "uri": [None],
    }
    row |= {"pin": [None]} | columns
    rows = len(row["path"])
    arrays = [
        v if isinstance(v := row[f.name], pa.Array) else pa.array(v * (rows // len(v)), f.type)
        for f in schema
    ]
    path = folder / "hostile"
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, row_group_size=1 << 20)
    return path


def not_utf8(value: bytes) -> pa.StringArray:
    """Arrow believes what it is told about bytes."""
    offsets = pa.array([0, len(value)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(value)])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"path": ["../a"]}, "is not an entry path"),
        ({"path": not_utf8(b"a\xff")}, "is damaged"),
        ({"pin": not_utf8(b"etag:\xff")}, "is damaged"),
        ({"size": [-1]}, "is negative"),
        ({"content_id": ["md5:x"]}, "is not algo:value"),
        ({"uri_skip": [None]}, "half a rule"),
        ({"uri_base": [None]}, "half a rule"),
        ({"uri_skip": [-1]}, "skips -1 bytes"),
        ({"uri": ["s3://b/other"]}, "half a rule"),
        ({"uri_base": [None], "uri_skip": [None]}, "must be a sha256"),
        ({"path": ["é"], "uri_skip": [1]}, "is damaged"),
        ({"path": [f"{n:02d}" for n in range(40)], "uri_skip": [*range(40)]}, "more than 16 rules"),
        ({"pin": ["x"]}, "is not kind:value"),
        (
            {"path": [f"{n:02d}" for n in range(40)], "uri_base": [f"s{n}" for n in range(40)]},
            "more than 16 rules",
        ),
        ({"path": [f"{n:06d}" for n in range(65_537)]}, "has 65,537 rows"),
    ],
)
def test_hostile_files_are_refused(tmp_path, columns, says):
    with pytest.raises(FormatError, match=says):
        read(hostile(tmp_path, **columns))


def test_other_columns_are_refused(tmp_path):
    with pytest.raises(FormatError, match="expected the columns"):
        read(hostile(tmp_path, FILE_SCHEMA.remove(6)))


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_path_is_refused(tmp_path, check):
    """Also where the caller checks values: without a path no rows can be compared."""
    path = hostile(tmp_path, FILE_SCHEMA.set(0, pa.field("path", pa.string())), path=[None])
    with pytest.raises(FormatError, match="must not be null"):
        list(ShardFile(str(path), "test").pages(check=check))


def test_other_types_are_refused(tmp_path):
    schema = FILE_SCHEMA.set(1, pa.field("size", pa.int32()))
    with pytest.raises(FormatError, match="expected the columns"):
        read(hostile(tmp_path, schema))


def test_a_row_group_fits_a_page():
    assert shards.MAX_GROUP_ROWS == PAGE_ROWS


def group_paths(path: Path) -> list[list[str]]:
    """The paths of each row group."""
    file = pq.ParquetFile(path)
    return [file.read_row_group(n)["path"].to_pylist() for n in range(file.num_row_groups)]


@given(rows=sorted_entries(max_size=60).filter(bool), page_rows=st.integers(1, 9))
def test_row_groups_end_where_the_hash_says(tmp_path_factory, rows, page_rows):
    with small_shards(group_bits=2, max_group_rows=1000):
        _, path = write(tmp_path_factory.mktemp("shard"), paged(rows, page_rows))
        groups = group_paths(path)
        ends = [row for group in groups[:-1] for row in group[-1:]]
        inside = [row for group in groups for row in group[:-1]]
        assert [path for group in groups for path in group] == [row.path for row in rows]
        assert len(canonical.ends(pa.array(ends, pa.string()), 2)) == len(ends)
        assert canonical.ends(pa.array(inside, pa.string()), 2) == []


def test_no_row_group_is_longer_than_a_page(tmp_path):
    """However unlikely the hashes, and whatever pages came in."""
    with small_shards(group_bits=60, max_group_rows=4):
        rows = [reference(f"{n:04d}") for n in range(23)]
        _, path = write(tmp_path, paged(rows, 7))
        assert [len(group) for group in group_paths(path)] == [4, 4, 4, 4, 4, 3]


def test_row_groups_are_read_together(tmp_path):
    """Or each would cost more than its rows."""
    with small_shards():
        rows = [reference(f"{n:04d}") for n in range(50)]
        _, path = write(tmp_path, paged(rows, 7))
        assert len(group_paths(path)) > 12
        assert len(read(path)) == 1
        with patch.object(shards, "BATCH_ROWS", 10):
            pages = read(path)
        assert listed(pages) == rows
        assert 5 <= len(pages) < 8


def test_some_row_groups_are_read_alone(tmp_path):
    with small_shards():
        rows = [reference(f"{n:04d}") for n in range(50)]
        _, path = write(tmp_path, paged(rows, 50))
        file = ShardFile(str(path), "test")
        groups = group_paths(path)
        assert [e.path for e in listed(file.pages([1, 4, 5]))] == groups[1] + groups[4] + groups[5]
        file.close()


def test_tally_of_pages_is_what_the_writer_says(tmp_path):
    rows = [reference(f"{n:02d}") for n in range(10)]
    info, _ = write(tmp_path, paged(rows, 3))
    tally = ShardTally()
    for page in paged(rows, 7):
        tally.update(page)
    assert tally.info(info.file_bytes) == info
