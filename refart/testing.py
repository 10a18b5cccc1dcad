"""pytest fixtures for pipelines that use refart: an S3 in this process, lakes in it, a workspace.

Opt in, in a `conftest.py`: `pytest_plugins = ["refart.testing"]`. Needs `pip install 'refart[demo]' pytest`;
`docs/testing.md` shows how to use it, and how to do with `moto.mock_aws` alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refart.s3server import ENVIRONMENT, S3Requests, S3Server, operation_of

if TYPE_CHECKING:
    from refart.workspace import Workspace

__all__ = ["ENVIRONMENT", "LAKE_OBJECTS", "Lake", "S3Requests", "S3Server", "operation_of"]


@dataclass
class Lake:
    """A bucket with a few objects in it, written without refart."""

    bucket: str
    client: Any = field(repr=False)
    """A boto3 client of the server."""

    @property
    def uri(self) -> str:
        """`s3://bucket`, without a slash at the end."""
        return f"s3://{self.bucket}"

    def put(self, key: str, data: bytes) -> str | None:
        """Write an object; its version id on a versioned bucket."""
        version: str | None = self.client.put_object(Bucket=self.bucket, Key=key, Body=data).get("VersionId")
        return version

    def delete(self, key: str, version_id: str | None = None) -> None:
        """Delete an object (on a versioned bucket: put a delete marker), or purge one version of it."""
        which = {"VersionId": version_id} if version_id else {}
        self.client.delete_object(Bucket=self.bucket, Key=key, **which)


LAKE_OBJECTS = {
    "README.txt": b"A small lake.\n",
    "raw/2026/a.csv": b"id,label\n1,cat\n2,dog\n",
    "raw/2026/b.csv": b"id,label\n3,cat\n",
    "raw/labels.json": b'["cat", "dog"]\n',
}
"""What `versioned_lake` and `unversioned_lake` hold when a test begins."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server for the whole session: `.url`, `.requests`, `.reset()`."""
    server = S3Server()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A boto3 client of an empty S3. All `AWS_…` variables point there, for this process and its children."""
    s3_server.reset()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server.url}.items():
        monkeypatch.setenv(name, value)
    return s3_server.client


@pytest.fixture
def s3_requests(s3: Any, s3_server: S3Server) -> S3Requests:
    """What the server was asked for: `s3_requests.count("HeadObject")`, `.operations`, `.clear()`."""
    return s3_server.requests


@pytest.fixture
def versioned_lake(s3: Any) -> Lake:
    """A bucket that keeps every version, with `LAKE_OBJECTS` in it."""
    s3.create_bucket(Bucket="versioned-lake")
    s3.put_bucket_versioning(Bucket="versioned-lake", VersioningConfiguration={"Status": "Enabled"})
    return _filled(Lake("versioned-lake", s3))


@pytest.fixture
def unversioned_lake(s3: Any) -> Lake:
    """A bucket where a write replaces what was there, with `LAKE_OBJECTS` in it."""
    s3.create_bucket(Bucket="unversioned-lake")
    return _filled(Lake("unversioned-lake", s3))


def _filled(lake: Lake) -> Lake:
    for key, data in LAKE_OBJECTS.items():
        lake.put(key, data)
    return lake


@pytest.fixture
def refart_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """An empty embedded workspace under `tmp_path`, the default of this process and its children.

    The user's own configuration and cache are out of reach.
    """
    for name in [name for name in os.environ if name.startswith("REFART_")]:
        monkeypatch.delenv(name)
    config = tmp_path / "refart-config.toml"
    config.touch()
    url = str(tmp_path / "workspace")
    monkeypatch.setenv("REFART_CONFIG", str(config))
    monkeypatch.setenv("REFART_URL", url)
    monkeypatch.setenv("REFART_CACHE", str(tmp_path / "cache"))

    from refart.workspace import Workspace

    workspace = Workspace.open(url)
    yield workspace
    workspace.close()
