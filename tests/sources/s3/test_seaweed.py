"""S3 on a server that no one here wrote: SeaweedFS, with and without versions.

First the shared suite; then what drivers of S3 are known to get wrong without a word; then whole artifacts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import refart
from refart.artifact import Artifact
from refart.entries import Entry
from refart.errors import ChecksumError, NotFoundError, ReferenceChangedError, SourceError
from refart.ops.stream import VerifiedStream
from refart.run import Run
from refart.sources.s3 import whole as s3_whole
from refart.sources.s3.source import S3Source
from refart.sources.s3.whole import Way, WholeReader
from refart.testing import Lake
from refart.workspace import Workspace
from tests.servers import SeaweedFS
from tests.sources.suite import SourceSuite, listed, read


class SeaweedSuite(SourceSuite):
    content_algo = "md5"
    rung = "md5"
    missing_prefix_is_error = False
    refuses_changed = True
    has_folder_markers = True
    object_beside_prefix = True
    # Keys are paths of its file system: it refuses `.` and `..` and components beyond 255 bytes, and stores `a//b` and
    # `back\slash` as `a/b` and `back/slash`. moto holds all of these: test_s3.py.
    odd_keys = (
        *(key for key in SourceSuite.odd_keys if key != "back\\slash"),
        "/".join(["k" * 200] * 5),
        "c:drive",
        "%2F",
        "tab\tin",
        "query?versionId=abc",
        "delete\x7f",
    )

    @pytest.fixture
    def source(self, seaweed: SeaweedFS) -> S3Source:
        return S3Source(seaweed.storage_options)

    @pytest.fixture
    def stranger(self, seaweed: SeaweedFS) -> S3Source:
        return S3Source({**seaweed.storage_options, "secret": "not the secret"})


class TestVersioned(SeaweedSuite):
    held = "version"
    keeps_versions = True

    @pytest.fixture
    def place(self, seaweed: SeaweedFS) -> Lake:
        return seaweed.bucket(versioned=True)


class TestUnversioned(SeaweedSuite):
    held = "etag"
    keeps_versions = False

    @pytest.fixture
    def place(self, seaweed: SeaweedFS) -> Lake:
        return seaweed.bucket(versioned=False)


@pytest.fixture
def source(seaweed: SeaweedFS) -> S3Source:
    return S3Source(seaweed.storage_options)


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def lake(request: pytest.FixtureRequest, seaweed: SeaweedFS) -> Lake:
    return seaweed.bucket(versioned=request.param)


@pytest.fixture
def kept(seaweed: SeaweedFS) -> Lake:
    return seaweed.bucket(versioned=True)


def stat(source: S3Source, uri: str) -> Entry:
    entry = source.stat(uri)
    assert entry is not None
    return entry


class TestSilentlyWrongElsewhere:
    """Each is an answer that a driver of S3 gives today without an error."""

    OLD, NEW = b"o" * 64_000_000, b"n" * 64_000_000

    def test_a_large_object_overwritten_while_it_is_downloaded(self, source: S3Source, lake: Lake) -> None:
        """Never a file whose beginning is old and whose end is new."""
        lake.put("large", self.OLD)
        entry = stat(source, f"{lake.uri}/large")
        seen, error = bytearray(), None
        with source.fetch(entry) as fetched:
            stream = VerifiedStream(entry, fetched)
            try:
                for number, chunk in enumerate(stream):
                    if number == 0:
                        lake.put("large", self.NEW)
                    seen += chunk
            except (ReferenceChangedError, ChecksumError, SourceError) as caught:
                error = caught
        assert self.OLD.startswith(seen)
        assert (seen == self.OLD and stream.checked is not None) or error is not None
        if entry.pin is not None:
            assert error is None

    def test_a_large_object_overwritten_between_two_ranges(self, source: S3Source, lake: Lake) -> None:
        lake.put("large", self.OLD)
        entry = stat(source, f"{lake.uri}/large")
        with source.open(entry).file as file:
            assert set(file.read(1_000_000)) == {ord("o")}
            lake.put("large", self.NEW)
            file.seek(-1_000_000, 2)
            if entry.pin is not None:
                assert set(file.read()) == {ord("o")}
            else:
                with pytest.raises(ReferenceChangedError, match="while it was being read"):
                    file.read()

    def test_a_version_by_hand_is_not_the_latest(self, source: S3Source, kept: Lake) -> None:
        old = kept.put("k", b"old")
        kept.put("k", b"newer")
        [entry] = listed(source, f"{kept.uri}/k?versionId={old}").values()
        assert (entry.size, entry.pin, read(source, entry)) == (3, f"version:{old}", b"old")

    @pytest.mark.parametrize("sizes", [(3000, 1500), (1500, 3000)])
    def test_a_version_is_not_read_with_the_size_of_another(
        self, source: S3Source, kept: Lake, sizes: tuple[int, int]
    ) -> None:
        old, new = (bytes([n]) * size for n, size in enumerate(sizes))
        kept.put("k", old)
        entry = stat(source, f"{kept.uri}/k")
        kept.put("k", new)
        assert read(source, entry) == old
        with source.open(entry).file as file:
            assert file.read() == old

    def test_a_listing_is_never_remembered(self, source: S3Source, lake: Lake) -> None:
        lake.put("d/a", b"old")
        before = listed(source, f"{lake.uri}/d")
        lake.put("d/a", b"newer")
        lake.put("d/b", b"new")
        after = listed(source, f"{lake.uri}/d")
        assert after.keys() == {"a", "b"}
        assert after["a"] == stat(source, f"{lake.uri}/d/a") != before["a"]
        lake.delete("d/a")
        assert listed(source, f"{lake.uri}/d").keys() == {"b"}
        assert source.stat(f"{lake.uri}/d/a") is None

    def test_an_object_pinned_by_hand_where_nothing_has_versions(
        self, source: S3Source, seaweed: SeaweedFS
    ) -> None:
        lake = seaweed.bucket(versioned=False)
        lake.put("k", b"bytes")
        [entry] = listed(source, f"{lake.uri}/k?versionId=null").values()
        assert read(source, entry) == b"bytes"
        lake.put("k", b"newer")
        with pytest.raises(ReferenceChangedError):
            read(source, entry)


class TestArtifacts:
    """From a reference to a file, through a workspace: the same with the extra `fast` and without it."""

    @pytest.fixture(autouse=True, params=["botocore", "obstore"])
    def client(
        self, request: pytest.FixtureRequest, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        """Of small objects. obstore is told the way that else it would learn by the first object."""
        if request.param == "botocore":
            monkeypatch.setattr(s3_whole, "find_spec", lambda name: None)
            yield
            return
        pytest.importorskip("obstore", reason="needs pip install 'refart[fast]'")
        get, asked = WholeReader.get, []

        def get_on_known_way(reader: WholeReader, bucket: str, key: str, *rest: Any) -> bytes | None:
            asked.append(key)
            reader.learn(bucket, key, Way(f"{seaweed.url}/{bucket}/{key}", seaweed.environment["AWS_REGION"]))
            return get(reader, bucket, key, *rest)

        monkeypatch.setattr(WholeReader, "get", get_on_known_way)
        yield
        assert asked

    @pytest.fixture
    def run(
        self, seaweed: SeaweedFS, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Run]:
        for name, value in seaweed.environment.items():
            monkeypatch.setenv(name, value)
        with refart_workspace.init() as run:
            yield run

    def log(self, run: Run, uri: str) -> Artifact:
        draft = refart.Artifact("things", "dataset")
        draft.add_reference(uri)
        return run.log_artifact(draft)

    def file(self, artifact: Artifact, root: Path, name: str = "k") -> bytes:
        return (Path(artifact.download(root)) / name).read_bytes()

    def test_a_version_that_was_overwritten(self, run: Run, kept: Lake, tmp_path: Path) -> None:
        kept.put("k", b"logged")
        artifact = self.log(run, f"{kept.uri}/k")
        kept.put("k", b"newer, and longer")
        assert self.file(artifact, tmp_path / "root") == b"logged"
        assert self.log(run, f"{kept.uri}/k").version == "v1"

    def test_a_version_that_was_deleted(self, run: Run, kept: Lake, tmp_path: Path) -> None:
        kept.put("k", b"logged")
        artifact = self.log(run, f"{kept.uri}/k")
        kept.delete("k")
        assert self.file(artifact, tmp_path / "root") == b"logged"

    def test_an_object_that_was_overwritten(self, run: Run, seaweed: SeaweedFS, tmp_path: Path) -> None:
        lake = seaweed.bucket(versioned=False)
        lake.put("k", b"logged")
        artifact = self.log(run, f"{lake.uri}/k")
        lake.put("k", b"newer!")
        with pytest.raises(ReferenceChangedError, match="k"):
            artifact.download(tmp_path / "root")
        lake.put("k", b"logged")
        assert self.file(artifact, tmp_path / "root") == b"logged"

    def test_a_purged_version_whose_bytes_are_current(self, run: Run, kept: Lake, tmp_path: Path) -> None:
        """PITFALLS 9."""
        old = kept.put("k", b"logged")
        artifact = self.log(run, f"{kept.uri}/k")
        kept.put("k", b"logged")
        kept.delete("k", old)
        assert self.file(artifact, tmp_path / "root") == b"logged"
        assert not self.log(run, f"{kept.uri}/k").created

    def test_a_purged_version_whose_bytes_are_gone(self, run: Run, kept: Lake, tmp_path: Path) -> None:
        old = kept.put("k", b"logged")
        artifact = self.log(run, f"{kept.uri}/k")
        kept.put("k", b"newer!")
        kept.delete("k", old)
        with pytest.raises(ReferenceChangedError, match=f"pinned version:{old}"):
            artifact.download(tmp_path / "root")

    def test_a_version_by_hand(self, run: Run, kept: Lake, tmp_path: Path) -> None:
        """PITFALLS 1."""
        old = kept.put("k", b"old")
        kept.put("k", b"newer")
        artifact = self.log(run, f"{kept.uri}/k?versionId={old}")
        assert artifact["k"].uri == f"{kept.uri}/k"
        assert self.file(artifact, tmp_path / "root") == b"old"
        kept.delete("k")
        marker = kept.client.list_object_versions(Bucket=kept.bucket)["DeleteMarkers"][0]["VersionId"]
        for no_version in (marker, "no-such-version", "0" * 32):
            with pytest.raises(NotFoundError, match="has no version"):
                self.log(run, f"{kept.uri}/k?versionId={no_version}")

    def test_keys_that_look_like_urls(self, run: Run, lake: Lake, tmp_path: Path) -> None:
        """PITFALLS 11."""
        keys = ("a#b", "a?versionId=c", "per%20cent", "plus+plus", "한국어 ñ")
        for key in keys:
            lake.put(f"d/{key}", key.encode())
        root = Path(self.log(run, f"{lake.uri}/d").download(tmp_path / "root"))
        assert {path.name: path.read_text() for path in root.iterdir()} == {key: key for key in keys}
