"""The local cache: right bytes or none, within its bound, and never the reason that work fails."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refart import cache as cache_module
from refart import files, localdb
from refart.cache import Cache, Link
from refart.errors import InvalidInputError
from refart.localdb import LocalDb
from refart.receipts import Receipt

WAYS: tuple[Link, ...] = ("hardlink", "copy", "auto")
"""What works on every file system that tests run on (there, `auto` ends as one of the others)."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Downloads:
    """A folder that files are downloaded to, by way of a cache."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        self.folder, self.cache = folder, cache
        folder.mkdir()

    def bring(self, name: str, data: bytes, link: Link = "auto") -> Path:
        """As if the bytes had come from far and were verified."""
        temporary, target = self.folder / f"{name}.part", self.folder / name
        temporary.write_bytes(data)
        self.cache.place(temporary, sha256(data), target, link)
        assert not temporary.exists()
        assert target.read_bytes() == data
        return target

    def get(self, name: str, data: bytes, link: Link = "auto") -> Path | None:
        target = self.folder / name
        return target if self.cache.get(sha256(data), target, link) else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Cache:
    return Cache(folder, 1_000)


@pytest.fixture
def downloads(tmp_path: Path, cache: Cache) -> Downloads:
    return Downloads(tmp_path / "downloads", cache)


def cached(folder: Path) -> dict[str, Path]:
    """What lies in the cache by SHA-256."""
    return {path.name: path for path in (folder / "objects").rglob("*") if path.is_file()}


class TestHits:
    @pytest.mark.parametrize("again", WAYS)
    @pytest.mark.parametrize("first", WAYS)
    def test_what_was_placed_is_had_again(self, downloads: Downloads, first: Link, again: Link) -> None:
        downloads.bring("a", b"bytes", first)
        target = downloads.get("b", b"bytes", again)
        assert target is not None
        assert target.read_bytes() == b"bytes"

    def test_a_miss_changes_nothing(self, downloads: Downloads, folder: Path) -> None:
        assert downloads.get("b", b"never seen") is None
        assert list(downloads.folder.iterdir()) == []
        assert not folder.exists()

    def test_a_file_that_is_there_is_replaced(self, downloads: Downloads) -> None:
        downloads.bring("a", b"bytes")
        (downloads.folder / "b").write_bytes(b"older")
        target = downloads.get("b", b"bytes")
        assert target is not None
        assert target.read_bytes() == b"bytes"
        assert downloads.get("b", b"bytes") == target

    def test_a_symbolic_link_is_replaced_not_followed(self, downloads: Downloads, tmp_path: Path) -> None:
        (tmp_path / "outside").write_bytes(b"mine")
        (downloads.folder / "b").symlink_to(tmp_path / "outside")
        downloads.bring("a", b"bytes")
        target = downloads.get("b", b"bytes")
        assert target is not None
        assert not target.is_symlink()
        assert (tmp_path / "outside").read_bytes() == b"mine"

    def test_hard_links_take_no_space_and_are_read_only(self, downloads: Downloads, folder: Path) -> None:
        """PITFALLS 19: cache, staging and target held the bytes two to three times."""
        first = downloads.bring("a", b"bytes", "hardlink")
        second = downloads.get("b", b"bytes", "hardlink")
        assert second is not None
        assert first.samefile(second)
        assert first.samefile(cached(folder)[sha256(b"bytes")])
        assert first.stat().st_mode & 0o222 == 0

    def test_copies_are_the_users_own(self, downloads: Downloads, folder: Path) -> None:
        downloads.bring("a", b"bytes", "copy").write_bytes(b"edited")
        target = downloads.get("b", b"bytes", "copy")
        assert target is not None
        assert target.stat().st_mode & 0o200
        target.write_bytes(b"edited too")
        assert downloads.get("c", b"bytes", "copy") is not None

    def test_reflinks_where_the_file_system_has_them(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file systems that tests run on may have none, so the system call is stood in for."""

        def ficlone(target: int, request: int, source: int) -> None:
            assert request == 0x40049409
            os.copy_file_range(source, target, 1_000)

        monkeypatch.setattr(fcntl, "ioctl", ficlone)
        first = downloads.bring("a", b"bytes")
        second = downloads.get("b", b"bytes")
        assert second is not None
        assert second.read_bytes() == b"bytes"
        assert not first.samefile(second)
        assert not second.samefile(cached(folder)[sha256(b"bytes")])
        assert second.stat().st_mode & 0o200

    def test_only_the_way_that_was_asked_for(
        self, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*args: object) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(fcntl, "ioctl", refused)
        downloads.bring("a", b"bytes", "copy")
        assert downloads.get("b", b"bytes", "reflink") is None
        monkeypatch.setitem(cache_module._DO, "hardlink", refused)
        assert downloads.get("b", b"bytes", "hardlink") is None
        assert downloads.get("b", b"bytes", "auto") is not None
        assert sorted(path.name for path in downloads.folder.iterdir()) == ["a", "b"]

    @pytest.mark.parametrize("link", WAYS)
    def test_an_edit_right_after_placing_shows_in_the_modified_time(
        self, downloads: Downloads, link: Link
    ) -> None:
        targets = (downloads.bring("a", b"bytes", link), downloads.get("b", b"bytes", link))
        times = [target.stat().st_mtime_ns for target in targets if target is not None]
        assert [mtime_ns % 1_000_000_000 for mtime_ns in times] == [0, 0]
        for target in targets:
            assert target is not None
            receipt = Receipt.of(target, sha256(b"bytes"))
            target.chmod(0o644)
            target.write_bytes(b"BYTES")
            assert not receipt.holds(target.stat())

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents=st.lists(st.binary(max_size=400), max_size=10), ways=st.data())
    def test_never_other_bytes_and_never_beyond_the_bound(
        self, tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], ways: st.DataObject
    ) -> None:
        root = tmp_path_factory.mktemp("any")
        downloads = Downloads(root / "downloads", Cache(root / "cache", 1_000))
        for n, data in enumerate(contents):
            link = ways.draw(st.sampled_from(WAYS))
            downloads.bring(f"{n}", data, link)
            assert sum(path.stat().st_size for path in cached(root / "cache").values()) <= 1_000
            for other in contents[: n + 1]:
                target = downloads.get("again", other, link)
                assert target is None or target.read_bytes() == other


