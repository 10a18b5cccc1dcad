"""Cutting a stream of pages into shards, and taking over those that nothing changed."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from refart.entries import Entry, page_of
from refart.errors import InvalidInputError
from refart.manifest import canonical
from refart.manifest.canonical import is_cut
from refart.manifest.index import MAX_COUNT, KeptShard
from refart.manifest.writer import write_manifest
from tests.manifest.support import FolderStore, listed, reference, small_shards
from tests.strategies import paged, sorted_entries


@pytest.fixture(autouse=True)
def _small():
    with small_shards():
        yield


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def kept(manifest, shard):
    return KeptShard(shard, lambda: manifest.shard_pages(shard))


@given(rows=sorted_entries(), one=st.integers(1, 9), other=st.integers(1, 9))
def test_pages_are_not_part_of_the_result(tmp_path_factory, rows, one, other):
    """The same rows in other pages make the same index, to the byte."""
    store = FolderStore(tmp_path_factory.mktemp("store"))
    a, b = store.write(paged(rows, one)), store.write(paged(rows, other))
    assert a.index.to_json() == b.index.to_json()
    assert listed(store.manifest(paged(rows, one)).pages()) == rows


@given(rows=sorted_entries(max_size=60))
def test_every_shard_ends_at_the_first_cut(tmp_path_factory, rows):
    index = FolderStore(tmp_path_factory.mktemp("store")).write(paged(rows, 7)).index
    ends = [e.path for e in rows if is_cut(e.path)]
    if rows and not is_cut(rows[-1].path):
        ends.append(rows[-1].path)
    assert [shard.last_path for shard in index.shards] == ends


def test_overwriting_one_entry_makes_one_new_shard(store):
    """The others keep their keys, so the store already has them."""
    rows = [reference(f"{n:04d}") for n in range(300)]
    before = store.write(paged(rows, 50)).index
    rows[123] = replace(rows[123], content_id="md5:" + "1" * 32)
    after = store.write(paged(rows, 50)).index
    assert len(after.shards) == len(before.shards) > 20
    assert len({s.key for s in after.shards} - {s.key for s in before.shards}) == 1


@given(
    base=sorted_entries(max_size=60),
    extra=sorted_entries(max_size=5),
    keep=st.lists(st.booleans(), max_size=60),
)
def test_kept_shards_give_what_their_rows_would(tmp_path_factory, base, extra, keep):
    """Any mix of kept shards and pages ends in the index that plain pages end in."""
    store = FolderStore(tmp_path_factory.mktemp("store"))
    manifest = store.manifest(paged(base, 8))
    paths = {e.path for e in base}
    extra = [e for e in extra if e.path not in paths]
    stream, rest = [], list(extra)
    for number, shard in enumerate(manifest.index.shards):
        before = [e for e in rest if e.path < shard.first_path]
        inside = [e for e in rest if shard.first_path < e.path < shard.last_path]
        rest = [e for e in rest if e.path > shard.last_path]
        stream += paged(before, 3)
        rows = listed(manifest.shard_pages(shard))
        if inside or (number < len(keep) and not keep[number]):
            stream += paged(sorted(rows + inside, key=lambda e: e.path), 3)
        else:
            stream.append(kept(manifest, shard))
    stream += paged(rest, 3)
    together = sorted(base + extra, key=lambda e: e.path)
    assert store.write(stream).index == store.write(paged(together, 8)).index


def test_a_kept_shard_is_not_read(store):
    rows = [reference(f"{n:04d}") for n in range(100)]
    manifest = store.manifest(paged(rows, 50))
    *head, last = manifest.index.shards
    assert not is_cut(last.last_path)
    store.opened.clear()
    built = store.write(kept(manifest, shard) for shard in [*head, last])
    assert (built.index, built.new_shards, store.opened) == (manifest.index, (), [])


def test_a_last_shard_is_read_once_something_follows(store):
    """It ended with the stream and not at a cut: rows behind it belong to it."""
    rows = [reference(f"{n:04d}") for n in range(100)]
    manifest = store.manifest(paged(rows, 50))
    more = [reference("9999")]
    built = store.write([*(kept(manifest, s) for s in manifest.index.shards), page_of([]), page_of(more)])
    assert built.index == store.write(paged(rows + more, 50)).index
    assert store.opened == [manifest.index.shards[-1].key]


def test_empty_pages_behind_a_last_shard_do_not_matter(store):
    manifest = store.manifest([page_of([reference("b"), reference("c")])])
    built = store.write([*(kept(manifest, s) for s in manifest.index.shards), page_of([])])
    assert (built.index, built.new_shards) == (manifest.index, ())


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"], ["a", "c", "b"]])
@pytest.mark.parametrize("page_rows", [1, 3])
def test_unsorted_and_repeated_paths_are_refused(tmp_path, paths, page_rows):
    pages = paged([reference(path) for path in paths], page_rows)
    with pytest.raises(ValueError, match=f"'{paths[-1]}' does not come after"):
        write_manifest(pages, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kept_shard_that_overlaps_is_refused(store, tmp_path):
    manifest = store.manifest([page_of([reference("b"), reference("c")])])
    cut = next(name for name in map(str, range(1000)) if is_cut(f"x{name}"))
    with pytest.raises(ValueError, match="'b' does not come after"):
        write_manifest([page_of([reference(f"x{cut}")]), kept(manifest, manifest.index.shards[0])], tmp_path)


def test_an_error_of_the_stream_leaves_no_file(tmp_path):
    def pages():
        yield from paged([reference(f"{n:04d}") for n in range(60)], 9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(pages(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_no_catalog_can_sum_are_refused(tmp_path):
    rows = [Entry(path, MAX_COUNT, "none", f"s3://b/{path}") for path in ("a", "b")]
    with pytest.raises(InvalidInputError, match="add up to 18,446,744,073,709,551,614 bytes"):
        write_manifest([page_of(rows)], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page_rows", [1, 3, 40])
def test_pages_are_joined_before_they_are_hashed(store, monkeypatch, page_rows):
    """Each call costs as much as hundreds of rows."""
    hashed = []
    monkeypatch.setattr(
        canonical,
        "ends",
        lambda paths, bits, found=canonical.ends: hashed.append(len(paths)) or found(paths, bits),
    )
    store.write(paged([reference(f"{n:04d}") for n in range(40)], page_rows))
    assert hashed == [40]
