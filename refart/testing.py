"""pytest fixtures for pipelines that use refart: an S3 in this process, lakes in it, a workspace.

Opt in, in a `conftest.py`: `pytest_plugins = ["refart.testing"]`. Needs `pip install 'refart[demo]' boto3
pytest`; `docs/testing.md` shows how to use it, and how to do with `moto.mock_aws` alone.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

if TYPE_CHECKING:
    from refart.workspace import Workspace

WSGIApp = Callable[..., Any]

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Not the profiles of whoever runs the tests, nor the role of the machine they run on.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The whole `AWS_…` environment of a test that uses `s3`, but for the endpoint."""


def _missing(error: ImportError, install: str) -> str:
    return f"refart.testing needs {error.name}, which is not installed: pip install {install}"


class S3Requests:
    """The S3 operations a server was asked for, in the words of its API, by any process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: list[str] = []

    @property
    def operations(self) -> list[str]:
        """Every operation since the last `clear`, as they arrived: `["ListObjectsV2", "GetObject", …]`."""
        with self._lock:
            return list(self._operations)

    def count(self, *operations: str) -> int:
        """How many requests asked for one of these operations; for anything, where none is named."""
        return sum(not operations or operation in operations for operation in self.operations)

    def clear(self) -> None:
        with self._lock:
            self._operations.clear()

    def record(self, method: str, path: str, query: str) -> None:
        with self._lock:
            self._operations.append(operation_of(method, path, query))


class S3Server:
    """moto's S3 on a free port of 127.0.0.1, in a thread of this process."""

    def __init__(self) -> None:
        try:
            from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
            from werkzeug.serving import make_server
        except ImportError as error:
            raise RuntimeError(_missing(error, "'refart[demo]'")) from error
        self.requests = S3Requests()
        application = self._counting(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="refart-s3", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @cached_property
    def client(self) -> Any:
        """A boto3 client of this server, whatever the environment says."""
        try:
            from boto3.session import Session
        except ImportError as error:
            raise RuntimeError(_missing(error, "boto3")) from error
        session = Session(
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        )
        return session.client("s3", endpoint_url=self.url)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def reset(self) -> None:
        """Forget every bucket and every counted request."""
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")  # noqa: S310  # our own server
        with urllib.request.urlopen(request):  # noqa: S310
            pass
        self.requests.clear()

    def _counting(self, application: WSGIApp) -> WSGIApp:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            path = environ["PATH_INFO"]
            if not path.startswith("/moto-api/"):
                self.requests.record(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""))
            return application(environ, start_response)

        return counted


# Sub-resources that make a request another operation than its method and path say; the first that matches
# counts.
_BY_QUERY = {
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "attributes"): "GetObjectAttributes",
    ("POST", "delete"): "DeleteObjects",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_BY_PATH = {
    ("GET", 0): "ListBuckets",
    ("GET", 1): "ListObjects",
    ("HEAD", 1): "HeadBucket",
    ("PUT", 1): "CreateBucket",
    ("DELETE", 1): "DeleteBucket",
    ("GET", 2): "GetObject",
    ("HEAD", 2): "HeadObject",
    ("PUT", 2): "PutObject",
    ("DELETE", 2): "DeleteObject",
}


def operation_of(method: str, path: str, query: str) -> str:
    """The S3 operation of a path-style request (`/bucket/key`); `"GET ?acl"` and the like for what is rarely
    met."""
    asked = parse_qs(query, keep_blank_values=True)
    for (verb, name), operation in _BY_QUERY.items():
        if verb == method and name in asked:
            return operation
    bucket, _, key = path.removeprefix("/").partition("/")
    return _BY_PATH.get((method, bool(bucket) + bool(key)), f"{method} ?{query}")


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
