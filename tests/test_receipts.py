"""Receipts: an unchanged file is read once; a changed one is never taken for unchanged."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refart import files, receipts
from refart.errors import ConflictError, InvalidInputError, NotFoundError, PermissionDeniedError
from refart.parallel import Lanes, Pace
from refart.receipts import Receipt, Receipts


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Receipts]:
    memory = Receipts(tmp_path / "home" / "receipts.sqlite")
    yield memory
    memory.close()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files whose bytes were read, in order."""
    read: list[str] = []
    original = files.open_descriptor

    def noted(path: files.StrPath) -> int:
        read.append(os.fspath(path))
        return original(path)

    monkeypatch.setattr(files, "open_descriptor", noted)
    return read


def content_id(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def write(path: Path, data: bytes, *, age_s: float = 10) -> Path:
    """A file that was last written some time ago."""
    path.write_bytes(data)
    mtime_ns = time.time_ns() - int(age_s * 1e9)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def test_an_unchanged_file_is_read_once(memory: Receipts, tmp_path: Path, reads: list[str]) -> None:
    path = write(tmp_path / "f", b"bytes")
    assert memory.hash_file(path) == memory.hash_file(path) == (content_id(b"bytes"), 5)
    assert reads == [str(path)]


def test_force_reads_again(memory: Receipts, tmp_path: Path, reads: list[str]) -> None:
    path = write(tmp_path / "f", b"bytes")
    memory.hash_file(path)
    assert memory.hash_file(path, force=True) == (content_id(b"bytes"), 5)
    assert len(reads) == 2


def test_receipts_are_shared_by_whoever_opens_the_file(
    memory: Receipts, tmp_path: Path, reads: list[str]
) -> None:
    path = write(tmp_path / "f", b"bytes")
    memory.hash_file(path)
    other = Receipts(tmp_path / "home" / "receipts.sqlite")
    assert other.hash_file(path) == (content_id(b"bytes"), 5)
    assert len(reads) == 1
    other.close()


def test_without_a_memory_every_file_is_read(tmp_path: Path, reads: list[str]) -> None:
    path = write(tmp_path / "f", b"bytes")
    memory = Receipts(None)
    assert memory.hash_file(path) == memory.hash_file(path) == (content_id(b"bytes"), 5)
    assert len(reads) == 2


def test_an_older_modified_time_is_a_change(memory: Receipts, tmp_path: Path) -> None:
    """PITFALLS 18: an edited file with an older mtime counted as verified."""
    path = write(tmp_path / "f", b"first")
    memory.hash_file(path)
    write(path, b"other", age_s=9_999)
    assert memory.hash_file(path) == (content_id(b"other"), 5)


def test_a_file_of_the_same_size_and_time_in_its_place_is_a_change(memory: Receipts, tmp_path: Path) -> None:
    path = write(tmp_path / "f", b"first")
    memory.hash_file(path)
    found = path.stat()
    other = tmp_path / "other"
    other.write_bytes(b"other")
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)
    assert memory.hash_file(path) == (content_id(b"other"), 5)


def test_a_file_with_another_inode_number_is_read_again(
    memory: Receipts, tmp_path: Path, reads: list[str]
) -> None:
    """As where a network file system gives new ones with each mount: they are no proof of the same bytes."""
    path = write(tmp_path / "f", b"bytes")
    receipt = Receipt.of(path, "0" * 64)
    memory.remember([receipt._replace(inode=receipt.inode + 1)])
    assert memory.hash_file(path) == memory.hash_file(path) == (content_id(b"bytes"), 5)
    assert reads == [str(path)]


def test_whole_seconds_are_remembered_once_they_have_passed(
    memory: Receipts, tmp_path: Path, reads: list[str]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"bytes")
    second = int(time.time()) - 4
    os.utime(path, (second, second))
    memory.hash_file(path)
    memory.hash_file(path)
    assert len(reads) == 1


def test_an_edit_right_after_reading_is_noticed(memory: Receipts, tmp_path: Path) -> None:
    """The clock of modified times stands still for milliseconds; a hundred edits meet such a standstill."""
    path = tmp_path / "f"
    for n in range(100):
        data = b"%03d" % n
        path.write_bytes(data)
        assert memory.hash_file(path) == (content_id(data), 3)


def test_a_young_file_is_not_remembered_where_times_are_whole_seconds(
    memory: Receipts, tmp_path: Path, reads: list[str]
) -> None:
    """On FAT and the like, a later edit could keep the time."""
    path = tmp_path / "f"
    path.write_bytes(b"bytes")
    second = int(time.time())
    os.utime(path, (second, second))
    memory.hash_file(path)
    memory.hash_file(path)
    assert len(reads) == 2


