"""Receipts in blocks: what is kept comes back, whatever the blocks are; what is damaged or has changed does not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refart import receiptblocks
from refart.receiptblocks import DIGEST_BYTES, TIME_LIMIT_NS, Facts, Files, Recalled

names = st.binary(min_size=1, max_size=8).filter(lambda name: not {0, 47} & set(name))  # no NUL, no slash
facts = st.tuples(
    st.integers(0, 2**63 - 1),
    st.integers(-TIME_LIMIT_NS + 1, TIME_LIMIT_NS - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES),
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiptblocks, "BLOCK_FILES", 4)


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(receiptblocks.SCHEMA)
    return connection


def listed(folder: bytes, rows: dict[bytes, Facts]) -> Files:
    """As a walk finds files that are what their receipts say."""
    some = sorted((os.fsdecode(name), numbers) for name, (*numbers, _) in rows.items())
    columns = [list(column) for column in zip(*(numbers for _, numbers in some), strict=True)]
    return Files.of(os.fsdecode(folder) + "/", [name for name, _ in some], *columns)


def recalled(connection: sqlite3.Connection, files: Files, start: int = 0) -> dict[str, bytes]:
    found = Recalled.nothing(start + files.rows)
    receiptblocks.recall(connection, files, found, start)
    assert not any(found.known[:start])
    return {
        name: bytes(found.digests[DIGEST_BYTES * at : DIGEST_BYTES * (at + 1)])
        for at, name in enumerate(files.names.split("/"), start)
        if found.known[at]
    }


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(names, facts, max_size=12), max_size=6), names)
def test_the_last_receipt_of_a_name_counts(batches: list[dict[bytes, Facts]], other: bytes) -> None:
    """However blocks are split and joined meanwhile: each stays small, and none overlaps another."""
    connection = opened()
    expected: dict[bytes, Facts] = {}
    for batch in batches:
        receiptblocks.insert(connection, b"/d", batch)
        expected |= batch
    assert dict(receiptblocks.find(connection, b"/d", {*expected, other})) == expected
    assert list(receiptblocks.find(connection, b"/other", expected)) == []
    kept = [row[0].split(b"/") for row in connection.execute("SELECT names FROM blocks ORDER BY first")]
    assert [name for block in kept for name in block] == sorted(expected)
    assert all(len(block) <= 4 for block in kept)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, facts, min_size=1, max_size=30), st.data())
def test_what_is_unchanged_is_recalled(rows: dict[bytes, Facts], data: st.DataObject) -> None:
    """A whole folder, and any part of it that is looked up; names that are not UTF-8 are only ever missed."""
    connection = opened()
    receiptblocks.insert(connection, b"/d", rows)
    files = listed(b"/d", rows)
    start = data.draw(st.integers(0, len(rows) - 1))
    part = files.part(start, data.draw(st.integers(start + 1, len(rows))))
    digests = {os.fsdecode(name): digest for name, (*_, digest) in rows.items()}
    for some in (files, part):
        found = recalled(connection, some, data.draw(st.integers(0, 3)))
        assert found.items() <= digests.items()
        if all(name.isascii() for name in rows):
            assert found.keys() == set(some.names.split("/"))


@pytest.mark.usefixtures("small_blocks")
@given(st.dictionaries(st.sampled_from([b"%d" % n for n in range(20)]), facts, min_size=1), st.data())
def test_what_has_changed_is_not_recalled(rows: dict[bytes, Facts], data: st.DataObject) -> None:
    """Another size, modified time or inode, by one; its neighbours are."""
    connection = opened()
    receiptblocks.insert(connection, b"/d", rows)
    name = data.draw(st.sampled_from(sorted(rows)))
    changed = list(rows[name])
    changed[data.draw(st.integers(0, 2))] ^= 1
    files = listed(b"/d", rows | {name: (*changed,)})  # type: ignore[dict-item]
    assert recalled(connection, files).keys() == {os.fsdecode(other) for other in rows.keys() - {name}}


@given(st.lists(st.tuples(names, facts), min_size=1, unique_by=lambda row: row[0]), st.data())
def test_parts_of_a_folder_are_as_the_whole(rows: list[tuple[bytes, Facts]], data: st.DataObject) -> None:
    whole = listed(b"/d", dict(rows))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=3)) | {0, len(rows)})
    parts = [whole.part(start, end) for start, end in pairwise(cuts)]
    assert Files.joined(parts) == whole
    assert [part.rows for part in parts] == [end - start for start, end in pairwise(cuts)]


def test_modified_times_that_are_far_off_are_told_apart_from_others() -> None:
    """Of the year 2300: as good as unknown."""
    far_off = Files.of("/d/", ["a", "b"], [1, 1], [10**19, 1], [1, 1])
    assert far_off.columns()[1] == (TIME_LIMIT_NS, 1)


def test_files_that_came_and_went_do_not_hide_others() -> None:
    connection = opened()
    rows = {b"%03d" % n: (n, n, n, bytes(DIGEST_BYTES)) for n in range(600)}
    receiptblocks.insert(connection, b"/d", rows)
    now = {name: row for name, row in rows.items() if name != b"300"} | {b"100a": rows[b"100"]}
    assert recalled(connection, listed(b"/d", now)).keys() == {os.fsdecode(n) for n in now} - {"100a"}


def test_few_blocks_are_made_of_names_that_come_one_by_one() -> None:
    connection = opened()
    for n in reversed(range(1_000)):
        receiptblocks.insert(connection, b"/d", {b"%03d" % n: (n, n, n, bytes(DIGEST_BYTES))})
    [blocks] = connection.execute("SELECT count(*) FROM blocks").fetchone()
    assert blocks <= 10


@settings(deadline=None)
@given(st.dictionaries(names, facts, min_size=1, max_size=5), st.data())
def test_a_flipped_bit_makes_no_receipt(rows: dict[bytes, Facts], data: st.DataObject) -> None:
    """SQLite does not notice it; the block's own seal does. What is learnt anew takes its place."""
    connection = opened()
    receiptblocks.insert(connection, b"/d", rows)
    column = data.draw(st.sampled_from(["names", "facts"]))
    [value] = connection.execute(f"SELECT {column} FROM blocks").fetchone()
    damaged = bytearray(value)
    at = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[at // 8] ^= 1 << at % 8
    connection.execute(f"UPDATE blocks SET {column} = ?", (bytes(damaged),))
    assert list(receiptblocks.find(connection, b"/d", rows)) == []
    assert recalled(connection, listed(b"/d", rows)) == {}
    receiptblocks.insert(connection, b"/d", rows)
    assert dict(receiptblocks.find(connection, b"/d", rows)) == rows


@pytest.mark.parametrize("value", [b"", b"\1" * 60, "text", 7])
def test_what_is_no_block_is_none(value: object) -> None:
    connection = opened()
    rows = {b"a": (1, 2, 3, bytes(DIGEST_BYTES))}
    receiptblocks.insert(connection, b"/d", rows)
    connection.execute("UPDATE blocks SET facts = ?", (value,))
    assert list(receiptblocks.find(connection, b"/d", rows)) == []
    assert recalled(connection, listed(b"/d", rows)) == {}


def test_a_table_of_the_time_before_blocks_goes() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE files (path BLOB PRIMARY KEY, facts BLOB NOT NULL) WITHOUT ROWID")
    connection.executescript(receiptblocks.SCHEMA)
    tables: Iterator[tuple[str]] = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert [name for (name,) in tables] == ["blocks"]
