"""Lakes: places of each kind that data lies in, written without refart, with the storage options to reach them.

A lake is made new and empty. Those whose server speaks HTTP can be made behind a proxy, for tests that count requests
or spoil answers. What each kind can do is declared in `tests/places.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import pytest

from refart.s3server import ENVIRONMENT, S3Server, operation_of
from refart.testing import Lake as Bucket
from tests.faults import FaultProxy
from tests.gcs import operation_of as operation_of_gcs
from tests.servers import (
    SFTP,
    AzureContainer,
    Azurite,
    FakeGCS,
    GCSBucket,
    Nginx,
    SeaweedFS,
    ServedFolder,
    Site,
    WebDAV,
    unique,
)

if TYPE_CHECKING:
    from tests.places import Kind

Make: TypeAlias = Callable[[pytest.FixtureRequest, ExitStack, bool], "Lake"]
"""Makes a lake, perhaps behind a proxy; what must be closed again goes onto the stack."""


class Lake:
    """A place of some kind. `proxy` stands between it and whoever reads it by refart; writes go past it."""

    kind: Kind
    uri: str
    """Without a slash at the end."""
    options: Mapping[str, Mapping[str, Any]]
    """Storage options by URI prefix."""
    proxy: FaultProxy | None = None

    def uri_of(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def put(self, key: str, data: bytes) -> Any:
        """Write an object; the version that it is, where the place keeps versions."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def overwrite(self, key: str, data: bytes) -> None:
        """Write over an object in whichever way is worst for those who are reading it."""
        self.put(key, data)

    def purge(self, key: str, version: Any) -> None:
        """Remove one version for good (`Can.PURGE`). Where none are kept, what was overwritten is gone already."""

    def edit(self, key: str) -> None:
        """Change what is said about an object (`Can.EDIT`)."""
        raise NotImplementedError

    def put_in_parts(self, key: str, data: bytes) -> None:
        """Write an object as an upload of parts (`Can.PARTS`)."""
        raise NotImplementedError

    def elsewhere(self) -> Lake:
        """Another place of this kind, on the same server and by the same options."""
        raise NotImplementedError

    def spoil(self, operation: str, **fault: Any) -> None:
        """Add a `Fault` to the proxy. It meets the bytes as they are: nobody is asked to compress them."""
        assert self.proxy is not None
        self.proxy.add(operation, ignored=self.spoils_without, **fault)

    spoils_without: tuple[str, ...] = ()
    """Headers that are left out of requests whose answer is spoilt."""

    @property
    def requests(self) -> list[str]:
        """What was asked for by refart, in order: LIST, HEAD, GET, or another method and its path."""
        assert self.proxy is not None
        return self.proxy.requests.operations


# -- S3 ----------------------------------------------------------------------------------------------------------


class S3Lake(Lake):
    def __init__(self, bucket: Bucket, options: Mapping[str, Any]) -> None:
        self.bucket, self.uri, self.options = bucket, bucket.uri, {"s3://": options, "s3a://": options}

    def put(self, key: str, data: bytes) -> str | None:
        return self.bucket.put(key, data)

    def delete(self, key: str) -> None:
        self.bucket.delete(key)

    def purge(self, key: str, version: Any) -> None:
        if version is not None:
            self.bucket.delete(key, version)

    def edit(self, key: str) -> None:
        """S3 knows no other way than a copy of an object onto itself."""
        where = {"Bucket": self.bucket.bucket, "Key": key}
        self.bucket.client.copy_object(
            **where, CopySource=where, Metadata={"note": "edited"}, MetadataDirective="REPLACE"
        )

    def put_in_parts(self, key: str, data: bytes) -> None:
        client, where = self.bucket.client, {"Bucket": self.bucket.bucket, "Key": key}
        upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
        etag = client.upload_part(**upload, PartNumber=1, Body=data)["ETag"]
        client.complete_multipart_upload(
            **upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
        )

    def elsewhere(self) -> Lake:
        name = unique("bucket")
        self.bucket.client.create_bucket(Bucket=name)
        return S3Lake(Bucket(name, self.bucket.client), self.options["s3://"])


_S3_OPERATIONS = {
    "ListObjectsV2": "LIST",
    "ListObjectVersions": "LIST",
    "HeadObject": "HEAD",
    "GetObject": "GET",
}


def _s3_operation(method: str, path: str, query: str) -> str:
    operation = operation_of(method, path, query)
    return _S3_OPERATIONS.get(operation, operation)


