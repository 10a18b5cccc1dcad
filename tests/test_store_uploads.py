"""What was sent is what is stored: garbled uploads are errors, and leave nothing under the key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refart.errors import ConflictError, StoreError
from refart.store import Store, objects
from refart.store.drivers import confirm_on_gcs
from tests.faults import FaultProxy
from tests.servers import Azurite, FakeGCS, SeaweedFS
from tests.stores import Place, key_of, place_on, put

MARK = b"these bytes are garbled on their way"
PART_BYTES = 5 << 20
SIZES = pytest.mark.parametrize("size", [100, PART_BYTES + 100], ids=["one request", "parts"])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PART_BYTES", PART_BYTES)


@pytest.fixture(params=["seaweed", "fake_gcs", "azurite"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def place(server: Any, request: pytest.FixtureRequest) -> Place:
    return place_on({SeaweedFS: "seaweed", FakeGCS: "fake_gcs", Azurite: "azurite"}[type(server)], request)


@pytest.fixture
def proxy(server: Any) -> Iterator[FaultProxy]:
    proxy = FaultProxy(server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def behind(server: Any, place: Place, proxy: FaultProxy) -> Store:
    """The store, as it is seen through the proxy."""
    place.open()
    options = dict(place.options)
    if isinstance(server, Azurite):
        account = server.url.rpartition("/")[2]
        url = server.connection_string.replace(server.url, f"{proxy.url}/{account}")
        return Place(place.url, {**options, "connection_string": url}).open()
    return Place(place.url, {**options, "endpoint_url": proxy.url}).open()


def marked(size: int) -> bytes:
    return os.urandom(size - 50) + MARK + os.urandom(50 - len(MARK))


@SIZES
def test_bytes_that_arrive_garbled_are_not_stored(
    place: Place, behind: Store, proxy: FaultProxy, tmp_path: Path, size: int
) -> None:
    data = marked(size)
    proxy.add("*", garble_sent=MARK)
    with pytest.raises(StoreError, match=f"{key_of(data)}"):
        put(behind, tmp_path / "f", data)
    assert place.names() == {"refart-store.json"}
    assert put(place.open(), tmp_path / "f", data), "the next try meets nothing"
    assert place.open().read("blobs", key_of(data)) == data


@SIZES
def test_bytes_that_arrive_well_are_stored_through_the_same_proxy(
    place: Place, behind: Store, tmp_path: Path, size: int
) -> None:
    data = marked(size)
    assert put(behind, tmp_path / "f", data)
    assert place.open().read("blobs", key_of(data)) == data


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_file_that_is_a_multiple_of_the_part_size(place: Place, tmp_path: Path, parts: int) -> None:
    data = os.urandom(parts * PART_BYTES)
    store = place.open()
    assert put(store, tmp_path / "f", data)
    assert b"".join(store.chunks("blobs", key_of(data))) == data


def test_a_large_file_that_changed_is_never_completed(place: Place, tmp_path: Path) -> None:
    added = key_of(b"a" * (PART_BYTES + 7))
    (tmp_path / "f").write_bytes(b"b" * (PART_BYTES + 7))
    with pytest.raises(ConflictError, match="changed since it was added"):
        place.open().put_file("blobs", added, tmp_path / "f")
    assert place.names() == {"refart-store.json"}


def test_a_size_that_is_not_what_was_sent_is_an_error(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(PART_BYTES + 7)
    store = place.open()
    sizes = iter([None, len(data) - 1])
    monkeypatch.setattr(store, "_size", lambda name: next(sizes))
    with pytest.raises(StoreError, match=r"did not arrive whole.*expected 5,242,887 bytes, found 5242886"):
        put(store, tmp_path / "f", data)


def test_only_the_generation_that_is_wrong_is_removed(fake_gcs: FakeGCS) -> None:
    """Not what another writer put there since. fake-gcs-server would: so it is looked at what it is asked."""
    bucket = fake_gcs.bucket(versioned=False)
    generation = bucket.put("k", b"wrong")
    proxy = FaultProxy(fake_gcs.url)
    fs, root = Place(bucket.uri, {**fake_gcs.storage_options, "endpoint_url": proxy.url}).fs()
    with pytest.raises(StoreError, match="did not arrive as it was sent"):
        confirm_on_gcs(fs, f"{root}/k", fs.info(f"{root}/k"), "another MD5")
    proxy.close()
    assert proxy.seen[-1].path.endswith("/o/k")
    assert proxy.seen[-1].query["generation"] == generation
