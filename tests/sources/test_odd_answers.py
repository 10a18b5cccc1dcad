"""Servers that answer what no server should: whatever comes, an error of ours, and soon."""

from __future__ import annotations

import base64
import gc
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pyarrow as pa
import pytest
from _pytest.fixtures import SubRequest

from refart.entries import Entry, check_page, page_of, prefixed
from refart.errors import RefartError, SourceError
from refart.ops.stream import Verifier
from refart.sources import listed, objects, pinned
from refart.sources.azure import client as azure_client
from refart.sources.azure import listing as azure_listing
from refart.sources.azure.source import AzureSource
from refart.sources.base import Source
from refart.sources.gcs import client as gcs_client
from refart.sources.gcs import listing as gcs_listing
from refart.sources.gcs.source import GCSSource
from refart.sources.http import client as http_client
from refart.sources.http.source import HTTPSource
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3.source import S3Source
from tests.sources.one_answer import OneAnswer


@pytest.fixture(scope="module")
def server() -> Iterator[OneAnswer]:
    with closing(OneAnswer()) as server:
        yield server


def _s3(url: str) -> tuple[Source, str]:
    config = {"retries": {"max_attempts": 0}, "s3": {"addressing_style": "path"}}
    options = {"key": "k", "secret": "s", "endpoint_url": url, "config_kwargs": config}
    return S3Source({**options, "client_kwargs": {"region_name": "us-east-1"}}), "s3://bucket/k"


def _gcs(url: str) -> tuple[Source, str]:
    return GCSSource({"token": "anon", "endpoint_url": url}), "gs://bucket/k"


def _azure(url: str) -> tuple[Source, str]:
    text = f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey=a2V5;BlobEndpoint={url}/account;"
    return AzureSource({"connection_string": text}), "az://container/k"


def _http(url: str) -> tuple[Source, str]:
    return HTTPSource({}), f"{url}/k"


@pytest.fixture(params=[_s3, _gcs, _azure, _http])
def place(request: SubRequest, server: OneAnswer, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
    monkeypatch.setattr(gcs_client, "RETRIES", 0)
    monkeypatch.setattr(gcs_client, "CONNECT_RETRIES", 0)
    monkeypatch.setattr(azure_client, "RETRIES", 0)
    monkeypatch.setattr(http_client, "TRIES", 1)
    monkeypatch.setattr(pinned, "RESUMES", 0)
    made: tuple[Source, str] = request.param(server.url)
    return made


def _answer(headers: str, body: bytes = b"x", status: str = "200 OK") -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers.split("|") if line)
    return f"HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n".encode("latin-1") + body


_NINES = "9" * 5000

