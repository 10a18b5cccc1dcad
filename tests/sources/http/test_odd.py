"""Web servers that no one would want and everyone meets: what is stated, what is ignored, what breaks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from refart import checksums
from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    ReferenceMissingError,
    SourceError,
)
from refart.sources.http import client as http_client
from refart.sources.http.client import TRIES
from refart.sources.http.source import HTTPSource
from refart.sources.pinned import RESUMES
from tests.servers import Nginx
from tests.sources.suite import listed, read, read_checked
from tests.sources.webserver import Seen, WebServer

EARLIER, LATER = "Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
LARGE = bytes(n * 7 % 251 for n in range(300_000))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSE_S", 0.0)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def source() -> HTTPSource:
    return HTTPSource({})


def logged(source: HTTPSource, server: WebServer) -> Entry:
    [entry] = listed(source, f"{server.url}/d/a.csv").values()
    return entry


class TestRequests:
    def test_one_head_to_log_and_one_get_to_download(self, source: HTTPSource, server: WebServer) -> None:
        """PITFALLS 6, 13."""
        server.headers = {"ETag": '"one"'}
        entry = logged(source, server)
        assert server.methods == ["HEAD"]
        assert read(source, entry) == b"logged"
        assert server.methods == ["HEAD", "GET"]
        assert server.seen[1].headers["If-Match"] == '"one"'

    def test_no_compression_is_asked_for(self, source: HTTPSource, server: WebServer) -> None:
        read(source, logged(source, server))
        assert {seen.headers["Accept-Encoding"] for seen in server.seen} == {"identity"}

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
    def test_a_get_finds_what_head_is_refused_for(
        self, source: HTTPSource, server: WebServer, status: int
    ) -> None:
        server.statuses = {"HEAD": status}
        server.headers = {"ETag": '"one"'}
        assert logged(source, server).size == 6
        assert server.methods == ["HEAD", "GET"]

    def test_a_head_that_tells_no_length_is_not_enough(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": '"one"'}
        for said in ({}, {"Content-Length": "0"}):
            server.head_headers = {"ETag": '"one"', **said}
            assert logged(source, server).size == 6

    def test_a_head_that_tells_another_length_than_get(self, source: HTTPSource, server: WebServer) -> None:
        """What came is not what was logged; the error says what a GET gives."""
        server.headers = {"ETag": '"one"'}
        server.head_headers = {"ETag": '"one"', "Content-Length": "5"}
        entry = logged(source, server)
        with pytest.raises(
            ReferenceChangedError, match=r"expected etag:one, 5 bytes; found etag:one, 6 bytes"
        ):
            read(source, entry)

    def test_nothing_at_the_url(self, source: HTTPSource, server: WebServer) -> None:
        for status in (404, 410):
            server.statuses = {"HEAD": status, "GET": status}
            with pytest.raises(NotFoundError, match="no object at http://127"):
                logged(source, server)
            assert source.stat(f"{server.url}/d/a.csv") is None

    def test_head_may_be_denied_and_get_too(self, source: HTTPSource, server: WebServer) -> None:
        server.statuses = {"HEAD": 403, "GET": 403}
        with pytest.raises(PermissionDeniedError, match=r"a.csv: access is denied .GET was answered 403"):
            logged(source, server)


class TestNames:
    @pytest.mark.parametrize(
        ("rest", "path"),
        [
            ("/d/a.csv?version=3&file=/x/b.csv", "a.csv"),
            ("/d/with%20space%2Fslash", "with%20space%2Fslash"),
            ("/d/", "index"),
            ("/", "index"),
            ("", "index"),
            ("?x=1", "index"),
            ("/d/a\nb", "a%0Ab"),
        ],
    )
    def test_the_path_is_the_base_name_as_it_stands(
        self, source: HTTPSource, server: WebServer, rest: str, path: str
    ) -> None:
        assert listed(source, server.url + rest).keys() == {path}

    def test_the_query_is_sent(self, source: HTTPSource, server: WebServer) -> None:
        listed(source, f"{server.url}/d/a.csv?version=3&x=%2F")
        assert server.seen[0].target == "/d/a.csv?version=3&x=%2F"

    @pytest.mark.parametrize("uri", ["http:///x", "https://[::1/x", "http://a b/x", "http://host:port/x"])
    def test_what_is_no_web_address(self, source: HTTPSource, uri: str) -> None:
        with pytest.raises(InvalidInputError, match="no web address"):
            source.scan(uri)

    def test_a_fragment_is_refused(self, source: HTTPSource) -> None:
        with pytest.raises(InvalidInputError, match="fragment"):
            source.stat("http://127.0.0.1:1/x#part")

    def test_there_is_no_identity_by_stat(self, source: HTTPSource, server: WebServer) -> None:
        with pytest.raises(InvalidInputError, match="file systems"):
            source.scan(f"{server.url}/x", identify="stat")
        assert server.seen == []


class TestIdentity:
    def test_a_weak_etag_alone(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": 'W/"one"'}
        entry = logged(source, server)
        assert (entry.content_id, entry.pin, entry.is_weak) == ("etag:W/one", None, True)
        assert read_checked(source, entry)[1].rung == "weak"
        assert "If-Match" not in server.seen[-1].headers  # it never matches
        server.headers = {"ETag": 'W/"two"'}
        with pytest.raises(ReferenceChangedError, match=r"expected etag:W/one.*found etag:W/two"):
            read(source, entry)

    def test_a_modified_time_says_more_than_a_weak_etag(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": 'W/"one"', "Last-Modified": EARLIER}
        entry = logged(source, server)
        assert (entry.content_id, entry.is_weak) == ("stat:1700000000000000000", True)
        assert read_checked(source, entry)[1].rung == "weak"
        assert server.seen[-1].headers["If-Unmodified-Since"] == EARLIER

    @pytest.mark.parametrize("honours", [frozenset({"range"}), frozenset({"range", "if-unmodified-since"})])
    def test_a_modified_time_that_changed(
        self, source: HTTPSource, server: WebServer, honours: frozenset[str]
    ) -> None:
        """PITFALLS 13: without an ETag a change is noticed too, also where conditions are ignored."""
        server.headers, server.honours = {"Last-Modified": EARLIER}, honours
        entry = logged(source, server)
        server.headers = {"Last-Modified": LATER}
        with pytest.raises(ReferenceChangedError):
            read(source, entry)
        with pytest.raises(ReferenceChangedError):
            source.open(entry)

    def test_a_size_that_changed_at_the_same_time(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"Last-Modified": EARLIER}
        entry = logged(source, server)
        server.data = b"logged, longer"
        with pytest.raises(ReferenceChangedError, match=r"6 bytes; found .*14 bytes"):
            read(source, entry)

    def test_an_etag_that_no_content_id_can_hold_counts_for_nothing(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        server.headers = {"ETag": '"a\tb"', "Last-Modified": EARLIER}
        assert logged(source, server).content_id == "stat:1700000000000000000"

    def test_an_etag_with_letters_beyond_ascii(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": '"é"'}
        assert read_checked(source, logged(source, server))[1].rung == "etag"

    def test_nothing_is_stated(self, source: HTTPSource, server: WebServer) -> None:
        entry = logged(source, server)
        assert (entry.size, entry.content_id, entry.pin) == (6, "none", None)
        assert read_checked(source, entry)[1].rung == "unverified"
        server.data = b"longer"
        assert read_checked(source, entry)[1].rung == "unverified"
        server.data = b"longer still"
        with pytest.raises(ReferenceChangedError):
            read(source, entry)

    def test_without_identity_the_etag_still_pins(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": '"one"'}
        [entry] = listed(source, f"{server.url}/a", identify="none").values()
        assert (entry.content_id, entry.pin) == ("none", "etag:one")
        assert read_checked(source, entry)[1].rung == "etag"
        server.headers = {"ETag": '"two"'}
        with pytest.raises(ReferenceChangedError):
            read(source, entry)

    def test_a_stated_digest_is_compared_with_the_bytes(self, source: HTTPSource, server: WebServer) -> None:
        digest = hashlib.sha256(b"logged")
        server.headers = {
            "ETag": '"one"',
            "Repr-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        entry = logged(source, server)
        assert (entry.content_id, entry.pin) == (f"sha256:{digest.hexdigest()}", "etag:one")
        assert read_checked(source, entry)[1].rung == "sha256"
        server.data = b"rotten"
        with pytest.raises(ChecksumError):
            read_checked(source, entry)

    def test_known_bytes_are_found_under_another_etag(self, source: HTTPSource, server: WebServer) -> None:
        server.headers = {"ETag": '"one"'}
        entry = logged(source, server)
        strong = Entry(
            entry.path, 6, f"sha256:{hashlib.sha256(b'logged').hexdigest()}", entry.uri, "etag:one"
        )
        server.headers = {"ETag": '"two"'}
        assert read_checked(source, strong)[1].rung == "sha256"
        server.data = b"other!"
        with pytest.raises(ReferenceChangedError):
            read_checked(source, strong)

    def test_a_pin_of_another_kind_is_refused(self, source: HTTPSource, server: WebServer) -> None:
        entry = Entry("a", 6, "none", f"{server.url}/a", "generation:5")
        with pytest.raises(InvalidInputError, match="no pins of the kind 'generation'"):
            read(source, entry)

    def test_bytes_that_are_compressed_all_the_same_are_taken_as_they_come(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        server.data = gzip.compress(b"logged")
        md5 = base64.b64encode(hashlib.md5(b"logged").digest()).decode()
        server.headers = {"ETag": '"one"', "Content-Encoding": "gzip", "Content-MD5": md5}
        entry = logged(source, server)
        assert (entry.size, entry.content_id) == (len(server.data), "etag:one")
        assert read_checked(source, entry)[0] == server.data
        with source.open(entry).file as stream:
            assert stream.read() == server.data


class TestConditionsThatAreIgnored:
    def test_an_etag_that_changed(self, source: HTTPSource, server: WebServer) -> None:
        server.honours = frozenset({"range"})
        server.headers = {"ETag": '"one"'}
        entry = logged(source, server)
        server.headers = {"ETag": '"two"'}
        for attempt in (read, HTTPSource.open):
            with pytest.raises(ReferenceChangedError, match=r"expected etag:one.*found etag:two"):
                read(source, entry) if attempt is read else source.open(entry)

    @pytest.mark.parametrize("honours", [frozenset({"range"}), WebServer.honours])
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"ETag": '"one"'}, {"ETag": '"two"'}),
            ({"Last-Modified": EARLIER}, {"Last-Modified": LATER}),
            ({"ETag": 'W/"one"'}, {"ETag": 'W/"two"'}),
            ({"ETag": 'W/"one"', "Last-Modified": EARLIER}, {"ETag": 'W/"two"', "Last-Modified": EARLIER}),
        ],
    )
    def test_ranges_never_come_from_two_objects(
        self,
        source: HTTPSource,
        server: WebServer,
        honours: frozenset[str],
        before: dict[str, str],
        after: dict[str, str],
    ) -> None:
        """DRIVERS 4: fsspec's own driver mixes them without a word."""
        server.data, server.headers, server.honours = b"o" * 300_000, before, honours
        with source.open(logged(source, server)).file as stream:
            assert stream.read(1000) == b"o" * 1000
            server.data, server.headers = b"n" * 300_000, after
            stream.seek(200_000)
            with pytest.raises(ReferenceChangedError, match="overwritten"):
                stream.read(10)

    def test_a_range_of_an_object_of_another_size(self, source: HTTPSource, server: WebServer) -> None:
        server.data, server.headers = LARGE, {"Last-Modified": EARLIER}
        with source.open(logged(source, server)).file as stream:
            server.data = LARGE + b"!"
            stream.seek(200_000)
            with pytest.raises(ReferenceChangedError, match="overwritten"):
                stream.read(10)

    def test_a_server_without_ranges_gives_small_objects_only(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        server.honours = frozenset({"if-match"})
        server.headers = {"ETag": '"one"'}
        with source.open(logged(source, server)).file as stream:
            assert stream.read() == b"logged"
        server.data = LARGE
        entry = logged(source, server)
        assert read(source, entry) == LARGE
        with pytest.raises(SourceError, match=r"does not answer a ranged GET.*download it instead"):
            source.open(entry)

    def test_a_large_object_of_which_nothing_is_stated_cannot_be_opened(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        server.data = LARGE
        entry = logged(source, server)
        assert read(source, entry) == LARGE
        with pytest.raises(SourceError, match=r"nothing to pin ranges by.*download it instead"):
            source.open(entry)


class TestBodies:
    @pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": EARLIER}])
    def test_a_body_that_breaks_off_is_continued(
        self, source: HTTPSource, server: WebServer, headers: dict[str, str]
    ) -> None:
        server.data, server.headers, server.cut_at = LARGE, headers, 100_000
        assert read(source, logged(source, server)) == LARGE
        assert [seen.headers["Range"] for seen in server.seen[1:]] == [
            None,
            "bytes=100000-299999",
            "bytes=200000-299999",
        ]

    def test_a_body_that_breaks_off_for_ever(self, source: HTTPSource, server: WebServer) -> None:
        server.data, server.headers, server.cut_at = LARGE, {"ETag": '"one"'}, 10
        with pytest.raises(SourceError, match=r"a.csv.*broke off.*at byte 60 of 300,000") as error:
            read(source, logged(source, server))
        assert error.value.transient
        assert server.methods.count("GET") == RESUMES + 1

    def test_a_body_of_which_nothing_is_stated_is_not_continued(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        server.data, server.cut_at = LARGE, 10
        with pytest.raises(SourceError, match="at byte 10 of 300,000"):
            read(source, logged(source, server))

    def test_what_changed_is_not_continued(self, source: HTTPSource, server: WebServer) -> None:
        server.data, server.headers, server.cut_at = LARGE, {"ETag": '"one"'}, 10
        entry = logged(source, server)

        def change(seen: Seen) -> None:
            if "Range" in seen.headers:
                server.headers = {"ETag": '"two"'}

        server.then = change
        with pytest.raises(ReferenceChangedError, match="overwritten"):
            read(source, entry)

    def test_chunks_without_a_length(self, source: HTTPSource, server: WebServer) -> None:
        server.data, server.sized, server.headers = LARGE, False, {"ETag": '"one"'}
        server.honours = frozenset({"if-match"})
        entry = logged(source, server)
        assert entry.size is None
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (LARGE, "etag")
        with pytest.raises(SourceError, match="does not say how large"):
            source.open(entry)

    def test_chunks_that_break_off(self, source: HTTPSource, server: WebServer) -> None:
        server.data, server.sized, server.cut_at = LARGE, False, 1000
        with pytest.raises(SourceError, match="broke off"):
            read(source, logged(source, server))

    def test_an_empty_object_of_unknown_size_can_be_opened(
        self, source: HTTPSource, server: WebServer
    ) -> None:
        """It has no range that could be asked for: 416."""
        server.data, server.headers = b"", {"ETag": '"one"'}
        entry = Entry("a", None, "etag:one", f"{server.url}/a")
        with source.open(entry).file as stream:
            assert stream.read() == b""

    @pytest.mark.parametrize("status", [404, 410])
    def test_gone(self, source: HTTPSource, server: WebServer, status: int) -> None:
        entry = logged(source, server)
        server.statuses = {"HEAD": status, "GET": status}
        with pytest.raises(ReferenceMissingError):
            read(source, entry)

    @pytest.mark.parametrize("status", [202, 204, 300, 304])
    def test_an_answer_that_carries_no_object(
        self, source: HTTPSource, server: WebServer, status: int
    ) -> None:
        entry = logged(source, server)
        server.statuses = {"HEAD": status, "GET": status}
        for attempt in (lambda: read(source, entry), lambda: logged(source, server)):
            with pytest.raises(SourceError, match=f"was answered {status}"):
                attempt()


class TestFailures:
    @pytest.mark.parametrize("status", [401, 403, 407])
    def test_denied(self, source: HTTPSource, server: WebServer, status: int) -> None:
        entry = logged(source, server)
        server.statuses = {"GET": status}
        with pytest.raises(PermissionDeniedError, match=rf"'a.csv' .*access is denied .*{status}"):
            read(source, entry)

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_failing_server_is_asked_again_and_may_be_later(
        self, source: HTTPSource, server: WebServer, status: int
    ) -> None:
        server.statuses = {"HEAD": status}
        with pytest.raises(SourceError, match=f"HEAD was answered {status}") as error:
            logged(source, server)
        assert error.value.transient
        assert server.methods == ["HEAD"] * TRIES

    def test_a_server_that_recovers(self, source: HTTPSource, server: WebServer) -> None:
        server.statuses = {"HEAD": 503}

        def recover(seen: Seen) -> None:
            if len(server.seen) == TRIES:
                server.statuses = {}

        server.then = recover
        assert logged(source, server).size == 6

    @pytest.mark.parametrize(
        ("asked", "waited_s"), [("7", 7.0), ("100000", http_client.LONGEST_PAUSE_S), ("soon", 0.0)]
    )
    def test_a_server_may_ask_for_time(
        self,
        source: HTTPSource,
        server: WebServer,
        monkeypatch: pytest.MonkeyPatch,
        asked: str,
        waited_s: float,
    ) -> None:
        waits: list[float] = []
        monkeypatch.setattr(http_client, "time", SimpleNamespace(sleep=waits.append))
        server.statuses, server.status_headers = {"HEAD": 503}, {"Retry-After": asked}
        with pytest.raises(SourceError):
            logged(source, server)
        assert waits == [waited_s] * (TRIES - 1)

    def test_nobody_answers(self, source: HTTPSource) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
        for uri in (f"http://127.0.0.1:{port}/x", "http://no-such-host.invalid/x"):
            with pytest.raises(SourceError, match="cannot be reached") as error:
                source.scan(uri)
            assert uri in str(error.value)
            assert error.value.transient

    def test_silence(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
            with pytest.raises(SourceError, match=r"hung up \(ReadTimeout\)"):
                HTTPSource({"timeout": 0.05}).scan(uri)


class TestOnNginx:
    @pytest.mark.parametrize("location", ["", "gz", "redir", "nohead", "norange"])
    def test_every_location_gives_the_same_object(
        self, source: HTTPSource, nginx: Nginx, location: str
    ) -> None:
        """Compression is not asked for, so it is not met."""
        site = nginx.site()
        site.put("a b.csv", LARGE)
        [entry] = listed(source, site.url("a b.csv", location=location)).values()
        assert (entry.path, entry.size, checksums.split(entry.content_id)[0]) == (
            "a%20b.csv",
            300_000,
            "etag",
        )
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (LARGE, "etag")

    def test_a_change_that_nothing_stated_tells(self, source: HTTPSource, nginx: Nginx) -> None:
        """nginx makes its ETag of second and size: rewritten within both, only a hash can tell."""
        site = nginx.site()
        site.put("a", b"logged", mtime_s=1_700_000_000)
        [entry] = listed(source, site.url("a")).values()
        strong = Entry(
            entry.path, 6, f"sha256:{hashlib.sha256(b'logged').hexdigest()}", entry.uri, entry.content_id
        )
        site.put("a", b"newer!", mtime_s=1_700_000_000)
        assert read_checked(source, entry)[0] == b"newer!"
        with pytest.raises(ChecksumError):
            read_checked(source, strong)

    def test_nothing_stated_at_all(self, source: HTTPSource, nginx: Nginx) -> None:
        site = nginx.site()
        site.put("a", b"logged")
        [entry] = listed(source, site.url("a", location="noetag-nolm")).values()
        assert (entry.content_id, entry.pin) == ("none", None)
        assert read_checked(source, entry)[1].rung == "unverified"