def test_a_placed_file_can_be_remembered_at_once_and_edited_at_once(memory: Receipts, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"placed")
    files.backdate(path)
    memory.remember([Receipt.of(path, hashlib.sha256(b"placed").hexdigest())])
    assert memory.current([str(path)]) == {str(path): hashlib.sha256(b"placed").hexdigest()}
    path.write_bytes(b"edited")
    assert memory.current([str(path)]) == {}
    assert memory.hash_file(path) == (content_id(b"edited"), 6)


@pytest.mark.parametrize("change", ["append", "overwrite", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    memory: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = write(tmp_path / "f", b"x" * (3 * files.CHUNK_BYTES))
    original = files.read_block
    count = itertools.count()

    def changing(*args: Any) -> int:
        if next(count) == 2:
            if change == "append":
                with path.open("ab") as more:
                    more.write(b"more")
            elif change == "overwrite":
                with path.open("r+b") as same:
                    same.write(b"other")
            elif change == "replace":
                (tmp_path / "new").write_bytes(path.read_bytes())
                (tmp_path / "new").replace(path)
            else:
                path.unlink()
        return original(*args)

    monkeypatch.setattr(files, "read_block", changing)
    with pytest.raises((ConflictError, NotFoundError), match=r"'.*f' (changed|does not exist)"):
        memory.hash_file(path)
    assert memory.lookup([str(path)]) == {}


def test_many_files_are_read_in_parallel_and_remembered(
    memory: Receipts, tmp_path: Path, reads: list[str]
) -> None:
    paths = [str(write(tmp_path / f"{n}", b"%d" % n)) for n in range(1_000)]
    with ThreadPoolExecutor(4) as pool:
        found = memory.begin_reading(paths, [3] * 1_000, pool, lanes()).finish()
    assert [(r.path, r.size, r.sha256) for r in found] == [
        (path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in ((path, Path(path).read_bytes()) for path in paths)
    ]
    assert memory.lookup(paths) == {receipt.path: receipt for receipt in found}
    assert sorted(reads) == sorted(paths)


def test_no_more_threads_read_than_there_are_lanes(
    memory: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(write(tmp_path / f"{n}", b"%d" % n)) for n in range(200)]
    busy: set[int] = set()
    most = [0]
    original = receipts._read

    def counted(path: str) -> tuple[Receipt, bool]:
        busy.add(threading.get_ident())
        most[0] = max(most[0], len(busy))
        try:
            return original(path)
        finally:
            busy.discard(threading.get_ident())

    monkeypatch.setattr(receipts, "_read", counted)
    with ThreadPoolExecutor(8) as pool:
        memory.begin_reading(paths, [receipts.TASK_BYTES] * 200, pool, lanes(2)).finish()
    assert most[0] <= 2


def test_what_was_read_before_an_error_is_remembered(memory: Receipts, tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{n}", b"%d" % n)) for n in range(10)]
    original = receipts._read

    def failing(path: str) -> tuple[Receipt, bool]:
        if path == paths[8]:
            raise ConflictError("changed")
        return original(path)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(receipts, "_read", failing)
        with pytest.raises(ConflictError):
            memory.begin_reading(paths, [1] * 10, pool, lanes()).finish()
    assert memory.lookup(paths).keys() == set(paths[:8])


def lanes(count: int = 4) -> Lanes:
    return Lanes(Pace(count, count))


@given(st.lists(st.integers(0, 3 * receipts.TASK_BYTES), max_size=200))
def test_small_files_share_a_task(sizes: list[int]) -> None:
    """In their order, none of them twice; a large one is alone."""
    paths = [f"/{n}" for n in range(len(sizes))]
    tasks = list(receipts._tasks(paths, sizes))
    assert [path for task in tasks for path in task] == paths
    for task in tasks:
        held = [sizes[int(path[1:])] for path in task]
        assert 1 <= len(task) <= receipts.TASK_FILES
        assert len(task) == 1 or sum(held) <= receipts.TASK_BYTES


def test_forgetting(memory: Receipts, tmp_path: Path) -> None:
    names = ["a/x", "a/b/y", "a-b/z", "a0/z", "a"]
    memory.remember(Receipt(f"/data/{name}", 1, 2, 3, "0" * 64) for name in names)
    memory.forget_below("/data/a")
    assert memory.lookup([f"/data/{name}" for name in names]).keys() == {
        "/data/a-b/z",
        "/data/a0/z",
        "/data/a",
    }
    memory.forget_below("/")
    assert memory.lookup([f"/data/{name}" for name in names]) == {}


def test_what_is_no_file_is_refused(memory: Receipts, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, error in (("", InvalidInputError), ("pipe", InvalidInputError), ("none", NotFoundError)):
        with pytest.raises(error, match=rf"{name}' (is no regular|does not exist)"):
            memory.hash_file(tmp_path / name)


def test_an_unreadable_file_is_named(
    memory: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "secret", b"x")

    def denied(path: object, *args: object, **options: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", denied)
    with pytest.raises(PermissionDeniedError, match=r"secret.*permission denied"):
        memory.hash_file(path)


paths = (
    st.binary(min_size=1, max_size=60).filter(lambda b: b"\0" not in b).map(lambda b: os.fsdecode(b"/" + b))
)
rows = st.builds(
    Receipt,
    paths,
    st.integers(0, 2**63 - 1),
    st.integers(-(2**63) + 2, 2**63 - 2),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(rows, max_size=20))
def test_receipts_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[Receipt]
) -> None:
    """Paths that are not UTF-8 and inodes above 2**63 too; the last receipt of a path counts."""
    memory = Receipts(tmp_path_factory.mktemp("home") / "receipts.sqlite")
    memory.remember(wanted)
    expected = {row.path: row for row in wanted}
    assert memory.lookup([*expected, "/not/there"]) == expected
    memory.close()


class TestOnlyAMemory:
    """Whatever happens to its file, files are hashed, and hashed right."""

    @pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "zeros inside", "other schema"])
    def test_a_damaged_file_is_replaced(self, tmp_path: Path, damage: str, reads: list[str]) -> None:
        path = write(tmp_path / "f", b"bytes")
        home = tmp_path / "receipts.sqlite"
        memory = Receipts(home)
        memory.remember(Receipt(f"/data/{n}", n, n, n, "0" * 64) for n in range(5_000))
        memory.hash_file(path)
        memory.close()
        good = home.read_bytes()
        home.write_bytes(
            {
                "garbage": b"garbage" * 1_000,
                "empty": b"",
                "truncated": good[: len(good) // 2],
                "zeros inside": good[:200] + bytes(len(good) - 400) + good[-200:],
                "other schema": b"",
            }[damage]
        )
        if damage == "other schema":
            with sqlite3.connect(home) as other:
                other.execute("CREATE TABLE other (x)")
            other.close()
        memory = Receipts(home)
        assert memory.hash_file(path) == (content_id(b"bytes"), 5)
        assert memory.hash_file(path) == memory.hash_file(path) == (content_id(b"bytes"), 5)
        assert len(reads) <= 3
        memory.close()

    def test_a_home_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        path = write(tmp_path / "f", b"bytes")
        memory = Receipts(tmp_path / "file" / "receipts.sqlite")
        assert memory.hash_file(path) == memory.hash_file(path) == (content_id(b"bytes"), 5)

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, reads: list[str]) -> None:
        """Held by a transaction of somebody else: the receipts in it still serve."""
        first, second = write(tmp_path / "1", b"1"), write(tmp_path / "2", b"2")
        memory = Receipts(tmp_path / "receipts.sqlite")
        memory.hash_file(first)
        memory._db._connection.execute("PRAGMA busy_timeout=1")  # type: ignore[union-attr]
        other = sqlite3.connect(tmp_path / "receipts.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert memory.hash_file(first) == (content_id(b"1"), 1)
        assert memory.hash_file(second) == memory.hash_file(second) == (content_id(b"2"), 1)
        assert reads == [str(first), str(second), str(second)]
        other.close()
        memory.close()

    def test_many_threads(self, memory: Receipts, tmp_path: Path) -> None:
        paths = [write(tmp_path / f"{n}", b"%d" % n) for n in range(50)]
        start = threading.Barrier(8)

        def work(_: int) -> list[tuple[str, int]]:
            start.wait()
            return [memory.hash_file(path) for path in paths]

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(work, range(8)))
        assert results == [[(content_id(b"%d" % n), len(str(n))) for n in range(50)]] * 8
        assert len(memory.lookup(map(str, paths))) == 50

    @pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # that it works is what is tested
    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_many_processes(self, memory: Receipts, tmp_path: Path, method: str) -> None:
        """A forked child does not use its parent's connection."""
        memory.remember([Receipt("/parent", 1, 1, 1, "0" * 64)])
        context = multiprocessing.get_context(method)
        home = tmp_path / "home" / "receipts.sqlite"
        children = [
            context.Process(target=_remember, args=(memory if method == "fork" else None, home, n))
            for n in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 4
        paths = [f"/{n}/{i}" for n in range(4) for i in range(25)]
        assert memory.lookup([*paths, "/parent"]).keys() == {*paths, "/parent"}


def _remember(memory: Receipts | None, home: Path, n: int) -> None:
    memory = memory or Receipts(home)
    for i in range(25):
        memory.remember([Receipt(f"/{n}/{i}", 1, 1, 1, "0" * 64)])
    memory.close()
