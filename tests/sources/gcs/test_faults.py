"""What GCS, and what lies between, does wrong: denied and failing requests, broken bodies, generations ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    PermissionDeniedError,
    ReferenceChangedError,
    SourceError,
)
from refart.sources.gcs import client as gcs_client
from refart.sources.gcs import source as gcs
from refart.sources.gcs.client import RETRIES, translated
from refart.sources.gcs.source import GCSSource
from refart.sources.pinned import RESUMES
from tests.faults import FaultProxy
from tests.gcs import gcs_error, media_error, operation_of
from tests.servers import FakeGCS, GCSBucket
from tests.sources.suite import listed, read, read_checked

NOT_LISTED = gcs_error(
    403,
    "forbidden",
    "cat@example.org does not have storage.objects.list access to the Google Cloud Storage bucket.",
)
NOT_READ = "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object."
BUSY = gcs_error(503, "backendError", "Backend Error")


@pytest.fixture
def proxy(fake_gcs: FakeGCS) -> Iterator[FaultProxy]:
    proxy = FaultProxy(fake_gcs.url, operation_of)
    yield proxy
    proxy.close()


@pytest.fixture
def source(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> GCSSource:
    monkeypatch.setattr(gcs_client, "BACKOFF_S", 0)
    return GCSSource({"endpoint_url": proxy.url, "token": "anon"})


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def bucket(request: pytest.FixtureRequest, fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=request.param)


@pytest.fixture
def kept(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=True)


@pytest.fixture
def replaced(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=False)


def logged(source: GCSSource, bucket: GCSBucket, data: bytes) -> Entry:
    bucket.put("d/a", data)
    [entry] = listed(source, f"{bucket.uri}/d").values()
    return entry


class TestDenied:
    def test_an_object_is_found_by_one_request_where_listing_is_denied(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"bytes")
        proxy.add("list", **NOT_LISTED)
        [entry] = listed(source, f"{kept.uri}/d/a").values()
        assert read(source, entry) == b"bytes"
        assert proxy.requests.operations == ["list", "get", "media"]

    def test_a_generation_by_hand_is_found_as_well(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        old = kept.put("d/a", b"old")
        kept.put("d/a", b"newer")
        proxy.add("list", **NOT_LISTED)
        [entry] = listed(source, f"{kept.uri}/d/a#{old}").values()
        assert read(source, entry) == b"old"

    def test_a_prefix_that_may_not_be_listed_says_so(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"bytes")
        proxy.add("list", **NOT_LISTED)
        for uri in (f"{kept.uri}/d", f"{kept.uri}/d/", kept.uri):
            with pytest.raises(
                PermissionDeniedError, match=r"access is denied .*403 forbidden: cat@"
            ) as error:
                source.scan(uri)
            assert uri in str(error.value)

    def test_a_missing_object_is_denied_to_who_may_not_list(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """GCS says 403 then, lest anyone learn what exists."""
        proxy.add("list", **NOT_LISTED)
        proxy.add("get", **gcs_error(403, "forbidden", NOT_READ))
        with pytest.raises(PermissionDeniedError, match="listing"):
            source.scan(f"{kept.uri}/d/a")

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_denied_read_names_the_object(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, status: int
    ) -> None:
        entry = logged(source, kept, b"bytes")
        proxy.add("media", **media_error(status, NOT_READ))
        for attempt in (lambda: read(source, entry), lambda: source.open(entry)):
            with pytest.raises(PermissionDeniedError) as error:
                attempt()
            assert str(error.value) == (
                f"'a' ({kept.uri}/d/a): access is denied (GCS answered {status}: {NOT_READ})"
            )

    def test_a_bucket_whose_reader_pays(self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket) -> None:
        said = "Bucket is a requester pays bucket but no user project provided."
        entry = logged(source, kept, b"bytes")
        for operation in ("list", "get"):
            proxy.add(operation, **gcs_error(400, "userProjectMissing", said))
        proxy.add("media", **media_error(400, said))
        for attempt in (lambda: source.scan(kept.uri), lambda: read(source, entry)):
            with pytest.raises(PermissionDeniedError, match="reads this bucket pays: set requester_pays"):
                attempt()

    @pytest.mark.parametrize(
        "said", ["Bearer ya29.abc", "?X-Goog-Signature=abc", '{"private_key": "abc"}', "access_token=abc"]
    )
    def test_an_error_repeats_nothing_secret(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, said: str
    ) -> None:
        entry = logged(source, kept, b"bytes")
        proxy.add("list", **gcs_error(403, said, said))
        proxy.add("media", **media_error(403, said))
        for attempt in (lambda: source.scan(kept.uri), lambda: read(source, entry)):
            with pytest.raises(PermissionDeniedError, match="access is denied") as error:
                attempt()
            assert "abc" not in str(error.value)


class TestFailing:
    @pytest.mark.parametrize(
        ("error", "kind", "transient"),
        [
            (requests.exceptions.SSLError("expired"), SourceError, False),
            (requests.ConnectionError("refused"), SourceError, True),
            (requests.ReadTimeout("slow"), SourceError, True),
            (TransportError("the metadata server is away"), SourceError, True),
            (RefreshError("invalid_grant"), PermissionDeniedError, None),
            (DefaultCredentialsError("none"), PermissionDeniedError, None),
            (requests.exceptions.InvalidURL("http://"), InvalidInputError, None),
        ],
    )
    def test_what_the_clients_raise_themselves(
        self, error: Exception, kind: type[Exception], transient: bool | None
    ) -> None:
        said = translated(error, "gs://lake/x")
        assert isinstance(said, kind)
        assert getattr(said, "transient", None) is transient
        assert str(said).startswith("gs://lake/x: ")

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_what_passes_is_tried_again(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, status: int
    ) -> None:
        kept.put("d/a", b"bytes")
        for operation in ("list", "get", "media"):
            proxy.add(operation, times=2, **gcs_error(status, "backendError"))
        [entry] = listed(source, f"{kept.uri}/d").values()
        assert source.stat(entry.uri or "") == entry
        assert read(source, entry) == b"bytes"
        assert proxy.requests.operations == ["list"] * 3 + ["get"] * 3 + ["media"] * 3

    def test_what_does_not_pass_is_transient(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"bytes")
        proxy.add("*", **BUSY)
        for attempt in (
            lambda: source.scan(kept.uri),
            lambda: source.stat(entry.uri or ""),
            lambda: read(source, entry),
        ):
            proxy.requests.clear()
            with pytest.raises(
                SourceError, match=r"the server refused \(GCS answered 503 backendError"
            ) as error:
                attempt()
            assert error.value.transient
            assert proxy.requests.count() == RETRIES + 1

    def test_a_rate_limit_in_the_form_of_a_denial_is_transient(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        proxy.add("list", **gcs_error(403, "rateLimitExceeded", "slow down"))
        with pytest.raises(SourceError, match="slow down") as error:
            source.scan(kept.uri)
        assert error.value.transient

    @pytest.mark.parametrize(("status", "transient"), [(501, False), (410, False)])
    def test_another_refusal_is_final(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, status: int, transient: bool
    ) -> None:
        proxy.add("list", status=status)
        with pytest.raises(SourceError, match=f"GCS answered {status}") as error:
            source.scan(kept.uri)
        assert error.value.transient is transient

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gcs_client, "BACKOFF_S", 0)
        source = GCSSource({"endpoint_url": "http://127.0.0.1:9", "token": "anon"})
        with pytest.raises(SourceError, match="cannot be reached") as error:
            source.scan("gs://lake/x")
        assert error.value.transient

    def test_a_request_that_is_not_valid(self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket) -> None:
        proxy.add("list", **gcs_error(400, "invalid", "Invalid bucket name: 'goog.le'"))
        with pytest.raises(InvalidInputError, match=r"Invalid bucket name: 'goog\.le'"):
            source.scan(kept.uri)


class TestListings:
    @pytest.mark.parametrize(
        "body",
        [
            b"<html>welcome</html>",
            b"[]",
            b'{"items": 1}',
            b'{"items": [1]}',
            b'{"items": [{"name": "d/a"}]}',
            b'{"items": [{"name": "d/a", "size": "x", "generation": "1"}]}',
            b'{"items": [{"name": "d/a", "size": "1", "generation": "1", "md5Hash": "AAAA"}]}',
            b'{"items": [{"name": "d/a", "size": "1", "generation": "1", "crc32c": "?"}]}',
            b'{"items": [{"name": "d/a", "size": "1", "generation": "new"}]}',
        ],
    )
    def test_what_is_no_listing(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, body: bytes
    ) -> None:
        proxy.add("list", status=200, body=body)
        with pytest.raises(SourceError, match="not one of the JSON API of GCS") as error:
            source.scan(f"{kept.uri}/d")
        assert not error.value.transient

    @pytest.mark.parametrize("tokens", [["same"], ["a", "b", "c"], ["x", "y"]])
    def test_a_server_that_goes_round_in_circles(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, tokens: list[str]
    ) -> None:
        def page(asked: dict[str, str]) -> bytes:
            at = tokens.index(asked["pagetoken"]) + 1 if "pagetoken" in asked else 0
            token = tokens[at % len(tokens)]
            item = {"name": f"d/{token}", "size": "1", "generation": "1"}
            return json.dumps({"items": [item], "nextPageToken": token}).encode()

        proxy.add("list", status=200, body=lambda asked: page({k.lower(): v for k, v in asked.items()}))
        with pytest.raises(SourceError, match=r"circles|does not list keys in order"):
            list(source.scan(f"{kept.uri}/d/").pages)

    def test_an_empty_page_is_not_the_end(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"bytes")
        proxy.add("list", times=1, status=200, body=b'{"nextPageToken": "d/"}')
        assert listed(source, f"{kept.uri}/d").keys() == {"a"}

    def test_a_listing_that_breaks_off_is_asked_for_again(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"bytes")
        proxy.add("list", times=2, cut_at=20)
        assert listed(source, f"{kept.uri}/d").keys() == {"a"}
        assert proxy.requests.operations == ["list"] * 3
        proxy.add("list", cut_at=20)
        with pytest.raises(SourceError, match="cannot be reached or hung up") as error:
            source.scan(f"{kept.uri}/d")
        assert error.value.transient

    def test_keys_out_of_order_are_all_found(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No server of GCS does that; an emulator may."""
        monkeypatch.setattr(gcs, "PAGE_OBJECTS", 4)
        for key in ("d-1", "d-2", "d/a", "d/b", "d0", "d1", "d2"):
            kept.put(key, key.encode())

        def backwards(_: dict[str, str], body: bytes) -> bytes:
            answer = json.loads(body)
            answer["items"].reverse()
            return json.dumps(answer).encode()

        proxy.add("list", edit=backwards)
        assert listed(source, f"{kept.uri}/d").keys() == {"a", "b"}
        assert source.scan(f"{kept.uri}/d2").is_object


