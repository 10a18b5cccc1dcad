"""Differences of two manifests, against a model of dictionaries; only shards that differ are read."""

from __future__ import annotations

import re
from dataclasses import replace

import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from refart.errors import FormatError, InvalidInputError
from refart.manifest import changes as changes_module
from refart.manifest import shards
from refart.manifest.canonical import is_cut
from refart.manifest.changes import CHANGES, MOVABLE
from refart.manifest.compare import MAX_RIVALS, DiffSummary, diff
from tests.manifest.support import FolderStore, reference, small_shards
from tests.strategies import entries, few_paths, in_order, paged, sorted_entries


@pytest.fixture(autouse=True)
def _small():
    with small_shards():
        yield


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path)


ROWS = [reference(f"{n:04d}", size=10) for n in range(300)]


def rows_of(changes):
    return [row for page in changes for row in page.to_pylist()]


def model(old, new, prefix=None, *, moves=True):
    """What `diff` must give, from two dictionaries."""
    old, new = ({e.path: e for e in side} for side in (old, new))
    changes = []
    for path in sorted(old.keys() | new.keys()):
        if prefix is not None and path != prefix and not path.startswith(f"{prefix}/"):
            continue
        a, b = old.get(path), new.get(path)
        if a is None or b is None:
            change = "added" if a is None else "removed"
        elif (a.size, a.content_id) != (b.size, b.content_id):
            change = "modified"
        elif a.uri != b.uri:
            change = "relocated"
        else:
            continue
        row = {"path": path, "change": change, "old_path": None}
        for name in ("size", "content_id", "uri", "pin"):
            row[f"old_{name}"], row[f"new_{name}"] = (getattr(e, name, None) for e in (a, b))
        changes.append(row)
    return moved(changes) if moves else changes


def moved(changes):
    """The same, with each removed entry paired with an added one that has its bytes, if there is any."""
    left = list(changes)
    for row in changes:
        size, content_id = row["old_size"], row["old_content_id"]
        if row["change"] == "removed" and size is not None and re.match(MOVABLE, content_id):
            same = (
                at
                for at, other in enumerate(left)
                if (other["change"], other["new_size"], other["new_content_id"])
                == ("added", size, content_id)
            )
            at = next(same, None)
            if at is not None:
                old = {name: value for name, value in row.items() if name.startswith("old_")}
                left[at] = {**left[at], **old, "change": "moved", "old_path": row["path"]}
                left.remove(row)
    return left


@st.composite
def pairs(draw):
    """Two manifests that share some entries and differ a little in others."""
    old = {e.path: e for e in draw(sorted_entries(few_paths))}
    new = {path: e for path, e in old.items() if draw(st.booleans())}
    new |= {e.path: e for e in draw(st.lists(entries(few_paths), max_size=6))}
    for path in list(new):
        if new[path].is_reference and draw(st.booleans()):
            new[path] = replace(new[path], uri=draw(st.sampled_from([new[path].uri, "s3://elsewhere/x"])))
    for path in list(new):
        if draw(st.booleans()):
            to = draw(few_paths)
            new.setdefault(to, replace(new.pop(path), path=to))
    return in_order(old.values()), in_order(new.values())


@given(pair=pairs(), prefix=st.none() | few_paths, moves=st.booleans())
def test_diff_is_that_of_dictionaries(tmp_path_factory, pair, prefix, moves):
    old, new = pair
    store = FolderStore(tmp_path_factory.mktemp("store"))
    changes = diff(store.manifest(paged(old, 5)), store.manifest(paged(new, 5)), prefix, moves=moves)
    expected = model(old, new, prefix, moves=moves)
    assert rows_of(changes) == expected

    def total(change, column):
        return sum(row[column] or 0 for row in expected if row["change"] == change)

    counts = [row["change"] for row in expected]
    assert changes.summary == DiffSummary(
        added=counts.count("added"),
        removed=counts.count("removed"),
        modified=counts.count("modified"),
        moved=counts.count("moved"),
        relocated=counts.count("relocated"),
        added_bytes=total("added", "new_size"),
        removed_bytes=total("removed", "old_size"),
        old_modified_bytes=total("modified", "old_size"),
        new_modified_bytes=total("modified", "new_size"),
        moved_bytes=total("moved", "new_size"),
        relocated_bytes=total("relocated", "new_size"),
        shards_read=changes.summary.shards_read,
    )