ANSWERS = {
    "nothing": b"",
    "no HTTP": b"\0\1\2garbage",
    "no headers": _answer("", b""),
    "a negative length": _answer("Content-Length: -5"),
    "a length that is a word": _answer("Content-Length: many"),
    "a length beyond all bounds": _answer(f"Content-Length: {'9' * 40}"),
    "a length of 5,000 digits": _answer(f"Content-Length: {_NINES}"),
    "two lengths": _answer("Content-Length: 1|Content-Length: 2"),
    "a range of 5,000 digits": _answer(f"Content-Range: bytes 0-0/{_NINES}", status="206 Partial Content"),
    "a range beyond all bounds": _answer(
        f'Content-Range: bytes 0-0/{"9" * 40}|ETag: "x"', status="206 Partial Content"
    ),
    "a range of nonsense": _answer('Content-Range: nonsense|ETag: "x"', status="206 Partial Content"),
    "a chunk of negative length": _answer("Transfer-Encoding: chunked", b"-5\r\nabc"),
    "a chunk of no length": _answer("Transfer-Encoding: chunked", b"zz\r\nabc"),
    "an ETag in Latin-1": _answer('Content-Length: 1|ETag: "\xe9\xff"'),
    "an ETag with quotes inside": _answer('Content-Length: 1|ETag: a"b"c'),
    "an ETag of 5,000 digits": _answer(f'Content-Length: 1|ETag: "{_NINES}"'),
    "an ETag of too many parts": _answer(f'Content-Length: 1|ETag: "{"0" * 32}-99999"'),
    "a date of nonsense": _answer("Content-Length: 1|Last-Modified: yesterday"),
    "a date beyond the calendar": _answer("Content-Length: 1|Last-Modified: Mon, 01 Jan 99999 00:00:00 GMT"),
    "a date that is a number": _answer(f"Content-Length: 1|Last-Modified: {'9' * 20}"),
    "a header of 100,000 bytes": _answer(f"X: {'x' * 100_000}"),
    "500 headers": _answer("|".join(f"X{i}: 1" for i in range(500))),
    "GCS headers of nonsense": _answer(
        "Content-Length: 1|X-Goog-Generation: \xe9|X-Goog-Hash: md5=@@,crc32c"
    ),
    "Azure headers of nonsense": _answer('Content-Length: 1|x-ms-blob-type: cube|Content-MD5: @@|ETag: "x"'),
    "S3 headers of nonsense": _answer(
        'Content-Length: 1|x-amz-mp-parts-count: zz|x-amz-missing-meta: zz|ETag: "x"'
    ),
    "JSON that is a list": _answer("Content-Type: application/json|Content-Length: 2", b"[]"),
    "JSON that is null": _answer("Content-Type: application/json|Content-Length: 4", b"null"),
    "JSON of 100,000 levels": _answer(
        "Content-Type: application/json|Content-Length: 100000", b"[" * 100_000
    ),
    "text in no known charset": _answer(
        "Content-Type: text/plain; charset=nope|Content-Length: 2", b"\xff\xfe"
    ),
    "XML of something else": _answer("Content-Type: application/xml|Content-Length: 4", b"<a/>"),
    "gzip that is none": _answer("Content-Encoding: gzip|Content-Length: 3", b"abc"),
    "no content": _answer("", b"", "204 No Content"),
    "not modified": _answer("", b"", "304 Not Modified"),
    "50 times 'go on'": b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + _answer("Content-Length: 1"),
    "a redirect to nowhere": _answer("Content-Length: 0", b"", "301 Moved"),
    "a redirect to itself": _answer("Location: /k|Content-Length: 0", b"", "302 Found"),
    "a redirect to a file": _answer("Location: file:///etc/hostname|Content-Length: 0", b"", "302 Found"),
    "a redirect to half an address": _answer("Location: http://[::1|Content-Length: 0", b"", "302 Found"),
    "a redirect to no UTF-8": _answer("Location: http://\xff\xfe/|Content-Length: 0", b"", "302 Found"),
    "a redirect to a long host": _answer(
        f"Location: http://{'a' * 80}.x/|Content-Length: 0", b"", "302 Found"
    ),
    "an error that is no object": _answer(
        "Content-Type: application/json|Content-Length: 39",
        b'{"error":{"errors":[5],"message":[1,2]}}',
        "403 Forbidden",
    ),
    "an error in broken XML": _answer(
        "Content-Type: application/xml|Content-Length: 14", b"<Error>\xff</Error>", "400 Bad Request"
    ),
    "a status of its own": _answer("Content-Length: 0", b"", "999 Wow"),
}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # clients forget sockets where they stumble
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_odd_answer_is_a_result_or_an_error_of_ours(
    place: tuple[Source, str], server: OneAnswer, answer: bytes
) -> None:
    source, uri = place
    server.answer = answer
    uses: list[Callable[[], Any]] = [
        lambda: [check_page(page, uri) for page in source.scan(uri).pages],
        lambda: [check_page(page_of(filter(None, [source.stat(uri)])), uri)],
    ]
    for content_id in ("none", "etag:x", f"etag:{'0' * 32}-99999"):
        for size in (1, 100_000, None):
            entry = Entry("a", size, content_id, uri)
            uses += [
                lambda entry=entry: _read(source, entry),
                lambda entry=entry: _read_opened(source, entry),
            ]
    for use in uses:
        with suppress(RefartError):
            use()
    gc.collect()


