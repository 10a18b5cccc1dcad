"""Drivers that are lent out, chains of them, and what their errors say."""

from __future__ import annotations

import multiprocessing
import os
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import paramiko
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem

from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RefartError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.generic import drivers as generic_drivers
from refart.sources.generic.drivers import Drivers
from refart.sources.generic.source import GenericSource
from tests.processes import reserved_ports
from tests.servers import SFTP, SFTPFolder
from tests.sources.suite import listed, read, read_checked


@pytest.fixture
def folder(sftp: SFTP) -> SFTPFolder:
    folder = sftp.folder()
    folder.put("a", b"logged")
    return folder


@pytest.fixture
def source(sftp: SFTP) -> GenericSource:
    return GenericSource(sftp.storage_options)


def connections() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if isinstance(thread, paramiko.Transport)}


# -- lending -----------------------------------------------------------------------------------------------------


def test_connections_are_as_many_as_threads_and_are_used_again(
    source: GenericSource, folder: SFTPFolder
) -> None:
    before = connections()
    entry = listed(source, folder.uri)["a"]
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: read(source, entry), range(40))) == {b"logged"}
    assert 1 <= len(connections() - before) <= 4


def test_a_connection_that_was_lost_while_idle_is_opened_again(
    source: GenericSource, folder: SFTPFolder
) -> None:
    before = connections()
    entry = listed(source, folder.uri)["a"]
    for connection in connections() - before:
        connection.close()  # type: ignore[attr-defined]  # a Transport
    assert read(source, entry) == b"logged"
    assert source.stat(folder.uri + "/a") == entry


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # paramiko asks in a thread
def test_a_connection_that_is_lost_while_it_is_read_is_a_transient_error(
    source: GenericSource, folder: SFTPFolder
) -> None:
    folder.put("a", b"x" * 3_000_000)
    before = connections()
    entry = listed(source, folder.uri)["a"]
    with source.fetch(entry) as fetched:
        chunks = iter(fetched.chunks)
        next(chunks)
        for connection in connections() - before:
            connection.close()  # type: ignore[attr-defined]
        with pytest.raises(SourceError, match="cannot be reached, or hung up") as error:
            list(chunks)
    assert error.value.transient
    assert len(read(source, entry)) == 3_000_000


def test_a_forked_child_opens_connections_of_its_own(source: GenericSource, folder: SFTPFolder) -> None:
    entry = listed(source, folder.uri)["a"]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=lambda: answers.put(read(source, entry)))
    child.start()
    assert answers.get(timeout=60) == b"logged"
    child.join()
    assert read(source, entry) == b"logged"


class Asynchronous(AsyncFileSystemWrapper):  # type: ignore[misc]  # fsspec has no types
    """The files of this machine, asynchronously."""

    protocol = "asynchronous"
    made = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(fs=LocalFileSystem(), asynchronous=False, **options)
        Asynchronous.made += 1

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("asynchronous://").rstrip("/")


def test_an_asynchronous_driver_serves_all_threads(tmp_path: Path) -> None:
    fsspec.register_implementation("asynchronous", Asynchronous, clobber=True)
    for n in range(20):
        (tmp_path / f"{n % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{n % 3}" / str(n)).write_bytes(b"%d" % n * 100_000)
    source = GenericSource({})
    found = listed(source, f"asynchronous://{tmp_path}")
    assert len(found) == 20
    with ThreadPoolExecutor(8) as pool:
        for path, data in zip(
            found, pool.map(lambda entry: read(source, entry), found.values()), strict=True
        ):
            assert data == path.rpartition("/")[2].encode() * 100_000
    assert Asynchronous.made == 1


def test_a_server_that_is_not_there(sftp: SFTP) -> None:
    with reserved_ports(1) as [port]:
        uri = f"sftp://127.0.0.1:{port}/a"
        with pytest.raises(SourceError, match=f"{uri}: the server cannot be reached") as error:
            GenericSource({**sftp.storage_options, "port": port}).stat(uri)
    assert error.value.transient