class TestDamage:
    @pytest.mark.parametrize("link", WAYS)
    @pytest.mark.parametrize(
        "damage", [b"BYTES", b"", b"longer than it was"], ids=["same size", "empty", "longer"]
    )
    def test_a_corrupted_object_is_never_served(
        self, downloads: Downloads, folder: Path, damage: bytes, link: Link
    ) -> None:
        """PITFALLS 18: a hit meant "same size", so a corrupted cache file was served."""
        downloads.bring("a", b"bytes", "copy")
        path = cached(folder)[sha256(b"bytes")]
        path.chmod(0o644)
        path.write_bytes(damage)
        (downloads.folder / "b").write_bytes(b"what was there")
        assert downloads.get("b", b"bytes", link) is None
        assert (downloads.folder / "b").read_bytes() == b"what was there"
        assert cached(folder) == {}
        downloads.bring("b", b"bytes", link)
        assert downloads.get("c", b"bytes", link) is not None

    def test_an_edit_through_a_hard_link_is_noticed(self, downloads: Downloads) -> None:
        """Read-only does not stop everybody (root, for one)."""
        target = downloads.bring("a", b"bytes", "hardlink")
        target.chmod(0o644)
        target.write_bytes(b"BYTES")
        assert downloads.get("b", b"bytes", "hardlink") is None

    def test_a_lost_index_is_built_again_from_the_folder(self, tmp_path: Path, folder: Path) -> None:
        """So that the bound holds for what lay there before."""
        downloads = Downloads(tmp_path / "downloads", Cache(folder, 1_000))
        for n in range(8):
            downloads.bring(f"{n}", b"%d" % n * 100, "copy")
        for path in folder.glob("cache.sqlite*"):
            path.unlink()
        downloads.cache = Cache(folder, 1_000)
        for n in range(8, 12):
            downloads.bring(f"{n}", b"%02d" % n * 50, "copy")
        assert sum(path.stat().st_size for path in cached(folder).values()) <= 1_000
        assert len(cached(folder)) >= 9

    @pytest.mark.parametrize("damage", [b"", b"garbage" * 1_000])
    def test_a_damaged_index_is_replaced(self, tmp_path: Path, folder: Path, damage: bytes) -> None:
        downloads = Downloads(tmp_path / "downloads", Cache(folder, 1_000))
        downloads.bring("a", b"bytes")
        downloads.cache = Cache(folder, 1_000)
        for path in folder.glob("cache.sqlite-*"):
            path.unlink()
        (folder / "cache.sqlite").write_bytes(damage)
        assert downloads.get("b", b"bytes") is not None
        downloads.bring("c", b"more")
        assert downloads.get("d", b"more") is not None

    @pytest.mark.parametrize("wrong", ["", "../../secret", "0" * 63, "0" * 64 + "/.."])
    def test_only_a_sha256_names_an_object(self, downloads: Downloads, wrong: str) -> None:
        with pytest.raises(InvalidInputError, match="64 lower-case hex digits"):
            downloads.cache.get(wrong, downloads.folder / "b")
        downloads.cache.learn("md5:abc", wrong)
        assert downloads.cache.known("md5:abc") is None


