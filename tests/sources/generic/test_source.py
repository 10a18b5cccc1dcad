"""Whatever fsspec opens, by the shared suite."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import fsspec
import httpx
import pytest
from webdav4.client import Client

from refart.errors import InvalidInputError, ReferenceChangedError
from refart.ops.patterns import page_filter
from refart.sources.base import Source
from refart.sources.generic.source import GenericSource
from tests.servers import SFTP, SFTPFolder, WebDAV, WebDAVFolder, unique
from tests.sources.repositories import Repository, RepositoryFileSystem
from tests.sources.suite import Place, SourceSuite, listed, read, read_checked


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


class TestWebDAV(GenericSuite):
    """rclone's ETags are hashes of the content, which no client can know.

    Its driver, webdav4, puts names into URLs as they are, so that it finds none with `#`, `?`, `%`, line ends.
    """

    content_algo = "etag"
    odd_keys = tuple(key for key in SourceSuite.odd_keys if not set(key) & set("#?%\n\r"))

    @pytest.mark.parametrize("key", ["hash#tag", "question?mark=1", "per%cent", "%2F", "%41"])
    def test_a_name_that_the_driver_cannot_find_is_refused(
        self, source: Source, place: Place, key: str
    ) -> None:
        """What could not be downloaded is not recorded."""
        place.put(f"odd/{key}", b"odd")
        place.put("odd/A", b"%41, decoded")
        with pytest.raises(
            InvalidInputError, match=re.escape(f"{place.uri}/odd/{key} is listed but cannot be found")
        ):
            listed(source, f"{place.uri}/odd")
        assert listed(source, f"{place.uri}/odd", keep=page_filter(None, [f"{key}"])).keys() == {"A"}

    @pytest.mark.parametrize("key", ["plus+plus", "with space"])
    def test_an_odd_key_alone_is_an_object(self, source: Source, place: Place, key: str) -> None:
        super().test_an_odd_key_alone_is_an_object(source, place, key)

    @pytest.fixture
    def source(self, webdav: WebDAV) -> Iterator[GenericSource]:
        with httpx.Client(trust_env=False) as http:  # closed at the end, as the driver never does
            yield GenericSource({"base_url": webdav.url, "client": Client(webdav.url, http_client=http)})

    @pytest.fixture
    def place(self, webdav: WebDAV) -> WebDAVFolder:
        return webdav.folder()


class TestRepository(GenericSuite):
    """As on GitHub, what stands before the path is no server, and the hash of the content is known."""

    content_algo = "etag"
    odd_keys = (*SourceSuite.odd_keys, "./dot", "../up", "a::b")

    @pytest.fixture
    def source(self) -> GenericSource:
        return GenericSource({})

    @pytest.fixture
    def place(self) -> Iterator[Repository]:
        fsspec.register_implementation("repository", RepositoryFileSystem, clobber=True)
        yield Repository(unique("repo"))
        RepositoryFileSystem.files.clear()
