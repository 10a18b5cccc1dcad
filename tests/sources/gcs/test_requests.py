"""How many requests things cost, what they ask for, and what is particular to GCS: generations and hashes."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import google_crc32c
import pytest

from refart.entries import Entry
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources import splitting
from refart.sources.gcs import source as gcs
from refart.sources.gcs.listing import LISTING_FIELDS, OBJECT_FIELDS
from refart.sources.gcs.source import GCSSource
from tests.faults import FaultProxy
from tests.gcs import operation_of
from tests.servers import FakeGCS, GCSBucket
from tests.sources.suite import listed, put_many, read, read_checked

SHA256 = "sha256:" + "0" * 64


@pytest.fixture
def proxy(fake_gcs: FakeGCS) -> Iterator[FaultProxy]:
    proxy = FaultProxy(fake_gcs.url, operation_of)
    yield proxy
    proxy.close()


@pytest.fixture
def source(proxy: FaultProxy) -> GCSSource:
    return GCSSource({"endpoint_url": proxy.url, "token": "anon"})


@pytest.fixture
def kept(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=True)


@pytest.fixture
def replaced(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=False)


def only(found: dict[str, Entry]) -> Entry:
    [entry] = found.values()
    return entry


def edit_metadata(bucket: GCSBucket, key: str) -> None:
    url = f"{bucket.url}/storage/v1/b/{bucket.name}/o/{quote(key, safe='')}"
    bucket.session.patch(url, json={"metadata": {"label": "cat"}}).raise_for_status()


def compose(bucket: GCSBucket, key: str, *parts: str) -> None:
    """Make an object of others."""
    url = f"{bucket.url}/storage/v1/b/{bucket.name}/o/{quote(key, safe='')}/compose"
    request = {"sourceObjects": [{"name": part} for part in parts], "destination": {}}
    bucket.session.post(url, json=request).raise_for_status()


def without_hashes(*algos: str) -> Any:
    """What real GCS says of composite objects (no MD5), and fake-gcs-server does not."""
    fields = {"md5": "md5Hash", "crc32c": "crc32c"}

    def edit(headers: dict[str, str], body: bytes) -> bytes:
        stated = headers.get("x-goog-hash", "").split(",")
        headers["x-goog-hash"] = ",".join(part for part in stated if part.partition("=")[0] not in algos)
        if "json" not in headers.get("content-type", ""):
            return body
        answer = json.loads(body)
        for resource in answer.get("items", [answer]):
            for algo in algos:
                resource.pop(fields[algo], None)
        return json.dumps(answer).encode()

    return edit


class TestCounts:
    def test_a_listing_is_one_request_a_page(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """PITFALLS 5; and all that is asked about an object is what is recorded."""
        monkeypatch.setattr(gcs, "PAGE_OBJECTS", 10)
        put_many(kept, {f"d/{n:02}": b"x" for n in range(25)})
        counts: list[int] = []
        pages = list(source.scan(f"{kept.uri}/d/", on_page=counts.append).pages)
        assert proxy.requests.operations == ["list"] * 3
        assert counts == [page.num_rows for page in pages] == [10, 10, 5]
        assert len({pin for page in pages for pin in page.column("pin").to_pylist()}) == 25
        for seen in proxy.seen:
            seen.query.pop("pageToken", None)
            assert seen.query == {
                "prefix": "d/",
                "fields": LISTING_FIELDS,
                "maxResults": "10",
                "projection": "noAcl",
            }

    def test_a_large_prefix_is_listed_in_ranges(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcs, "PAGE_OBJECTS", 5)
        keys = [f"{folder}/{number:02}" for folder in "abé" for number in range(30)]
        put_many(kept, {f"d/{key}": b"x" for key in keys} | {f"d2/{n:02}": b"x" for n in range(30)})
        paths = [path for page in source.scan(f"{kept.uri}/d").pages for path in page["path"].to_pylist()]
        assert sorted(paths) == sorted(keys)
        assert any("startOffset" in seen.query for seen in proxy.seen)
        assert len(proxy.seen) < 2 * len(keys) / 5 + splitting.FREE_MISSES

    def test_a_single_object_is_one_listing(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"x")
        assert source.scan(f"{kept.uri}/d/a").is_object
        assert proxy.requests.operations == ["list"]

    def test_stat_is_one_request(self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket) -> None:
        kept.put("d/a", b"x")
        assert source.stat(f"{kept.uri}/d/a") is not None
        assert proxy.requests.operations == ["get"]
        assert proxy.seen[0].query == {"fields": OBJECT_FIELDS, "projection": "noAcl"}

    def test_reading_is_one_request(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, replaced: GCSBucket
    ) -> None:
        """PITFALLS 6."""
        for bucket in (kept, replaced):
            bucket.put("d/a", b"bytes")
            entry = only(listed(source, f"{bucket.uri}/d"))
            proxy.requests.clear()
            assert read(source, entry) == b"bytes"
            with source.open(entry).file as stream:
                assert stream.read() == b"bytes"
            assert proxy.requests.operations == ["media", "media"]

    def test_siblings_that_sort_before_the_prefix_are_jumped_over(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcs, "PAGE_OBJECTS", 5)
        for sibling in ("data.", "data2/"):
            put_many(kept, {f"{sibling}{n}": b"x" for n in range(20)})
        kept.put("data/x", b"x")
        assert listed(source, f"{kept.uri}/data").keys() == {"x"}
        assert proxy.requests.operations == ["list", "list"]

    def test_every_read_names_the_generation_and_takes_stored_bytes(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """Also the ranges behind a file, where gcsfs leaves it out."""
        old = kept.put("large", b"o" * 3_000_000)
        entry = only(listed(source, f"{kept.uri}/large"))
        kept.put("large", b"n" * 2_000_000)
        proxy.seen.clear()
        assert set(read(source, entry)) == {ord("o")}
        with source.open(entry).file as stream:
            stream.seek(-8, os.SEEK_END)
            assert stream.read() == b"o" * 8
            assert stream.tell() == 3_000_000
            stream.seek(1_000_000)
            assert set(stream.read()) == {ord("o")}
        assert len(proxy.seen) > 3
        for seen in proxy.seen:
            assert (seen.query["generation"], seen.query["alt"]) == (old, "media")
            assert seen.headers["accept-encoding"] == "gzip"
        assert [("range" in seen.headers) for seen in proxy.seen] == [False] + [True] * (len(proxy.seen) - 1)


class TestIdentity:
    def test_the_same_bytes_written_again_are_the_same_content(
        self, source: GCSSource, replaced: GCSBucket
    ) -> None:
        """PITFALLS 9: another generation, no other content; and the entry of the first can still be read."""
        logged = []
        for _ in range(2):
            replaced.put("d/a", b"same")
            logged.append(only(listed(source, f"{replaced.uri}/d")))
        first, second = logged
        assert first.pin != second.pin
        assert first.content_id == second.content_id
        with source.fetch(first) as fetched:
            assert fetched.held == "current"
            assert b"".join(fetched.chunks) == b"same"

    @pytest.mark.parametrize("identify", ["best", "none"])
    def test_an_edit_of_metadata_breaks_no_pin(
        self, source: GCSSource, replaced: GCSBucket, identify: str
    ) -> None:
        """PITFALLS 10: ETags of GCS change with it, generations and hashes do not."""
        replaced.put("d/a", b"bytes")
        before = only(listed(source, f"{replaced.uri}/d", identify=identify))
        edit_metadata(replaced, "d/a")
        assert only(listed(source, f"{replaced.uri}/d", identify=identify)) == before
        with source.fetch(before) as fetched:
            assert fetched.held == "generation"
            assert b"".join(fetched.chunks) == b"bytes"

    def test_a_composite_object_has_its_crc(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        kept.put("parts/a", b"first ")
        kept.put("parts/b", b"second")
        compose(kept, "whole", "parts/a", "parts/b")
        proxy.add("*", edit=without_hashes("md5"))
        entry = only(listed(source, f"{kept.uri}/whole"))
        assert entry.content_id == f"crc32c:{google_crc32c.value(b'first second'):08x}"
        assert source.stat(entry.uri or "") == entry
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"first second", "crc32c")

    def test_a_composite_object_replaced_by_one_upload_of_the_same_bytes(
        self, source: GCSSource, proxy: FaultProxy, replaced: GCSBucket
    ) -> None:
        """The current object states an MD5, and its bytes have the recorded CRC."""
        replaced.put("whole", b"first second")
        proxy.add("list", edit=without_hashes("md5"))
        entry = only(listed(source, f"{replaced.uri}/whole"))
        replaced.put("whole", b"first second")
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"first second", "crc32c")
        replaced.put("whole", b"FIRST second")
        with pytest.raises(ReferenceChangedError):
            read_checked(source, entry)

    def test_without_hashes_the_generation_is_the_content(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """So lists GCS what a customer's key encrypts."""
        generation = kept.put("d/a", b"bytes")
        proxy.add("list", edit=without_hashes("md5", "crc32c"))
        entry = only(listed(source, f"{kept.uri}/d"))
        assert (entry.content_id, entry.pin) == (f"generation:{generation}", f"generation:{generation}")
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"bytes", "generation")

    def test_compressed_objects_are_read_as_they_are_stored(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """GCS decompresses (Content-Encoding: gzip) for whoever does not accept it; then nothing would match."""
        stored = gzip.compress(b"hello " * 20_000 + os.urandom(100_000))
        head = json.dumps({"name": "d/a", "contentEncoding": "gzip"}).encode()
        parts = (b"application/json", head), (b"text/plain", stored)
        body = b"".join(b"--x\r\nContent-Type: %b\r\n\r\n%b\r\n" % part for part in parts) + b"--x--"
        url = f"{kept.url}/upload/storage/v1/b/{kept.name}/o"
        multipart = {"Content-Type": "multipart/related; boundary=x"}
        kept.session.post(
            url, params={"uploadType": "multipart"}, data=body, headers=multipart
        ).raise_for_status()
        entry = only(listed(source, f"{kept.uri}/d"))
        assert entry.size == len(stored)
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (stored, "md5")
        with source.open(entry).file as stream:
            stream.seek(70_000)
            assert stream.read() == stored[70_000:]
        proxy.add("media", ignored=("accept-encoding",))  # what a proxy in between can do
        for attempt in (read, GCSSource.open):
            with pytest.raises(SourceError, match="decompressed on its way"):
                attempt(source, entry) if attempt is read else source.open(entry)


class TestGenerations:
    def test_a_generation_is_pinned_by_hand(self, source: GCSSource, kept: GCSBucket) -> None:
        """PITFALLS 1: it is the named generation that is recorded, not the current one; its URI does not say it."""
        old = kept.put("d/k", b"old")
        kept.put("d/k", b"newer")
        uri = f"{kept.uri}/d/k#{old}"
        assert source.scan(uri).is_object
        entry = only(listed(source, uri))
        assert (entry.path, entry.size, entry.uri, entry.pin) == (
            "k",
            3,
            f"{kept.uri}/d/k",
            f"generation:{old}",
        )
        assert read(source, entry) == b"old"

    def test_a_literal_key_comes_first(self, source: GCSSource, kept: GCSBucket) -> None:
        old = kept.put("k", b"old")
        kept.put(f"k#{old}", b"literal")
        entry = only(listed(source, f"{kept.uri}/k#{old}"))
        assert (entry.path, read(source, entry)) == (f"k#{old}", b"literal")

    @pytest.mark.parametrize("generation", ["1", "0", "9" * 30])
    @pytest.mark.parametrize("key", ["k", "absent"])
    def test_a_generation_that_does_not_exist(
        self, source: GCSSource, kept: GCSBucket, key: str, generation: str
    ) -> None:
        kept.put("k", b"bytes")
        with pytest.raises(NotFoundError, match=f"{key} has no generation {generation} to read"):
            source.scan(f"{kept.uri}/{key}#{generation}")

    @pytest.mark.parametrize("end", ["#", "#abc", "#1a", "#-1", "#１", "?generation=1"])
    def test_what_is_no_generation_is_part_of_the_key(
        self, source: GCSSource, kept: GCSBucket, end: str
    ) -> None:
        kept.put("k", b"bytes")
        assert listed(source, f"{kept.uri}/k{end}") == {}

    def test_a_server_that_ignores_generations_gives_none_by_hand(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        old = kept.put("k", b"old")
        kept.put("k", b"newer")
        proxy.add("get", ignored=("generation",))
        with pytest.raises(NotFoundError, match="has no generation"):
            source.scan(f"{kept.uri}/k#{old}")

    def test_an_object_and_a_prefix_at_once_names_the_ways_out(
        self, source: GCSSource, kept: GCSBucket
    ) -> None:
        generation = kept.put("data", b"object")
        kept.put("data/x", b"below")
        uri = f"{kept.uri}/data"
        with pytest.raises(InvalidInputError) as error:
            source.scan(uri)
        assert f"{uri}/ for" in str(error.value)
        assert f"{uri}#{generation} for the object" in str(error.value)
        assert listed(source, f"{uri}/").keys() == {"x"}
        assert read(source, only(listed(source, f"{uri}#{generation}"))) == b"object"

    def test_old_generations_and_deleted_objects_are_not_listed(
        self, source: GCSSource, kept: GCSBucket
    ) -> None:
        for n in range(3):
            current = kept.put("d/a", b"%d" % n)
        kept.put("d/b", b"x")
        kept.delete("d/b")
        assert only(listed(source, f"{kept.uri}/d")).pin == f"generation:{current}"

    def test_a_generation_that_is_gone(self, source: GCSSource, replaced: GCSBucket) -> None:
        """On a bucket without versions; fake-gcs-server purges no generation of one that has them."""
        old = replaced.put("k", b"logged")
        entry = only(listed(source, f"{replaced.uri}/k"))
        replaced.put("k", b"newer!")
        expected = f"expected {entry.content_id}, pinned generation:{old}"
        for attempt in (lambda: read(source, entry), lambda: source.open(entry)):
            with pytest.raises(ReferenceChangedError, match=expected):
                attempt()
        replaced.delete("k")
        for attempt in (lambda: read(source, entry), lambda: source.open(entry)):
            with pytest.raises(ReferenceMissingError, match=expected):
                attempt()

    def test_a_recorded_sha256_may_judge_the_current_object(self, source: GCSSource, kept: GCSBucket) -> None:
        kept.put("k", b"bytes")
        for pin in (None, "generation:1"):
            entry = Entry("k", 5, SHA256, f"{kept.uri}/k", pin)
            with source.fetch(entry) as fetched:
                assert fetched.held == "current"
                assert fetched.content_id.startswith("md5:")
                assert b"".join(fetched.chunks) == b"bytes"

    @pytest.mark.parametrize("pin", ["etag:CPjg", "version:1"])
    def test_pins_of_other_kinds_are_refused(self, source: GCSSource, kept: GCSBucket, pin: str) -> None:
        kept.put("k", b"bytes")
        with (
            pytest.raises(InvalidInputError, match="'k'"),
            source.fetch(Entry("k", 5, SHA256, f"{kept.uri}/k", pin)),
        ):
            pass


class TestURIs:
    def test_both_schemes_are_kept_as_they_were_given(self, source: GCSSource, kept: GCSBucket) -> None:
        kept.put("d/a", b"bytes")
        entry = only(listed(source, f"gcs://{kept.name}/d"))
        assert entry.uri == f"gcs://{kept.name}/d/a"
        assert read(source, entry) == b"bytes"

    @pytest.mark.parametrize(
        ("uri", "said"),
        [
            ("gs://", "names no bucket"),
            ("gs:///key", "names no bucket"),
            ("gs://../key", "'..' is not the name of a bucket"),
            ("gs://Upper/key", "'Upper' is not"),
            ("gs://lake?x/key", "'lake.x' is not"),
        ],
    )
    def test_what_names_no_bucket(self, source: GCSSource, proxy: FaultProxy, uri: str, said: str) -> None:
        for attempt in (source.scan, source.stat):
            with pytest.raises(InvalidInputError, match=said):
                attempt(uri)
        assert proxy.seen == []

    def test_a_bucket_that_does_not_exist(self, source: GCSSource) -> None:
        with pytest.raises(NotFoundError, match="gs://no-such-lake/x: the bucket or object does not exist"):
            source.scan("gs://no-such-lake/x")
        assert source.stat("gs://no-such-lake/x") is None

    @pytest.mark.parametrize("key", [".", ".."])
    def test_keys_that_gcs_does_not_allow_ask_for_nothing_else(
        self, source: GCSSource, proxy: FaultProxy, kept: GCSBucket, key: str
    ) -> None:
        """In the path of a URL they would mean the bucket or all of them."""
        assert source.stat(f"{kept.uri}/{key}") is None
        with pytest.raises(ReferenceMissingError):
            read(source, Entry("k", 5, SHA256, f"{kept.uri}/{key}"))
        assert proxy.seen == []
