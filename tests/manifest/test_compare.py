"""Differences of two manifests, against a model of dictionaries; only shards that differ are read."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from refart.errors import FormatError, InvalidInputError
from refart.manifest import shards
from refart.manifest.canonical import is_cut
from refart.manifest.compare import CHANGES, MAX_RIVALS, DiffSummary, diff
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


def model(old, new, prefix=None):
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
        row = {"path": path, "change": change}
        for name in ("size", "content_id", "uri", "pin"):
            row[f"old_{name}"], row[f"new_{name}"] = (getattr(e, name, None) for e in (a, b))
        changes.append(row)
    return changes


@st.composite
def pairs(draw):
    """Two manifests that share some entries and differ a little in others."""
    old = {e.path: e for e in draw(sorted_entries(few_paths))}
    new = {path: e for path, e in old.items() if draw(st.booleans())}
    new |= {e.path: e for e in draw(st.lists(entries(few_paths), max_size=6))}
    for path in list(new):
        if new[path].is_reference and draw(st.booleans()):
            new[path] = replace(new[path], uri=draw(st.sampled_from([new[path].uri, "s3://elsewhere/x"])))
    return in_order(old.values()), in_order(new.values())


@given(pair=pairs(), prefix=st.none() | few_paths)
def test_diff_is_that_of_dictionaries(tmp_path_factory, pair, prefix):
    old, new = pair
    store = FolderStore(tmp_path_factory.mktemp("store"))
    changes = diff(store.manifest(paged(old, 5)), store.manifest(paged(new, 5)), prefix)
    expected = model(old, new, prefix)
    assert rows_of(changes) == expected

    def total(change, column):
        return sum(row[column] or 0 for row in expected if row["change"] == change)

    counts = [row["change"] for row in expected]
    assert changes.summary == DiffSummary(
        added=counts.count("added"),
        removed=counts.count("removed"),
        modified=counts.count("modified"),
        relocated=counts.count("relocated"),
        added_bytes=total("added", "new_size"),
        removed_bytes=total("removed", "old_size"),
        old_modified_bytes=total("modified", "old_size"),
        new_modified_bytes=total("modified", "new_size"),
        shards_read=changes.summary.shards_read,
    )


@given(rows=sorted_entries(few_paths))
def test_against_nothing_every_entry_is_a_change(tmp_path_factory, rows):
    manifest = FolderStore(tmp_path_factory.mktemp("store")).manifest(paged(rows, 5))
    assert rows_of(diff(None, manifest)) == model([], rows)
    assert rows_of(diff(manifest, None)) == model(rows, [])
    assert rows_of(diff(None, None)) == rows_of(diff(manifest, manifest)) == []


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
