"""Whatever fsspec opens, by the shared suite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import fsspec
import pytest

from refart.errors import ReferenceChangedError
from refart.sources.base import Source
from refart.sources.generic import GenericSource
from tests.servers import SFTP, SFTPFolder, unique
from tests.sources.suite import Place, SourceSuite, read, read_checked


@dataclass(frozen=True)
class MemoryFolder:
    """A folder in this process, written by fsspec itself."""

    name: str

    @property
    def uri(self) -> str:
        return f"memory://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        fsspec.filesystem("memory").pipe_file(f"/{self.name}/{key}", data)

    def delete(self, key: str) -> None:
        fsspec.filesystem("memory").rm_file(f"/{self.name}/{key}")


@pytest.fixture
def memory() -> Iterator[MemoryFolder]:
    folder = MemoryFolder(unique("memory"))
    fs = fsspec.filesystem("memory")
    fs.mkdir(f"/{folder.name}")
    yield folder
    fs.rm(f"/{folder.name}", recursive=True)


class GenericSuite(SourceSuite):
    held = "current"
    keeps_versions = False
    refuses_changed = True
    rung = "weak"
    is_weak = True
    missing_prefix_is_error = True


class KnownByTime(GenericSuite):
    """Storage that tells nothing about a file but its size and when it was written."""

    content_algo = "stat"

    def test_the_same_bytes_written_again_are_still_the_entry(self, source: Source, place: Place) -> None:
        """A time does not tell whether bytes written later are the same, so they are refused; a hash does."""
        weak = self.logged(source, place)
        strong = replace(weak, content_id=f"sha256:{hashlib.sha256(b'logged').hexdigest()}")
        place.put("d/a", b"newer!")
        place.put("d/a", b"logged")
        with pytest.raises(ReferenceChangedError):
            read(source, weak)
        assert read_checked(source, strong)[1].rung == "sha256"


class TestMemory(KnownByTime):
    odd_keys = (*SourceSuite.odd_keys, "a::b", "double//slash", "./dot", "../up", "tab\tin")

    @pytest.fixture
    def source(self) -> GenericSource:
        return GenericSource({})

    @pytest.fixture
    def place(self, memory: MemoryFolder) -> MemoryFolder:
        return memory


class TestSFTP(KnownByTime):
    @pytest.fixture
    def source(self, sftp: SFTP) -> GenericSource:
        return GenericSource(sftp.storage_options)

    @pytest.fixture
    def place(self, sftp: SFTP) -> SFTPFolder:
        return sftp.folder()

    @pytest.fixture
    def stranger(self, sftp: SFTP) -> GenericSource:
        return GenericSource({**sftp.storage_options, "username": "nobody"})
