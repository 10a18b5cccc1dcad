"""The index: canonical bytes, totals that follow from shards, and no trust in what comes from outside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given

from refart.errors import FormatError
from refart.manifest.canonical import root_digest
from refart.manifest.index import MAX_COUNT, ManifestIndex, ShardInfo
from tests.manifest.support import FolderStore, reference, small_shards
from tests.strategies import paged, sorted_entries


@pytest.fixture(autouse=True)
def _small():
    with small_shards():
        yield


@pytest.fixture
def index(tmp_path) -> ManifestIndex:
    """An index of many shards."""
    rows = [reference(f"{n:03d}") for n in range(100)]
    return FolderStore(tmp_path).write(paged(rows, 10)).index


def altered(index: ManifestIndex, change) -> bytes:
    """The bytes of an index after `change` edited its document."""
    document = json.loads(index.to_json())
    change(document)
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@given(rows=sorted_entries())
def test_round_trip(tmp_path_factory, rows):
    index = FolderStore(tmp_path_factory.mktemp("store")).write(paged(rows, 4)).index
    data = index.to_json()
    assert ManifestIndex.from_json(data) == index
    assert index.address == hashlib.sha256(data).hexdigest()
    assert index.entry_count == len(rows)
    assert index.size_bytes == sum(e.size or 0 for e in rows)
    assert index.referenced_bytes == sum(e.size or 0 for e in rows if e.is_reference)
    assert index.managed_bytes == sum(e.size or 0 for e in rows if not e.is_reference)


def test_an_empty_manifest_has_digests():
    index = ManifestIndex(())
    assert ManifestIndex.from_json(index.to_json()) == index
    assert index.content_digest == root_digest("content", [])
    assert index.content_digest != index.manifest_digest


def test_no_bytes_of_an_index_can_change_unnoticed(index):
    """A flipped bit is an error, or at least another address."""
    data = index.to_json()
    for at in range(0, len(data), 29):
        damaged = bytearray(data)
        damaged[at] ^= 1
        try:
            assert ManifestIndex.from_json(bytes(damaged)).address != index.address
        except FormatError:
            continue


def test_a_newer_format_asks_for_a_newer_refart(index):
    with pytest.raises(FormatError, match="written by a newer refart"):
        ManifestIndex.from_json(altered(index, lambda d: d.update(format="refart.manifest/4")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"9" * 10_000,
        b"[" * 100_000,
        b'{"format":1}',
        b'{"format":"other/1"}',
        b'{"format":"refart.manifest/0"}',
        b'{"format":"refart.manifest/1","shards":{}}',
        b'{"format":"refart.manifest/1","shards":[1]}',
    ],
    ids=lambda data: data[:40].decode(errors="replace"),
)
def test_what_is_no_index_is_refused(data):
    with pytest.raises(FormatError):
        ManifestIndex.from_json(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(entry_count=99), "contradicts itself"),
        (lambda d: d.update(size_bytes=99), "contradicts itself"),
        (lambda d: d.update(content_digest="sha256:" + "0" * 64), "contradicts itself"),
        (lambda d: d.update(manifest_digest="sha256:" + "0" * 64), "contradicts itself"),
        (lambda d: d.update(extra=1), "contradicts itself"),
        (lambda d: d.pop("managed_bytes"), "contradicts itself"),
        (lambda d: d["shards"].pop(), "contradicts itself"),
        (lambda d: d["shards"].reverse(), "not in order"),
        (lambda d: d["shards"].insert(1, d["shards"][0]), "not in order"),
        (lambda d: d["shards"][1].update(first_path=d["shards"][0]["last_path"]), "not in order"),
        (lambda d: d["shards"][0].pop("rows"), "expected the fields"),
        (lambda d: d["shards"][0].update(other=1), "expected the fields"),
        (lambda d: d["shards"][0].update(rows=0), "cannot reach"),
        (lambda d: d["shards"][0].update(rows=1), "cannot reach"),
        (lambda d: d["shards"][0].update(rows=-1), "whole number"),
        (lambda d: d["shards"][0].update(rows=2.0), "whole number"),
        (lambda d: d["shards"][0].update(rows=True), "whole number"),
        (lambda d: d["shards"][0].update(size_bytes=MAX_COUNT + 1), "whole number"),
        (lambda d: d["shards"][0].update(size_bytes=0), "not the sum"),
        (lambda d: d["shards"][0].update(key="../../etc/passwd"), "64 hex digits"),
        (lambda d: d["shards"][0].update(key="A" * 64), "64 hex digits"),
        (lambda d: d["shards"][0].update(content_digest=None), "64 hex digits"),
        (lambda d: d["shards"][0].update(first_path="../x"), "first_path"),
        (lambda d: d["shards"][0].update(last_path=7), "last_path"),
        (lambda d: d["shards"][0].update(last_path=d["shards"][0]["last_path"] + "x"), "no shard may end"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(index, change, says):
    with pytest.raises(FormatError, match=says):
        ManifestIndex.from_json(altered(index, change))


def test_lone_surrogates_are_refused(index):
    data = index.to_json().replace(b'"first_path":"000"', b'"first_path":"\\ud800"')
    with pytest.raises(FormatError, match="not valid Unicode"):
        ManifestIndex.from_json(data)


def test_other_spellings_of_the_same_index_are_refused(index):
    """One manifest has one address."""
    for data in (
        json.dumps(json.loads(index.to_json())).encode(),
        index.to_json().decode().encode("utf-16"),
        b" " + index.to_json(),
        index.to_json().replace(b'"rows":', b'"rows":1,"rows":', 1),
    ):
        with pytest.raises(FormatError, match="contradicts itself"):
            ManifestIndex.from_json(data)


def test_totals_beyond_64_bits_are_refused():
    """A catalog could not keep them."""
    shard = ShardInfo("0" * 64, "0" * 64, "0" * 64, "a", "b", 2, 1, MAX_COUNT, MAX_COUNT, 0)
    with small_shards(cut_bits=1):
        first = next(name for name in map(str, range(100)) if _ends(name))
    shards = (replace(shard, first_path="!", last_path=first), replace(shard, first_path="a", last_path="b"))
    with small_shards(cut_bits=1), pytest.raises(FormatError, match="the sum of size_bytes is larger"):
        ManifestIndex.from_json(ManifestIndex(shards).to_json())


def _ends(path: str) -> bool:
    return hashlib.sha256(path.encode()).digest()[0] < 128


@given(rows=sorted_entries(max_size=40))
def test_an_index_of_the_first_format_is_read_and_kept(tmp_path_factory, rows):
    """It does not know its weak entries; nor does an index that takes over one of its shards unread."""
    with small_shards():
        index = FolderStore(tmp_path_factory.mktemp("store")).write(paged(rows, 6)).index
    document = json.loads(index.to_json())
    assert document["format"] == "refart.manifest/2"
    assert document["weak_count"] == index.weak_count
    del document["weak_count"]
    for shard in document["shards"]:
        del shard["weak_rows"]
    document["format"] = "refart.manifest/1"
    data = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    first = ManifestIndex.from_json(data)
    assert first.weak_count is None
    assert first.to_json() == data
    assert (first.manifest_digest, first.content_digest) == (index.manifest_digest, index.content_digest)
    if first.shards:
        mixed = ManifestIndex((first.shards[0], *index.shards[1:]))
        assert ManifestIndex.from_json(mixed.to_json()).weak_count is None