class TestBound:
    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock by which every use comes ten minutes after the last."""
        ticks = iter(range(10**18, 2 * 10**18, 600 * 10**9))
        monkeypatch.setattr(cache_module, "_now_ns", lambda: next(ticks))

    def test_the_least_recently_used_goes_first(
        self, downloads: Downloads, folder: Path, clock: None
    ) -> None:
        data = {n: b"%d" % n * 300 for n in range(5)}
        for n in (0, 1, 2):
            downloads.bring(f"{n}", data[n], "copy")
        assert downloads.get("again", data[0]) is not None
        downloads.bring("3", data[3], "copy")
        assert cached(folder).keys() == {sha256(data[n]) for n in (0, 2, 3)}
        downloads.bring("4", data[4], "copy")
        assert cached(folder).keys() == {sha256(data[n]) for n in (0, 3, 4)}

    def test_room_is_made_by_as_many_as_it_takes(
        self, downloads: Downloads, folder: Path, clock: None
    ) -> None:
        for n in range(9):
            downloads.bring(f"{n}", b"%d" % n * 100, "copy")
        downloads.bring("large", b"x" * 750, "copy")
        assert cached(folder).keys() == {sha256(b"x" * 750), sha256(b"7" * 100), sha256(b"8" * 100)}

    def test_what_is_larger_than_the_bound_is_not_kept(self, downloads: Downloads, folder: Path) -> None:
        downloads.bring("small", b"bytes")
        downloads.bring("large", b"x" * 1_001)
        assert cached(folder).keys() == {sha256(b"bytes")}

    def test_files_outside_stay_when_their_object_goes(
        self, downloads: Downloads, folder: Path, clock: None
    ) -> None:
        first = downloads.bring("first", b"1" * 600, "hardlink")
        with first.open("rb") as reader:
            downloads.bring("second", b"2" * 600, "hardlink")
            assert cached(folder).keys() == {sha256(b"2" * 600)}
            assert reader.read() == first.read_bytes() == b"1" * 600

    def test_zero_keeps_no_bytes_but_what_was_learnt(self, tmp_path: Path, folder: Path) -> None:
        """Without it, a file identified by an MD5 or ETag could not be told from a stranger next time."""
        downloads = Downloads(tmp_path / "downloads", Cache(folder, 0))
        downloads.bring("a", b"bytes")
        downloads.cache.learn("md5:0", sha256(b"bytes"))
        assert downloads.get("b", b"bytes") is None
        assert downloads.cache.known("md5:0") == sha256(b"bytes")
        assert cached(folder) == {}


class TestKnownKeys:
    def test_a_weaker_key_leads_to_the_bytes(self, cache: Cache, folder: Path) -> None:
        assert cache.known("md5:abc") is None
        cache.learn("md5:abc", sha256(b"bytes"))
        assert cache.known("md5:abc") == Cache(folder, 1_000).known("md5:abc") == sha256(b"bytes")
        cache.learn("md5:abc", sha256(b"other"))
        assert cache.known("md5:abc") == sha256(b"other")

    def test_a_sha256_is_its_own_key(self, cache: Cache, folder: Path) -> None:
        cache.learn("sha256:" + sha256(b"bytes"), sha256(b"other"))
        assert cache.known("sha256:" + sha256(b"bytes")) == sha256(b"bytes")
        assert not folder.exists()

    def test_it_outlives_the_bytes(self, downloads: Downloads, folder: Path) -> None:
        downloads.bring("a", b"1" * 600)
        downloads.cache.learn("md5:abc", sha256(b"1" * 600))
        downloads.bring("b", b"2" * 600)
        assert cached(folder).keys() == {sha256(b"2" * 600)}
        assert downloads.cache.known("md5:abc") == sha256(b"1" * 600)


class TestBatches:
    @pytest.fixture
    def transactions(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The write transactions that begin."""
        begun: list[str] = []
        original = LocalDb._transact

        def counted(self: LocalDb, begin: str, work: Any) -> Any:
            if begin != "BEGIN":
                begun.append(begin)
            return original(self, begin, work)

        monkeypatch.setattr(LocalDb, "_transact", counted)
        return begun

    def test_many_files_cost_few_transactions(
        self, downloads: Downloads, folder: Path, transactions: list[str]
    ) -> None:
        with downloads.cache.batch():
            for n in range(50):
                downloads.bring(f"{n}", b"%02d" % n)
                downloads.cache.learn(f"md5:{n}", sha256(b"%02d" % n))
            for n in range(50):
                assert downloads.get(f"again-{n}", b"%02d" % n) is not None
        assert len(transactions) == 2
        assert cached(folder).keys() == {sha256(b"%02d" % n) for n in range(50)}
        assert list((folder / "tmp").iterdir()) == []

    def test_what_is_new_can_be_had_at_once(self, downloads: Downloads, folder: Path) -> None:
        with downloads.cache.batch():
            downloads.bring("a", b"bytes")
            downloads.cache.learn("md5:abc", sha256(b"bytes"))
            assert cached(folder) == {}
            assert downloads.get("b", b"bytes") is not None
            assert downloads.cache.known_of(["md5:abc", "md5:else"]) == {"md5:abc": sha256(b"bytes")}
        assert Cache(folder, 1_000).known("md5:abc") == sha256(b"bytes")

    def test_damage_before_it_has_its_place_is_noticed(self, downloads: Downloads, folder: Path) -> None:
        with downloads.cache.batch():
            downloads.bring("a", b"bytes")
            [staged] = (folder / "tmp").iterdir()
            staged.chmod(0o644)
            staged.write_bytes(b"BYTES")
            assert downloads.get("b", b"bytes") is None
        assert downloads.get("c", b"bytes") is None

    @pytest.mark.parametrize("sizes", [[400] * 5, [1_000, 1_000], [100] * 9 + [950]])
    def test_the_bound_holds_within_a_batch_too(
        self, downloads: Downloads, folder: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache_module._News, "is_enough", lambda self, max_bytes: False)
        with downloads.cache.batch():
            for n, size in enumerate(sizes):
                downloads.bring(f"{n}", b"%d" % n * size, "copy")
        kept = cached(folder)
        assert 0 < sum(path.stat().st_size for path in kept.values()) <= 1_000
        assert sha256(b"%d" % (len(sizes) - 1) * sizes[-1]) in kept
        assert list((folder / "tmp").iterdir()) == []

    def test_a_batch_takes_no_more_room_than_it_may(self, tmp_path: Path, folder: Path) -> None:
        downloads = Downloads(tmp_path / "downloads", Cache(folder, 8_000))
        with downloads.cache.batch():
            for n in range(20):
                downloads.bring(f"{n}", b"%02d" % n * 150, "copy")
                waiting = sum(path.stat().st_size for path in (folder / "tmp").iterdir())
                assert waiting < 1_000 + 300

    @pytest.mark.parametrize("moment", ["_record", "_move_in"])
    def test_a_process_killed_while_it_writes_leaves_nothing_that_does_not_count(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        """Rows without a file are possible (and are crowded out in time), files without a row are not."""
        child = multiprocessing.get_context("spawn").Process(target=_die, args=(folder, moment))
        child.start()
        child.join()
        assert child.exitcode == 9
        rows = sqlite3.connect(folder / "cache.sqlite")
        known = {sha256 for (sha256,) in rows.execute("SELECT sha256 FROM objects")}
        rows.close()
        assert cached(folder).keys() <= known
        for n in range(12):
            downloads.bring(f"{n}", b"%d" % n * 90, "copy")
        assert sum(path.stat().st_size for path in cached(folder).values()) <= 1_000

    @pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # it is what is tested
    def test_a_forked_child_leaves_the_batch_to_its_parent(self, downloads: Downloads, folder: Path) -> None:
        with downloads.cache.batch():
            downloads.bring("a", b"bytes")
            child = multiprocessing.get_context("fork").Process(
                target=lambda: downloads.bring("b", b"of the child")
            )
            child.start()
            child.join()
            assert child.exitcode == 0
            assert cached(folder).keys() == {sha256(b"of the child")}
        assert cached(folder).keys() == {sha256(b"of the child"), sha256(b"bytes")}


def _die(folder: Path, moment: str) -> None:
    original = getattr(Cache, moment)

    def die(self: Cache, *arguments: Any) -> None:
        original(self, *arguments)
        os._exit(9)

    setattr(Cache, moment, die)
    downloads = Downloads(folder.with_name("of-the-dead"), Cache(folder, 1_000))
    with downloads.cache.batch():
        for n in range(5):
            downloads.bring(f"{n}", b"dead %d" % n)


class TestNeverInTheWay:
    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        downloads = Downloads(tmp_path / "downloads", Cache(tmp_path / "file" / "cache", 1_000))
        downloads.bring("a", b"bytes")
        downloads.cache.learn("md5:abc", sha256(b"bytes"))
        assert downloads.cache.known("md5:abc") is None
        assert downloads.get("b", b"bytes") is None

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
    def test_a_disk_that_refuses_while_a_file_is_kept(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refused(source: Any, target: Any) -> str:
            target.write(b"ha")
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(files, "copy_hashed", refused)
        downloads.bring("a", b"bytes", "copy")
        assert cached(folder) == {}
        assert list((folder / "tmp").iterdir()) == []
        assert [path.name for path in downloads.folder.iterdir()] == ["a"]

    def test_a_target_that_cannot_be_written_is_a_miss(
        self, downloads: Downloads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        downloads.bring("a", b"bytes")

        def refused(source: object, target: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(os, "replace", refused)
        assert downloads.get("b", b"bytes") is None
        assert [path.name for path in downloads.folder.iterdir()] == ["a"]

    def test_only_the_renaming_of_a_placed_file_can_fail(self, downloads: Downloads) -> None:
        (downloads.folder / "dir").mkdir()
        temporary = downloads.folder / "x.part"
        temporary.write_bytes(b"bytes")
        with pytest.raises(IsADirectoryError):
            downloads.cache.place(temporary, sha256(b"bytes"), downloads.folder / "dir")

    def test_bytes_that_changed_on_the_way_are_not_kept(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = files.copy_hashed

        def garble(source: Any, target: Any) -> str:
            target.write(b"!")
            return sha256(b"!" + source.read())

        monkeypatch.setattr(files, "copy_hashed", garble)
        downloads.bring("a", b"bytes", "copy")
        assert cached(folder) == {}
        monkeypatch.setattr(files, "copy_hashed", original)

    def test_an_index_that_another_holds_costs_one_wait(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not one wait for each of a million files."""
        downloads.bring("a", b"bytes")
        monkeypatch.setattr(localdb, "BUSY_TIMEOUT_S", 0.01)
        downloads.cache = Cache(folder, 1_000)
        tries: list[str] = []
        holder = sqlite3.connect(folder / "cache.sqlite", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        original = LocalDb._transact

        def counted(self: LocalDb, begin: str, work: Any) -> Any:
            tries.append(begin)
            return original(self, begin, work)

        monkeypatch.setattr(LocalDb, "_transact", counted)
        for n in range(20):
            assert downloads.get(f"{n}", b"bytes") is not None
        assert tries == ["BEGIN IMMEDIATE"]
        holder.close()


class TestLeftOver:
    LEFT = ".refart-0123456789abcdef.tmp"

    def left(self, folder: Path) -> Path:
        (folder / "tmp").mkdir(parents=True)
        (folder / "tmp" / self.LEFT).write_bytes(b"half")
        return folder / "tmp" / self.LEFT

    def test_what_a_killed_process_left_does_not_stay_beyond_the_bound(
        self, downloads: Downloads, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = self.left(folder)
        monkeypatch.setattr(cache_module, "LEFT_OVER_S", -60.0)
        downloads.bring("a", b"bytes")
        assert not left.exists()

    def test_what_another_process_may_be_working_on_stays(self, downloads: Downloads, folder: Path) -> None:
        left = self.left(folder)
        downloads.bring("a", b"bytes")
        assert left.exists()


class TestManyAtOnce:
    @pytest.mark.parametrize("link", WAYS)
    def test_threads_that_bring_the_same_bytes(self, downloads: Downloads, folder: Path, link: Link) -> None:
        with ThreadPoolExecutor(8) as pool:
            targets = list(pool.map(lambda n: downloads.bring(f"{n}", b"bytes", link), range(40)))
            assert all(pool.map(lambda n: downloads.get(f"again-{n}", b"bytes", link) is not None, range(40)))
        assert {target.read_bytes() for target in targets} == {b"bytes"}
        assert cached(folder).keys() == {sha256(b"bytes")}
        assert list((folder / "tmp").iterdir()) == []

    @pytest.mark.parametrize("link", WAYS)
    def test_threads_that_bring_the_same_bytes_in_a_batch(
        self, downloads: Downloads, folder: Path, link: Link
    ) -> None:
        with downloads.cache.batch(), ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: downloads.bring(f"{n}", b"%d" % (n % 3), link), range(60)))
        assert cached(folder).keys() == {sha256(b"%d" % n) for n in range(3)}
        assert list((folder / "tmp").iterdir()) == []

    def test_processes_that_crowd_each_other_out(self, folder: Path, tmp_path: Path) -> None:
        """Each finds its bytes right or not at all, and the bound holds at the end."""
        context = multiprocessing.get_context("spawn")
        children = [context.Process(target=_crowd, args=(folder, tmp_path / f"{n}")) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
        kept = cached(folder)
        assert 0 < sum(path.stat().st_size for path in kept.values()) <= 1_000
        assert all(sha256(path.read_bytes()) == name for name, path in kept.items())
        assert list((folder / "tmp").iterdir()) == []


def _crowd(folder: Path, target: Path) -> None:
    downloads = Downloads(target, Cache(folder, 1_000))
    for n in range(40):
        data = b"%02d" % (n % 20) * 150
        if downloads.get(f"{n}", data) is None:
            downloads.bring(f"{n}", data)
        assert (target / f"{n}").read_bytes() == data
