"""What is noticed of files that change, and what of listings that cannot be trusted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from refart import Artifact
from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    SourceError,
)
from refart.ops.patterns import page_filter
from refart.sources.generic.source import GenericSource
from refart.workspace import Workspace
from tests.servers import SFTP, SFTPFolder
from tests.sources.suite import listed, read, read_checked


@pytest.fixture
def folder(sftp: SFTP) -> SFTPFolder:
    return sftp.folder()


@pytest.fixture
def source(sftp: SFTP) -> GenericSource:
    return GenericSource(sftp.storage_options)


def hashed(entry: Entry, data: bytes) -> Entry:
    return replace(entry, content_id=f"sha256:{hashlib.sha256(data).hexdigest()}")


# -- changes -----------------------------------------------------------------------------------------------------


def test_a_file_overwritten_while_it_is_downloaded(source: GenericSource, folder: SFTPFolder) -> None:
    folder.put("a", b"o" * 3_000_000)
    entry = replace(listed(source, folder.uri)["a"], content_id="none")
    with source.fetch(entry) as fetched:
        chunks = iter(fetched.chunks)
        next(chunks)
        folder.put("a", b"n" * 3_000_000)
        with pytest.raises(
            ReferenceChangedError, match=r"'a' \(sftp://.*\) was overwritten while .*stat:.*stat:"
        ):
            list(chunks)


def test_a_file_overwritten_in_place_while_it_is_downloaded(
    source: GenericSource, folder: SFTPFolder
) -> None:
    path = folder.put("a", b"o" * 3_000_000)
    entry = listed(source, folder.uri)["a"]
    with source.fetch(entry) as fetched:
        chunks = iter(fetched.chunks)
        next(chunks)
        path.write_bytes(b"n" * 3_000_000)
        with pytest.raises(ReferenceChangedError):
            list(chunks)


def test_a_change_within_a_tick_is_noticed_by_a_hash_only(source: GenericSource, folder: SFTPFolder) -> None:
    """SFTP tells whole seconds: why the identity is weak, and what `checksum="sha256"` is for."""
    folder.put("a", b"logged", mtime_s=1_700_000_000)
    weak = listed(source, folder.uri)["a"]
    strong = hashed(weak, b"logged")
    folder.put("a", b"newer!", mtime_s=1_700_000_000)
    assert read_checked(source, weak)[0] == b"newer!"
    with pytest.raises(ReferenceChangedError, match="expected content sha256:"):
        read_checked(source, strong)
    with pytest.raises(ReferenceChangedError, match="expected sha256:"):
        source.open(strong)


def test_where_a_hash_is_recorded_another_time_is_no_change(
    source: GenericSource, folder: SFTPFolder
) -> None:
    folder.put("a", b"logged")
    strong = hashed(listed(source, folder.uri)["a"], b"logged")
    folder.put("a", b"logged")
    data, checked = read_checked(source, strong)
    assert (data, checked.rung) == (b"logged", "sha256")
    with source.open(strong).file as stream:
        stream.seek(3)
        assert stream.read() == b"ged"


def test_an_entry_with_a_pin_is_refused(source: GenericSource, folder: SFTPFolder) -> None:
    folder.put("a", b"logged")
    with pytest.raises(InvalidInputError, match="is pinned to version:7, and its driver has no pins"):
        read(source, replace(listed(source, folder.uri)["a"], pin="version:7"))


class Truncating(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Loses the end of every read."""

    protocol = "truncating"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        file.f = _Short(file.f)
        return file


class _Short:
    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        return data[:-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Guarded(LocalFileSystem):  # type: ignore[misc]
    """Lists no folder named `locked`."""

    protocol = "guarded"
    find, walk = AbstractFileSystem.find, AbstractFileSystem.walk

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        if path.endswith("/locked"):
            raise PermissionError(13, "Permission denied", path)
        return super().ls(path, detail, **options)


class Straying(LocalFileSystem):  # type: ignore[misc]
    """Lists what lies elsewhere."""

    protocol = "straying"

    def find(self, path: str, **options: Any) -> Any:
        return {"/etc/elsewhere": {"name": "/etc/elsewhere", "size": 1, "type": "file"}}


class Blind(LocalFileSystem):  # type: ignore[misc]
    """Tells no time."""

    protocol = "blind"

    def info(self, path: str, **options: Any) -> Any:
        return {**super().info(path, **options), "mtime": None}

    def modified(self, path: str) -> Any:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def _drivers() -> None:
    for driver in (Truncating, Guarded, Straying, Blind):
        fsspec.register_implementation(driver.protocol, driver, clobber=True)


def test_a_body_that_ends_early_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    source = GenericSource({})
    entry = listed(source, f"truncating://{tmp_path}")["a"]
    with pytest.raises(SourceError, match="ended at byte 99 of 100") as error:
        read(source, entry)
    assert error.value.transient
    with pytest.raises(SourceError, match="gave 99 bytes instead of 100"):
        source.open(entry)


# -- listings ----------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path: Path) -> None:
    """fsspec's `find` leaves it out without a word."""
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "a").touch()
    (tmp_path / "b").touch()
    assert list(fsspec.filesystem("guarded").find(str(tmp_path))) == [str(tmp_path / "b")]
    with pytest.raises(PermissionDeniedError, match="guarded://"):
        listed(GenericSource({}), f"guarded://{tmp_path}")


