"""The store: what is put comes back, once, whole or not at all, in a folder as behind a driver."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refart import files
from refart.store import objects as store_module
from refart.errors import (
    ConflictError,
    FormatError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    StoreError,
)
from refart.store import KINDS, FolderStore, ObjectStore, Store, open_store


def key_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: Store, path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    return store.put_file("blobs", key_of(data), path)


def names_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    store = open_store(str(tmp_path / "store"))
    assert isinstance(store, FolderStore)
    return store


@pytest.fixture
def bucket(s3: Any) -> ObjectStore:
    s3.create_bucket(Bucket="store")
    store = open_store("s3://store/below/here")
    assert isinstance(store, ObjectStore)
    return store


@pytest.fixture
def memory() -> ObjectStore:
    store = open_store(f"memory://{uuid.uuid4()}")
    assert isinstance(store, ObjectStore)
    return store


@pytest.fixture(params=["folder", "bucket", "memory"])
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.getfixturevalue(request.param)
    return made


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

    def test_a_store_is_found_again(self, store: Store) -> None:
        store.put_bytes("blobs", key_of(b"x"), b"x")
        again = open_store(store.url, create=False)
        assert again.read("blobs", key_of(b"x")) == b"x"

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents=st.lists(st.binary(max_size=100), max_size=8))
    def test_any_set_of_contents_is_kept_each_once(
        self, memory: ObjectStore, tmp_path: Path, contents: list[bytes]
    ) -> None:
        for store in (open_store(str(tmp_path / uuid.uuid4().hex)), open_store(f"memory://{uuid.uuid4()}")):
            for data in contents:
                put(store, tmp_path / "f", data)
            assert {store.read("blobs", found.key) for found in store.keys("blobs")} == set(contents)


class TestOpening:
    @pytest.fixture(params=["folder", "s3", "memory"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "s3":
            request.getfixturevalue("s3").create_bucket(Bucket="store")
            return "s3://store/here"
        return str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4()}/store"

    def write(self, url: str, name: str, data: bytes) -> None:
        fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=True)
        fs.makedirs(root, exist_ok=True)
        fs.pipe_file(f"{root}/{name}", data)

    def test_nothing_there(self, url: str) -> None:
        with pytest.raises(NotFoundError, match="no refart store at"):
            open_store(url, create=False)

    def test_a_place_with_other_things_is_refused(self, url: str) -> None:
        self.write(url, "thesis.txt", b"x")
        with pytest.raises(InvalidInputError, match="holds other things and is no refart store"):
            open_store(url)

    def test_a_newer_store_is_refused(self, url: str) -> None:
        self.write(url, "refart-store.json", json.dumps({"format": 2, "more": True}).encode())
        with pytest.raises(FormatError, match=r"format 2.*upgrade"):
            open_store(url)

    @pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"1", b"{}", b"\xff\xfe"])
    def test_a_damaged_marker_is_named(self, tmp_path: Path, marker: bytes) -> None:
        self.write(str(tmp_path), "refart-store.json", marker)
        with pytest.raises(FormatError, match=r"refart-store\.json"):
            open_store(str(tmp_path))

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
        assert f"blobs/{key_of(b'x')[:2]}/{key_of(b'x')}" in names_below(tmp_path / "a b#c?d%20")

    def test_a_bucket_that_does_not_exist(self, s3: Any) -> None:
        with pytest.raises(StoreError, match=r"s3://no-such-bucket/x.*does not exist"):
            open_store("s3://no-such-bucket/x")

    def test_a_server_that_is_not_there(self, s3: Any) -> None:
        options = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
        with pytest.raises(StoreError, match="s3://store") as error:
            open_store("s3://store", {**options, "secret": "hunter2", "key": "k"})
        assert "hunter2" not in str(error.value)

    def test_two_processes_may_make_the_same_store(self, tmp_path: Path) -> None:
        """The other one has begun: its folder for temporary files is there, with the marker in the making."""
        (tmp_path / "store" / "tmp").mkdir(parents=True)
        (tmp_path / "store" / "tmp" / ".refart-0123.tmp").write_bytes(b"{")
        store = open_store(str(tmp_path / "store"))
        assert store.put_bytes("blobs", key_of(b"x"), b"x")


class TestFolder:
    def test_objects_lie_where_the_format_says(self, folder: FolderStore, tmp_path: Path) -> None:
        keys = {kind: key_of(kind.encode()) for kind in KINDS}
        for kind, key in keys.items():
            folder.put_bytes(kind, key, b"x")
        assert names_below(tmp_path / "store") == {
            "refart-store.json",
            f"blobs/{keys['blobs'][:2]}/{keys['blobs']}",
            f"shards/{keys['shards'][:2]}/{keys['shards']}.parquet",
            f"manifests/{keys['manifests'][:2]}/{keys['manifests']}.json",
        }
        for kind, key in keys.items():
            path = folder.local_path(kind, key)
            assert path is not None
            assert Path(path).read_bytes() == b"x"
            assert Path(path).stat().st_mode & 0o222 == 0

    def test_a_thousand_files(self, folder: FolderStore, tmp_path: Path) -> None:
        contents = {key_of(b"%d" % n): b"%d" % n for n in range(1_000)}

        def put_one(item: tuple[str, bytes]) -> bool:
            path = tmp_path / f"in-{item[0]}"
            path.write_bytes(item[1])
            return folder.put_file("blobs", item[0], path)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(put_one, contents.items()))
        assert {found.key: folder.read("blobs", found.key) for found in folder.keys("blobs")} == contents

    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (errno.ENOSPC, StoreError),
            (errno.EDQUOT, StoreError),
            (errno.EIO, StoreError),
            (errno.EROFS, PermissionDeniedError),
            (errno.EACCES, PermissionDeniedError),
        ],
    )
    @pytest.mark.parametrize("step", ["write", "fsync", "link"])
    def test_a_write_that_fails_leaves_nothing(
        self,
        folder: FolderStore,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        error: type[Exception],
        step: str,
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            raise OSError(code, os.strerror(code))

        if step == "write":
            original = files.copy_hashed

            def fail_in_the_middle(source: Any, target: Any) -> str:
                target.write(b"half")
                fail()
                return original(source, target)

            monkeypatch.setattr(files, "copy_hashed", fail_in_the_middle)
        else:
            monkeypatch.setattr(os, step, fail)
        with pytest.raises(error, match=r"cannot write blobs/.*/store") as caught:
            put(folder, tmp_path / "f", b"some bytes")
        assert os.strerror(code) in str(caught.value)
        monkeypatch.undo()
        assert names_below(tmp_path / "store") == {"refart-store.json"}
        assert put(folder, tmp_path / "f", b"some bytes")

    def test_a_source_that_fails_is_not_the_stores_fault(
        self, folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Failing(io.BytesIO):
            name = "bad-disk"

            def read(self, count: int | None = -1, /) -> bytes:
                raise OSError(errno.EIO, "Input/output error")

            def fileno(self) -> int:
                return os.open(tmp_path, os.O_RDONLY)

        monkeypatch.setattr(files, "open_for_reading", lambda path: Failing())
        with pytest.raises(Exception, match=r"'bad-disk' cannot be read: Input/output error"):
            folder.put_file("blobs", key_of(b"x"), tmp_path / "f")
        assert names_below(tmp_path / "store") == {"refart-store.json"}

    def test_reading_that_is_denied(self, folder: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.put_bytes("blobs", key_of(b"x"), b"x")

        def denied(self: Path, *args: object, **options: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
        with pytest.raises(PermissionDeniedError, match=r"cannot read blobs/.*Permission denied"):
            folder.open("blobs", key_of(b"x"))

    @pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
    def test_a_file_system_without_links(
        self, folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refused(*args: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refused)
        assert put(folder, tmp_path / "f", b"bytes")
        assert folder.read("blobs", key_of(b"bytes")) == b"bytes"
        assert list((tmp_path / "store" / "tmp").iterdir()) == []

    def test_processes_that_put_the_same_blob(self, folder: FolderStore, tmp_path: Path) -> None:
        """Exactly one made it, and nobody failed."""
        data = os.urandom(1 << 20)
        (tmp_path / "f").write_bytes(data)
        context = multiprocessing.get_context("spawn")
        made, start = context.Queue(), context.Barrier(3)
        children = [
            context.Process(target=_put_blob, args=(folder.url, tmp_path / "f", start, made))
            for _ in range(3)
        ]
        for child in children:
            child.start()
        results = sorted(made.get(timeout=60) for _ in children)
        for child in children:
            child.join()
        assert results == [False, False, True]
        assert folder.read("blobs", key_of(data)) == data
        assert list((tmp_path / "store" / "tmp").iterdir()) == []

    def test_a_writer_that_is_killed_leaves_no_object(self, folder: FolderStore, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        begun = context.Event()
        child = context.Process(target=_hang_in_the_middle, args=(folder.url, begun))
        child.start()
        assert begun.wait(60)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert list(folder.keys("blobs")) == []
        assert not folder.has("blobs", key_of(b"never whole"))
        assert put(folder, tmp_path / "f", b"never whole")
        assert folder.read("blobs", key_of(b"never whole")) == b"never whole"

    def test_foreign_files_are_not_listed(self, folder: FolderStore, tmp_path: Path) -> None:
        folder.put_bytes("shards", key_of(b"x"), b"x")
        for name in (
            "shards/.DS_Store",
            "shards/ab/notes.txt",
            f"shards/ab/{'a' * 64}",
            f"shards/ab/{'a' * 64}.json",
        ):
            (tmp_path / "store" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "store" / name).write_bytes(b"")
        assert [found.key for found in folder.keys("shards")] == [key_of(b"x")]


def _put_blob(url: str, path: Path, start: Any, made: Any) -> None:
    store = open_store(url)
    start.wait(60)
    made.put(store.put_file("blobs", key_of(path.read_bytes()), path))


def _hang_in_the_middle(url: str, begun: Any) -> None:
    def hang(source: Any, target: Any) -> str:
        target.write(b"never")
        target.flush()
        begun.set()
        signal.pause()
        return ""

    files.copy_hashed = hang
    open_store(url, create=False).put_bytes("blobs", key_of(b"never whole"), b"never whole")


class TestBucket:
    """What only a server can do: conditions, lost answers, uploads in parts."""

    @pytest.fixture
    def small_parts(self, monkeypatch: pytest.MonkeyPatch) -> int:
        size = 5 << 20  # the least that S3 takes
        monkeypatch.setattr(store_module, "PART_BYTES", size)
        return size

    def test_a_large_file_goes_up_in_parts(
        self, bucket: ObjectStore, tmp_path: Path, small_parts: int, s3_requests: Any
    ) -> None:
        data = os.urandom(2 * small_parts + 7)
        s3_requests.clear()
        assert put(bucket, tmp_path / "f", data)
        assert (s3_requests.count("UploadPart"), s3_requests.count("CompleteMultipartUpload")) == (3, 1)
        assert not put(bucket, tmp_path / "f", data)
        assert s3_requests.count("UploadPart") == 3
        assert b"".join(bucket.chunks("blobs", key_of(data))) == data

    def test_a_large_file_that_changed_is_never_completed(
        self, bucket: ObjectStore, tmp_path: Path, small_parts: int, s3: Any, s3_requests: Any
    ) -> None:
        (tmp_path / "f").write_bytes(b"b" * (small_parts + 7))
        added = key_of(b"a" * (small_parts + 7))
        with pytest.raises(ConflictError, match="changed since it was added"):
            bucket.put_file("blobs", added, tmp_path / "f")
        assert s3_requests.count("CompleteMultipartUpload") == 0
        assert s3.list_multipart_uploads(Bucket="store").get("Uploads", []) == []
        assert not bucket.has("blobs", added)

    def test_a_small_file_costs_one_request(
        self, bucket: ObjectStore, tmp_path: Path, s3_requests: Any
    ) -> None:
        s3_requests.clear()
        put(bucket, tmp_path / "f", b"small")
        assert s3_requests.operations == ["PutObject"]

    @pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # it is what is tested
    def test_a_forked_child_opens_its_own_driver(self, bucket: ObjectStore, tmp_path: Path) -> None:
        """As a loader of training data does that reads entries in worker processes."""
        put(bucket, tmp_path / "f", b"bytes")
        key = key_of(b"bytes")
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if bucket.read("blobs", key) == b"bytes" else 1)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bucket.read("blobs", key) == b"bytes"

    @pytest.mark.parametrize("size", [5, 3 << 20, (5 << 20) + 7], ids=["small", "large", "in parts"])
    def test_a_write_whose_answer_was_lost_has_landed(
        self,
        bucket: ObjectStore,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        small_parts: int,
        size: int,
    ) -> None:
        """The driver tries again, meets its own object, and reports a conflict, or a broken connection."""
        data = os.urandom(size)
        send = bucket._fs._call_s3

        async def lost(method: str, *args: Any, **options: Any) -> Any:
            answer = await send(method, *args, **options)
            if method in ("put_object", "complete_multipart_upload"):
                raise OSError(errno.EIO, "connection lost")
            return answer

        monkeypatch.setattr(bucket._fs, "_call_s3", lost)
        monkeypatch.setattr(bucket._fs, "call_s3", fsspec.asyn.sync_wrapper(lost, obj=bucket._fs))
        assert not put(bucket, tmp_path / "f", data)
        assert bucket.read("blobs", key_of(data)) == data

    def test_a_write_that_failed_is_reported(
        self, bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*args: Any, **options: Any) -> None:
            raise OSError(errno.EIO, "connection lost")

        monkeypatch.setattr(bucket._fs, "_call_s3", fail)
        with pytest.raises(StoreError, match=r"cannot write blobs/.*s3://store/below/here.*connection lost"):
            put(bucket, tmp_path / "f", b"x")

    @pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
    @pytest.mark.parametrize("there", [True, False], ids=["there", "not there"])
    def test_a_refused_condition_is_looked_into(
        self, bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, there: bool
    ) -> None:
        """Servers differ in how they say it; only what lies there counts."""
        if there:
            put(bucket, tmp_path / "f", b"bytes")
        send = bucket._fs._call_s3

        async def refuse(method: str, *args: Any, **options: Any) -> Any:
            if options.pop("IfNoneMatch", None):
                cause = Exception("as botocore says it")
                cause.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
                raise OSError(errno.EINVAL, "") from cause
            return await send(method, *args, **options)

        monkeypatch.setattr(bucket._fs, "_call_s3", refuse)
        assert put(bucket, tmp_path / "f", b"bytes") is not there
        assert bucket.read("blobs", key_of(b"bytes")) == b"bytes"

    @pytest.mark.parametrize(
        "error", [PermissionError("Access Denied"), type("NoCredentialsError", (Exception,), {})()]
    )
    def test_access_that_is_denied(
        self, bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        async def denied(*args: Any, **options: Any) -> None:
            raise error

        monkeypatch.setattr(bucket._fs, "_call_s3", denied)
        uses: list[Callable[[], object]] = [
            lambda: put(bucket, tmp_path / "f", b"x"),
            lambda: bucket.read("blobs", key_of(b"x")),
            lambda: bucket.has("blobs", key_of(b"x")),
            lambda: list(bucket.keys("blobs")),
        ]
        for use in uses:
            with pytest.raises(PermissionDeniedError, match=r"s3://store/below/here.*check the credentials"):
                use()

    def test_what_others_write_is_seen_at_once(self, bucket: ObjectStore, tmp_path: Path) -> None:
        """A listing that the driver kept would hide it."""
        assert list(bucket.keys("blobs")) == []
        assert not bucket.has("blobs", key_of(b"x"))
        put(open_store(bucket.url), tmp_path / "f", b"x")
        assert bucket.has("blobs", key_of(b"x"))
        assert len(list(bucket.keys("blobs"))) == 1

    def test_an_object_that_ends_early_is_an_error(
        self, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket.put_bytes("blobs", key_of(b"bytes"), b"bytes")
        monkeypatch.setattr(bucket._fs, "cat_file", lambda path, start, end: b"byt")
        with pytest.raises(StoreError, match="ended early"):
            list(bucket.chunks("blobs", key_of(b"bytes")))