def moto(versioned: bool) -> Make:
    def make(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
        server: S3Server = request.getfixturevalue("s3_server")
        server.reset()
        name = unique("bucket")
        server.client.create_bucket(Bucket=name)
        if versioned:
            server.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        url, proxy = _proxied(server.url, _s3_operation, stack, behind_proxy)
        lake = S3Lake(Bucket(name, server.client), moto_options(url))
        lake.proxy = proxy
        return lake

    return make


def moto_options(url: str) -> dict[str, Any]:
    """Storage options for moto, which asks nobody who they are."""
    return {
        "key": ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        "secret": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": url,
        "client_kwargs": {"region_name": ENVIRONMENT["AWS_DEFAULT_REGION"]},
    }


def seaweed(versioned: bool) -> Make:
    def make(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
        server: SeaweedFS = request.getfixturevalue("seaweed")
        url, proxy = _proxied(server.url, _s3_operation, stack, behind_proxy)
        lake = S3Lake(server.bucket(versioned=versioned), {**server.storage_options, "endpoint_url": url})
        lake.proxy = proxy
        return lake

    return make


# -- GCS ---------------------------------------------------------------------------------------------------------


class GCSLake(Lake):
    def __init__(self, server: FakeGCS, bucket: GCSBucket, options: Mapping[str, Any]) -> None:
        self.server, self.bucket, self.uri = server, bucket, bucket.uri
        self.options = {"gs://": options, "gcs://": options}

    def put(self, key: str, data: bytes) -> str:
        return self.bucket.put(key, data)

    def delete(self, key: str) -> None:
        self.bucket.delete(key)

    def edit(self, key: str) -> None:
        """Counts up the metageneration, and with it changes the ETag that GCS gives."""
        url = f"{self.bucket.url}/storage/v1/b/{self.bucket.name}/o/{quote(key, safe='')}"
        self.bucket.session.patch(url, json={"metadata": {"note": "edited"}}).raise_for_status()

    def elsewhere(self) -> Lake:
        return GCSLake(self.server, self.server.bucket(versioned=False), self.options["gs://"])


def _gcs_operation(method: str, path: str, query: str) -> str:
    operation = operation_of_gcs(method, path, query)
    return {"list": "LIST", "get": "HEAD", "media": "GET"}.get(operation, operation)


def gcs(versioned: bool) -> Make:
    def make(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
        server: FakeGCS = request.getfixturevalue("fake_gcs")
        url, proxy = _proxied(server.url, _gcs_operation, stack, behind_proxy)
        bucket = server.bucket(versioned=versioned)
        lake = GCSLake(server, bucket, {**server.storage_options, "endpoint_url": url})
        lake.proxy = proxy
        return lake

    return make


# -- Azure -------------------------------------------------------------------------------------------------------


class AzureLake(Lake):
    def __init__(self, server: Azurite, container: AzureContainer, options: Mapping[str, Any]) -> None:
        self.server, self.container, self.uri = server, container, container.uri
        self.options = {f"{scheme}://": options for scheme in ("az", "abfs", "abfss")}

    def put(self, key: str, data: bytes) -> None:
        self.container.put(key, data)

    def delete(self, key: str) -> None:
        self.container.delete(key)

    def edit(self, key: str) -> None:
        self.container.client.get_blob_client(key).set_blob_metadata({"note": "edited"})

    def put_in_parts(self, key: str, data: bytes) -> None:
        from azure.storage.blob import BlobBlock

        blob = self.container.client.get_blob_client(key)
        block = base64.b64encode(b"1").decode()
        blob.stage_block(block, data)
        blob.commit_block_list([BlobBlock(block)])

    def elsewhere(self) -> Lake:
        return AzureLake(self.server, self.server.container(), self.options["az://"])


def _azure_operation(method: str, path: str, query: str) -> str:
    return "LIST" if method == "GET" and "comp=list" in query else method


def azurite(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
    server: Azurite = request.getfixturevalue("azurite")
    root, _, account = server.url.rpartition("/")
    url, proxy = _proxied(root, _azure_operation, stack, behind_proxy)
    connection = server.connection_string.replace(server.url, f"{url}/{account}")
    lake = AzureLake(server, server.container(), {"connection_string": connection})
    lake.proxy = proxy
    return lake


# -- the web -----------------------------------------------------------------------------------------------------


class WebLake(Lake):
    """A folder of nginx, as one of its locations gives it out."""

    options: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self, server: Nginx, site: Site, location: str, url: str) -> None:
        self.server, self.site, self.location, self.url = server, site, location, url
        self.uri = self.uri_of("").rstrip("/")

    def uri_of(self, key: str) -> str:
        return self.site.url(key, location=self.location).replace(self.server.server_url, self.url, 1)

    def put(self, key: str, data: bytes) -> None:
        self.site.put(key, data)

    def delete(self, key: str) -> None:
        self.site.delete(key)

    def overwrite(self, key: str, data: bytes) -> None:
        """In the very file, which nginx sends on all the while under the headers that it began with."""
        (self.site.folder / key).write_bytes(data)

    def edit(self, key: str) -> None:
        (self.site.folder / key).chmod(0o664)

    def elsewhere(self) -> Lake:
        return WebLake(self.server, self.server.site(), self.location, self.url)


def _plain_operation(method: str, path: str, query: str) -> str:
    return {"PROPFIND": "LIST"}.get(method, method)


def nginx(location: str) -> Make:
    def make(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
        server: Nginx = request.getfixturevalue("nginx")
        url, proxy = _proxied(server.server_url, _plain_operation, stack, behind_proxy)
        lake = WebLake(server, server.site(), location, url)
        lake.proxy = proxy
        return lake

    return make


# -- file systems ------------------------------------------------------------------------------------------------


class FolderLake(Lake):
    """A folder of this machine, reached as it is or by SFTP."""

    def __init__(self, folder: ServedFolder, root: str, options: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder, self.root, self.options = folder, root, options
        self.uri = f"{root}{folder.folder}"

    def put(self, key: str, data: bytes) -> None:
        self.folder.put(key, data)

    def delete(self, key: str) -> None:
        self.folder.delete(key)

    def overwrite(self, key: str, data: bytes) -> None:
        """In the very file, not by a new one that takes its name."""
        (self.folder.folder / key).write_bytes(data)

    def edit(self, key: str) -> None:
        (self.folder.folder / key).chmod(0o664)

    def elsewhere(self) -> Lake:
        folder = self.folder.folder.with_name(unique("folder"))
        folder.mkdir()
        return FolderLake(ServedFolder(folder), self.root, self.options)


def local(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
    folder = request.getfixturevalue("tmp_path") / unique("folder")
    folder.mkdir()
    return FolderLake(ServedFolder(folder), "file://", {})


def sftp(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
    server: SFTP = request.getfixturevalue("sftp")
    return FolderLake(
        server.folder(),
        f"sftp://127.0.0.1:{server.port}",
        {"sftp://": server.storage_options, "ssh://": server.storage_options},
    )


class WebDAVLake(Lake):
    spoils_without = ("accept-encoding",)

    def __init__(self, server: WebDAV, options: Mapping[str, Any]) -> None:
        self.server, self.folder = server, server.folder()
        self.options = {"webdav://": options}
        self.uri = self.folder.uri

    def put(self, key: str, data: bytes) -> None:
        self.folder.put(key, data)

    def delete(self, key: str) -> None:
        self.folder.delete(key)

    def elsewhere(self) -> Lake:
        return WebDAVLake(self.server, self.options["webdav://"])


def webdav(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
    server: WebDAV = request.getfixturevalue("webdav")
    url, proxy = _proxied(server.url, _plain_operation, stack, behind_proxy)
    close_webdav_clients(request.getfixturevalue("monkeypatch"), stack)
    lake = WebDAVLake(server, {**server.storage_options, "base_url": url})
    lake.proxy = proxy
    return lake


def close_webdav_clients(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """Close what the driver of webdav:// opens and never closes."""
    import webdav4.client

    class Closed(webdav4.client.HTTPClient):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, trust_env=False)
            stack.callback(self.close)

    monkeypatch.setattr(webdav4.client, "HTTPClient", Closed)


class MemoryLake(Lake):
    """A folder in this process, written by fsspec itself."""

    options: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self) -> None:
        import fsspec

        self.fs = fsspec.filesystem("memory")
        self.name = unique("memory")
        self.fs.mkdir(f"/{self.name}")
        self.uri = f"memory://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(f"/{self.name}/{key}", data)

    def delete(self, key: str) -> None:
        self.fs.rm_file(f"/{self.name}/{key}")

    def remove(self) -> None:
        self.fs.rm(f"/{self.name}", recursive=True)

    def elsewhere(self) -> Lake:
        return MemoryLake()


def memory(request: pytest.FixtureRequest, stack: ExitStack, behind_proxy: bool) -> Lake:
    lake = MemoryLake()
    stack.callback(lake.remove)
    return lake


def _proxied(
    url: str, operation_of: Callable[[str, str, str], str], stack: ExitStack, behind_proxy: bool
) -> tuple[str, FaultProxy | None]:
    if not behind_proxy:
        return url, None
    proxy = FaultProxy(url, operation_of)
    stack.callback(proxy.close)
    return proxy.url, proxy