def test_a_name_outside_the_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="lists '/etc/elsewhere', which does not lie below"):
        listed(GenericSource({}), f"straying://{tmp_path}")


def test_links_are_recorded_as_what_they_lead_to(source: GenericSource, folder: SFTPFolder) -> None:
    folder.put("data/a", b"four")
    (folder.folder / "data" / "link").symlink_to("a")
    found = listed(source, folder.uri)
    assert (found["data/link"].size, found["data/link"].content_id) == (4, found["data/a"].content_id)
    assert read(source, found["data/link"]) == b"four"


@pytest.mark.parametrize(
    ("target", "said"), [("nowhere", "listed but cannot be found"), (".", "a link to a folder")]
)
def test_links_that_lead_to_no_file(
    source: GenericSource, folder: SFTPFolder, target: str, said: str
) -> None:
    folder.put("data/a", b"four")
    (folder.folder / "data" / "link").symlink_to(target)
    with pytest.raises(InvalidInputError, match=rf"{folder.uri}/data/link is .*{said}.*exclude="):
        listed(source, folder.uri)
    assert listed(source, folder.uri, keep=page_filter(None, ["link"])).keys() == {"data/a"}


def test_a_name_that_is_not_utf8_is_an_error(source: GenericSource, folder: SFTPFolder) -> None:
    (folder.folder / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(InvalidInputError, match="a name there is not UTF-8"):
        listed(source, folder.uri)


def test_identity_by_time_on_request(source: GenericSource, folder: SFTPFolder, tmp_path: Path) -> None:
    folder.put("a", b"four")
    assert listed(source, folder.uri, identify="stat") == listed(source, folder.uri)
    (tmp_path / "a").touch()
    with pytest.raises(InvalidInputError, match=r"blind://.*checksum='stat' needs a modified time"):
        listed(GenericSource({}), f"blind://{tmp_path}", identify="stat")


def test_a_file_that_nothing_identifies_can_be_downloaded_but_not_opened_in_ranges(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    source = GenericSource({})
    entry = listed(source, f"blind://{tmp_path}")["a"]
    assert entry.content_id == "none"
    assert read_checked(source, entry)[1].rung == "unverified"
    with pytest.raises(SourceError, match=r"does not say when a file changes.*; download it instead"):
        source.open(entry)


def test_a_file_is_no_folder(source: GenericSource, folder: SFTPFolder) -> None:
    folder.put("a", b"four")
    with pytest.raises(NotFoundError, match="/a/ is no folder"):
        listed(source, f"{folder.uri}/a/")
    assert source.stat(f"{folder.uri}/a/") is None


def test_pages_are_bounded(tmp_path: Path) -> None:
    for n in range(8_200):
        (tmp_path / str(n)).touch()
    told: list[int] = []
    scan = GenericSource({}).scan(f"guarded://{tmp_path}", on_page=told.append)
    assert [page.num_rows for page in scan.pages] == told == [8_192, 8]


# -- end to end --------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(
    refart_workspace: Workspace, sftp: SFTP, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workspace]:
    options = {f"sftp://127.0.0.1:{sftp.port}": sftp.storage_options}
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps(options))
    monkeypatch.setenv("REFART_CACHE_BYTES", "0")  # it would give the logged bytes again
    with Workspace.open(refart_workspace.url) as workspace:
        yield workspace


def test_a_hash_makes_an_entry_strong(workspace: Workspace, folder: SFTPFolder, tmp_path: Path) -> None:
    """PITFALLS 14: what other schemes hold can be downloaded, and `checksum="sha256"` notices every change."""
    folder.put("data/a.txt", b"logged", mtime_s=1_700_000_000)
    folder.put("data/b.txt", b"second", mtime_s=1_700_000_000)
    with workspace.init(job_type="test") as run:
        weak, strong = Artifact("weak", "dataset"), Artifact("strong", "dataset")
        weak.add_reference(f"{folder.uri}/data")
        strong.add_reference(f"{folder.uri}/data", checksum="sha256")
        weak, strong = run.log_artifact(weak), run.log_artifact(strong)
    assert weak["a.txt"].content_id == "stat:1700000000000000000"
    assert strong["a.txt"].content_id == f"sha256:{hashlib.sha256(b'logged').hexdigest()}"
    assert Path(strong.download(tmp_path / "strong"), "a.txt").read_bytes() == b"logged"
    assert Path(weak.download(tmp_path / "weak"), "b.txt").read_bytes() == b"second"

    folder.put("data/a.txt", b"newer!", mtime_s=1_700_000_000)
    assert (
        Path(weak.download(tmp_path / "weak2"), "a.txt").read_bytes() == b"newer!"
    )  # the price of a weak identity
    with pytest.raises(ReferenceChangedError, match=r"a\.txt"):
        strong.download(tmp_path / "strong2")
