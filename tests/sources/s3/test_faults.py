"""What S3 and its look-alikes do wrong: denied and failing requests, broken bodies, conditions that are ignored."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import (
    CredentialRetrievalError,
    ReadTimeoutError,
    SSLError,
    UnauthorizedSSOTokenError,
)

from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    SourceError,
)
from refart.sources.pinned import RESUMES
from refart.sources.s3.client import translated
from refart.sources.s3.source import S3Source
from refart.testing import Lake, S3Server
from tests.faults import FaultProxy, s3_error
from tests.sources.suite import listed, read

DENIED = s3_error(403, "AccessDenied", "Access Denied")
AT_ONCE = {"config_kwargs": {"retries": {"max_attempts": 0}}}
"""Botocore's waits between tries are its own affair."""


@pytest.fixture
def proxy(s3: Any, s3_server: S3Server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def source(proxy: FaultProxy) -> S3Source:
    return S3Source({"endpoint_url": proxy.url, **AT_ONCE})


@pytest.fixture
def lake(s3: Any) -> Lake:
    s3.create_bucket(Bucket="lake")
    return Lake("lake", s3)


@pytest.fixture
def kept(s3: Any) -> Lake:
    s3.create_bucket(Bucket="kept")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    return Lake("kept", s3)


def logged(source: S3Source, lake: Lake, data: bytes) -> Entry:
    lake.put("d/a", data)
    [entry] = listed(source, f"{lake.uri}/d").values()
    return entry


class TestDenied:
    def test_an_object_is_found_by_one_head_where_listing_is_denied(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        lake.put("d/a", b"bytes")
        for operation in ("GetBucketVersioning", "ListObjectVersions", "ListObjectsV2"):
            proxy.add(operation, **DENIED)
        scan = source.scan(f"{lake.uri}/d/a")
        assert scan.is_object
        assert sum(page.num_rows for page in scan.pages) == 1
        assert proxy.requests.count("HeadObject") == 1

    def test_a_prefix_that_may_not_be_listed_says_so(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        lake.put("d/a", b"bytes")
        for operation in ("GetBucketVersioning", "ListObjectVersions", "ListObjectsV2"):
            proxy.add(operation, **DENIED)
        for uri in (f"{lake.uri}/d", f"{lake.uri}/d/", lake.uri):
            with pytest.raises(PermissionDeniedError, match="lake"):
                source.scan(uri)

    def test_versions_that_may_not_be_listed_leave_etags_to_pin(
        self, source: S3Source, proxy: FaultProxy, kept: Lake
    ) -> None:
        proxy.add("ListObjectVersions", **DENIED)
        entry = logged(source, kept, b"bytes")
        assert (entry.pin, entry.content_id[:4]) == (None, "md5:")
        assert read(source, entry) == b"bytes"

    def test_a_bucket_whose_versioning_is_secret_is_listed_by_version(
        self, source: S3Source, proxy: FaultProxy, kept: Lake
    ) -> None:
        proxy.add("GetBucketVersioning", **DENIED)
        assert (logged(source, kept, b"bytes").pin or "").startswith("version:")

    @pytest.mark.parametrize("status", [501, 405])
    def test_a_server_without_versions(
        self, source: S3Source, proxy: FaultProxy, lake: Lake, status: int
    ) -> None:
        for operation in ("GetBucketVersioning", "ListObjectVersions"):
            proxy.add(operation, status=status)
        assert logged(source, lake, b"bytes").pin is None

    def test_a_denied_read_names_the_object(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        entry = logged(source, lake, b"bytes")
        proxy.add("GetObject", **DENIED)
        for attempt in (read, S3Source.open):
            with pytest.raises(PermissionDeniedError, match=r"'a' \(s3://lake/d/a\): access is denied"):
                attempt(source, entry) if attempt is read else source.open(entry)

    def test_an_error_repeats_nothing_secret(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        def echo(request: dict[str, str]) -> bytes:
            xml = f"<Error><Code>AccessDenied</Code><Message>{request['authorization']}</Message></Error>"
            return xml.encode()

        proxy.add("ListObjectsV2", status=403, body=echo)
        with pytest.raises(PermissionDeniedError) as error:
            source.scan(lake.uri)
        assert "lake" in str(error.value)
        assert "Credential" not in str(error.value)
        assert "Signature" not in str(error.value)


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "kind", "transient"),
        [
            (SSLError(endpoint_url="https://s3", error="expired"), SourceError, False),
            (ReadTimeoutError(endpoint_url="https://s3"), SourceError, True),
            (UnauthorizedSSOTokenError(), PermissionDeniedError, None),
            (CredentialRetrievalError(provider="sso", error_msg="no"), PermissionDeniedError, None),
        ],
    )
    def test_what_botocore_raises_itself(
        self, error: Exception, kind: type[Exception], transient: bool | None
    ) -> None:
        said = translated(error, "s3://lake/x")
        assert isinstance(said, kind)
        assert getattr(said, "transient", None) is transient
        assert str(said).startswith("s3://lake/x: ")

    @pytest.mark.parametrize(
        ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (429, "TooMany")]
    )
    def test_throttling_and_server_errors_are_transient(
        self, source: S3Source, proxy: FaultProxy, lake: Lake, status: int, code: str
    ) -> None:
        entry = logged(source, lake, b"bytes")
        proxy.add("ListObjectsV2", **s3_error(status, code))
        proxy.add("GetObject", **s3_error(status, code))
        for attempt in (lambda: source.scan(lake.uri), lambda: read(source, entry)):
            with pytest.raises(SourceError, match=code) as error:
                attempt()
            assert error.value.transient

    def test_an_archived_object_is_not_transient(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, b"bytes")
        proxy.add("GetObject", **s3_error(403, "InvalidObjectState"))
        with pytest.raises(SourceError, match="archived") as error:
            read(source, entry)
        assert not error.value.transient

    def test_an_error_inside_a_200_is_an_error(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        proxy.add("ListObjectsV2", **s3_error(200, "InternalError"))
        with pytest.raises(SourceError, match="InternalError"):
            source.scan(lake.uri)

    def test_an_endpoint_nobody_listens_on(self, s3: Any) -> None:
        with socket.socket() as taken:  # bound, not listening
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(SourceError, match="cannot be reached") as error:
                S3Source({"endpoint_url": url, **AT_ONCE}).scan("s3://lake/d")
        assert error.value.transient

    def test_a_missing_bucket_is_named(self, source: S3Source, s3: Any) -> None:
        with pytest.raises(NotFoundError, match="s3://no-such-bucket/d: the bucket does not exist"):
            source.scan("s3://no-such-bucket/d")

    @pytest.mark.parametrize("uri", ["s3://UPPER case/x", "s3:///x", "s3://"])
    def test_what_is_no_bucket_name(self, source: S3Source, uri: str) -> None:
        with pytest.raises(InvalidInputError):
            source.scan(uri)


def listing(keys: list[str], token: str | None = None) -> bytes:
    contents = "".join(
        f"<Contents><Key>{quote_plus(key, safe='/')}</Key><Size>1</Size><ETag>&quot;{'0' * 32}&quot;</ETag></Contents>"
        for key in keys
    )
    more = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        if token
        else ""
    )
    return f"<ListBucketResult><EncodingType>url</EncodingType>{more}{contents}</ListBucketResult>".encode()


class TestListings:
    """Answers to ListObjectsV2 that moto does not give."""

    def test_a_listing_that_breaks_off_is_never_taken_for_whole(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        for n in range(5):
            lake.put(f"d/{n}", b"x")
        proxy.add("ListObjectsV2", cut_at=700)
        with pytest.raises(SourceError) as error:
            listed(source, f"{lake.uri}/d")
        assert error.value.transient

    def test_an_error_between_pages_reaches_who_takes_them(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        proxy.add("ListObjectsV2", times=1, status=200, body=listing(["d/a"], "more"))
        proxy.add("ListObjectsV2", **s3_error(503, "SlowDown"))
        pages = source.scan(f"{lake.uri}/d/").pages
        assert next(pages).num_rows == 1
        with pytest.raises(SourceError, match="SlowDown"):
            next(pages)

    @pytest.mark.parametrize("circle", [1, 2, 3, 5])
    def test_continuations_that_go_in_circles_end(
        self, source: S3Source, proxy: FaultProxy, lake: Lake, circle: int
    ) -> None:
        served = iter(range(1000))
        proxy.add(
            "ListObjectsV2", status=200, body=lambda _: listing(["d/a"], f"token-{next(served) % circle}")
        )
        with pytest.raises(SourceError, match="circles"):
            for _ in source.scan(f"{lake.uri}/d").pages:
                pass

    def test_keys_that_come_in_no_order_are_all_found(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        """Cloudflare R2 and directory buckets: stopping at the first key past the prefix would lose some."""

        def answer(request: dict[str, str]) -> bytes:
            if request["prefix"] == "d":
                return listing(["d2/x", "d-old", "dx"], "more")
            if "continuation-token" in request:
                return listing(["d/b"])
            return listing(["d/z", "d/a"], "more")

        proxy.add("ListObjectsV2", status=200, body=answer)
        assert listed(source, f"{lake.uri}/d").keys() == {"z", "a", "b"}

    def test_an_object_among_keys_in_no_order(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        lake.put("d", b"bytes")

        def answer(request: dict[str, str]) -> bytes:
            return listing(["d2/x", "d-old"], "more") if request["prefix"] == "d" else listing([])

        proxy.add("ListObjectsV2", status=200, body=answer)
        scan = source.scan(f"{lake.uri}/d")
        assert scan.is_object
        assert [page.column("size").to_pylist() for page in scan.pages] == [[5]]

    def test_an_empty_page_in_the_middle_is_not_the_end(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        pages = iter([listing([], "one"), listing([], "two"), listing(["d/a"])])
        proxy.add("ListObjectsV2", status=200, body=lambda _: next(pages))
        assert listed(source, f"{lake.uri}/d/").keys() == {"a"}

    def test_line_breaks_in_keys(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        keys = ["d/a\nb", "d/c\r\nd", "d/\x01"]
        proxy.add("ListObjectsV2", status=200, body=listing(keys))
        found = listed(source, f"{lake.uri}/d/")
        assert found.keys() == {"a%0Ab", "c%0D%0Ad", "%01"}
        assert {entry.uri for entry in found.values()} == {f"{lake.uri}/{key}" for key in keys}


class TestBodies:
    DATA = bytes(n % 251 for n in range(3_000_000))

    def test_a_body_that_breaks_off_is_continued(
        self, source: S3Source, proxy: FaultProxy, lake: Lake, kept: Lake
    ) -> None:
        for place in (lake, kept):
            entry = logged(source, place, self.DATA)
            proxy.requests.clear()
            proxy.add("GetObject", times=2, cut_at=1_300_000)
            assert read(source, entry) == self.DATA
            assert proxy.requests.operations == ["GetObject"] * 3

    def test_a_body_that_always_breaks_off_is_an_error_never_short(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, self.DATA)
        proxy.add("GetObject", cut_at=1)
        with pytest.raises(SourceError, match=r"broke off .* of 3,000,000") as error:
            read(source, entry)
        assert error.value.transient
        assert proxy.requests.count("GetObject") == RESUMES + 1

    def test_what_is_continued_is_the_same_object(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, self.DATA)
        proxy.add("GetObject", times=1, cut_at=1_300_000, then=lambda: lake.put("d/a", b"n" * len(self.DATA)))
        with pytest.raises(ReferenceChangedError, match="while it was being read"):
            read(source, entry)

    def test_a_version_is_continued_although_the_object_moved_on(
        self, source: S3Source, proxy: FaultProxy, kept: Lake
    ) -> None:
        entry = logged(source, kept, self.DATA)
        proxy.add("GetObject", times=1, cut_at=1_300_000, then=lambda: kept.put("d/a", b"n" * len(self.DATA)))
        assert read(source, entry) == self.DATA

    def test_ranges_of_an_open_stream_are_continued_too(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, self.DATA)
        proxy.add("GetObject", times=3, cut_at=50_000)
        with source.open(entry).file as stream:
            assert stream.read() == self.DATA

    def test_damage_on_the_way_is_noticed_by_the_stored_checksum(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        """PITFALLS 7: garbled bytes of the right size."""
        lake.client.put_object(Bucket="lake", Key="d/a", Body=self.DATA, ChecksumAlgorithm="CRC32")
        [entry] = listed(source, f"{lake.uri}/d").values()
        proxy.add("GetObject", garble=True)
        with pytest.raises(ChecksumError, match="'a'"):
            read(source, entry)


class TestIgnoredConditions:
    """Some servers do not look at `If-Match` or `versionId`; their answers are checked."""

    def test_an_ignored_if_match(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        entry = logged(source, lake, b"logged")
        lake.put("d/a", b"newer!")
        proxy.add("GetObject", ignored=("if-match",))
        with pytest.raises(ReferenceChangedError):
            read(source, entry)
        with pytest.raises(ReferenceChangedError):
            source.open(entry)

    def test_an_ignored_version_id(self, source: S3Source, proxy: FaultProxy, kept: Lake) -> None:
        entry = logged(source, kept, b"logged")
        kept.put("d/a", b"newer!")
        proxy.add("GetObject", ignored=("versionId",))
        with pytest.raises(ReferenceChangedError):
            read(source, entry)

    def test_an_ignored_range(self, source: S3Source, proxy: FaultProxy, lake: Lake) -> None:
        entry = logged(source, lake, TestBodies.DATA)
        proxy.add("GetObject", ignored=("range",))
        with pytest.raises(SourceError, match="range"):
            source.open(entry)

    def test_an_ignored_if_match_where_a_body_goes_on(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, TestBodies.DATA)
        newer = bytes(len(TestBodies.DATA))
        proxy.add("GetObject", times=1, cut_at=1_300_000, then=lambda: lake.put("d/a", newer))
        proxy.add("GetObject", ignored=("if-match",))
        with pytest.raises(ReferenceChangedError, match="found"):
            read(source, entry)

    def test_an_ignored_range_where_a_body_goes_on(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        entry = logged(source, lake, TestBodies.DATA)
        proxy.add("GetObject", times=1, cut_at=1_300_000)
        proxy.add("GetObject", ignored=("range",))
        with pytest.raises(SourceError, match="range"):
            read(source, entry)

    def test_an_ignored_version_id_of_a_pin_by_hand(
        self, source: S3Source, proxy: FaultProxy, lake: Lake
    ) -> None:
        """PITFALLS 1: a version id that does not exist is not accepted."""
        lake.put("d/a", b"bytes")
        proxy.add("HeadObject", ignored=("versionId",))
        with pytest.raises(NotFoundError, match="no version 'abc'"):
            source.scan(f"{lake.uri}/d/a?versionId=abc")


def test_closing_early_leaves_no_thread_behind(source: S3Source, lake: Lake) -> None:
    entry = logged(source, lake, TestBodies.DATA)
    before = {thread for thread in threading.enumerate() if thread.name.startswith("refart")}
    with source.fetch(entry) as fetched:
        next(iter(fetched.chunks))
    assert {thread for thread in threading.enumerate() if thread.name.startswith("refart")} == before
