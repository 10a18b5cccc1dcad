"""Objects are created once: racing writers, servers that ignore the condition, and single writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from refart.errors import InvalidInputError, PermissionDeniedError
from refart.store import objects
from refart.testing import S3Server
from refart.workspace import Workspace
from tests.faults import FaultProxy, s3_error
from tests.stores import SERVERS, Place, key_of, place_on, put

WRITERS = 8
# SeaweedFS looks before it completes an upload, without a lock; fake-gcs-server ignores ifGenerationMatch on it.
ATOMIC_IN_PARTS = {"azurite"}


class TestRaces:
    @pytest.mark.parametrize("server", SERVERS)
    @pytest.mark.parametrize("size", [1_000, (5 << 20) + 7], ids=["one request", "parts"])
    def test_one_of_many_writers_creates_an_object(
        self,
        server: str,
        size: int,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The others are told that it is there, whatever the server answered them."""
        monkeypatch.setattr(objects, "PART_BYTES", 5 << 20)
        place = place_on(server, request)
        data = os.urandom(size)
        (tmp_path / "f").write_bytes(data)
        stores = [place.open() for _ in range(WRITERS)]
        start = Barrier(WRITERS)

        def write(number: int) -> bool:
            start.wait(60)
            return stores[number].put_file("blobs", key_of(data), tmp_path / "f")

        with ThreadPoolExecutor(WRITERS) as pool:
            created = list(pool.map(write, range(WRITERS)))
        if size == 1_000 or server in ATOMIC_IN_PARTS:
            assert created.count(True) <= 1, "none where the answer to the one that did got lost"
        assert stores[0].read("blobs", key_of(data)) == data
        assert [found.size for found in stores[0].keys("blobs")] == [size]


class TestTrial:
    """Of a server before which a proxy drops the condition, or answers in its place."""

    @pytest.fixture
    def proxy(self, s3_server: S3Server) -> Iterator[FaultProxy]:
        proxy = FaultProxy(s3_server.url)
        yield proxy
        proxy.close()

    @pytest.fixture
    def place(self, s3: Any, proxy: FaultProxy) -> Place:
        """On moto, which does not mind that the headers that were signed are not those that arrive."""
        s3.create_bucket(Bucket="store")
        return Place("s3://store/here", {"endpoint_url": proxy.url})

    def test_a_server_that_ignores_the_condition_is_refused(self, place: Place, proxy: FaultProxy) -> None:
        proxy.add("PutObject", ignored=("if-none-match",))
        with pytest.raises(InvalidInputError, match=r"/here ignores exclusive creation.*single_writer"):
            place.open()
        assert place.names() == set()

    def test_a_server_that_knows_no_condition_is_refused(self, place: Place, proxy: FaultProxy) -> None:
        proxy.add("PutObject", **s3_error(501, "NotImplemented", "A header you provided"))
        with pytest.raises(InvalidInputError, match="ignores exclusive creation"):
            place.open()

    def test_a_trial_that_fails_is_no_answer(self, place: Place, proxy: FaultProxy) -> None:
        proxy.add("PutObject", **s3_error(403, "AccessDenied", "Access Denied"))
        with pytest.raises(PermissionDeniedError, match="check the credentials"):
            place.open(single_writer=True)

    def test_a_single_writer_may_use_it(self, place: Place, proxy: FaultProxy, tmp_path: Path) -> None:
        """Every process that opens it must know, and no object is sent twice."""
        proxy.add("PutObject", ignored=("if-none-match",))
        store = place.open(single_writer=True)
        assert json.loads(store._read("refart-store.json")) == {"format": 1, "exclusive_create": False}
        assert put(store, tmp_path / "f", b"bytes")
        proxy.requests.clear()
        assert not put(place.open(single_writer=True), tmp_path / "f", b"bytes")
        assert proxy.requests.count("PutObject") == 0
        with pytest.raises(InvalidInputError, match="ignores exclusive creation"):
            place.open()

    def test_an_object_that_is_damaged_is_replaced_by_a_single_writer(
        self, place: Place, proxy: FaultProxy, tmp_path: Path
    ) -> None:
        proxy.add("PutObject", ignored=("if-none-match",))
        store = place.open(single_writer=True)
        store.put_bytes("blobs", key_of(b"bytes"), b"byt")
        assert put(store, tmp_path / "f", b"bytes")
        assert store.read("blobs", key_of(b"bytes")) == b"bytes"

    def test_an_answer_that_got_lost_does_not_fail_it(self, place: Place, proxy: FaultProxy) -> None:
        """The driver tries again, and meets what it wrote."""
        proxy.add("PutObject", times=1, lost=True)
        assert place.open().exclusive
        assert place.names() == {"refart-store.json"}

    def test_a_store_that_exists_is_not_tried_again(self, place: Place, proxy: FaultProxy) -> None:
        place.open()
        proxy.requests.clear()
        place.open()
        assert proxy.requests.count("PutObject", "DeleteObject", "DeleteObjects") == 0

    def test_a_workspace_says_so_by_its_configuration(
        self,
        place: Place,
        proxy: FaultProxy,
        refart_workspace: Workspace,
        postgres_url: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """A store that was refused is not recorded: another one could have been named."""
        proxy.add("PutObject", ignored=("if-none-match",))
        config = Path(os.environ["REFART_CONFIG"])
        config.write_text(f'[storage_options."{place.url}"]\nendpoint_url = "{proxy.url}"\n')
        with pytest.raises(InvalidInputError, match="ignores exclusive creation"):
            Workspace.open(postgres_url, store=place.url)
        with pytest.raises(InvalidInputError, match="has no store yet"):
            Workspace.open(postgres_url)
        monkeypatch.setenv("REFART_SINGLE_WRITER", "true")
        with Workspace.open(postgres_url, store=place.url) as workspace:
            assert not workspace._context.store.exclusive
        monkeypatch.delenv("REFART_SINGLE_WRITER")
        with pytest.raises(InvalidInputError, match="ignores exclusive creation"):
            Workspace.open(postgres_url)
