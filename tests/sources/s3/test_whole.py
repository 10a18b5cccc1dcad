"""Small objects by obstore: the same bytes and the same errors as by botocore alone, and never a request astray."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import boto3
import moto
import pytest
from botocore.awsrequest import AWSResponse
from botocore.credentials import ReadOnlyCredentials
from botocore.httpsession import URLLib3Session

from refart.entries import Entry
from refart.errors import ChecksumError, RefartError
from refart.ops.stream import Checked, stream
from refart.s3server import ENVIRONMENT, S3Server
from refart.sources.pinned import Which
from refart.sources.s3 import whole as s3_whole
from refart.sources.s3.source import S3Source
from refart.sources.s3.whole import LONGEST_REST, MOST_BYTES
from refart.testing import LAKE_OBJECTS, Lake
from refart.workspace import Workspace
from tests.faults import FaultProxy, s3_error
from tests.servers import SeaweedFS
from tests.sources.suite import SourceSuite, listed, read

pytest.importorskip("obstore", reason="needs pip install 'refart[fast]'")

HOSTILE_KEYS = (
    *SourceSuite.odd_keys,
    *(
        "a/",
        "/a",
        "//a",
        "a//b",
        "./a",
        "a/./b",
        "../a",
        "a/../b",
        ".",
        "..",
        "a/.",
        "%2F",
        "a%2Fb",
        "a%20b",
        "a+b",
    ),
    *(
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\x7f",
        "a~b",
        "a*b",
        "ä/ö",
        "e\u0301",
        "query?versionId=abc",
        "-",
        "...",
        "a\\b",
    ),
)


@dataclass
class Lookout:
    """A server behind a proxy that tells requests of obstore's from botocore's."""

    lake: Lake
    proxy: FaultProxy
    source: S3Source

    def entry(self, key: str) -> Entry:
        return listed(self.source, f"{self.lake.uri}/{key}")[key.rpartition("/")[2]]

    @property
    def quick(self) -> list[str]:
        """The paths that obstore asked for."""
        return [seen.path for seen in self.proxy.seen if "amz-sdk-invocation-id" not in seen.headers]


@pytest.fixture
def proxy(s3: Any, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture
def lookout(request: pytest.FixtureRequest, proxy: FaultProxy) -> Lookout:
    """The way to its bucket is known already."""
    lake: Lake = request.getfixturevalue(getattr(request, "param", "versioned_lake"))
    found = Lookout(lake, proxy, S3Source({}))
    warm(found.source, found.entry("README.txt"))
    proxy.seen.clear()
    return found


on_both = pytest.mark.parametrize("lookout", ["versioned_lake", "unversioned_lake"], indirect=True)


def warm(source: S3Source, entry: Entry) -> None:
    """Read by botocore, which shows the way."""
    with source.fetch(entry) as fetched:
        assert b"".join(fetched.chunks)


def whole(source: S3Source, entry: Entry) -> bytes | None:
    return source.whole(entry, lambda data: hashlib.md5(data).hexdigest() == entry.content_id[4:])


def streamed(workspace: Workspace, entry: Entry) -> tuple[bytes, Checked | None] | tuple[type, str]:
    """What comes of an entry for who downloads it: bytes, or an error."""
    try:
        with stream(workspace._context.local, None, entry) as chunks:
            return b"".join(chunks), chunks.checked
    except RefartError as error:
        return type(error), str(error)


class TestReading:
    @on_both
    def test_the_bytes_by_one_conditional_request(self, lookout: Lookout) -> None:
        for key in LAKE_OBJECTS:
            assert whole(lookout.source, lookout.entry(key)) == LAKE_OBJECTS[key]
        gets = [seen for seen in lookout.proxy.seen if seen.operation == "GetObject"]
        assert len(gets) == len(lookout.quick) == len(LAKE_OBJECTS)
        assert all("versionId" in seen.query or "if-match" in seen.headers for seen in gets)
        assert "HeadObject" not in {seen.operation for seen in lookout.proxy.seen}

    @pytest.mark.parametrize("size", [0, 1, MOST_BYTES, MOST_BYTES + 1])
    def test_sizes(self, lookout: Lookout, size: int) -> None:
        lookout.lake.put("sized", b"x" * size)
        assert whole(lookout.source, lookout.entry("sized")) == (b"x" * size if size <= MOST_BYTES else None)

    def test_stored_bytes_are_not_decoded(self, lookout: Lookout) -> None:
        where = {"Bucket": lookout.lake.bucket, "Key": "k"}
        lookout.lake.client.put_object(**where, Body=b"not really gzip", ContentEncoding="gzip")
        assert whole(lookout.source, lookout.entry("k")) == b"not really gzip"

    def test_nothing_unpinned_and_nothing_of_unknown_size(self, lookout: Lookout) -> None:
        entry = lookout.entry("README.txt")
        assert lookout.source.whole(replace(entry, size=None), lambda data: True) is None
        unpinned = replace(entry, pin=None, content_id="sha256:" + "0" * 64)
        assert lookout.source.whole(unpinned, lambda data: True) is None
        assert lookout.quick == []

    def test_who_downloads_has_it_compared(self, lookout: Lookout, refart_workspace: Workspace) -> None:
        entry = lookout.entry("README.txt")
        expected = Checked(hashlib.sha256(LAKE_OBJECTS["README.txt"]).hexdigest(), 14, "md5")
        for _ in range(2):  # the first by botocore, for its source is new
            assert streamed(refart_workspace, entry) == (LAKE_OBJECTS["README.txt"], expected)
        assert len(lookout.quick) == 1

    def test_an_etag_that_is_no_hash_is_not_for_it(
        self, lookout: Lookout, refart_workspace: Workspace
    ) -> None:
        entry = replace(lookout.entry("README.txt"), content_id="none")
        for _ in range(2):
            streamed(refart_workspace, entry)
        assert lookout.quick == []


ODD: dict[str, dict[str, Any]] = {
    "refused": dict(**s3_error(503, "SlowDown")),
    "moved": {"status": 301, "headers": {"location": "http://127.0.0.1:1/"}},
    "not found": dict(**s3_error(404, "NoSuchKey")),
    "denied": dict(**s3_error(403, "AccessDenied")),
    "garbled": {"garble": True},
    "cut": {"cut_at": 3},
    "lost": {"lost": True},
    "another ETag": {"edit": lambda headers, body: _edited(headers, body, etag='"0"')},
    "another version": {"edit": lambda headers, body: _edited(headers, body, **{"x-amz-version-id": "0"})},
    "shorter": {"edit": lambda headers, body: body[:-1]},
    "longer": {"edit": lambda headers, body: body + b"x"},
}


def _edited(headers: dict[str, str], body: bytes, **changed: str) -> bytes:
    headers.update(changed)
    return body


class TestOddAnswers:
    @pytest.mark.parametrize(
        ("lookout", "fault"),
        [(f"{'un' * (fault == 'another ETag')}versioned_lake", fault) for fault in ODD],
        indirect=["lookout"],
    )
    def test_botocore_is_asked_instead(
        self, lookout: Lookout, refart_workspace: Workspace, fault: str
    ) -> None:
        entry = lookout.entry("raw/labels.json")
        warm_one = lookout.entry("README.txt")
        streamed(refart_workspace, warm_one)
        lookout.proxy.seen.clear()
        lookout.proxy.add("GetObject", **ODD[fault], times=1)
        data, checked = streamed(refart_workspace, entry)
        assert data == LAKE_OBJECTS["raw/labels.json"]
        assert isinstance(checked, Checked)
        assert checked.rung == "md5"
        assert len(lookout.quick) == 1
        assert len(lookout.proxy.seen) == 2

    @pytest.mark.parametrize("fault", ["not found", "garbled"])
    def test_errors_are_those_of_botocore(
        self,
        lookout: Lookout,
        refart_workspace: Workspace,
        fault: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        entry = lookout.entry("raw/labels.json")
        warm_one = lookout.entry("README.txt")
        streamed(refart_workspace, warm_one)
        lookout.proxy.seen.clear()
        lookout.proxy.add("GetObject", **ODD[fault])
        with_obstore = streamed(refart_workspace, entry)
        assert len(lookout.quick) == 1
        monkeypatch.setattr(s3_whole, "MOST_BYTES", -1)
        assert streamed(refart_workspace, entry) == with_obstore
        assert len(lookout.quick) == 1

    def test_wrong_bytes_are_never_handed_over(self, lookout: Lookout, refart_workspace: Workspace) -> None:
        entry = lookout.entry("raw/labels.json")
        streamed(refart_workspace, lookout.entry("README.txt"))
        lookout.proxy.add("GetObject", garble=True)
        taken = []
        with stream(refart_workspace._context.local, None, entry) as chunks, pytest.raises(ChecksumError):
            taken += list(chunks)
        assert chunks.checked is None

    def test_a_bucket_where_it_fails_is_left_alone_ever_longer(self, lookout: Lookout) -> None:
        entry = lookout.entry("README.txt")
        for _ in range(1000):
            assert lookout.source.whole(entry, lambda data: False) is None
        assert 3 <= len(lookout.quick) <= 6
        for _ in range(LONGEST_REST):
            if whole(lookout.source, entry) is not None:
                break
        else:
            pytest.fail("obstore is never tried again")
        assert whole(lookout.source, entry) is not None

    def test_a_panic_is_an_odd_answer(self, lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
        class Panic(BaseException):
            pass

        def panic(*arguments: object) -> None:
            raise Panic

        monkeypatch.setattr(s3_whole.WholeReader, "store", panic)
        assert whole(lookout.source, lookout.entry("README.txt")) is None

    def test_ctrl_c_is_not(self, lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(s3_whole.WholeReader, "store", interrupted)
        with pytest.raises(KeyboardInterrupt):
            whole(lookout.source, lookout.entry("README.txt"))


class TestKeys:
    @pytest.mark.parametrize("versioned", [True, False])
    def test_no_key_is_read_as_another(self, seaweed: SeaweedFS, versioned: bool) -> None:
        """Whatever the bytes are; on a server that checks signatures."""
        lake, source = seaweed.bucket(versioned=versioned), S3Source(seaweed.storage_options)
        entries = {}
        for key in HOSTILE_KEYS:
            try:
                lake.put(key, hashlib.sha256(key.encode()).digest())
            except Exception:  # not a key to this server
                continue
            entries |= {key: entry} if (entry := source.stat(f"{lake.uri}/{key}")) else {}
        warm(source, entries["plain.txt"])
        quick = {key for key, entry in entries.items() if _any_bytes(source, entry) is not None}
        assert {
            "plain.txt",
            "with space.txt",
            "한국어/ключ/ñ.txt",
            "deep/er/and/deeper",
            ".hidden",
            "trailing.",
            "a+b",
            "a b",
        } <= quick
        for key in quick:
            assert _any_bytes(source, entries[key]) == read(source, entries[key])

    def test_keys_that_are_paths_only_to_some_are_left_to_botocore(self, lookout: Lookout) -> None:
        etag = hashlib.md5(b"x").hexdigest()
        for key in (*HOSTILE_KEYS, *(f"raw{key}" for key in HOSTILE_KEYS)):
            lookout.proxy.seen.clear()
            entry = Entry("k", 1, f"md5:{etag}", f"{lookout.lake.uri}/{key}")
            lookout.source.whole(entry, lambda data: True)
            reader = lookout.source._client.learnt().whole
            assert reader is not None
            reader._buckets[lookout.lake.bucket].resting = 0  # type: ignore[union-attr]
            for path in lookout.quick:
                assert unquote(path) == f"/{lookout.lake.bucket}/{key}"
                assert not any(each in ("", ".", "..") for each in key.split("/"))


def _any_bytes(source: S3Source, entry: Entry) -> bytes | None:
    return source.whole(entry, lambda data: True)


class TestTheWay:
    def test_it_is_not_taken_before_botocore_has_gone_it(
        self, proxy: FaultProxy, versioned_lake: Lake
    ) -> None:
        source = S3Source({})
        entry = listed(source, f"{versioned_lake.uri}/README.txt")["README.txt"]
        assert whole(source, entry) is None
        warm(source, entry)
        assert whole(source, entry) == LAKE_OBJECTS["README.txt"]

    def test_without_the_extra_botocore_reads_everything(
        self, lookout: Lookout, refart_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_whole, "find_spec", lambda name: None)
        for _ in range(2):
            data, _ = streamed(refart_workspace, lookout.entry("README.txt"))
            assert data == LAKE_OBJECTS["README.txt"]
        assert lookout.quick == []

    @pytest.mark.parametrize(
        "options",
        [
            {"client_kwargs": {"verify": False}},
            {"config_kwargs": {"tcp_keepalive": True}},
            {"config_kwargs": {"signature_version": "s3"}},
            {"config_kwargs": {"proxies": {"https": "http://127.0.0.1:1"}}},
            {"s3_additional_kwargs": {"ExpectedBucketOwner": "123456789012"}},
        ],
        ids=str,
    )
    def test_options_that_it_does_not_have(self, lookout: Lookout, options: dict[str, Any]) -> None:
        assert_never_taken(lookout, options)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
            ("AWS_SKIP_SIGNATURE", "true"),
            ("AWS_PROXY_URL", "http://127.0.0.1:1"),
            ("AWS_SERVER_SIDE_ENCRYPTION", "sse-c"),
            ("AWS_ALLOW_INVALID_CERTIFICATES", "true"),
            ("AWS_S3_EXPRESS", "true"),
        ],
    )
    def test_variables_that_say_something_to_one_of_them_only(
        self, lookout: Lookout, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        assert_never_taken(lookout, {})

    def test_variables_that_botocore_alone_hears(
        self, lookout: Lookout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        source = S3Source({})
        warm(source, lookout.entry("README.txt"))
        assert whole(source, lookout.entry("README.txt")) == LAKE_OBJECTS["README.txt"]

    @pytest.mark.parametrize(
        "options", [{"anon": True}, {"requester_pays": True}, {"key": "k", "secret": "s"}], ids=str
    )
    def test_requests_say_what_those_of_botocore_say(self, lookout: Lookout, options: dict[str, Any]) -> None:
        source, entry = S3Source(options), lookout.entry("README.txt")
        lookout.lake.client.put_object_acl(Bucket=lookout.lake.bucket, Key="README.txt", ACL="public-read")
        lookout.proxy.seen.clear()
        warm(source, entry)
        assert whole(source, entry) == LAKE_OBJECTS["README.txt"]
        slow, quick = (seen.headers for seen in lookout.proxy.seen)
        assert slow.get("x-amz-request-payer") == quick.get("x-amz-request-payer")
        for words in (slow, quick):
            words["who"] = words.get("authorization", "").partition(",")[0]
        assert slow["who"] == quick["who"]
        assert slow["host"] == quick["host"]

    def test_credentials_are_those_of_now(self, lookout: Lookout) -> None:
        reader = lookout.source._client.learnt().whole
        assert reader is not None
        for key in ("FIRST", "SECOND"):
            reader.credentials = Holder(ReadOnlyCredentials(key, "secret", f"token of {key}"))
            assert whole(lookout.source, lookout.entry("README.txt")) is not None
            headers = lookout.proxy.seen[-1].headers
            assert f"Credential={key}/" in headers["authorization"]
            assert headers["x-amz-security-token"] == f"token of {key}"

    def test_a_fork_is_left_to_botocore(self, lookout: Lookout, monkeypatch: pytest.MonkeyPatch) -> None:
        """The threads of obstore do not live on in a child process, which would wait for them."""
        monkeypatch.setattr(s3_whole, "_home", lambda: os.getpid() + 1)
        assert whole(lookout.source, lookout.entry("README.txt")) is None
        assert lookout.quick == []

    @pytest.mark.parametrize("bucket", ["fast--use1-az4--x-s3", "arn:aws:s3:::a/b", "Upper", "a_b"])
    def test_buckets_with_ways_of_their_own(self, lookout: Lookout, bucket: str) -> None:
        reader = lookout.source._client.learnt().whole
        assert reader is not None
        reader.learn(bucket, "k", s3_whole.Way(f"{lookout.proxy.url}/{bucket}/k", "us-east-1"))
        assert reader.get(bucket, "k", Which(etag="0"), 1, lambda data: True) is None


@dataclass
class Holder:
    frozen: ReadOnlyCredentials

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self.frozen


def assert_never_taken(lookout: Lookout, options: dict[str, Any]) -> None:
    entry = lookout.entry("README.txt")
    source = S3Source(options)
    with suppress(RefartError):
        warm(source, entry)
    assert whole(source, entry) is None
    assert lookout.quick == []


class TestMocks:
    """What somebody mocked must reach no server: botocore would have asked none."""

    @pytest.fixture(autouse=True)
    def _no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"):
            monkeypatch.setenv(name, ENVIRONMENT[name])

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """Every store of obstore's that was opened; none may be, for it would ask a real server."""
        opened: list[object] = []

        def refused(*arguments: object) -> None:
            opened.append(arguments)
            raise AssertionError

        monkeypatch.setattr(s3_whole.WholeReader, "_open", refused)
        return opened

    def test_mock_aws(self, opened: list[object], refart_workspace: Workspace) -> None:
        with moto.mock_aws():
            client = boto3.client("s3", region_name="us-east-1")
            client.create_bucket(Bucket="mocked")
            client.put_object(Bucket="mocked", Key="k", Body=b"mocked")
            source = S3Source({})
            entry = listed(source, "s3://mocked/k")["k"]
            for _ in range(3):
                assert streamed(refart_workspace, entry)[0] == b"mocked"
                warm(source, entry)
                assert whole(source, entry) is None
        assert opened == []

    def test_a_mock_that_begins_when_the_way_is_known(
        self, opened: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        source = S3Source({})
        with moto.mock_aws(config={"core": {"mock_credentials": False}}):
            client = boto3.client("s3", region_name="us-east-1")
            client.create_bucket(Bucket="mocked")
            client.put_object(Bucket="mocked", Key="k", Body=b"mocked")
            entry = listed(source, "s3://mocked/k")["k"]
            reader = source._client.learnt().whole
            assert reader is not None
            reader.learn("mocked", "k", s3_whole.Way("https://mocked.s3.amazonaws.com/k", "us-east-1"))
            assert whole(source, entry) is None
            assert source._client.learnt().whole is reader
        assert opened == []

    def test_whoever_answers_instead_of_the_session(
        self, opened: list[object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As recorders and stubs do: what they hand to botocore comes from no socket."""

        class Raw(io.BytesIO):
            def stream(self, **_: object) -> Iterator[bytes]:
                yield self.read()

        def send(self: object, request: Any) -> AWSResponse:
            etag = hashlib.md5(b"k").hexdigest()
            return AWSResponse(request.url, 200, {"ETag": f'"{etag}"', "Content-Length": "1"}, Raw(b"k"))

        monkeypatch.setattr(URLLib3Session, "send", send)
        source = S3Source({"key": "k", "secret": "s", "client_kwargs": {"region_name": "us-east-1"}})
        entry = Entry("k", 1, f"md5:{hashlib.md5(b'k').hexdigest()}", "s3://mocked/k")
        for _ in range(2):
            warm(source, entry)
            assert whole(source, entry) is None
        assert opened == []
