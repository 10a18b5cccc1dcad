"""An S3 in this process, for the demo and for tests: moto behind a socket, with every request counted.

Needs `pip install 'refart[demo]'`.
"""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qs

from refart.errors import NotInstalledError

WSGIApp = Callable[..., Any]

ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Not the profiles of whoever runs the tests, nor the role of the machine they run on.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""The whole `AWS_…` environment of a process that talks to an `S3Server`, but for the endpoint."""


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

    def record(self, operation: str) -> None:
        with self._lock:
            self._operations.append(operation)


class S3Server:
    """moto's S3 on a free port of 127.0.0.1, in a thread of this process."""

    def __init__(self) -> None:
        try:
            from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
            from werkzeug.serving import make_server
        except ImportError as error:
            raise NotInstalledError.of("an S3 in this process", error, extra="demo") from error

        class Handler(MotoRequestHandler):  # type: ignore[misc]  # moto publishes no types
            def log_request(self, *args: object) -> None:
                """Say nothing: whoever wants to know what was asked looks at `requests`."""

        self.requests = S3Requests()
        application = self._counting(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="refart-s3", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @cached_property
    def client(self) -> Any:
        """A boto3 client of this server, whatever the environment says."""
        from boto3.session import Session  # comes with moto

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
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever HTTP_PROXY says
        with direct.open(request):
            pass
        self.requests.clear()

    def _counting(self, application: WSGIApp) -> WSGIApp:
        def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            path = environ["PATH_INFO"]
            if not path.startswith("/moto-api/"):
                operation = operation_of(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""))
                if "HTTP_X_AMZ_COPY_SOURCE" in environ:
                    operation = _COPIES.get(operation, operation)
                self.requests.record(operation)
            return application(environ, start_response)

        return counted


# Sub-resources that make a request another operation than its method and path say; the first that matches counts.
_BY_QUERY: Final = {
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "versioning"): "GetBucketVersioning",
    ("PUT", "versioning"): "PutBucketVersioning",
    ("GET", "lifecycle"): "GetBucketLifecycleConfiguration",
    ("GET", "encryption"): "GetBucketEncryption",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "attributes"): "GetObjectAttributes",
    ("POST", "delete"): "DeleteObjects",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_BY_PATH: Final = {
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


_COPIES: Final = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}
"""What a request is whose body is another object."""


def operation_of(method: str, path: str, query: str) -> str:
    """The S3 operation of a path-style request (`/bucket/key`); `"GET ?acl"` and the like for what is rarely
    met."""
    asked = parse_qs(query, keep_blank_values=True)
    for (verb, name), operation in _BY_QUERY.items():
        if verb == method and name in asked:
            return operation
    bucket, _, key = path.removeprefix("/").partition("/")
    return _BY_PATH.get((method, bool(bucket) + bool(key)), f"{method} ?{query}")
