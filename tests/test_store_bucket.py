"""A store behind a driver: conditions, lost answers, uploads in parts, forks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from refart.errors import (
    ConflictError,
    PermissionDeniedError,
    StoreError,
)
from refart.store import objects as store_module
from refart.store import open_store
from refart.store.objects import ObjectStore
from tests.stores import key_of, put


@pytest.fixture
def bucket(s3: Any) -> ObjectStore:
    s3.create_bucket(Bucket="store")
    store = open_store("s3://store/below/here")
    assert isinstance(store, ObjectStore)
    return store


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

    def test_an_object_that_ends_early_is_an_error(
        self, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket.put_bytes("blobs", key_of(b"bytes"), b"bytes")
        monkeypatch.setattr(bucket._fs, "cat_file", lambda path, start, end: b"byt")
        with pytest.raises(StoreError, match="ended early"):
            list(bucket.chunks("blobs", key_of(b"bytes")))
