"""The file system as a source."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums, files, names
from refart.config import default_threads
from refart.entries import PAGE_ROWS, Entry, Page
from refart.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.ops.patterns import page_filter
from refart.receipts import Receipts
from refart.sources.base import Identify
from refart.sources.local import source as local
from refart.sources.local import walk as local_walk
from refart.sources.local.source import LocalSource
from tests.sources.suite import SourceSuite, listed, read


class Folder:
    """A folder written without the code under test. Files are replaced in place, as most programs do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = f"file://{path}"

    def put(self, key: str, data: bytes) -> Path:
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def delete(self, key: str) -> None:
        (self.path / key).unlink()


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    (tmp_path / "lake").mkdir()
    return Folder(tmp_path / "lake")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[LocalSource]:
    receipts = Receipts(tmp_path / "receipts.sqlite")
    yield LocalSource({}, receipts)
    receipts.close()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class TestSuite(SourceSuite):
    held = "local"
    keeps_versions = False
    refuses_changed = False
    content_algo = "sha256"
    rung = "sha256"
    missing_prefix_is_error = True
    odd_keys = (*SourceSuite.odd_keys, "tab\there", "bell\a", "C:", "~", "a b#c?d%20", "x" * 255)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Folder:
        (tmp_path / "lake").mkdir()
        return Folder(tmp_path / "lake")

    @pytest.fixture
    def source(self, tmp_path: Path) -> Iterator[LocalSource]:
        receipts = Receipts(tmp_path / "receipts.sqlite")
        yield LocalSource({}, receipts)
        receipts.close()


class TestNames:
    def test_a_file_uri_is_taken_as_it_stands(self, source: LocalSource, place: Folder) -> None:
        place.put("a b#c?d%20", b"odd")
        place.put("a b", b"another")
        [entry] = listed(source, f"{place.uri}/a b#c?d%20").values()
        assert entry == Entry("a b#c?d%20", 3, sha256(b"odd"), f"{place.uri}/a b#c?d%20")

    def test_plain_paths_are_stored_as_absolute_uris(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("home/data/a", b"x")
        monkeypatch.chdir(place.path / "home")
        monkeypatch.setenv("HOME", str(place.path / "home"))
        for uri in (
            "data",
            "./data/",
            str(place.path / "home/data"),
            "~/data",
            "../home/data",
            "data/../data",
        ):
            [entry] = listed(source, uri).values()
            assert (entry.path, entry.uri) == ("a", f"{place.uri}/home/data/a")

    def test_a_tilde_in_a_uri_is_a_name(self, source: LocalSource, place: Folder) -> None:
        place.put("~/a", b"x")
        assert listed(source, f"{place.uri}/~").keys() == {"a"}

    def test_two_dots_after_a_symbolic_link_lead_where_the_system_says(
        self, source: LocalSource, place: Folder
    ) -> None:
        place.put("far/away/x", b"right")
        place.put("x", b"wrong")
        (place.path / "link").symlink_to(place.path / "far" / "away")
        [entry] = listed(source, f"{place.path}/link/../away/x").values()
        assert entry.content_id == sha256(b"right")

    @pytest.mark.parametrize("uri", ["file://host/a", "file://", "file://relative"])
    def test_a_uri_without_an_absolute_path_is_refused(self, source: LocalSource, uri: str) -> None:
        with pytest.raises(InvalidInputError, match="absolute path"):
            source.scan(uri)

    def test_a_slash_after_a_file_is_no_folder(self, source: LocalSource, place: Folder) -> None:
        place.put("a", b"x")
        with pytest.raises(NotFoundError):
            listed(source, f"{place.path}/a/b")

    @pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9/inner"], ids=["file", "folder"])
    def test_names_that_are_not_utf8_are_named(self, source: LocalSource, place: Folder, name: bytes) -> None:
        place.put(os.fsdecode(name), b"x")
        with pytest.raises(InvalidInputError, match=r"caf\\xe9.*not UTF-8.*rename.*exclude="):
            listed(source, place.uri)

    def test_a_current_folder_that_is_not_utf8(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(place.put(os.fsdecode(b"caf\xe9/inner"), b"x").parent)
        for use in (source.stat, source.scan):
            with pytest.raises(InvalidInputError, match="not valid Unicode"):
                use("inner")

    @given(
        keys=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20))
    )
    def test_any_name_survives(self, tmp_path_factory: pytest.TempPathFactory, keys: set[str]) -> None:
        place = Folder(tmp_path_factory.mktemp("lake"))
        keys -= {".", ".."}
        for key in keys:
            place.put(f"d/{key}", key.encode())
        if keys:
            found = listed(LocalSource(), f"{place.uri}/d")
            assert {path: entry.uri for path, entry in found.items()} == {
                names.path_from_key(key): f"{place.uri}/d/{key}" for key in keys
            }

    def test_storage_options_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="auto_mkdir"):
            LocalSource({"auto_mkdir": True})


