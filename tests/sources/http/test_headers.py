"""What headers say, and what malformed ones do not say."""

from __future__ import annotations

import base64
import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given
from requests.structures import CaseInsensitiveDict

from refart import checksums
from refart.sources.http.headers import Stated, http_date, range_start, stated

DATA = b"logged"
SHA256 = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
MD5 = base64.b64encode(hashlib.md5(DATA).digest()).decode()
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


def said(status: int = 200, **headers: str) -> Stated:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stated(CaseInsensitiveDict(named), status)


@pytest.mark.parametrize(
    ("header", "etag"),
    [
        ('"abc"', "abc"),
        ('W/"abc"', "W/abc"),
        ('"abc--gzip;1"', "abc--gzip;1"),
        ("abc", "W/abc"),  # cannot be asked for as it is
        ('"W/abc"', "W/abc"),
        ('"é"', "é"),
        ("", None),
        ('""', None),
        ('"a", "b"', None),
        ('w/"abc"', None),
        ('"a\x7fb"', None),
        ('"' + "a" * 3000 + '"', None),
    ],
)
def test_etags(header: str, etag: str | None) -> None:
    assert said(etag=header).etag == etag
    assert said(etag=header).strong_etag == (None if etag is None or etag.startswith("W/") else etag)


@given(st.text(st.characters(codec="latin-1"), max_size=20) | st.from_regex(r'(W/)?"[ -~]*"', fullmatch=True))
def test_any_etag_gives_a_content_id_or_none(header: str) -> None:
    for content_id in said(etag=header).content_ids():
        assert checksums.split(content_id)[0] == "etag"


@pytest.mark.parametrize(
    ("header", "modified_ns"),
    [
        (MODIFIED, 1_700_000_000 * 10**9),
        ("Tuesday, 14-Nov-23 22:13:20 GMT", 1_700_000_000 * 10**9),  # the obsolete forms of RFC 9110
        ("Tue Nov 14 22:13:20 2023", 1_700_000_000 * 10**9),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -(10**9)),
        ("", None),
        ("yesterday", None),
        ("0", None),
        ("Tue, 14 Nov 99999 22:13:20 GMT", None),
    ],
)
def test_modified_times(header: str, modified_ns: int | None) -> None:
    assert said(last_modified=header).modified_ns == modified_ns


@given(st.integers(-(10**9), 10**11))
def test_a_time_comes_back_as_it_was_sent(seconds: int) -> None:
    assert said(last_modified=http_date(seconds * 10**9)).modified_ns == seconds * 10**9


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"content_length": "12"}, 12),
        ({"content_length": "0"}, 0),
        ({}, None),
        ({"content_length": "-1"}, None),
        ({"content_length": "12, 12"}, None),
        ({"content_length": "9" * 30}, None),
        ({"content_length": "12", "transfer_encoding": "chunked"}, None),
    ],
)
def test_the_size_of_a_whole(headers: dict[str, str], size: int | None) -> None:
    assert said(**headers).size == size


@pytest.mark.parametrize(
    ("header", "start", "size"),
    [
        ("bytes 5-9/12", 5, 12),
        ("bytes 5-9/*", 5, None),
        ("", None, None),
        ("bytes */12", None, None),
        ("items 5-9/12", None, None),
    ],
)
def test_the_size_of_what_a_range_is_of(header: str, start: int | None, size: int | None) -> None:
    headers = CaseInsensitiveDict({"Content-Range": header, "Content-Length": "5"})
    assert (range_start(headers), stated(headers, 206).size) == (start, size)


@pytest.mark.parametrize(
    ("headers", "algo"),
    [
        ({"repr_digest": f"sha-256=:{SHA256}:"}, "sha256"),
        ({"repr_digest": f"sha-512=:AAAA:, sha-256=:{SHA256}:"}, "sha256"),
        ({"digest": f"SHA-256={SHA256}"}, "sha256"),
        ({"digest": f"md5={MD5},unixsum=30637"}, "md5"),
        ({"content_md5": MD5}, "md5"),
        ({"content_md5": MD5, "digest": f"sha-256={SHA256}"}, "sha256"),
    ],
)
def test_a_digest_is_the_content_id(headers: dict[str, str], algo: str) -> None:
    found = said(etag='"e"', last_modified=MODIFIED, **headers)
    assert found.content_id() == f"{algo}:{hashlib.new(algo, DATA).hexdigest()}"


@pytest.mark.parametrize(
    "headers",
    [
        {"repr_digest": "sha-256=:AAAA:"},  # not as long as it must be
        {"repr_digest": f"sha-256={SHA256}"},
        {"digest": "sha-256=!"},
        {"digest": f"x-sha-256={SHA256}"},
        {"content_md5": "A"},
        {"content_md5": f"md5={MD5}"},
        {"content_digest": f"sha-256=:{SHA256}:"},  # of the message, not of the object
        {"digest": f"sha-256={SHA256}", "content_encoding": "gzip"},
    ],
)
def test_what_is_no_digest_of_the_object_is_not_taken_for_one(headers: dict[str, str]) -> None:
    assert said(**headers).content_id() == "none"


def test_content_md5_of_a_range_is_that_of_the_range() -> None:
    headers = {"content_range": "bytes 0-1/6", "content_md5": MD5, "repr_digest": f"sha-256=:{SHA256}:"}
    assert {checksums.split(found)[0] for found in said(206, **headers).content_ids()} == {"sha256"}


def test_identities_from_strong_to_weak() -> None:
    assert said(etag='"e"', last_modified=MODIFIED).content_ids() == ["etag:e", "stat:1700000000000000000"]
    assert said(etag='W/"e"', last_modified=MODIFIED).content_ids() == [
        "stat:1700000000000000000",
        "etag:W/e",
    ]
    assert said().content_id() == "none"


def test_what_was_recorded_is_told_where_it_is_said_too() -> None:
    """A server that begins to send ETags makes nothing of what was logged before look changed."""
    found = said(etag='"e"', last_modified=MODIFIED)
    assert found.content_id(like="stat:1700000000000000000") == "stat:1700000000000000000"
    assert found.content_id(like="stat:5") == "stat:1700000000000000000"
    assert found.content_id(like="sha256:" + "0" * 64) == found.content_id(like="etag:other") == "etag:e"
