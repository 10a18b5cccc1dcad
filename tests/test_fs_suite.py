"""fsspec's own suite for file systems, as far as nothing is written; over a local folder and over a lake."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import AbstractFixtures, AbstractGetTests, AbstractOpenTests

import refart
from refart.fs import ReadOnlyError, RefartFileSystem
from refart.s3server import S3Server
from tests.lakes import moto_options
from tests.servers import unique

SCENARIOS = {
    "bulk": AbstractFixtures._bulk_operations_scenario_0,
    "glob": AbstractFixtures._glob_edge_cases_files,
    "same-name": AbstractFixtures._dir_and_file_with_same_name_prefix,
    "hashed-names": AbstractFixtures._10_files_with_hashed_names,
}
"""Name of an artifact → what writes its files, by the suite's own words."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each scenario, and one with a name that the name of its file begins with."""
    folder: Path = tmp_path_factory.mktemp("scenarios")
    local = LocalFileSystem(auto_mkdir=True)
    for name, write in SCENARIOS.items():
        write(None, local, lambda *parts: "/".join(map(str, parts)), str(folder / name))
    (folder / "recursive" / "src").mkdir(parents=True)
    (folder / "recursive" / "src" / "file").touch()
    return folder


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server, folder: Path) -> str:
    """The same in a versioned bucket."""
    client, bucket = s3_server.client, unique("bucket")
    s3_server.reset()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    keys = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for key, data in keys.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    return bucket


@pytest.fixture(scope="module")
def _workspace(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[None]:
    root = tmp_path_factory.mktemp("workspace")
    (root / "config.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFART_CONFIG", str(root / "config.toml"))
        patch.setenv("REFART_URL", str(root / "workspace"))
        patch.setenv("REFART_CACHE", str(root / "cache"))
        patch.setenv("REFART_STORAGE_OPTIONS", json.dumps({"s3://": moto_options(s3_server.url)}))
        RefartFileSystem.clear_instance_cache()
        yield


@pytest.fixture(scope="module")
def local_versions(_workspace: None, folder: Path) -> None:
    log(str(folder), "local")


@pytest.fixture(scope="module")
def lake_versions(_workspace: None, bucket: str, s3_server: S3Server) -> None:
    """Every object is overwritten since it was logged."""
    log(f"s3://{bucket}", "lake")
    for item in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]:
        s3_server.client.put_object(Bucket=bucket, Key=item["Key"], Body=b"written later")


def log(uri: str, project: str) -> None:
    with refart.init(project) as run:
        for name in (*SCENARIOS, "recursive"):
            draft = refart.Artifact(name, "dataset")
            draft.add_reference(f"{uri}/{name}")
            run.log_artifact(draft)


class ReadOnly(AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    """The suite's fixtures, of versions that are there already."""

    project: str

    @pytest.fixture
    def fs(self, request: pytest.FixtureRequest) -> RefartFileSystem:
        request.getfixturevalue(f"{self.project}_versions")
        return refart.filesystem()

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self) -> str:
        return f"{self.project}/recursive:v0"

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self) -> str:
        return f"{self.project}/bulk:v0/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self) -> str:
        return f"{self.project}/glob:v0/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self) -> str:
        return f"{self.project}/same-name:v0/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self) -> str:
        return f"{self.project}/hashed-names:v0/source"

    @pytest.fixture
    def fs_target(self) -> str:
        return f"{self.project}/bulk:v0/target"

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class GetTests(ReadOnly, AbstractGetTests, AbstractOpenTests):  # type: ignore[misc]
    """Their tests of reading. Two of them write first, and are told here over what was logged."""

    def test_open_exclusive(self, fs: RefartFileSystem, fs_target: str) -> None:
        with fs.open(f"{self.project}/bulk:v0/source/file1", "rb") as file:
            assert file.read() == b""
        with pytest.raises(ReadOnlyError):
            fs.open(fs_target, "xb")

    def test_get_directory_recursive(
        self,
        fs: RefartFileSystem,
        fs_join: Callable[..., str],
        fs_path: str,
        local_fs: Any,
        local_join: Callable[..., str],
        local_target: str,
    ) -> None:
        source, target = fs_join(fs_path, "src"), local_target
        for there in (False, True):
            for slash in ("", "/"):
                if there:
                    local_fs.mkdir(target)
                fs.get(source + slash, target, recursive=True)
                below = target if not there or slash else local_join(target, "src")
                assert local_fs.find(target) == [local_join(below, "file")]
                local_fs.rm(target, recursive=True)


class TestLocal(GetTests):
    project = "local"


class TestLake(GetTests):
    project = "lake"
    test_get_glob_edge_cases = None  # what a pattern matches has nothing to do with where the bytes lie
