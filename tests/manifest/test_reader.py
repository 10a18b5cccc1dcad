"""Reading all entries, those below a prefix, or one; and refusing what rotted."""

from __future__ import annotations

import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from refart.entries import PAGE_ROWS, SCHEMA, Entry
from refart.errors import FormatError, InvalidInputError, NotFoundError
from refart.manifest import reader
from refart.manifest.index import ManifestIndex
from refart.manifest.reader import Manifest
from tests.manifest.support import FolderStore, listed, reference, small_shards
from tests.strategies import few_paths, paged, sorted_entries


@pytest.fixture(autouse=True)
def _small():
    with small_shards():
        yield


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path)


ROWS = [reference(f"{folder}/{n:03d}") for folder in ("a", "b", "c") for n in range(80)]


def below(rows, prefix):
    return [e for e in rows if e.path == prefix or e.path.startswith(f"{prefix}/")]


@given(rows=sorted_entries(few_paths), prefix=few_paths, in_place=st.booleans())
def test_a_prefix_covers_whole_components(tmp_path_factory, rows, prefix, in_place):
    """`a` is the entry `a` and what is below `a/`; `a-` and `a0`, its neighbours in order, are not."""
    store = FolderStore(tmp_path_factory.mktemp("store"), in_place=in_place)
    assert listed(store.manifest(paged(rows, 5)).pages(prefix)) == below(rows, prefix)


@given(rows=sorted_entries(few_paths), path=few_paths, in_place=st.booleans())
def test_get_is_a_dictionary(tmp_path_factory, rows, path, in_place):
    store = FolderStore(tmp_path_factory.mktemp("store"), in_place=in_place)
    manifest = store.manifest(paged(rows, 5))
    model = {e.path: e for e in rows}
    assert manifest.get(path) == model.get(path)
    assert [manifest.get(e.path) for e in rows] == rows


def test_pages_have_the_schema_and_its_bound(store):
    for page in store.manifest(paged(ROWS, 50)).pages():
        assert page.schema.equals(SCHEMA)
        assert 0 < page.num_rows <= PAGE_ROWS


def test_a_prefix_opens_only_shards_that_may_hold_it(store):
    manifest = store.manifest(paged(ROWS, 50))
    store.opened.clear()
    assert listed(manifest.pages("b")) == below(ROWS, "b")
    expected = [s.key for s in manifest.index.shards if s.first_path < "b0" and s.last_path >= "b/"]
    assert store.opened == expected
    assert len(expected) < len(manifest.index.shards) / 2


def test_get_opens_one_shard_and_then_none(store):
    """The row group around the last lookups is kept."""
    manifest = store.manifest(paged(ROWS, 50))
    store.opened.clear()
    assert manifest.get("b/040") == reference("b/040")
    assert manifest.get("b/040") == reference("b/040")
    assert len(store.opened) == 1


def test_shards_without_statistics_are_readable(store):
    """Another writer need not give them: every row group is then looked at."""
    manifest = store.manifest(paged(ROWS, 50))
    for shard in manifest.index.shards:
        path = store.path("shards", shard.key)
        pq.write_table(pq.read_table(path), path, row_group_size=3, write_statistics=False)
    assert [manifest.get(e.path) for e in ROWS] == ROWS
    assert manifest.get("b/0405") is None
    assert listed(manifest.pages("b")) == below(ROWS, "b")
    assert listed(manifest.pages()) == ROWS


def test_lookups_keep_few_rows(store, monkeypatch):
    monkeypatch.setattr(reader, "CACHED_ROWS", 10)
    manifest = store.manifest(paged(ROWS, 50))
    assert [manifest.get(e.path) for e in ROWS] == ROWS
    assert 5 <= sum(page.num_rows for page in manifest._cached.values()) <= 10


def test_a_lookup_reads_one_row_group(store):
    with small_shards(cut_bits=30):
        manifest = store.manifest(paged(ROWS, 50))
        assert manifest.get("b/040") == reference("b/040")
        assert sum(page.num_rows for page in manifest._cached.values()) <= 4


def test_get_outside_of_all_shards_opens_nothing(store):
    manifest = store.manifest(paged(ROWS, 50))
    store.opened.clear()
    assert (manifest.get("A"), manifest.get("z"), manifest.get("../x"), manifest.get("")) == (None,) * 4
    assert store.opened == []


@pytest.mark.parametrize("prefix", ["", "/", "a/", "../a", "a//b"])
def test_a_prefix_that_can_be_no_path_is_refused(store, prefix):
    """At once, not when the first page is taken."""
    with pytest.raises(InvalidInputError, match="path prefix"):
        store.manifest(paged(ROWS, 50)).pages(prefix)


def test_an_empty_manifest_reads_as_nothing(store):
    manifest = store.manifest([])
    assert (list(manifest.pages()), list(manifest.pages("a")), manifest.get("a")) == ([], [], None)


def test_an_index_is_compared_with_its_address(store):
    built = store.write(paged(ROWS, 50))
    path = store.path("manifests", built.index.address)
    path.write_bytes(ManifestIndex(built.index.shards[:-1]).to_json())
    with pytest.raises(FormatError, match=f"manifest {built.index.address} is damaged"):
        Manifest.open(store, built.index.address)


def test_a_missing_index_is_not_found(store):
    with pytest.raises(NotFoundError):
        Manifest.open(store, "0" * 64)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_missing_shard_is_named(tmp_path, in_place):
    store = FolderStore(tmp_path, in_place=in_place)
    manifest = store.manifest(paged(ROWS, 50))
    key = manifest.index.shards[3].key
    store.path("shards", key).unlink()
    for read in (lambda: list(manifest.pages()), lambda: manifest.get(manifest.index.shards[3].first_path)):
        with pytest.raises(NotFoundError, match=key):
            read()


def test_a_truncated_shard_is_named(store):
    manifest = store.manifest(paged(ROWS, 50))
    key = manifest.index.shards[3].key
    whole = store.path("shards", key).read_bytes()
    store.path("shards", key).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=f"shard {key} is damaged"):
        list(manifest.pages())


def test_another_shard_under_the_key_is_noticed(store):
    """A sound file with sound rows, only not the logged ones: before its last page is given."""
    manifest = store.manifest(paged(ROWS, 50))
    shard = manifest.index.shards[3]
    rows = listed(manifest.shard_pages(shard))
    rows[-1] = Entry(rows[-1].path, 2, rows[-1].content_id, rows[-1].uri, rows[-1].pin)
    other = FolderStore(store.root / "other")
    with small_shards(cut_bits=30):
        other_key = other.write(paged(rows, 50)).index.shards[0].key
    other.path("shards", other_key).replace(store.path("shards", shard.key))
    read = []
    with pytest.raises(FormatError, match=f"shard {shard.key} is damaged: its rows are not those"):
        read.extend(manifest.shard_pages(shard))
    assert rows[-1] not in listed(read)


def test_unsorted_shards_are_refused(store, monkeypatch):
    """Even if the index agrees with them: lookups rely on the order."""
    monkeypatch.setattr("refart.manifest.canonical.first_out_of_order", lambda paths, after: None)
    with small_shards(cut_bits=30, group_bits=30):
        manifest = store.manifest(paged([reference("a"), reference("c"), reference("b"), reference("d")], 9))
        for prefix in (None, "c"):
            with pytest.raises(FormatError, match="'b' does not come after"):
                list(manifest.pages(prefix))