class TestWhatIsNoFile:
    """A folder is taken whole or not at all: whatever cannot be an entry is an error that names it."""

    def test_an_empty_folder_gives_no_page(self, source: LocalSource, place: Folder) -> None:
        (place.path / "empty" / "inner").mkdir(parents=True)
        assert list(source.scan(f"{place.uri}/empty").pages) == []

    def test_a_folder_that_does_not_exist(self, source: LocalSource, place: Folder) -> None:
        with pytest.raises(NotFoundError, match=r"nothing-here' does not exist"):
            source.scan(f"{place.uri}/nothing-here")

    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a folder"])
    @pytest.mark.parametrize("kind", ["socket", "pipe"])
    def test_sockets_and_pipes(self, source: LocalSource, place: Folder, kind: str, alone: bool) -> None:
        place.put("d/a", b"x")
        path = place.path / "d" / "odd"
        if kind == "pipe":
            os.mkfifo(path)
        else:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(path))
        with pytest.raises(InvalidInputError, match=rf"odd' is a {kind}"):
            listed(source, f"{place.uri}/d/odd" if alone else f"{place.uri}/d")

    @pytest.mark.parametrize("most", [2, 1000])
    def test_unfinished_files_of_refart_are_left_out(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        """What a killed restore leaves would be data that no download could place. Names like it are data."""
        monkeypatch.setattr(local_walk, "MOST_ITEMS", most)
        kept = {".refart-", ".refart-0.tmp", ".refart-notes", "a", "sub/b", f".refart-{'0' * 16}.tmp.bak"}
        for key in kept:
            place.put(key, b"1")
        for folder in ("", "sub/"):
            for number in range(3):
                place.put(f"{folder}.refart-{number:016x}.tmp", b"half")
        assert set(listed(source, place.uri)) == kept

    def test_what_the_patterns_leave_out_may_be_anything(self, source: LocalSource, place: Folder) -> None:
        """They see U+FFFD where a name is not UTF-8."""
        place.put("d/a", b"x")
        place.put(os.fsdecode(b"d/caf\xe9/inner"), b"x")
        os.mkfifo(place.path / "d/pipe")
        uri = f"{place.uri}/d"
        keep = page_filter(exclude=["pipe", "caf\ufffd/"])
        assert [page.column("path").to_pylist() for page in source.scan(uri, keep=keep).pages] == [["a"]]
        for exclude, named in (("pipe", r"caf\\xe9/inner"), ("caf*", "pipe' is a pipe.*exclude=")):
            with pytest.raises(InvalidInputError, match=named):
                list(source.scan(uri, keep=page_filter(exclude=exclude)).pages)

    def test_devices(self, source: LocalSource) -> None:
        with pytest.raises(InvalidInputError, match="'/dev/null' is a device"):
            listed(source, "/dev/null")

    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a folder"])
    def test_broken_links(self, source: LocalSource, place: Folder, alone: bool) -> None:
        place.put("d/a", b"x")
        (place.path / "d/broken").symlink_to("gone")
        with pytest.raises(NotFoundError, match=r"d/broken' is a symbolic link to 'gone'"):
            listed(source, f"{place.uri}/d/broken" if alone else f"{place.uri}/d")

    def test_links_to_themselves(self, source: LocalSource, place: Folder) -> None:
        (place.path / "loop").symlink_to("loop")
        with pytest.raises(InvalidInputError, match="loop"):
            listed(source, place.uri)

    def test_links_back_to_a_folder_above(self, source: LocalSource, place: Folder) -> None:
        place.put("d/e/x", b"x")
        (place.path / "d/e/back").symlink_to(place.path / "d")
        with pytest.raises(
            InvalidInputError, match=r"e/back' is a symbolic link back.*follow_symlinks=False"
        ):
            listed(source, f"{place.uri}/d")

    def test_a_folder_that_cannot_be_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/secret/x", b"x")
        original = os.open

        def denied(path: str, *args: Any, **options: Any) -> int:
            if str(path).rstrip("/").endswith("secret"):
                raise PermissionError(13, "Permission denied", path)
            return original(path, *args, **options)

        monkeypatch.setattr(os, "open", denied)
        with pytest.raises(PermissionDeniedError, match=r"d/secret.*permission denied"):
            listed(source, f"{place.uri}/d")

    def test_a_file_that_cannot_be_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/secret", b"x")
        entry = Entry("secret", 1, sha256(b"x"), f"{place.uri}/d/secret")

        def denied(path: Any, *args: object, **options: object) -> Any:
            raise files.reading_error(PermissionError(13, "Permission denied"), path)

        monkeypatch.setattr(files, "open_descriptor", denied)
        monkeypatch.setattr(files, "open_for_reading", denied)
        uses: list[Callable[[], object]] = [
            lambda: listed(source, f"{place.uri}/d"),
            lambda: source.stat(entry.uri or ""),
            lambda: read(source, entry),
            lambda: source.open(entry),
        ]
        for use in uses:
            with pytest.raises(PermissionDeniedError, match=r"secret.*permission denied"):
                use()

    def test_a_disk_that_fails(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/bad", b"x")

        def failing(descriptor: int, buffers: object) -> int:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "readv", failing)
        with pytest.raises(SourceError, match="Input/output error") as error:
            listed(source, f"{place.uri}/d")
        assert error.value.transient

    @pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
    def test_a_file_server_that_went_away(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        place.put("d/a", b"x")

        def gone(path: str) -> Any:
            raise OSError(code, os.strerror(code), path)

        monkeypatch.setattr(os, "scandir", gone)
        with pytest.raises(SourceError, match=rf"/d/'.*{os.strerror(code)}") as error:
            listed(source, f"{place.uri}/d")
        assert error.value.transient

    def test_a_file_that_vanishes_while_its_folder_is_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/a", b"x")
        original = local_walk._listed

        def listed_then_gone(*args: Any, **options: Any) -> Any:
            answer = original(*args, **options)
            place.delete("d/a")
            return answer

        monkeypatch.setattr(local_walk, "_listed", listed_then_gone)
        with pytest.raises(NotFoundError, match=r"d/a' vanished while its folder was read"):
            listed(source, f"{place.uri}/d")

    def test_a_file_that_vanishes_before_it_is_hashed(self, source: LocalSource, place: Folder) -> None:
        place.put("d/a", b"x")

        def deleting(page: Page) -> Page:
            place.delete("d/a")
            return page

        pages = source.scan(f"{place.uri}/d", keep=deleting).pages
        with pytest.raises(NotFoundError, match=r"d/a' does not exist"):
            next(pages)


class TestLinks:
    def test_links_to_files_and_folders_are_followed(self, source: LocalSource, place: Folder) -> None:
        place.put("far/x", b"x")
        place.put("d/y", b"y")
        (place.path / "d/link").symlink_to(place.path / "far")
        (place.path / "d/z").symlink_to(place.path / "far/x")
        found = listed(source, f"{place.uri}/d")
        assert {path: entry.uri for path, entry in found.items()} == {
            path: f"{place.uri}/d/{path}" for path in ("link/x", "y", "z")
        }
        assert found["z"].content_id == found["link/x"].content_id == sha256(b"x")

    def test_two_links_to_one_folder_are_no_loop(self, source: LocalSource, place: Folder) -> None:
        place.put("far/x", b"x")
        (place.path / "d").mkdir()
        (place.path / "d/one").symlink_to("../far")
        (place.path / "d/two").symlink_to("../far")
        assert listed(source, f"{place.uri}/d").keys() == {"one/x", "two/x"}

    def test_links_can_be_left_out(self, source: LocalSource, place: Folder) -> None:
        """With what they lead to, be it nothing or a loop; the named folder itself may be a link."""
        place.put("far/x", b"x")
        place.put("d/in/y", b"y")
        links = {"folder": "../far", "file": "../far/x", "in/loop": "..", "broken": "gone", "self": "self"}
        for name, target in links.items():
            (place.path / "d" / name).symlink_to(target)
        (place.path / "named").symlink_to("d")
        for folder in ("d", "named"):
            found = listed(source, f"{place.uri}/{folder}", follow_symlinks=False)
            assert {entry.uri for entry in found.values()} == {f"{place.uri}/{folder}/in/y"}
        [entry] = listed(source, f"{place.uri}/d/file", follow_symlinks=False).values()
        assert entry.content_id == sha256(b"x")

    def test_hard_links_are_files(self, source: LocalSource, place: Folder) -> None:
        os.link(place.put("d/x", b"x"), place.path / "d/y")
        found = listed(source, f"{place.uri}/d", follow_symlinks=False)
        assert {path: entry.content_id for path, entry in found.items()} == dict.fromkeys("xy", sha256(b"x"))


class TestWalk:
    """The walk as it is on a fast disk, and as it is where every step waits."""

    @pytest.fixture(params=["fast", "slow"], autouse=True)
    def speed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_walk, "JUDGED_S", 0.0)
        monkeypatch.setattr(local_walk, "_waited", lambda *_: request.param == "slow")

    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Folders are large already with a few files, and taken in parts with a few more."""
        monkeypatch.setattr(local_walk, "STEP_ITEMS", 2)
        monkeypatch.setattr(local_walk, "STEP_S", 0.0)
        monkeypatch.setattr(local_walk, "PARTS", 2)
        monkeypatch.setattr(local_walk, "MOST_ITEMS", 10)

    @pytest.mark.usefixtures("small")
    def test_every_file_is_found_once(self, place: Folder) -> None:
        expected = {f"{n % 3}/{n % 7}/{n % 2}/{n}" for n in range(700)} | {f"{n}.txt" for n in range(24)}
        for key in expected:
            place.put(key, b"")
        found = list(listed(LocalSource(), place.uri, identify="none"))
        assert sorted(found) == sorted(expected)

    @pytest.mark.usefixtures("small")
    def test_a_walk_left_early_closes_its_folders(
        self, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Unclosed ones would warn, and warnings are errors here."""
        monkeypatch.setattr(local, "PAGE_FILES", 10)
        for n in range(400):
            place.put(f"{n % 5}/{n}", b"")
        before = len(os.listdir("/proc/self/fd"))
        pages = LocalSource().scan(place.uri, identify="none").pages
        next(pages)
        pages.close()  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) <= before

    @pytest.mark.usefixtures("small")
    def test_few_folders_are_open_at_a_time(self, place: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        """However deep the tree is and however many files each of its folders holds."""
        for depth in range(100):
            for n in range(14):
                place.put("d/" * depth + f"{n}", b"")
        opened = [0]
        original = local_walk._look_up

        def counted(*args: Any) -> Any:
            opened.append(len(os.listdir("/proc/self/fd")))
            return original(*args)

        monkeypatch.setattr(local_walk, "_look_up", counted)
        before = len(os.listdir("/proc/self/fd"))
        assert len(listed(LocalSource(), place.uri, identify="none")) == 1_400
        assert max(opened) <= before + 3 * default_threads()

    def test_a_file_whose_path_is_too_long_is_an_error(self, place: Folder) -> None:
        """It could be found from its folder, but never be opened by its URI."""
        folder = str(place.path)
        while len(folder) < 4_000:
            folder += "/" + "d" * min(200, 4_000 - len(folder))
            os.mkdir(folder)
        descriptor = os.open(folder, os.O_RDONLY)
        os.close(os.open("x" * 200, os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        try:
            with pytest.raises(InvalidInputError, match="File name too long"):
                listed(LocalSource(), place.uri, identify="none")
        finally:
            os.unlink("x" * 200, dir_fd=descriptor)
            os.close(descriptor)

    @pytest.fixture
    def deepen(self, place: Folder) -> Iterator[Callable[[int], None]]:
        """Makes so many folders one inside the other, with a file in the last. Removed by a program that does not
        recurse, as the standard library does."""

        def make(depth: int) -> None:
            folder = os.open(place.path, os.O_RDONLY)
            for _ in range(depth):
                os.mkdir("d", dir_fd=folder)
                below = os.open("d", os.O_RDONLY, dir_fd=folder)
                os.close(folder)
                folder = below
            os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
            os.close(folder)

        yield make
        subprocess.run(["rm", "-r", str(place.path)], check=True)

    def test_a_tree_as_deep_as_a_path_can_be(self, place: Folder, deepen: Callable[[int], None]) -> None:
        depth = (4_000 - len(str(place.path))) // 2
        deepen(depth)
        assert listed(LocalSource(), place.uri, identify="none").keys() == {"d/" * depth + "x"}

    def test_a_deeper_tree_is_an_error(self, place: Folder, deepen: Callable[[int], None]) -> None:
        """Linux opens no path of 4,096 bytes."""
        deepen(10_000)
        with pytest.raises(InvalidInputError, match="File name too long"):
            listed(LocalSource(), place.uri, identify="none")

    def test_an_error_in_one_folder_ends_the_walk(
        self, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(50):
            place.put(f"{n}/x", b"")
        (place.path / "33" / "broken").symlink_to("gone")
        with pytest.raises(NotFoundError, match="33/broken"):
            listed(LocalSource(), place.uri, identify="none")


@pytest.mark.parametrize(("slow", "key"), [("_listed", "{n}/x"), ("_look_up", "one/{n}")])
def test_where_a_step_waits_more_threads_work(
    place: Folder, monkeypatch: pytest.MonkeyPatch, slow: str, key: str
) -> None:
    """In many folders and in one large one. After ten slow steps, each of the next eight ends only once three
    others have begun."""
    monkeypatch.setattr(local_walk, "STEP_ITEMS", 1)
    for n in range(60):
        place.put(key.format(n=n), b"")
    together = threading.Barrier(4)
    original = getattr(local_walk, slow)
    count = itertools.count()

    def waiting(*args: Any, **options: Any) -> Any:
        begun = next(count)
        if begun < 10:
            time.sleep(0.02)  # stands for a slow file system: it takes time and no processor
        elif begun < 18:
            together.wait(60)
        return original(*args, **options)

    monkeypatch.setattr(local_walk, slow, waiting)
    assert len(listed(LocalSource(), place.uri, identify="none")) == 60


class TestPages:
    def test_a_thousand_files(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A page ends after so many files, and the second scan reads none of them."""
        monkeypatch.setattr(local, "PAGE_FILES", 100)
        expected = {}
        for n in range(1_000):
            key, data = f"{n % 7}/{n % 13}/{n}", b"%d" % n * (n % 50)
            place.put(key, data)
            expected[key] = sha256(data)
        pages = list(source.scan(place.uri).pages)
        assert sum(page.num_rows for page in pages) == 1_000
        assert all(100 <= page.num_rows <= 112 for page in pages[:-1])
        monkeypatch.setattr(files, "open_descriptor", lambda path: pytest.fail(f"{path} was read again"))
        assert {path: entry.content_id for path, entry in listed(source, place.uri).items()} == expected

    def test_pages_hold_no_more_than_a_manifest_takes(self) -> None:
        assert local.PAGE_FILES <= PAGE_ROWS

    def test_large_files_end_a_page_early(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local, "PAGE_BYTES", 1_000)
        for n in range(6):
            place.put(f"{n}", b"x" * 500)
        assert [page.num_rows for page in source.scan(place.uri).pages] == [2, 2, 2]
        assert [page.num_rows for page in source.scan(place.uri, identify="stat").pages] == [6]

    def test_sparse_files(self, source: LocalSource, place: Folder) -> None:
        """Ten GiB that occupy one block: at once where nothing is read, and hashed as the zeros that they are."""
        for name, size in (("huge", 10 << 30), ("large", 20 << 20)):
            with place.put(name, b"").open("r+b") as file:
                file.seek(size - 1)
                file.write(b"x")
        found = listed(source, place.uri, identify="stat")
        assert {path: entry.size for path, entry in found.items()} == {"huge": 10 << 30, "large": 20 << 20}
        with source.open(found["huge"]).file as stream:
            stream.seek(-2, os.SEEK_END)
            assert stream.read() == b"\0x"
        [entry] = listed(source, f"{place.uri}/large").values()
        assert entry.content_id == sha256(bytes((20 << 20) - 1) + b"x")

    @pytest.mark.parametrize("identify", ["none", "stat"])
    def test_without_a_hash_no_file_is_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch, identify: Identify
    ) -> None:
        mtime_ns = place.put("d/a", b"bytes").stat().st_mtime_ns
        monkeypatch.setattr(files, "open_for_reading", lambda path: pytest.fail(f"{path} was read"))
        for uri in (f"{place.uri}/d", f"{place.uri}/d/a"):
            [entry] = listed(source, uri, identify=identify).values()
            content_id = checksums.NONE if identify == "none" else f"stat:{mtime_ns}"
            assert entry == Entry("a", 5, content_id, f"{place.uri}/d/a")
            assert checksums.is_weak(content_id)

    @pytest.mark.parametrize("mtime_ns", [10**19, -(10**10)], ids=["in the year 2286", "before 1970"])
    def test_far_off_modified_times(self, source: LocalSource, place: Folder, mtime_ns: int) -> None:
        """That of a file is exact where it identifies it, also where it is too large for a column of numbers."""
        for name in ("a", "b"):
            place.put(f"d/{name}", b"bytes")
        os.utime(place.path / "d/a", ns=(mtime_ns, mtime_ns))
        if (place.path / "d/a").stat().st_mtime_ns != mtime_ns:
            pytest.skip("this file system keeps no such time")
        assert listed(source, f"{place.uri}/d", identify="stat")["a"].content_id == f"stat:{mtime_ns}"
        for _ in range(2):
            assert listed(source, f"{place.uri}/d")["a"].content_id == sha256(b"bytes")

    def test_what_is_not_wanted_is_not_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b", "c"):
            place.put(f"d/{name}", name.encode())
        original = files.open_descriptor
        read_names: list[str] = []

        def noted(path: files.StrPath) -> int:
            read_names.append(os.path.basename(path))
            return original(path)

        monkeypatch.setattr(files, "open_descriptor", noted)
        [page] = source.scan(
            f"{place.uri}/d", keep=lambda page: page.filter(pc.equal(page.column("path"), "b"))
        ).pages
        assert page.column("path").to_pylist() == read_names == ["b"]
        assert page.column("content_id").to_pylist() == [sha256(b"b")]

    def test_pages_left_early_leave_no_thread(self, source: LocalSource, place: Folder) -> None:
        for n in range(20):
            place.put(f"{n}", b"x")
        pages = source.scan(place.uri).pages
        next(pages)
        pages.close()  # type: ignore[attr-defined]

    def test_a_file_written_during_the_scan_is_an_error(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = place.put("growing", b"x" * 100)
        original = files.hash_rest

        def growing(*args: Any) -> tuple[str, int]:
            with path.open("ab") as more:
                more.write(b"more")
            return original(*args)

        monkeypatch.setattr(files, "hash_rest", growing)
        with pytest.raises(ConflictError, match=r"growing' changed while it was read"):
            listed(source, place.uri)


class TestReading:
    def logged(self, source: LocalSource, place: Folder, data: bytes) -> Entry:
        place.put("d/a", data)
        [entry] = listed(source, f"{place.uri}/d").values()
        return entry

    def test_another_size_is_noticed_before_a_byte_is_read(self, source: LocalSource, place: Folder) -> None:
        entry = self.logged(source, place, b"logged")
        place.put("d/a", b"longer than before")
        with pytest.raises(ReferenceChangedError) as error, source.fetch(entry):
            pytest.fail("the file was opened")
        for part in ("'a'", entry.uri, "expected 6 bytes", "found 18 bytes"):
            assert str(part) in str(error.value)

    def test_a_file_replaced_while_it_is_read_gives_the_logged_bytes(
        self, source: LocalSource, place: Folder
    ) -> None:
        """By rename, as careful programs write: the open file stays what it was."""
        old, new = b"o" * 4_000_000, b"n" * 4_000_000
        entry = self.logged(source, place, old)
        with source.fetch(entry) as fetched:
            first = next(fetched.chunks)
            place.put("d/new", new).replace(place.path / "d/a")
            assert first + b"".join(fetched.chunks) == old

    def test_a_file_overwritten_while_it_is_read_is_an_error(
        self, source: LocalSource, place: Folder
    ) -> None:
        """In place: old and new bytes mix, which the hash would tell, and the modified time tells too."""
        entry = self.logged(source, place, b"o" * 4_000_000)
        with source.fetch(entry) as fetched:
            next(fetched.chunks)
            place.put("d/a", b"n" * 4_000_000)
            with pytest.raises(ReferenceChangedError, match="changed while it was read"):
                list(fetched.chunks)

    def test_open_refuses_other_bytes_of_the_same_size(self, source: LocalSource, place: Folder) -> None:
        entry = self.logged(source, place, b"logged")
        place.put("d/a", b"newer!")
        with pytest.raises(ReferenceChangedError) as error:
            source.open(entry)
        assert entry.content_id in str(error.value)
        assert sha256(b"newer!") in str(error.value)

    def test_open_of_an_unchanged_file_reads_it_only_for_its_reader(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entry = self.logged(source, place, b"logged")
        monkeypatch.setattr(files, "hash_rest", lambda *_: pytest.fail("it was hashed again"))
        with source.open(entry).file as stream:
            assert stream.read() == b"logged"

    def test_a_folder_where_a_file_was_is_a_missing_reference(
        self, source: LocalSource, place: Folder
    ) -> None:
        entry = self.logged(source, place, b"logged")
        place.delete("d/a")
        (place.path / "d/a").mkdir()
        assert source.stat(entry.uri or "") is None
        with pytest.raises(ReferenceMissingError):
            read(source, entry)

    @pytest.mark.parametrize("identify", ["best", "stat", "none"])
    def test_a_file_overwritten_while_it_is_open_is_an_error(
        self, source: LocalSource, place: Folder, identify: Identify
    ) -> None:
        place.put("d/a", b"o" * 100_000)
        os.utime(place.path / "d/a", ns=(1, 1))
        [entry] = listed(source, f"{place.uri}/d", identify=identify).values()
        with source.open(entry).file as stream:
            assert stream.read(1_000) == b"o" * 1_000
            place.put("d/a", b"n" * 100_000)
            with pytest.raises(ReferenceChangedError, match="changed while it was read"):
                stream.read(1_000)

    def test_a_file_known_by_size_and_time_is_read(self, source: LocalSource, place: Folder) -> None:
        place.put("d/a", b"logged")
        [entry] = listed(source, f"{place.uri}/d", identify="stat").values()
        with source.fetch(entry) as fetched:
            assert (fetched.size, fetched.content_id) == (6, entry.content_id)
            assert b"".join(fetched.chunks) == b"logged"
        with source.open(entry).file as stream:
            assert stream.read() == b"logged"

    @pytest.mark.parametrize("step_ns", [-1_000_000_000, 1], ids=["older", "newer"])
    def test_another_modified_time_is_another_file(
        self, source: LocalSource, place: Folder, step_ns: int
    ) -> None:
        path = place.put("d/a", b"logged")
        [entry] = listed(source, f"{place.uri}/d", identify="stat").values()
        mtime_ns = path.stat().st_mtime_ns + step_ns
        os.utime(path, ns=(mtime_ns, mtime_ns))
        for use in (source.open, lambda entry: read(source, entry)):
            with pytest.raises(ReferenceChangedError) as error:
                use(entry)
            for part in ("'a'", entry.uri, entry.content_id, f"stat:{mtime_ns}"):
                assert str(part) in str(error.value)

    def test_a_file_that_takes_its_place_before_it_is_opened(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/a", b"logged")
        [entry] = listed(source, f"{place.uri}/d", identify="stat").values()
        original = files.open_for_reading

        def replaced(path: files.StrPath) -> BinaryIO:
            other = place.put("other", b"newer!")
            os.utime(other, ns=(1, 1))
            other.replace(path)
            return original(path)

        monkeypatch.setattr(files, "open_for_reading", replaced)
        with pytest.raises(ReferenceChangedError, match="found stat:1;"):
            read(source, entry)

    def test_a_managed_file_is_not_read_here(self, source: LocalSource) -> None:
        with pytest.raises(InvalidInputError, match="managed file"):
            source.open(Entry("a", 1, sha256(b"x")))
