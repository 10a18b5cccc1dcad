"""The store: what is put comes back, once, whole or not at all, in a folder as behind a driver."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refart.artifact import Artifact
from refart.errors import (
    ChecksumError,
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
)
from refart.store import KINDS, Store, open_store
from refart.workspace import Workspace
from tests.ops.support import tree, write
from tests.stores import PLACES, Place, key_of, place_on, put


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Place:
    return place_on(request.param, request)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


class TestEveryStore:
    @pytest.mark.parametrize("size", [0, 1, 1_000, 3 << 20], ids=["empty", "1 B", "1 kB", "3 MiB"])
    def test_what_is_put_comes_back(self, store: Store, tmp_path: Path, size: int) -> None:
        data = os.urandom(size)
        key = key_of(data)
        assert not store.has("blobs", key)
        assert put(store, tmp_path / "f", data)
        assert store.has("blobs", key)
        assert store.size("blobs", key) == size
        assert store.read("blobs", key) == data
        assert b"".join(store.chunks("blobs", key)) == data
        with store.open("blobs", key) as stream:
            assert stream.read() == data
            assert stream.seek(size // 2) == size // 2
            assert stream.read(100) == data[size // 2 : size // 2 + 100]

    def test_the_same_bytes_are_stored_once(self, store: Store, tmp_path: Path) -> None:
        assert put(store, tmp_path / "f", b"same")
        assert not put(store, tmp_path / "g", b"same")
        assert [found.key for found in store.keys("blobs")] == [key_of(b"same")]

    @pytest.mark.parametrize("kind", KINDS)
    def test_bytes_of_every_kind(self, store: Store, kind: str) -> None:
        key = key_of(kind.encode())
        assert store.put_bytes(kind, key, b"first")
        assert not store.put_bytes(kind, key, b"first")
        assert store.read(kind, key) == b"first"
        assert [other for other in KINDS if store.has(other, key)] == [kind]

    def test_a_key_of_other_than_the_bytes(self, store: Store, tmp_path: Path) -> None:
        """Shards are named by a digest of their rows: what is there first stays."""
        key = key_of(b"rows")
        (tmp_path / "one").write_bytes(b"rows, written by one version of Parquet")
        (tmp_path / "two").write_bytes(b"rows, by another")
        assert store.put_file("shards", key, tmp_path / "one", sha256=False)
        assert not store.put_file("shards", key, tmp_path / "two", sha256=False)
        assert store.read("shards", key) == b"rows, written by one version of Parquet"

    def test_listing(self, store: Store) -> None:
        before_s = time.time()
        sizes = {key_of(b"%d" % n): n for n in range(20)}
        for key, size in sizes.items():
            store.put_bytes("shards", key, b"x" * size)
        found = list(store.keys("shards"))
        assert {item.key: item.size for item in found} == sizes
        assert len(found) == 20
        assert all(abs(item.modified_s - before_s) < 3_600 for item in found)
        assert list(store.keys("blobs")) == []

    def test_what_is_missing(self, store: Store) -> None:
        key = key_of(b"missing")
        uses: list[Callable[[], object]] = [
            lambda: store.read("blobs", key),
            lambda: store.size("blobs", key),
            lambda: store.open("blobs", key).read(),
            lambda: list(store.chunks("blobs", key)),
        ]
        for use in uses:
            with pytest.raises(NotFoundError, match=f"blobs/{key[:2]}/{key} is not in the store at "):
                use()

    def test_only_hex_keys_are_accepted(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "f").write_bytes(b"x")
        uses: list[Callable[[str], object]] = [
            lambda key: store.has("blobs", key),
            lambda key: store.read("blobs", key),
            lambda key: store.open("blobs", key),
            lambda key: store.local_path("blobs", key),
            lambda key: store.put_bytes("blobs", key, b"x"),
            lambda key: store.put_file("blobs", key, tmp_path / "f"),
        ]
        for use in uses:
            for key in (
                "",
                "../../etc/passwd",
                "a" * 63,
                "A" * 64,
                "a" * 63 + "/",
                "a" * 64 + "\n",
                "\0" * 64,
            ):
                with pytest.raises(InvalidInputError, match="64 lower-case hex digits"):
                    use(key)

    def test_only_known_kinds_are_accepted(self, store: Store) -> None:
        with pytest.raises(InvalidInputError, match=r"'\.\./x' is none of blobs, shards, manifests"):
            store.put_bytes("../x", key_of(b"x"), b"x")

    @pytest.mark.parametrize("size", [6, 3 << 20], ids=["small", "large"])
    def test_a_file_that_changed_since_it_was_added(self, store: Store, tmp_path: Path, size: int) -> None:
        added = b"a" * size
        (tmp_path / "f").write_bytes(b"b" * size)
        with pytest.raises(ConflictError, match=rf"f' changed since it was added.*{key_of(added)}"):
            store.put_file("blobs", key_of(added), tmp_path / "f")
        assert not store.has("blobs", key_of(added))
        assert list(store.keys("blobs")) == []

    def test_a_file_that_is_gone_since_it_was_added(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(ConflictError, match=r"f' is gone since it was added"):
            store.put_file("blobs", key_of(b"x"), tmp_path / "f")

    def test_a_damaged_object_is_replaced_when_its_bytes_are_put_again(
        self, store: Store, tmp_path: Path
    ) -> None:
        data = b"the right bytes"
        store.put_bytes("blobs", key_of(data), b"cut sh")
        assert put(store, tmp_path / "f", data)
        assert store.read("blobs", key_of(data)) == data

    def test_threads_that_put_the_same_bytes(self, store: Store, tmp_path: Path) -> None:
        data = os.urandom(2 << 20)
        (tmp_path / "f").write_bytes(data)
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda _: store.put_file("blobs", key_of(data), tmp_path / "f"), range(6)))
        assert any(made)
        assert store.read("blobs", key_of(data)) == data
        assert len(list(store.keys("blobs"))) == 1

    def test_what_others_write_is_seen_at_once(self, place: Place, store: Store, tmp_path: Path) -> None:
        """A listing that a driver kept would hide it."""
        assert list(store.keys("blobs")) == []
        assert not store.has("blobs", key_of(b"x"))
        put(place.open(), tmp_path / "f", b"x")
        assert store.has("blobs", key_of(b"x"))
        assert len(list(store.keys("blobs"))) == 1

    def test_a_store_is_found_again(self, place: Place, store: Store) -> None:
        store.put_bytes("blobs", key_of(b"x"), b"x")
        again = place.open(create=False)
        assert again.read("blobs", key_of(b"x")) == b"x"

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents=st.lists(st.binary(max_size=100), max_size=8))
    def test_any_set_of_contents_is_kept_each_once(self, tmp_path: Path, contents: list[bytes]) -> None:
        for store in (open_store(str(tmp_path / uuid.uuid4().hex)), open_store(f"memory://{uuid.uuid4()}")):
            for data in contents:
                put(store, tmp_path / "f", data)
            assert {store.read("blobs", found.key) for found in store.keys("blobs")} == set(contents)


class TestCommits:
    """The same commit lies the same way everywhere, and what rots there is never handed over."""

    @pytest.fixture
    def workspace(self, place: Place, refart_workspace: Workspace) -> Workspace:
        return Workspace(replace(refart_workspace._context, store=place.open()))

    @pytest.fixture
    def logged(self, workspace: Workspace, tmp_path: Path) -> Artifact:
        return self.log(workspace, tmp_path)

    def log(self, workspace: Workspace, tmp_path: Path) -> Artifact:
        write(tmp_path / "files", {"a": b"bytes of a", "deep/b": b"", "large": b"large" * 300_000})
        with workspace.init() as run:
            artifact = workspace.draft("data")
            artifact.add_dir(tmp_path / "files", "managed")
            artifact.add_reference(tmp_path / "files", "referenced")
            return run.log_artifact(artifact)

    def test_the_same_commit_gives_the_same_objects(
        self, place: Place, logged: Artifact, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        url = str(tmp_path_factory.mktemp("other"))
        with Workspace.open(url) as other:
            reference = self.log(other, tmp_path)
        assert (logged.digest, logged.version) == (reference.digest, "v0")
        assert place.names() == Place(f"{url}/store").names()
        assert len(place.names()) == 6

    def test_what_was_logged_is_read_back(self, logged: Artifact, tmp_path: Path) -> None:
        root = Path(logged.download(tmp_path / "root"))
        assert tree(root / "managed") == tree(root / "referenced") == tree(tmp_path / "files")
        with logged.open("managed/large") as file:
            file.seek(5_000)
            assert file.read(10) == b"largelarge"

    def test_a_blob_that_rotted_is_not_handed_over(
        self, place: Place, logged: Artifact, tmp_path: Path
    ) -> None:
        key = key_of(b"bytes of a")
        place.write(f"blobs/{key[:2]}/{key}", b"bytes of b")
        with pytest.raises(ChecksumError, match="managed/a"):
            logged.download(tmp_path / "root")
        with logged.open("managed/a") as file, pytest.raises(ChecksumError, match="managed/a"):
            file.read()

    def test_a_manifest_that_rotted_is_not_read(
        self, place: Place, workspace: Workspace, logged: Artifact
    ) -> None:
        [name] = [name for name in place.names() if name.startswith("manifests/")]
        place.write(name, b"{}")
        with pytest.raises(FormatError, match="is damaged"):
            list(workspace.artifact("data:v0").entries())

    def test_a_shard_that_rotted_is_not_read(
        self, place: Place, workspace: Workspace, logged: Artifact
    ) -> None:
        [name] = [name for name in place.names() if name.startswith("shards/")]
        fs, root = place.fs()
        data = fs.cat_file(f"{root}/{name}")
        middle = len(data) // 2
        place.write(name, data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        with pytest.raises(FormatError):
            list(workspace.artifact("data:v0").entries())


class TestOpening:
    def test_nothing_there(self, place: Place) -> None:
        with pytest.raises(NotFoundError, match="no refart store at"):
            place.open(create=False)

    def test_a_new_store_holds_its_marker(self, place: Place) -> None:
        store = place.open()
        assert place.names() == {"refart-store.json"}
        assert store.exclusive

    def test_a_place_with_other_things_is_refused(self, place: Place) -> None:
        place.write("thesis.txt", b"x")
        with pytest.raises(InvalidInputError, match="holds other things and is no refart store"):
            place.open()
        assert place.names() == {"thesis.txt"}

    def test_a_newer_store_is_refused(self, place: Place) -> None:
        place.write("refart-store.json", json.dumps({"format": 2, "more": True}).encode())
        with pytest.raises(FormatError, match=r"format 2.*upgrade"):
            place.open()

    def test_an_older_store_is_taken_as_it_is(self, place: Place) -> None:
        """Its marker does not say whether its server creates exclusively."""
        place.write("refart-store.json", b'{"format": 1}')
        assert place.open().exclusive
        assert place.names() == {"refart-store.json"}

    @pytest.mark.parametrize(
        "marker", [b"", b"{", b"[]", b"1", b"{}", b"\xff\xfe", b'{"format": 1, "exclusive_create": "no"}']
    )
    def test_a_damaged_marker_is_named(self, tmp_path: Path, marker: bytes) -> None:
        place = Place(str(tmp_path))
        place.write("refart-store.json", marker)
        with pytest.raises(FormatError, match=r"refart-store\.json"):
            place.open()

    def test_several_may_make_the_same_store(self, place: Place) -> None:
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(lambda _: place.open(), range(4)))
        assert place.names() == {"refart-store.json"}
        stores[0].put_bytes("blobs", key_of(b"x"), b"x")
        assert all(store.read("blobs", key_of(b"x")) == b"x" for store in stores)

    @pytest.mark.parametrize(
        "url",
        [
            "sftp://host/x",
            "simplecache::s3://store",
            "http://host/x",
            "s3://key:secret@store",
            "nonsense://x",
        ],
    )
    def test_what_cannot_hold_a_store_is_refused(self, url: str) -> None:
        with pytest.raises(InvalidInputError) as error:
            open_store(url)
        assert "secret" not in str(error.value)

    def test_a_folder_takes_no_storage_options(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="auto_mkdir"):
            open_store(str(tmp_path), {"auto_mkdir": True})

    def test_an_odd_folder_name_is_taken_as_it_stands(self, tmp_path: Path) -> None:
        store = open_store(f"file://{tmp_path}/a b#c?d%20")
        store.put_bytes("blobs", key_of(b"x"), b"x")
        assert (tmp_path / "a b#c?d%20" / "blobs" / key_of(b"x")[:2] / key_of(b"x")).is_file()

    def test_two_processes_may_make_the_same_store(self, tmp_path: Path) -> None:
        """The other one has begun: its folder for temporary files is there, with the marker in the making."""
        (tmp_path / "store" / "tmp").mkdir(parents=True)
        (tmp_path / "store" / "tmp" / ".refart-0123.tmp").write_bytes(b"{")
        store = open_store(str(tmp_path / "store"))
        assert store.put_bytes("blobs", key_of(b"x"), b"x")