@given(rows=sorted_entries(few_paths))
def test_against_nothing_every_entry_is_a_change(tmp_path_factory, rows):
    manifest = FolderStore(tmp_path_factory.mktemp("store")).manifest(paged(rows, 5))
    assert rows_of(diff(None, manifest)) == model([], rows)
    assert rows_of(diff(manifest, None)) == model(rows, [])
    assert rows_of(diff(None, None)) == rows_of(diff(manifest, manifest)) == []


def sized(path, content_id, size=3):
    return replace(reference(path, size=size), content_id=content_id)


MD5, MULTIPART = "md5:" + "1" * 32, f"etag:{'2' * 32}-7"


def told(changes):
    """Path → change; of what moved, the old path."""
    return {row["path"]: row["old_path"] or row["change"] for row in rows_of(changes)}


@pytest.mark.parametrize("content_id", [MD5, MULTIPART, "sha256:" + "3" * 64])
def test_the_same_bytes_at_another_path_moved(store, content_id):
    old = store.manifest(paged([sized("a/x", content_id), sized("b", MD5)], 5))
    new = store.manifest(paged([sized("b", MD5), sized("c/x", content_id)], 5))
    changes = diff(old, new)
    (row,) = rows_of(changes)
    assert (row["path"], row["old_path"], row["change"]) == ("c/x", "a/x", "moved")
    assert (row["old_uri"], row["new_uri"]) == ("s3://lake/data/a/x", "s3://lake/data/c/x")
    assert (changes.summary.moved, changes.summary.moved_bytes) == (1, 3)
    assert told(diff(old, new, moves=False)) == {"a/x": "removed", "c/x": "added"}


@pytest.mark.parametrize(
    "content_id",
    [
        *("none", "stat:7", "etag:W/x", "etag:x", "generation:7"),
        *("crc32c:" + "0" * 8, "crc64nvme:" + "0" * 16),
    ],
)
def test_what_is_not_known_by_its_bytes_does_not_move(store, content_id):
    old, new = (store.manifest(paged([sized(path, content_id)], 5)) for path in "ab")
    assert told(diff(old, new)) == {"a": "removed", "b": "added"}


def test_another_size_is_no_move(store):
    old, new = (store.manifest(paged([sized("ab"[n], MD5, size=n)], 5)) for n in (0, 1))
    assert told(diff(old, new)) == {"a": "removed", "b": "added"}


def test_duplicates_move_in_the_order_of_their_paths(store):
    """What is left over on one side was added, or removed."""
    old = store.manifest(paged([sized(path, MD5) for path in ("a1", "a2", "x9")], 5))
    new = store.manifest(paged([sized(path, MD5) for path in ("0", "b1", "b2", "z")], 5))
    assert told(diff(old, new)) == {"0": "a1", "b1": "a2", "b2": "x9", "z": "added"}
    assert told(diff(new, old)) == {"a1": "0", "a2": "b1", "x9": "b2", "z": "removed"}


def test_many_moves_are_sorted_in_files(store, monkeypatch):
    """Nothing grows with the number of changes: the same comes of a sort that may hold next to nothing."""
    monkeypatch.setattr(changes_module, "SORT_BYTES", 2_000)
    rows = [sized(f"{n:04d}", f"md5:{n % 150:032x}", size=n % 7) for n in range(600)]
    old = store.manifest(paged(rows[:400], 50))
    new = store.manifest(paged([replace(row, path=f"to/{row.path}") for row in rows[200:]], 50))
    assert rows_of(diff(old, new)) == model(rows[:400], [replace(r, path=f"to/{r.path}") for r in rows[200:]])


