"""A store in a local folder: where things lie, what failing disks and killed writers leave."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from refart import files
from refart.errors import (
    PermissionDeniedError,
    StoreError,
)
from refart.store import KINDS, FolderStore, open_store
from tests.stores import key_of, put


def names_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    store = open_store(str(tmp_path / "store"))
    assert isinstance(store, FolderStore)
    return store


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

    def test_bytes_are_on_the_disk_before_their_name_and_names_after_a_sync(
        self, folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[str] = []

        def note(module: Any, name: str) -> None:
            original = getattr(module, name)

            def noted(first: Any, *others: Any) -> Any:
                done.append(f"{name} {os.path.relpath(first, folder.url)}" if name == "sync_folder" else name)
                return original(first, *others)

            monkeypatch.setattr(module, name, noted)

        for module, name in ((files, "sync"), (os, "link"), (files, "sync_folder")):
            note(module, name)
        put(folder, tmp_path / "f", b"bytes")
        assert done == ["sync", "link"]
        names = ["sync_folder .", "sync_folder blobs", f"sync_folder blobs/{key_of(b'bytes')[:2]}"]
        for step in ("new", "found there", "nothing new"):
            done.clear()
            folder.sync()
            assert sorted(done) == (names if step != "nothing new" else [])
            if step == "new":
                assert not put(folder, tmp_path / "f", b"bytes")

    def test_a_folder_that_cannot_be_synced_is_tried_again(
        self, folder: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        put(folder, tmp_path / "f", b"bytes")
        monkeypatch.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(StoreError, match=r"cannot sync .* in the store at .*Input/output error"):
                folder.sync()
        monkeypatch.undo()
        folder.sync()

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