@pytest.mark.parametrize("options", [{"no_such_option": 1}, {"port": 1}])
def test_options_that_the_driver_does_not_take(
    sftp: SFTP, folder: SFTPFolder, options: dict[str, Any]
) -> None:
    source = GenericSource({**sftp.storage_options, **options})
    with pytest.raises(
        InvalidInputError, match="does not take the storage options, or they contradict the URI"
    ):
        source.stat(f"{folder.uri}/a")


# -- chains ------------------------------------------------------------------------------------------------------


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    draft = path.with_suffix(".draft")
    with zipfile.ZipFile(draft, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    draft.replace(path)


FILES = {"a.txt": b"alpha", "data/b.txt": b"beta!!", "data/sub/c#1?.txt": b"", "data2/d": b"delta"}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive.zip"
    write_zip(path, FILES)
    return path


def test_an_archive_is_a_folder(archive: Path) -> None:
    tail = f"::file://{archive}"
    source = GenericSource({})
    found = listed(source, f"zip://{tail}")
    assert {path: read_checked(source, entry)[0] for path, entry in found.items()} == FILES
    assert found["a.txt"].uri == f"zip:///a.txt{tail}"
    assert found["a.txt"].content_id == f"etag:W/{zipfile.crc32(b'alpha')}"  # type: ignore[attr-defined]
    assert listed(source, f"zip://data{tail}").keys() == {"b.txt", "sub/c#1?.txt"}
    [single] = listed(source, f"zip://data/b.txt{tail}").values()
    assert (single.path, single.size, source.stat(single.uri or "")) == ("b.txt", 6, single)
    with source.open(single).file as stream:
        assert stream.read() == b"beta!!"
    with pytest.raises(NotFoundError):
        listed(source, f"zip://nothing{tail}")
    with pytest.raises(NotFoundError, match=r"archive\.zipp"):
        listed(source, f"zip://{tail}p")


def test_an_archive_inside_an_archive(archive: Path, tmp_path: Path) -> None:
    write_zip(tmp_path / "outer.zip", {"in/archive.zip": archive.read_bytes()})
    uri = f"zip://data::zip://in/archive.zip::file://{tmp_path}/outer.zip"
    source = GenericSource({})
    found = listed(source, uri)
    assert found.keys() == {"b.txt", "sub/c#1?.txt"}
    assert read(source, found["b.txt"]) == b"beta!!"


def test_an_archive_is_read_by_the_options_of_where_it_lies(sftp: SFTP, archive: Path) -> None:
    folder = sftp.folder()
    folder.put("archive.zip", archive.read_bytes())
    source = GenericSource({"sftp": sftp.storage_options})
    found = listed(source, f"zip://data::{folder.uri}/archive.zip")
    assert read(source, found["b.txt"]) == b"beta!!"


def test_an_archive_that_was_replaced_is_opened_again(archive: Path) -> None:
    source = GenericSource({})
    found = listed(source, f"zip://::file://{archive}")
    opened = source.open(found["data/b.txt"]).file
    write_zip(archive, {**FILES, "a.txt": b"ALPHA", "new": b""})
    with pytest.raises(ReferenceChangedError, match=r"'a\.txt'"):
        read(source, found["a.txt"])
    assert read(source, found["data/b.txt"]) == b"beta!!"
    with opened:
        assert opened.read() == b"beta!!"
    assert "new" in listed(source, f"zip://::file://{archive}")
    archive.unlink()
    with pytest.raises(ReferenceMissingError):
        read(source, found["data/b.txt"])


def test_an_archive_that_is_replaced_while_it_is_read(archive: Path) -> None:
    source = GenericSource({})
    entry = listed(source, f"zip://::file://{archive}")["data/b.txt"]
    with source.fetch(entry) as fetched:
        write_zip(archive, {**FILES, "data/b.txt": b"BETA!!"})
        with pytest.raises(SourceError, match="the archive was replaced while it was read"):
            list(fetched.chunks)


def test_a_pipe_in_place_of_an_archive_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError, match="is a pipe"):
        GenericSource({}).stat(f"zip://a::file://{tmp_path}/pipe")