def test_ten_changes_read_two_shards_each_at_most(store):
    """And each shard once, with moves or without: also where an entry that ended a shard came or went."""
    many = [reference(f"{n:06d}", md5=f"{n:032x}") for n in range(20_000)]
    with small_shards(cut_bits=7, group_bits=4, max_group_rows=64):
        old = store.manifest(paged(many, 4096))
        cut = next(n for n, row in enumerate(many) if n > 9_000 and is_cut(row.path))
        changed = dict(enumerate(many))
        for n in (10, 5_000, cut + 1):
            changed[n] = replace(many[n], size=77)
        for n in (2_000, cut, 15_000):
            del changed[n]
        for n in (11_111, 19_999):
            changed[n] = replace(changed[n], path=f"{n:06d}-moved")
        rows = [*changed.values(), reference("000000-new"), reference("zzz")]
        new = store.manifest(paged(in_order(rows), 4096))
        assert len(old.index.shards) > 100
        for moves in (True, False):
            store.opened.clear()
            changes = diff(old, new, moves=moves)
            assert len(rows_of(changes)) == (10 if moves else 12)
            assert changes.summary.shards_read == len(store.opened) == len(set(store.opened)) <= 2 * 12
            for side in (old, new):
                assert len({shard.key for shard in side.index.shards} & set(store.opened)) <= 2 * 10


def test_without_moves_changes_stream(store):
    """The first page is there before the last shard was read; with moves, all must be."""
    old, new = store.manifest(paged(ROWS, 50)), store.manifest(paged([replace(e, size=2) for e in ROWS], 50))
    for moves, read_all in ((False, False), (True, True)):
        store.opened.clear()
        next(iter(diff(old, new, moves=moves)))
        assert (len(store.opened) == len(old.index.shards) + len(new.index.shards)) == read_all


def test_a_summary_is_not_shown_before_all_was_counted(store):
    """A diff of which nothing was read must not look like one without changes."""
    old, new = store.manifest(paged(ROWS[:100], 50)), store.manifest(paged(ROWS, 50))
    changes = diff(old, new, moves=False)
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"call read\(\)"):
            _ = changes.summary
        next(iter(changes))
    assert changes.read() == changes.summary == diff(old, new).read()
    assert changes.summary.added == len(ROWS) - 100


def test_pages_have_the_columns_of_changes(store):
    for page in diff(None, store.manifest(paged(ROWS, 50))):
        assert page.schema.equals(CHANGES)


def test_one_changed_entry_reads_one_shard_of_each_side(store):
    old = store.manifest(paged(ROWS, 50))
    new = store.manifest(paged([*ROWS[:100], replace(ROWS[100], size=11), *ROWS[101:]], 50))
    store.opened.clear()
    changes = diff(old, new)
    assert [row["path"] for row in rows_of(changes)] == ["0100"]
    assert (changes.summary.modified, changes.summary.shards_read, len(store.opened)) == (1, 2, 2)


def test_equal_manifests_read_nothing(store):
    changes = diff(store.manifest(paged(ROWS, 50)), store.manifest(paged(ROWS, 7)))
    assert (rows_of(changes), changes.summary, store.opened) == ([], DiffSummary(), [])


def test_new_pins_alone_are_no_change(store):
    """Identical bytes written again: other shard files, no difference, nothing read."""
    old = store.manifest(paged(ROWS, 50))
    new = store.manifest(paged([replace(e, pin="version:2") for e in ROWS], 50))
    assert {s.key for s in old.index.shards}.isdisjoint(s.key for s in new.index.shards)
    changes = diff(old, new)
    assert (rows_of(changes), changes.summary.shards_read) == ([], 0)


def test_shards_that_moved_to_another_position_are_not_read(store):
    """Entries inserted in front shift all shards behind them by some numbers."""
    front = [reference(f"!{n:03d}") for n in range(60)]
    old, new = store.manifest(paged(ROWS, 50)), store.manifest(paged([*front, *ROWS], 50))
    changes = diff(old, new)
    assert [row["path"] for row in rows_of(changes)] == [e.path for e in front]
    shared = {s.manifest_digest for s in old.index.shards} & {s.manifest_digest for s in new.index.shards}
    assert len(shared) >= len(old.index.shards) - 1
    assert changes.summary.shards_read == len(old.index.shards) + len(new.index.shards) - 2 * len(shared)