class TestBodies:
    def test_a_body_that_breaks_off_is_continued_at_the_same_generation(
        self, source: GCSSource, proxy: FaultProxy, bucket: GCSBucket
    ) -> None:
        data = bytes(n % 251 for n in range(3_000_000))
        entry = logged(source, bucket, data)
        proxy.seen.clear()
        proxy.add("media", times=2, cut_at=1_200_000)
        got, checked = read_checked(source, entry)
        assert (got == data, checked.rung) == (True, "md5")
        generation = (entry.pin or "").removeprefix("generation:")
        assert [seen.query["generation"] for seen in proxy.seen] == [generation] * 3
        starts = [
            seen.headers.get("range", "").removeprefix("bytes=").partition("-")[0] for seen in proxy.seen
        ]
        assert starts[0] == ""
        assert 0 < int(starts[1]) < int(starts[2]) < len(data)

    def test_a_body_that_breaks_off_every_time(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"x" * 1000)
        proxy.seen.clear()
        proxy.add("media", cut_at=0)
        with pytest.raises(SourceError, match="at byte 0 of 1,000 bytes") as error:
            read(source, entry)
        assert error.value.transient
        assert len(proxy.seen) == RESUMES + 1

    @pytest.mark.parametrize("versioned", [True, False])
    def test_an_object_overwritten_before_a_broken_body_goes_on(
        self, source: GCSSource, proxy: FaultProxy, fake_gcs: FakeGCS, versioned: bool
    ) -> None:
        """DRIVERS.md: never bytes of two writes in one result."""
        bucket = fake_gcs.bucket(versioned=versioned)
        entry = logged(source, bucket, b"o" * 3_000_000)
        proxy.add("media", times=1, cut_at=1_500_000, then=lambda: bucket.put("d/a", b"n" * 3_000_000))
        if versioned:
            assert read(source, entry) == b"o" * 3_000_000
        else:
            with pytest.raises(ReferenceChangedError, match="overwritten or deleted while it was being read"):
                read(source, entry)

    def test_a_file_overwritten_between_two_ranges(
        self, source: GCSSource, proxy: FaultProxy, bucket: GCSBucket
    ) -> None:
        """The second range is asked of the generation of the first, whatever is there now."""
        entry = logged(source, bucket, b"o" * 1_000_000)
        with source.open(entry).file as stream:
            assert stream.read(10) == b"o" * 10
            bucket.put("d/a", b"n" * 1_000_000)
            stream.seek(500_000)
            try:
                assert set(stream.read()) == {ord("o")}
            except ReferenceChangedError:
                assert source.stat(entry.uri or "") != entry

    def test_damage_on_the_way_is_noticed(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"bytes" * 1000)
        proxy.add("media", garble=True)
        with pytest.raises(ChecksumError, match="arrived with another content than recorded: expected md5:"):
            read_checked(source, entry)

    def test_a_server_that_ignores_generations_is_noticed(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """As gcsfs' open(generation=…) does: the latest bytes in place of the pinned ones, of the same size."""
        entry = logged(source, kept, b"logged")
        kept.put("d/a", b"newer!")
        proxy.add("media", ignored=("generation",))
        for attempt in (lambda: read(source, entry), lambda: source.open(entry)):
            with pytest.raises(ReferenceChangedError):
                attempt()

    def test_a_range_of_another_generation_is_noticed(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"o" * 1_000_000)
        with source.open(entry).file as stream:
            kept.put("d/a", b"n" * 1_000_000)
            proxy.add("media", ignored=("generation",))
            stream.seek(500_000)
            with pytest.raises(ReferenceChangedError):
                stream.read()

    def test_a_server_that_ignores_ranges(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"x" * 1_000_000)
        proxy.add("media", ignored=("range",))
        with pytest.raises(SourceError, match="download it instead"):
            source.open(entry)
        assert len(read(source, entry)) == 1_000_000

    def test_a_wrong_hash_header_is_an_error(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        entry = logged(source, kept, b"bytes")

        def edit(headers: dict[str, str], body: bytes) -> bytes:
            headers["x-goog-hash"] = "md5=?"
            return body

        proxy.add("media", edit=edit)
        with pytest.raises(SourceError, match="not that of a GCS"):
            read(source, entry)

    def test_the_size_of_a_chunked_body_is_that_of_the_stored_one(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """Real GCS names it, also where a body comes in chunks; fake-gcs-server does not."""
        entry = logged(source, kept, b"bytes")

        def edit(headers: dict[str, str], body: bytes) -> bytes:
            headers["x-goog-stored-content-length"] = "5"
            headers["transfer-encoding"] = "chunked"
            return b"3\r\nbyt\r\n2\r\nes\r\n0\r\n\r\n"

        proxy.add("media", edit=edit)
        with source.fetch(entry) as fetched:
            assert fetched.size == 5
            assert b"".join(fetched.chunks) == b"bytes"
