"""The file system as a source."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart import checksums, files, names
from refart.entries import PAGE_ROWS, Entry
from refart.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.receipts import Receipts
from refart.sources import local
from refart.sources.local import LocalSource
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

    def test_names_that_are_not_utf8_are_named(self, source: LocalSource, place: Folder) -> None:
        (place.path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
        with pytest.raises(InvalidInputError, match=r"caf\\xe9.*not UTF-8.*rename"):
            listed(source, place.uri)

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
        with pytest.raises(InvalidInputError, match=r"e/back' is a symbolic link back"):
            listed(source, f"{place.uri}/d")

    def test_a_folder_that_cannot_be_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/secret/x", b"x")
        original = os.scandir

        def denied(path: str) -> Any:
            if path.rstrip("/").endswith("secret"):
                raise PermissionError(13, "Permission denied", path)
            return original(path)

        monkeypatch.setattr(os, "scandir", denied)
        with pytest.raises(PermissionDeniedError, match=r"d/secret.*permission denied"):
            listed(source, f"{place.uri}/d")

    def test_a_file_that_cannot_be_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/secret", b"x")
        entry = Entry("secret", 1, sha256(b"x"), f"{place.uri}/d/secret")

        def denied(self: Path, *args: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
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

        class Failing:
            name = "bad"

            def read(self, count: int) -> bytes:
                raise OSError(5, "Input/output error")

        original = files.chunks
        monkeypatch.setattr(files, "chunks", lambda file: original(Failing()))  # type: ignore[arg-type]
        with pytest.raises(SourceError, match="Input/output error"):
            listed(source, f"{place.uri}/d")


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
        assert [page.num_rows for page in pages] == [100] * 10
        monkeypatch.setattr(files, "open_for_reading", lambda path: pytest.fail(f"{path} was read again"))
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

    def test_without_identity_no_file_is_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.put("d/a", b"bytes")
        monkeypatch.setattr(files, "open_for_reading", lambda path: pytest.fail(f"{path} was read"))
        [entry] = listed(source, f"{place.uri}/d", identify=False).values()
        assert (entry.size, entry.content_id) == (5, checksums.NONE)

    def test_what_is_not_wanted_is_not_read(
        self, source: LocalSource, place: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b", "c"):
            place.put(f"d/{name}", name.encode())
        original = files.open_for_reading
        read_names: list[str] = []

        def noted(path: files.StrPath) -> BinaryIO:
            read_names.append(os.path.basename(path))
            return original(path)

        monkeypatch.setattr(files, "open_for_reading", noted)
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
        original = files.sha256_of

        def growing(file: Any) -> str:
            with path.open("ab") as more:
                more.write(b"more")
            return original(file)

        monkeypatch.setattr(files, "sha256_of", growing)
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
        monkeypatch.setattr(files, "chunks", lambda file: pytest.fail("it was hashed again"))
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

    def test_a_managed_file_is_not_read_here(self, source: LocalSource) -> None:
        with pytest.raises(InvalidInputError, match="managed file"):
            source.open(Entry("a", 1, sha256(b"x")))