def test_a_removed_cut_joins_two_shards(store):
    """The path that ended a shard is gone: one new shard stands against two old ones."""
    old = store.manifest(paged(ROWS, 50))
    cut = old.index.shards[4].last_path
    new = store.manifest(paged([e for e in ROWS if e.path != cut], 50))
    assert len(new.index.shards) == len(old.index.shards) - 1
    for changes, kind in ((diff(old, new), "removed"), (diff(new, old), "added")):
        assert [(row["path"], row["change"]) for row in rows_of(changes)] == [(cut, kind)]
        assert changes.summary.shards_read == 3


@pytest.fixture
def decoded(monkeypatch):
    """The number of rows in each page that was decoded."""
    rows = []

    def check_shape(page, origin):
        rows.append(page.num_rows)
        return page

    monkeypatch.setattr(shards, "check_shape", check_shape)
    return rows


CHANGED = [*ROWS[:100], replace(ROWS[100], size=11), *ROWS[101:]]
WITHOUT_ONE = [*ROWS[:100], *ROWS[101:]]


@pytest.mark.parametrize(("rows", "change"), [(CHANGED, "modified"), (WITHOUT_ONE, "removed")])
def test_row_groups_that_are_equal_are_not_decoded(store, decoded, rows, change):
    """Also behind an entry that came or went, which moves all rows after it."""
    with small_shards(cut_bits=30, group_bits=2, max_group_rows=100):
        changes = diff(store.manifest(paged(ROWS, 50)), store.manifest(paged(rows, 50)))
        assert [(row["path"], row["change"]) for row in rows_of(changes)] == [("0100", change)]
    assert 2 <= sum(decoded) <= 2 * 20


def test_row_groups_with_other_pins_are_not_decoded(store, decoded):
    with small_shards(cut_bits=30, group_bits=2, max_group_rows=100):
        other_pins = [replace(row, pin="version:2") for row in CHANGED]
        changes = diff(store.manifest(paged(ROWS, 50)), store.manifest(paged(other_pins, 50)))
        assert [row["path"] for row in rows_of(changes)] == ["0100"]
    assert 2 <= sum(decoded) <= 2 * 20


def test_a_changed_entry_is_checked(store):
    """Rows that are equal on both sides are not handed on, and need not be."""
    bad = replace(ROWS[100], path="0100/../x")
    old, new = store.manifest(paged(ROWS, 50)), store.manifest(paged([*ROWS[:101], bad, *ROWS[101:]], 50))
    with pytest.raises(
        FormatError, match=r"a manifest that is compared: path '0100/\.\./x' is not an entry path"
    ):
        list(diff(old, new))


def test_files_of_another_writer_are_compared_by_their_rows(store):
    """Equal rows are other bytes there: both are decoded."""
    old, new = store.manifest(paged(ROWS, 50)), store.manifest(paged(CHANGED, 50))
    for shard in old.index.shards:
        path = store.path("shards", shard.key)
        pq.write_table(pq.read_table(path), path, row_group_size=3, compression="gzip")
    assert [row["path"] for row in rows_of(diff(old, new))] == ["0100"]
    assert [row["path"] for row in rows_of(diff(new, old))] == ["0100"]


def test_a_shard_that_lies_against_many_is_compared_by_its_rows(store):
    """One large shard (of a manifest with hardly any entry that could end one) against dozens."""
    with small_shards(cut_bits=30):
        old = store.manifest(paged([row for row in ROWS if not is_cut(row.path)], 50))
    new = store.manifest(paged(CHANGED, 50))
    assert len(new.index.shards) > MAX_RIVALS
    found = {row["path"] for row in rows_of(diff(old, new)) if row["change"] == "modified"}
    assert found == {"0100"}


def test_a_prefix_reads_only_shards_that_may_hold_it(store):
    old = store.manifest(paged(ROWS, 50))
    new = store.manifest(paged([replace(e, size=11) for e in ROWS], 50))
    changes = diff(old, new, "0100")
    assert [row["path"] for row in rows_of(changes)] == ["0100"]
    assert changes.summary.shards_read == 2


def test_a_prefix_that_can_be_no_path_is_refused(store):
    with pytest.raises(InvalidInputError, match="path prefix"):
        diff(None, None, "a/")
