"""Each server starts, answers, and does what the suites that run on it rely on."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.servers import SFTP, Azurite, FakeGCS, Nginx, SeaweedFS, Site, WebDAV, plain_session, unique


@pytest.fixture(scope="module")
def http() -> Any:
    with plain_session() as session:
        yield session


class TestSeaweedFS:
    def test_an_overwritten_version_keeps_its_bytes(self, seaweed: SeaweedFS) -> None:
        bucket = seaweed.bucket(versioned=True)
        old, new = bucket.put("k", b"old"), bucket.put("k", b"new")
        assert old != new
        got = seaweed.client.get_object(Bucket=bucket.bucket, Key="k", VersionId=old)
        assert got["Body"].read() == b"old"

    def test_without_versioning_a_write_replaces(self, seaweed: SeaweedFS) -> None:
        bucket = seaweed.bucket(versioned=False)
        assert bucket.put("k", b"old") is None
        bucket.put("k", b"new")
        versions = seaweed.client.list_object_versions(Bucket=bucket.bucket)["Versions"]
        assert [version["VersionId"] for version in versions] == ["null"]

    def test_a_changed_object_fails_the_condition(self, seaweed: SeaweedFS) -> None:
        bucket = seaweed.bucket(versioned=False)
        bucket.put("k", b"old")
        etag = seaweed.client.head_object(Bucket=bucket.bucket, Key="k")["ETag"]
        bucket.put("k", b"new")
        with pytest.raises(ClientError) as error:
            seaweed.client.get_object(Bucket=bucket.bucket, Key="k", IfMatch=etag)
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412

    @pytest.mark.parametrize("versioned", [True, False])
    def test_an_existing_object_is_not_created_again(self, seaweed: SeaweedFS, versioned: bool) -> None:
        bucket = seaweed.bucket(versioned=versioned)
        bucket.put("k", b"old")
        with pytest.raises(ClientError) as error:
            seaweed.client.put_object(Bucket=bucket.bucket, Key="k", Body=b"new", IfNoneMatch="*")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412

    def test_signatures_are_checked(self, seaweed: SeaweedFS, http: Any) -> None:
        bucket = seaweed.bucket(versioned=False)
        bucket.put("k", b"secret")
        assert http.get(f"{seaweed.url}/{bucket.bucket}/k").status_code == 403

    def test_its_options_are_those_of_s3fs(self, seaweed: SeaweedFS) -> None:
        import s3fs

        bucket = seaweed.bucket(versioned=False)
        bucket.put("a/k", b"bytes")
        driver = s3fs.S3FileSystem(**seaweed.storage_options, skip_instance_cache=True)
        assert driver.cat_file(f"{bucket.uri}/a/k") == b"bytes"


class TestFakeGCS:
    def test_an_overwritten_generation_keeps_its_bytes(self, fake_gcs: FakeGCS, http: Any) -> None:
        bucket = fake_gcs.bucket(versioned=True)
        old, new = bucket.put("a/k", b"old"), bucket.put("a/k", b"new")
        url = f"{fake_gcs.url}/storage/v1/b/{bucket.name}/o/a%2Fk"
        assert http.get(url, params={"alt": "media", "generation": old}).content == b"old"
        assert http.get(url, params={"alt": "media", "generation": new}).content == b"new"

    def test_without_versioning_an_overwritten_generation_is_gone(self, fake_gcs: FakeGCS, http: Any) -> None:
        bucket = fake_gcs.bucket(versioned=False)
        old = bucket.put("k", b"old")
        bucket.put("k", b"new")
        url = f"{fake_gcs.url}/storage/v1/b/{bucket.name}/o/k"
        assert http.get(url, params={"alt": "media", "generation": old}).status_code == 404

    def test_its_options_are_those_of_gcsfs(self, fake_gcs: FakeGCS) -> None:
        """Whose probe for the layout of buckets is off, else this takes a minute: `conftest.py`."""
        import gcsfs

        bucket = fake_gcs.bucket(versioned=False)
        generation = bucket.put("k", b"bytes")
        driver = gcsfs.GCSFileSystem(**fake_gcs.storage_options, skip_instance_cache=True)
        assert type(driver) is gcsfs.core.GCSFileSystem
        assert driver.cat_file(f"{bucket.uri}/k") == b"bytes"
        assert driver.info(f"{bucket.uri}/k")["generation"] == generation


class TestAzurite:
    def test_a_changed_blob_fails_the_condition(self, azurite: Azurite) -> None:
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceModifiedError

        container = azurite.container()
        old = container.put("k", b"old")
        assert container.put("k", b"new") != old
        with pytest.raises(ResourceModifiedError):
            container.client.download_blob(
                "k", etag=f'"{old}"', match_condition=MatchConditions.IfNotModified
            )

    def test_an_md5_is_kept(self, azurite: Azurite) -> None:
        import hashlib

        container = azurite.container()
        container.put("k", b"bytes")
        settings = container.client.get_blob_client("k").get_blob_properties().content_settings
        assert bytes(settings.content_md5) == hashlib.md5(b"bytes").digest()

    def test_its_options_are_those_of_adlfs(self, azurite: Azurite) -> None:
        import adlfs

        container = azurite.container()
        container.put("a/k", b"bytes")
        driver = adlfs.AzureBlobFileSystem(**azurite.storage_options, skip_instance_cache=True)
        assert driver.cat_file(f"{container.uri}/a/k") == b"bytes"


class TestNginx:
    @pytest.fixture
    def site(self, nginx: Nginx) -> Site:
        site = nginx.site()
        site.put("data/file.txt", b"0123456789")
        return site

    def test_the_root_has_length_ranges_and_a_strong_etag(self, site: Site, http: Any) -> None:
        answer = http.head(site.url("data/file.txt"))
        assert answer.headers["Content-Length"] == "10"
        assert answer.headers["ETag"].startswith('"')
        assert "Last-Modified" in answer.headers
        part = http.get(site.url("data/file.txt"), headers={"Range": "bytes=2-4"})
        assert (part.status_code, part.content) == (206, b"234")

    def test_a_changed_file_fails_the_condition(self, site: Site, http: Any) -> None:
        """Of the same size, too: each write has a second of its own."""
        etag = http.head(site.url("data/file.txt")).headers["ETag"]
        site.put("data/file.txt", b"9876543210")
        answer = http.get(site.url("data/file.txt"), headers={"If-Match": etag})
        assert answer.status_code == 412

    def test_gz_compresses_and_weakens_the_etag(self, site: Site, http: Any) -> None:
        answer = http.get(
            site.url("data/file.txt", location="gz"), headers={"Accept-Encoding": "gzip"}, stream=True
        )
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["ETag"].startswith("W/")
        assert "Content-Length" not in answer.headers
        assert gzip.decompress(answer.raw.read(decode_content=False)) == b"0123456789"

    def test_noetag_has_none(self, site: Site, http: Any) -> None:
        answer = http.head(site.url("data/file.txt", location="noetag"))
        assert "ETag" not in answer.headers
        assert "Last-Modified" in answer.headers

    def test_noetag_nolm_has_neither(self, site: Site, http: Any) -> None:
        answer = http.head(site.url("data/file.txt", location="noetag-nolm"))
        assert answer.status_code == 200
        assert "ETag" not in answer.headers
        assert "Last-Modified" not in answer.headers

    def test_redir_redirects_to_the_root(self, site: Site, http: Any) -> None:
        answer = http.get(site.url("data/file.txt", location="redir"), allow_redirects=False)
        assert answer.status_code == 302
        assert answer.headers["Location"] == site.url("data/file.txt")

    def test_auth_wants_the_token(self, nginx: Nginx, site: Site, http: Any) -> None:
        url = site.url("data/file.txt", location="auth")
        assert http.get(url).status_code == 401
        assert http.get(url, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert http.get(url, headers=nginx.authorization).content == b"0123456789"

    def test_nohead_refuses_head_alone(self, site: Site, http: Any) -> None:
        url = site.url("data/file.txt", location="nohead")
        assert http.head(url).status_code == 405
        assert http.get(url).content == b"0123456789"

    def test_norange_sends_everything(self, site: Site, http: Any) -> None:
        answer = http.get(site.url("data/file.txt", location="norange"), headers={"Range": "bytes=2-4"})
        assert (answer.status_code, answer.content) == (200, b"0123456789")

    @pytest.mark.parametrize("location", ["", "gz", "noetag", "redir", "auth", "nohead", "norange"])
    @pytest.mark.parametrize(
        "key", ["with space", "hash#tag", "question?mark=1", "per%41cent", "a+b", "ключ"]
    )
    def test_odd_names_are_found_everywhere(
        self, nginx: Nginx, site: Site, http: Any, key: str, location: str
    ) -> None:
        site.put(key, key.encode())
        answer = http.get(site.url(key, location=location), headers=nginx.authorization)
        assert answer.content == key.encode()

    def test_nobody_writes_through_it(self, site: Site, http: Any) -> None:
        assert http.put(site.url("data/file.txt"), data=b"changed").status_code == 405
        assert (site.folder / "data/file.txt").read_bytes() == b"0123456789"


class TestSFTP:
    def test_a_plain_client_reads_what_lies_in_the_folder(self, sftp: SFTP) -> None:
        import paramiko

        folder = sftp.folder()
        path = folder.put("a/k", b"bytes", mtime_s=1_500_000_000)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        with client:
            client.connect("127.0.0.1", **sftp.storage_options)
            with client.open_sftp() as session, session.open(str(path)) as file:
                assert file.read() == b"bytes"
                assert session.stat(str(path)).st_mtime == 1_500_000_000

    def test_its_options_are_those_of_fsspec(self, sftp: SFTP) -> None:
        from fsspec.implementations.sftp import SFTPFileSystem

        folder = sftp.folder()
        folder.put("a/k", b"bytes")
        driver = SFTPFileSystem("127.0.0.1", **sftp.storage_options, skip_instance_cache=True)
        try:
            assert driver.find(folder.uri) == [f"{folder.folder}/a/k"]
            assert driver.cat_file(f"{folder.uri}/a/k") == b"bytes"
        finally:
            driver.client.close()

    def test_strangers_are_turned_away(self, sftp: SFTP) -> None:
        import paramiko

        stranger = paramiko.ECDSAKey.generate()
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        options = sftp.storage_options | {"key_filename": None, "pkey": stranger}
        with client, pytest.raises(paramiko.AuthenticationException):
            client.connect("127.0.0.1", **options)


class TestWebDAV:
    def test_the_etag_follows_the_bytes(self, webdav: WebDAV, http: Any) -> None:
        folder = webdav.folder()

        def etag() -> str:
            answer = http.head(f"{folder.url}a/k")
            answer.raise_for_status()
            return str(answer.headers["ETag"])

        folder.put("a/k", b"old")
        old = etag()
        folder.put("a/k", b"new")
        assert etag() != old
        folder.put("a/k", b"old")
        assert etag() == old

    def test_its_options_are_those_of_webdav4(self, webdav: WebDAV) -> None:
        import fsspec

        folder = webdav.folder()
        folder.put("a/with space", b"bytes")
        driver, root = fsspec.url_to_fs(folder.uri, **webdav.storage_options, skip_instance_cache=True)
        try:
            assert [Path(path).name for path in driver.find(root)] == ["with space"]
            assert driver.cat_file(f"{root}/a/with space") == b"bytes"
        finally:
            driver.client.http.close()

    def test_a_deleted_file_is_gone(self, webdav: WebDAV, http: Any) -> None:
        folder = webdav.folder()
        folder.put("k", b"bytes")
        folder.delete("k")
        assert http.head(f"{folder.url}k").status_code == 404


def test_unique_names_are_valid_for_buckets() -> None:
    names = {unique("bucket") for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) <= 63 and name == name.lower() for name in names)
