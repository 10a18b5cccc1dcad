"""Secrets of storage options, where everything fails: in no message, traceback, log or repr."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from html import escape
from typing import Any

import pytest

from refart.config import Config
from refart.entries import Entry
from refart.errors import RefartError
from refart.sources.azure import client as azure_client
from refart.sources.gcs import client as gcs_client
from refart.sources.http import client as http_client
from refart.sources.registry import Sources
from tests.places import nobody
from tests.sources.one_answer import OneAnswer

SECRET = "hunter2hunter2"
KEY = base64.b64encode(SECRET.encode() * 2).decode()
DEAD = "127.0.0.1:9"


@pytest.fixture(scope="module")
def server() -> Iterator[OneAnswer]:
    with closing(OneAnswer()) as server:
        yield server


def _echo(status: str, kind: str, body: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """Repeats the whole request, credentials included."""

    def answer(request: bytes) -> bytes:
        text = body(request.decode("latin-1").replace("\r\n", " ")).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        return head.encode() + text

    return answer


def _away(request: bytes) -> bytes:
    target = request.decode("latin-1").replace("\r\n", "%20").replace(" ", "%20")
    head = f"HTTP/1.1 302 Found\r\nLocation: http://{DEAD}/?sig={target}\r\nContent-Length: 0\r\n"
    return f"{head}Connection: close\r\n\r\n".encode("latin-1")


ECHOES: Mapping[str, Callable[[bytes], bytes]] = {
    "XML": _echo(
        "403 Forbidden",
        "application/xml",
        lambda said: f"<Error><Code>{escape(said)}</Code><Message>{escape(said)}</Message></Error>",
    ),
    "JSON": _echo(
        "401 Unauthorized",
        "application/json",
        lambda said: json.dumps(
            {
                "error": {"message": said, "errors": [{"reason": said, "message": said}]},
                "error_description": said,
            }
        ),
    ),
    "text": _echo("400 Bad Request", "text/plain", lambda said: said),
    "no listing": _echo("200 OK", "application/xml", lambda said: said),
    "a redirect": _away,
    "hangs up": lambda _: b"",
}


def _s3(url: str, **options: Any) -> tuple[str, dict[str, Any]]:
    quick = {"retries": {"max_attempts": 0}, "s3": {"addressing_style": "path"}}
    more = {"client_kwargs": {"region_name": "us-east-1"}, "config_kwargs": quick, **options}
    return "s3://bucket/k", {"key": SECRET, "secret": SECRET, "token": SECRET, "endpoint_url": url, **more}


def _gcs(url: str, token: Any, **options: Any) -> tuple[str, dict[str, Any]]:
    return "gs://bucket/k", {"token": token, "endpoint_url": url, **options}


def _user(url: str) -> dict[str, str]:
    secrets = dict.fromkeys(("client_id", "client_secret", "refresh_token"), SECRET)
    return {"type": "authorized_user", "token_uri": url, **secrets}


PLACES: Mapping[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "s3": _s3,
    "s3 away": lambda _: _s3(f"http://me:{SECRET}@{DEAD}"),
    "s3, an endpoint that is none": lambda _: _s3(f"{SECRET}//x"),
    "s3, a key with a line break": lambda url: _s3(url, key=f"{SECRET}\n"),
    "s3, a token with a line break": lambda url: _s3(url, token=f"{SECRET}\r\nX: y"),
    "s3, options of another type": lambda url: _s3(url, key={"a": SECRET}),
    "gcs": lambda url: _gcs(url, _user(url)),
    "gcs, no token": lambda url: _gcs(url, SECRET),
    "gcs, a key that is none": lambda url: _gcs(
        url, {"type": "service_account", "private_key": SECRET, "token_uri": url}
    ),
    "gcs, a proxy away": lambda url: _gcs(
        url, "anon", session_kwargs={"proxy": f"http://me:{SECRET}@{DEAD}"}
    ),
    "gcs, a header with a line break": lambda url: _gcs(
        url, "anon", session_kwargs={"headers": {"X": f"{SECRET}\r\n"}}
    ),
    "azure": lambda url: (
        "az://container/k",
        {
            "connection_string": f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint={url}/a;"
        },
    ),
    "azure, a signature": lambda url: (
        "az://container/k",
        {"connection_string": f"BlobEndpoint={url}/a;SharedAccessSignature=sv=1&sig={SECRET}"},
    ),
    "azure, no connection string": lambda _: (
        "az://container/k",
        {"connection_string": f"AccountKey={SECRET};{SECRET}"},
    ),
    "azure, no key": lambda _: ("az://container/k", {"account_name": "a", "account_key": f"{SECRET}!"}),
    "http": lambda url: (f"{url}/k", {"headers": {"Authorization": f"Bearer {SECRET}", "X-Key": SECRET}}),
    "http, a password": lambda url: (f"{url}/k", {"auth": [SECRET, SECRET]}),
    "http, a header with a line break": lambda url: (f"{url}/k", {"headers": {"X": f"{SECRET}\r\n"}}),
    "http, options of another type": lambda url: (f"{url}/k", {"auth": SECRET}),
    "sftp away": lambda _: (f"sftp://{DEAD}/k", {"username": "me", "password": SECRET}),
    "sftp, an option it does not know": lambda _: (
        f"sftp://{DEAD}/k",
        {"username": "me", "passwrod": SECRET},
    ),
    "webdav": lambda url: ("webdav://k", {"base_url": url, "auth": ["me", SECRET]}),
    "webdav, auth that is none": lambda url: (
        "webdav://k",
        {"base_url": url, "auth": ["me", SECRET, SECRET]},
    ),
    "webdav away": lambda _: ("webdav://k", {"base_url": f"http://me:{SECRET}@{DEAD}"}),
    "ftp away": lambda _: (f"ftp://{DEAD}/k", {"username": "me", "password": SECRET}),
    "an archive on the web": lambda url: (
        f"zip://a::{url}/k",
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
    ),
}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # clients forget sockets where they stumble
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_no_failure_shows_a_secret(
    place: Callable[[str], tuple[str, dict[str, Any]]],
    server: OneAnswer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nobody(monkeypatch)
    monkeypatch.setattr(gcs_client, "RETRIES", 0)
    monkeypatch.setattr(gcs_client, "CONNECT_RETRIES", 0)
    monkeypatch.setattr(azure_client, "RETRIES", 0)
    monkeypatch.setattr(http_client, "TRIES", 1)
    caplog.set_level(logging.DEBUG, "refart")
    uri, options = place(server.url)
    config = Config(storage_options={uri.rpartition("::")[2].rpartition("/")[0]: options})
    sources = Sources(config)
    entry = Entry("a", 1, "none", uri)
    shown = [repr(config), repr(sources)]
    for answer in ECHOES.values():
        server.answer = answer
        for use in (
            lambda: list(sources.for_uri(uri).scan(uri).pages),
            lambda: sources.for_uri(uri).stat(uri),
            lambda: sources.for_uri(uri).open(entry).file.read(),
        ):
            try:
                use()
            except RefartError as error:
                shown.append("".join(traceback.format_exception(error)))
    shown += [record.getMessage() for record in caplog.records if record.name.startswith("refart")]
    assert len(shown) > 2
    for secret in (SECRET, KEY, base64.b64encode(f"me:{SECRET}".encode()).decode()):
        assert not [text for text in shown if secret in text]
