"""Checksums that S3 keeps: told by one HEAD, compared while bytes stream."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from refart import checksums
from refart.checksums import StreamHasher
from refart.entries import Entry
from refart.errors import ChecksumError, PermissionDeniedError, ReferenceChangedError, ReferenceMissingError
from refart.sources import objects
from refart.sources.base import ChecksumSource
from refart.sources.s3.checksums import FIELDS, stored
from refart.sources.s3.source import S3Source
from refart.testing import Lake
from tests.faults import FaultProxy, s3_error
from tests.servers import SeaweedFS
from tests.sources.s3.uploads import PARTS, upload_parts
from tests.sources.suite import read_checked

BYTES = b"the bytes that were uploaded"
WHOLE = b"".join(PARTS)
PART_ETAG = f'"{"0" * 32}-3"'
ALGOS = tuple(FIELDS)


def id_of(data: bytes, algo: str) -> str:
    hasher = StreamHasher(algo)
    hasher.update(data)
    return hasher.content_id(algo)


def base64_of(data: bytes, algo: str) -> str:
    return base64.b64encode(bytes.fromhex(id_of(data, algo).partition(":")[2])).decode()


class TestStored:
    """What an answer says."""

    @pytest.mark.parametrize("algo", ALGOS)
    def test_a_checksum_of_the_whole(self, algo: str) -> None:
        value = base64_of(BYTES, algo)
        for headers in (
            {},
            {"ChecksumType": "FULL_OBJECT"},
            {"ETag": PART_ETAG, "ChecksumType": "FULL_OBJECT"},
        ):
            assert stored({FIELDS[algo]: value, **headers}) == id_of(BYTES, algo)

    @pytest.mark.parametrize("algo", ALGOS)
    def test_a_checksum_of_checksums_is_none_of_the_bytes(self, algo: str) -> None:
        value = base64_of(BYTES, algo)
        assert stored({FIELDS[algo]: value, "ChecksumType": "COMPOSITE"}) is None
        assert stored({FIELDS[algo]: f"{value}-3"}) is None

    def test_a_server_that_does_not_tell_the_type_of_a_multipart_upload(self) -> None:
        told = {algo: stored({FIELDS[algo]: base64_of(BYTES, algo), "ETag": PART_ETAG}) for algo in ALGOS}
        assert told == {"sha256": None, "crc64nvme": id_of(BYTES, "crc64nvme"), "crc32c": None}

    def test_the_strongest_counts(self) -> None:
        headers = {FIELDS[algo]: base64_of(BYTES, algo) for algo in reversed(ALGOS)}
        assert stored(headers) == id_of(BYTES, "sha256")

    @pytest.mark.parametrize("value", ["", "not base64", "NhCmhg==", "AAAA"])
    def test_what_is_no_such_checksum(self, value: str) -> None:
        assert stored({"ChecksumSHA256": value}) is None


@pytest.fixture(params=["moto", "seaweed"])
def server(request: pytest.FixtureRequest) -> Any:
    """`(url, storage options, client)`."""
    if request.param == "moto":
        client = request.getfixturevalue("s3")
        return request.getfixturevalue("s3_server").url, {}, client
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    return seaweed.url, seaweed.storage_options, seaweed.client


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def lake(request: pytest.FixtureRequest, server: Any) -> Lake:
    return SeaweedFS("", "", "", server[2]).bucket(versioned=request.param)


@pytest.fixture
def proxy(server: Any) -> Iterator[FaultProxy]:
    proxy = FaultProxy(server[0])
    yield proxy
    proxy.close()


@pytest.fixture
def source(server: Any, proxy: FaultProxy) -> S3Source:
    at_once = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    return S3Source({**server[1], **at_once, "endpoint_url": proxy.url})


def put(lake: Lake, algo: str | None, data: bytes = BYTES) -> str:
    options = {} if algo is None else {"ChecksumAlgorithm": algo.upper()}
    lake.client.put_object(Bucket=lake.bucket, Key="k", Body=data, **options)
    return f"{lake.uri}/k"


def stat(source: S3Source, uri: str) -> Entry:
    entry = source.stat(uri)
    assert entry is not None
    return entry


def known_by(entry: Entry, content_id: str) -> Entry:
    """As if it had been added with the checksum that the server keeps."""
    return replace(
        entry, content_id=content_id, pin=objects.pin_without_content_id(entry.content_id, entry.pin)
    )


class TestAsking:
    @pytest.mark.parametrize("algo", ALGOS)
    def test_one_head_tells_it(self, source: S3Source, lake: Lake, proxy: FaultProxy, algo: str) -> None:
        assert isinstance(source, ChecksumSource)
        entry = stat(source, put(lake, algo))
        proxy.requests.clear()
        assert source.checksum(entry) == id_of(BYTES, algo)
        assert proxy.requests.operations == ["HeadObject"]

    @pytest.mark.parametrize("algo", [None, "CRC32", "SHA1"])
    def test_what_is_no_content_id_is_not_told(self, source: S3Source, lake: Lake, algo: str | None) -> None:
        assert source.checksum(stat(source, put(lake, algo))) is None

    @pytest.mark.parametrize(
        ("algo", "options", "is_whole"),
        [
            ("sha256", {}, False),
            ("crc64nvme", {}, True),
            ("crc32c", {}, False),
            ("crc32c", {"ChecksumType": "FULL_OBJECT"}, True),
        ],
    )
    def test_parts(
        self, source: S3Source, lake: Lake, algo: str, options: dict[str, str], is_whole: bool
    ) -> None:
        uri = upload_parts(lake, "k", ChecksumAlgorithm=algo.upper(), **options)
        found = source.checksum(stat(source, uri))
        assert found == (id_of(WHOLE, algo) if is_whole else None)

    def test_it_is_that_of_the_pinned_write(self, source: S3Source, lake: Lake) -> None:
        entry = stat(source, put(lake, "sha256"))
        put(lake, "sha256", b"newer")
        if entry.pin is not None:
            assert source.checksum(entry) == id_of(BYTES, "sha256")
        else:
            with pytest.raises(ReferenceChangedError, match=f"expected {entry.content_id}.*found md5:"):
                source.checksum(entry)

    @pytest.mark.parametrize(
        "server", ["moto"], indirect=True
    )  # which checks no signature of what is left out
    def test_conditions_that_are_ignored_are_noticed(
        self, source: S3Source, lake: Lake, proxy: FaultProxy
    ) -> None:
        entry = stat(source, put(lake, "sha256"))
        put(lake, "sha256", b"newer")
        proxy.add("HeadObject", ignored=("versionId", "if-match"))
        with pytest.raises(ReferenceChangedError):
            source.checksum(entry)

    def test_an_object_that_is_gone(self, source: S3Source, lake: Lake) -> None:
        entry = stat(source, put(lake, "sha256"))
        lake.delete("k", (entry.pin or "").removeprefix("version:") or None)
        with pytest.raises(ReferenceMissingError, match="'k'"):
            source.checksum(entry)

    def test_a_denied_object(self, source: S3Source, lake: Lake, proxy: FaultProxy) -> None:
        entry = stat(source, put(lake, "sha256"))
        proxy.add("HeadObject", **s3_error(403, "AccessDenied"))
        with pytest.raises(PermissionDeniedError, match="'k'"):
            source.checksum(entry)


def without_checksums(headers: dict[str, str], body: bytes) -> bytes:
    for name in [name for name in headers if name.startswith("x-amz-checksum")]:
        del headers[name]
    return body


class TestReading:
    @pytest.mark.parametrize("algo", ALGOS)
    def test_an_entry_known_by_it_is_compared(
        self, source: S3Source, lake: Lake, proxy: FaultProxy, algo: str
    ) -> None:
        """By refart, too, not only by the driver that the headers of the answer tell to."""
        entry = stat(source, put(lake, algo))
        entry = known_by(entry, id_of(BYTES, algo))
        assert entry.pin is not None
        proxy.requests.clear()
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (BYTES, algo)
        assert proxy.requests.operations == ["GetObject"]
        proxy.add("GetObject", garble=True, edit=without_checksums)
        with pytest.raises(ChecksumError, match=f"expected {entry.content_id}"):
            read_checked(source, entry)

    def test_an_overwritten_object_is_found_where_its_bytes_are_the_same(
        self, source: S3Source, lake: Lake
    ) -> None:
        """Though neither its version nor its ETag is."""
        entry = known_by(stat(source, put(lake, "sha256")), id_of(BYTES, "sha256"))
        if entry.pin.startswith("version:"):
            lake.delete("k", entry.pin.removeprefix("version:"))
        upload_parts(lake, "k", (BYTES,))
        assert read_checked(source, entry)[1].rung == "sha256"
        upload_parts(lake, "k", (BYTES.swapcase(),))
        if entry.pin.startswith("etag:"):
            with pytest.raises(ReferenceChangedError):
                read_checked(source, entry)

    @pytest.mark.parametrize("algo", [*ALGOS, "crc32"])
    def test_damage_is_noticed_whatever_the_entry_is_known_by(
        self, source: S3Source, lake: Lake, proxy: FaultProxy, algo: str
    ) -> None:
        [page] = source.scan(put(lake, algo), identify="none").pages
        [entry] = [Entry(*row.values()) for row in page.to_pylist()]
        assert entry.content_id == checksums.NONE
        proxy.add("GetObject", garble=True)
        with pytest.raises(ChecksumError, match="its stored checksum does not match"):
            read_checked(source, entry)

    @pytest.mark.parametrize(
        ("algo", "options"),
        [("crc64nvme", {}), ("crc32c", {"ChecksumType": "FULL_OBJECT"}), ("sha256", {}), ("crc32c", {})],
    )
    def test_parts(
        self, source: S3Source, lake: Lake, proxy: FaultProxy, algo: str, options: dict[str, str]
    ) -> None:
        """A checksum of checksums is not taken for one of the bytes; one of the whole is compared."""
        uri = upload_parts(lake, "k", ChecksumAlgorithm=algo.upper(), **options)
        entry = stat(source, uri)
        assert read_checked(source, entry)[0] == WHOLE
        if (content_id := source.checksum(entry)) is not None:
            assert read_checked(source, known_by(entry, content_id))[1].rung == algo
            proxy.add("GetObject", garble=True)
            with pytest.raises(ChecksumError, match="its stored checksum does not match"):
                read_checked(source, entry)