def _read(source: Source, entry: Entry) -> None:
    with source.fetch(entry) as fetched:
        verifier = Verifier(entry, fetched)
        for chunk in fetched.chunks:
            verifier.update(chunk)
        verifier.finish()


def _read_opened(source: Source, entry: Entry) -> None:
    with source.open(entry).file as file:
        file.read()


# -- listings ----------------------------------------------------------------------------------------------------


class _Bucket:
    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        return prefixed("s3://b/", keys)


def _gcs_item(**changes: object) -> dict[str, object]:
    return {"items": [{"name": "k", "size": "1", "generation": "1", **changes}]}


@pytest.mark.parametrize(
    "answer",
    [
        {"items": None},
        {"items": 5},
        {"items": "text"},
        {"items": {"a": 1}},
        {"items": [None]},
        _gcs_item(name=5),
        _gcs_item(name=None),
        _gcs_item(name=["k"]),
        _gcs_item(name="\ud800"),
        _gcs_item(size="-1"),
        _gcs_item(size="9" * 30),
        _gcs_item(size="9" * 5000),
        _gcs_item(size=1.5),
        _gcs_item(size=float("inf")),
        _gcs_item(size=True),
        _gcs_item(size=None),
        _gcs_item(generation="-5"),
        _gcs_item(generation="9" * 5000),
        _gcs_item(generation=float("inf")),
        _gcs_item(md5Hash=5),
        _gcs_item(md5Hash="é"),
        {**_gcs_item(), "nextPageToken": {"a": 1}},
        {**_gcs_item(), "nextPageToken": 5},
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_a_listing_of_gcs_of_another_shape_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="what: the server's answer is not one of the JSON API") as caught:
        gcs_listing.parse(answer, "what")
    assert len(str(caught.value)) < 300


SIZES = ["-1", "1.5", "", "many", "9" * 30, "9" * 5000]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size[:20])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    s3 = f"<ListBucketResult><Contents><Key>k</Key><Size>{size}</Size></Contents></ListBucketResult>"
    azure = (
        "<EnumerationResults><Blobs><Blob><Name>k</Name><Properties>"
        f"<Content-Length>{size}</Content-Length></Properties></Blob></Blobs></EnumerationResults>"
    )
    with pytest.raises(SourceError, match="is no size"):
        s3_listing.parse(s3.encode(), "what")
    with pytest.raises(SourceError, match="is no size"):
        azure_listing.parse(azure.encode(), "what", None)


def _bomb() -> bytes:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    return f'<!DOCTYPE l [<!ENTITY e0 "0123456789">{entities}]><ListBucketResult>&e9;</ListBucketResult>'.encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (_bomb(), "amplification"),
        (
            b'<!DOCTYPE l [<!ENTITY f SYSTEM "file:///etc/hostname">]><ListBucketResult>&f;</ListBucketResult>',
            "undefined entity",
        ),
        (b"<a>" * 200_000, "no element found"),
    ],
    ids=["a bomb", "a file of this machine", "200,000 levels"],
)
def test_xml_that_means_harm_is_refused(body: bytes, why: str) -> None:
    for parse in (
        lambda: s3_listing.parse(body, "what"),
        lambda: azure_listing.parse(body, "what", None),
    ):
        with pytest.raises(SourceError, match=why):
            parse()


def test_a_key_of_ten_million_bytes_is_named_in_short() -> None:
    row = listed.Row("k" * 10_000_000, 1, "md5:" + base64.b16encode(bytes(16)).decode(), None)
    with pytest.raises(RefartError) as caught:
        check_page(objects.page_of(listed.batch_of([row]), _Bucket(), "", identify="best"), "s3://b/")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300
