"""How many requests things cost, and what is particular to S3: versions, markers, mocks."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace
from typing import Any

import boto3
import moto
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
)
from refart.sources import ahead
from refart.sources.pinned import CURRENT
from refart.sources.s3.reading import Reader
from refart.sources.s3.source import S3Source
from refart.testing import ENVIRONMENT, LAKE_OBJECTS, Lake, S3Requests
from tests.sources.suite import listed, read

SHA256 = "sha256:" + "0" * 64


@pytest.fixture
def source(s3: Any) -> S3Source:
    return S3Source({})


def only(found: dict[str, Entry]) -> Entry:
    [entry] = found.values()
    return entry


class TestCounts:
    @pytest.mark.parametrize("operation", ["ListObjectVersions", "ListObjectsV2"])
    def test_2500_objects_are_three_listing_requests_and_no_head(
        self, source: S3Source, s3: Any, s3_requests: S3Requests, operation: str
    ) -> None:
        """PITFALLS 5."""
        s3.create_bucket(Bucket="large")
        if operation == "ListObjectVersions":
            s3.put_bucket_versioning(Bucket="large", VersioningConfiguration={"Status": "Enabled"})
        for n in range(2500):
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object("large", f"d/{n:04}", b"x")  # ten times faster
        s3_requests.clear()
        counts: list[int] = []
        pages = list(source.scan("s3://large/d", on_page=counts.append).pages)
        assert s3_requests.operations == ["GetBucketVersioning"] + [operation] * 3
        assert counts == [page.num_rows for page in pages] == [1000, 1000, 500]
        pins = {pin for page in pages for pin in page.column("pin").to_pylist()}
        assert len(pins) == (2500 if operation == "ListObjectVersions" else 1)

    def test_reading_is_one_request(
        self, source: S3Source, versioned_lake: Lake, unversioned_lake: Lake, s3_requests: S3Requests
    ) -> None:
        """PITFALLS 6."""
        for lake in (versioned_lake, unversioned_lake):
            entry = listed(source, lake.uri)["README.txt"]
            s3_requests.clear()
            assert read(source, entry) == LAKE_OBJECTS["README.txt"]
            with source.open(entry).file as stream:
                assert stream.read() == LAKE_OBJECTS["README.txt"]
            assert s3_requests.operations == ["GetObject", "GetObject"]

    @pytest.mark.parametrize(("options", "gets"), [({}, 3), ({"max_concurrency": 1}, 1)])
    def test_a_large_object_that_comes_slowly_is_read_by_ranges(
        self,
        unversioned_lake: Lake,
        s3_requests: S3Requests,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, Any],
        gets: int,
    ) -> None:
        monkeypatch.setattr(ahead, "SLOW", -1.0)
        monkeypatch.setattr(ahead, "BUSY", 99.0)
        source = S3Source(options)
        unversioned_lake.put("large", b"x" * (3 * ahead.RANGE_BYTES))
        entry = only(listed(source, f"{unversioned_lake.uri}/large"))
        s3_requests.clear()
        assert read(source, entry) == b"x" * (3 * ahead.RANGE_BYTES)
        assert s3_requests.operations == ["GetObject"] * gets

    def test_a_single_object_is_one_listing(
        self, source: S3Source, versioned_lake: Lake, s3_requests: S3Requests
    ) -> None:
        source.scan(versioned_lake.uri)  # learns that the bucket has versions
        s3_requests.clear()
        assert source.scan(f"{versioned_lake.uri}/README.txt").is_object
        assert s3_requests.operations == ["ListObjectVersions"]

    def test_a_large_object_is_opened_by_ranges(
        self, source: S3Source, unversioned_lake: Lake, s3_requests: S3Requests
    ) -> None:
        """A footer costs one more request, not the object."""
        unversioned_lake.put("large", b"x" * 20_000_000)
        entry = only(listed(source, f"{unversioned_lake.uri}/large"))
        s3_requests.clear()
        with source.open(entry).file as stream:
            stream.seek(-8, os.SEEK_END)
            stream.read(8)
        assert s3_requests.operations == ["GetObject", "GetObject"]

    def test_siblings_that_sort_before_the_prefix_are_jumped_over(
        self, source: S3Source, s3: Any, s3_requests: S3Requests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")
        s3.create_bucket(Bucket="lake")
        lake = Lake("lake", s3)
        for n in range(40):
            lake.put(f"data.{n}", b"x")
        lake.put("data/x", b"x")
        for n in range(40):
            lake.put(f"data2/{n}", b"x")
        s3_requests.clear()
        assert listed(source, "s3://lake/data").keys() == {"x"}
        assert s3_requests.count("ListObjectsV2") == 2


class TestObjectAndPrefix:
    def test_both_at_once_is_an_error_that_names_the_ways_out(
        self, source: S3Source, versioned_lake: Lake
    ) -> None:
        version = versioned_lake.put("data", b"object")
        versioned_lake.put("data/x", b"below")
        uri = f"{versioned_lake.uri}/data"
        with pytest.raises(InvalidInputError) as error:
            source.scan(uri)
        assert f"{uri}/ for" in str(error.value)
        assert f"{uri}?versionId={version} for the object" in str(error.value)
        assert listed(source, f"{uri}/").keys() == {"x"}
        assert read(source, only(listed(source, f"{uri}?versionId={version}"))) == b"object"

    def test_the_way_out_works_without_versions(self, source: S3Source, unversioned_lake: Lake) -> None:
        unversioned_lake.put("data", b"object")
        unversioned_lake.put("data/x", b"below")
        entry = only(listed(source, f"{unversioned_lake.uri}/data?versionId=null"))
        assert (entry.path, entry.uri) == ("data", f"{unversioned_lake.uri}/data")
        assert read(source, entry) == b"object"

    def test_an_object_with_its_own_folder_marker_is_an_object(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        unversioned_lake.put("data", b"object")
        unversioned_lake.put("data/", b"")
        assert source.scan(f"{unversioned_lake.uri}/data").is_object


class TestVersions:
    def test_a_version_is_pinned_by_hand(self, source: S3Source, versioned_lake: Lake) -> None:
        """PITFALLS 1: it is the named version that is recorded, not the current one."""
        old = versioned_lake.put("k", b"old")
        versioned_lake.put("k", b"newer")
        scan = source.scan(f"{versioned_lake.uri}/k?versionId={old}")
        assert scan.is_object
        entry = only(listed(source, f"{versioned_lake.uri}/k?versionId={old}"))
        assert (entry.path, entry.size, entry.uri, entry.pin) == (
            "k",
            3,
            f"{versioned_lake.uri}/k",
            f"version:{old}",
        )
        assert read(source, entry) == b"old"

    def test_a_literal_key_comes_first(self, source: S3Source, versioned_lake: Lake) -> None:
        old = versioned_lake.put("k", b"old")
        versioned_lake.put(f"k?versionId={old}", b"literal")
        assert read(source, only(listed(source, f"{versioned_lake.uri}/k?versionId={old}"))) == b"literal"

    def test_a_version_that_does_not_exist(self, source: S3Source, versioned_lake: Lake) -> None:
        versioned_lake.put("k", b"old")
        versioned_lake.delete("k")
        marker = versioned_lake.client.list_object_versions(Bucket=versioned_lake.bucket, Prefix="k")[
            "DeleteMarkers"
        ][0]["VersionId"]
        for version in ("00000000-0000-0000-0000-000000000000", marker):
            with pytest.raises(NotFoundError, match="has no version"):
                source.scan(f"{versioned_lake.uri}/k?versionId={version}")

    def test_old_versions_and_deleted_objects_are_not_listed(
        self, source: S3Source, versioned_lake: Lake
    ) -> None:
        for n in range(3):
            current = versioned_lake.put("d/a", b"%d" % n)
        versioned_lake.put("d/b", b"x")
        versioned_lake.delete("d/b")
        assert only(listed(source, f"{versioned_lake.uri}/d")).pin == f"version:{current}"

    def test_writes_from_before_versioning_are_pinned_by_etag(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        unversioned_lake.put("d/before", b"before")
        unversioned_lake.client.put_bucket_versioning(
            Bucket=unversioned_lake.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        unversioned_lake.put("d/after", b"after")
        found = listed(source, f"{unversioned_lake.uri}/d")
        assert found["before"].pin is None
        assert (found["after"].pin or "").startswith("version:")
        assert read(source, found["before"]) == b"before"

    def test_versioning_that_is_switched_on_later_is_noticed(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        assert listed(source, unversioned_lake.uri)["README.txt"].pin is None
        unversioned_lake.client.put_bucket_versioning(
            Bucket=unversioned_lake.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        unversioned_lake.put("README.txt", b"new")
        assert listed(source, unversioned_lake.uri)["README.txt"].pin is not None

    def test_a_purged_version_is_replaced_by_the_same_bytes(
        self, source: S3Source, versioned_lake: Lake
    ) -> None:
        """PITFALLS 9: the lifecycle purged the version, identical content is current."""
        old = versioned_lake.put("k", b"same")
        entry = only(listed(source, f"{versioned_lake.uri}/k"))
        versioned_lake.put("k", b"same")
        versioned_lake.delete("k", old)
        with source.fetch(entry) as fetched:
            assert fetched.held == "etag"
            assert b"".join(fetched.chunks) == b"same"

    def test_a_purged_version_with_other_bytes_current(self, source: S3Source, versioned_lake: Lake) -> None:
        old = versioned_lake.put("k", b"logged")
        entry = only(listed(source, f"{versioned_lake.uri}/k"))
        versioned_lake.put("k", b"newer!")
        versioned_lake.delete("k", old)
        with pytest.raises(ReferenceChangedError, match=f"expected {entry.content_id}, pinned version:{old}"):
            read(source, entry)
        with pytest.raises(ReferenceChangedError):
            source.open(entry)

    def test_a_purged_object(self, source: S3Source, versioned_lake: Lake) -> None:
        old = versioned_lake.put("k", b"logged")
        entry = only(listed(source, f"{versioned_lake.uri}/k", identify="none"))
        versioned_lake.delete("k", old)
        with pytest.raises(ReferenceMissingError, match="'k'"):
            read(source, entry)


class TestHeld:
    """What is left to the caller, and what it is told."""

    def test_a_recorded_sha256_may_judge_the_current_object(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        uri = f"{unversioned_lake.uri}/README.txt"
        current = source.stat(uri)
        assert current is not None
        for pin in (None, "etag:0123", "version:nope"):
            entry = Entry("README.txt", current.size, SHA256, uri, pin)
            with source.fetch(entry) as fetched:
                assert fetched.held == "current"
                assert fetched.content_id == current.content_id
                assert b"".join(fetched.chunks) == LAKE_OBJECTS["README.txt"]

    def test_another_size_needs_no_hash(self, source: S3Source, unversioned_lake: Lake) -> None:
        entry = Entry("README.txt", 1, SHA256, f"{unversioned_lake.uri}/README.txt")
        with pytest.raises(ReferenceChangedError, match=r"expected sha256:0+, 1 bytes; found md5:"):
            read(source, entry)

    def test_a_recorded_etag_pin_holds_beside_a_sha256(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        [etag_entry] = listed(source, f"{unversioned_lake.uri}/README.txt", identify="none").values()
        entry = Entry("README.txt", etag_entry.size, SHA256, etag_entry.uri, etag_entry.pin)
        with source.fetch(entry) as fetched:
            assert fetched.held == "etag"

    def test_an_entry_without_any_fingerprint_is_read_as_it_is(
        self, source: S3Source, unversioned_lake: Lake
    ) -> None:
        entry = Entry("README.txt", None, "none", f"{unversioned_lake.uri}/README.txt")
        with source.fetch(entry) as fetched:
            assert fetched.held == "current"

    def test_an_encrypted_objects_etag_is_no_md5(self, source: S3Source, unversioned_lake: Lake) -> None:
        unversioned_lake.client.put_object(
            Bucket=unversioned_lake.bucket, Key="k", Body=b"secret", ServerSideEncryption="aws:kms"
        )
        with source.fetch(only(listed(source, f"{unversioned_lake.uri}/k"))) as fetched:
            assert not fetched.hash_is_plain

    @pytest.mark.parametrize(("bucket", "is_plain"), [("fast", True), ("fast--use1-az4--x-s3", False)])
    def test_the_etag_of_a_directory_bucket_is_random(self, bucket: str, is_plain: bool) -> None:
        """It may look like an MD5. (No server here has such buckets.)"""
        answer = {"Body": io.BytesIO(b"x"), "ContentLength": 1, "ETag": f'"{"0" * 32}"'}
        client: Any = SimpleNamespace(call=lambda *args, **parameters: answer)
        reader = Reader(client, bucket, "k", Entry("k", 1, "md5:" + "0" * 32, f"s3://{bucket}/k"))
        assert reader.get(CURRENT, 0, None).hash_is_plain == is_plain

    def test_stored_bytes_are_not_decoded(self, source: S3Source, unversioned_lake: Lake) -> None:
        unversioned_lake.client.put_object(
            Bucket=unversioned_lake.bucket, Key="k", Body=b"not really gzip", ContentEncoding="gzip"
        )
        assert read(source, only(listed(source, f"{unversioned_lake.uri}/k"))) == b"not really gzip"

    def test_multipart_objects_are_held_by_their_etag(self, source: S3Source, unversioned_lake: Lake) -> None:
        client, where = unversioned_lake.client, {"Bucket": unversioned_lake.bucket, "Key": "k"}
        upload = client.create_multipart_upload(**where)["UploadId"]
        part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
        client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
        entry = only(listed(source, f"{unversioned_lake.uri}/k"))
        assert entry.content_id.startswith("etag:")
        assert read(source, entry) == b"part"

    def test_a_managed_file_is_none_of_its_business(self, source: S3Source) -> None:
        with pytest.raises(InvalidInputError, match="managed"):
            source.open(Entry("a", 1, SHA256))


class TestSchemes:
    def test_s3a_is_s3(self, source: S3Source, unversioned_lake: Lake) -> None:
        entry = listed(source, f"s3a://{unversioned_lake.bucket}")["README.txt"]
        assert entry.uri == f"s3a://{unversioned_lake.bucket}/README.txt"
        assert read(source, entry) == LAKE_OBJECTS["README.txt"]


class TestMockAws:
    """`moto.mock_aws` in this process, no server."""

    @pytest.fixture(autouse=True)
    def _no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.setenv(name, ENVIRONMENT[name])

    def lake(self, *, versioned: bool) -> Lake:
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="mocked")
        if versioned:
            client.put_bucket_versioning(Bucket="mocked", VersioningConfiguration={"Status": "Enabled"})
        return Lake("mocked", client)

    @pytest.mark.parametrize("versioned", [True, False])
    def test_scan_stat_fetch_and_open(self, versioned: bool) -> None:
        data = bytes(range(256)) * 1000
        with moto.mock_aws():
            lake = self.lake(versioned=versioned)
            lake.put("d/a b+c%", data)
            source = S3Source({})
            entry = only(listed(source, "s3://mocked/d"))
            assert (entry.pin is not None) == versioned
            assert source.stat("s3://mocked/d/a b+c%") is not None
            assert read(source, entry) == data
            with source.open(entry).file as stream:
                stream.seek(200_000)
                assert stream.read() == data[200_000:]
            lake.put("d/a b+c%", b"newer")
            if not versioned:
                with pytest.raises(ReferenceChangedError):
                    read(source, entry)
            with pytest.raises(NotFoundError):
                source.scan("s3://no-such-bucket")

    def test_a_source_that_outlives_a_mock_takes_nothing_along(self) -> None:
        """Neither what it learnt nor the mock's credentials, which must reach no real server."""
        source = S3Source({})
        with moto.mock_aws():
            self.lake(versioned=True).put("k", b"first")
            assert only(listed(source, "s3://mocked")).pin is not None
        with pytest.raises(PermissionDeniedError, match="no AWS credentials"):
            source.scan("s3://mocked")
        with moto.mock_aws():
            self.lake(versioned=False).put("k", b"second")
            entry = only(listed(source, "s3://mocked"))
            assert entry.pin is None
            assert read(source, entry) == b"second"

    def test_a_source_follows_a_bucket_from_mock_to_mock(self) -> None:
        source = S3Source({})
        for versioned in (False, True, False):
            with moto.mock_aws():
                self.lake(versioned=versioned).put("k", b"bytes")
                assert (only(listed(source, "s3://mocked")).pin is not None) == versioned