@pytest.mark.parametrize("scheme", ["zip", "tar"])
def test_what_is_no_archive(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"none of any kind")
    with pytest.raises(SourceError, match="the driver failed") as caught:
        GenericSource({}).stat(f"{scheme}://a::file://{tmp_path}/a")
    assert not caught.value.transient
    with pytest.raises(InvalidInputError, match="is a folder, and no archive"):
        GenericSource({}).stat(f"{scheme}://a::file://{tmp_path}")


def test_an_archive_needs_a_place(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match="zip://data does not say where the archive lies: write zip://"
    ):
        GenericSource({}).stat("zip://data")


def test_an_sftp_server_that_falls_silent_is_not_waited_for(
    source: GenericSource, folder: SFTPFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe answers when somebody writes to it, which nobody does."""
    os.mkfifo(folder.folder / "pipe")
    monkeypatch.setattr(generic_drivers, "SILENCE_S", 0.2)
    entry = Entry("pipe", None, "none", f"{folder.uri}/pipe")
    with pytest.raises(SourceError, match="the server cannot be reached, or hung up") as caught:
        read(source, entry)
    assert caught.value.transient


# -- errors ------------------------------------------------------------------------------------------------------


class Answer(Exception):
    """As those of httpx, requests, webdav4."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server said {status}")
        self.response = type("Response", (), {"status_code": status})()


class ForbiddenOperation(Exception):
    """webdav4 has one."""


class ConnectError(Exception):
    """httpx has one."""


@pytest.mark.parametrize(
    ("error", "expected", "transient"),
    [
        (FileNotFoundError("a"), NotFoundError, None),
        (NotADirectoryError("a"), NotFoundError, None),
        (Answer(404), NotFoundError, None),
        (PermissionError("a"), PermissionDeniedError, None),
        (Answer(401), PermissionDeniedError, None),
        (Answer(403), PermissionDeniedError, None),
        (ForbiddenOperation(), PermissionDeniedError, None),
        (paramiko.AuthenticationException(), PermissionDeniedError, None),
        (paramiko.SSHException("No authentication methods available"), PermissionDeniedError, None),
        (paramiko.SSHException("Error reading SSH protocol banner"), SourceError, True),
        (Answer(503), SourceError, True),
        (ConnectError(), SourceError, True),
        (TimeoutError(), SourceError, True),
        (ConnectionResetError(), SourceError, True),
        (EOFError(), SourceError, True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), InvalidInputError, None),
        (OSError(5, "Input/output error"), SourceError, False),
        (KeyError("a"), SourceError, False),
    ],
)
def test_errors_of_drivers(error: Exception, expected: type[RefartError], transient: bool | None) -> None:
    found = Drivers({}).translated(error, "sftp://h/a")
    assert type(found) is expected
    assert str(found).startswith("sftp://h/a")
    assert type(error).__name__ in str(found)
    assert getattr(found, "transient", None) is transient


@pytest.mark.parametrize(
    "text",
    [
        "cannot log in as me with hunter2",
        "GET https://me:pw@example.org/a failed",
        "GET https://example.org/a?sig=abc failed",
        "Authorization: Bearer abc",
    ],
)
def test_errors_show_nothing_secret(text: str) -> None:
    drivers = Drivers({"username": "me", "nested": {"auth": ["me", "hunter2"]}})
    assert str(drivers.translated(OSError(text), "sftp://h/a")) == "sftp://h/a: the driver failed (OSError)"
    assert "hunter2" not in repr(drivers)


class Forgetful(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Remembers listings, as most drivers do unless told otherwise."""

    protocol = "forgetful"
    size = 1

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = [{"name": "top/a", "size": Forgetful.size, "type": "file", "mtime": 1}]
        return self.dircache[path]


@pytest.fixture
def _forgetful() -> Iterator[None]:
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    yield
    Forgetful.size = 1


@pytest.mark.usefixtures("_forgetful")
def test_listings_are_never_remembered() -> None:
    fs = fsspec.filesystem("forgetful")
    fs.info("top/a")
    source = GenericSource({})
    assert listed(source, "forgetful://top")["a"].size == 1
    Forgetful.size = 2
    assert fs.info("top/a")["size"] == 1
    assert listed(source, "forgetful://top")["a"].size == 2
