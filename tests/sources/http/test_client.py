"""How web servers are reached: options, redirects, credentials, TLS; and that nothing secret is ever shown."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refart.errors import InvalidInputError, PermissionDeniedError, RefartError, SourceError
from refart.sources.http import client as http_client
from refart.sources.http.source import HTTPSource
from tests.sources.suite import listed, read
from tests.sources.webserver import Seen, WebServer

BASIC = "Basic dXNlcjpodW50ZXIy"  # user:hunter2
SIGNED = "/store/k?X-Amz-Signature=hunter2&X-Amz-Credential=hunter2"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting, and nobody's ~/.netrc."""
    monkeypatch.setattr(http_client, "PAUSE_S", 0.0)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer(headers={"ETag": '"one"'}) as server:
        yield server


@pytest.fixture
def other() -> Iterator[WebServer]:
    """Another server: the port is part of what makes a host."""
    with WebServer(headers={"ETag": '"one"'}) as server:
        yield server


def sent(server: WebServer, header: str) -> set[str | None]:
    return {seen.headers[header] for seen in server.seen}


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"headers": {"X-Key": "hunter2"}},
            {"client_kwargs": {"headers": {"X-Key": "hunter2"}}},
            {
                "headers": {"X-Key": "hunter2"},
                "client_kwargs": {"headers": {"X-Key": "other", "X-More": "1"}},
            },
        ],
    )
    def test_headers_go_with_every_request(self, server: WebServer, options: dict[str, Any]) -> None:
        source = HTTPSource(options)
        read(source, next(iter(listed(source, f"{server.url}/x").values())))
        assert server.methods == ["HEAD", "GET"]
        assert sent(server, "X-Key") == {"hunter2"}
        assert sent(server, "X-More") == ({"1"} if len(options) == 2 else {None})

    @pytest.mark.parametrize("nested", [False, True])
    def test_user_and_password(self, server: WebServer, nested: bool) -> None:
        auth = {"auth": ["user", "hunter2"]}
        HTTPSource({"client_kwargs": auth} if nested else auth).stat(f"{server.url}/x")
        assert sent(server, "Authorization") == {BASIC}

    def test_what_tunes_fsspecs_own_caches_is_accepted(self) -> None:
        HTTPSource(dict.fromkeys(http_client.TUNING_OPTIONS))

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"header": {}}, "'header' is not one of"),
            ({"client_kwargs": {"connector": 1}}, "'connector' is not one of"),
            ({"client_kwargs": "hunter2"}, "client_kwargs"),
            ({"headers": "hunter2"}, "headers"),
            ({"headers": {"X": 5}}, "'X'"),
            ({"headers": {"X": "hunter2\r\nY: 1"}}, "'X'"),
            ({"headers": {"X": "hunter2 한국"}}, "'X'"),
            ({"headers": {"X Y": "hunter2"}}, "'X Y'"),
            ({"headers": {"Range": "bytes=0-5"}}, "'Range'"),
            ({"headers": {"accept-encoding": "gzip"}}, "'accept-encoding'"),
            ({"auth": "hunter2"}, "auth"),
            ({"auth": ["user", "hunter2", "utf-8"]}, "auth"),
            ({"ssl": "hunter2"}, "ssl"),
            ({"trust_env": 1}, "trust_env"),
            ({"timeout": True}, "timeout"),
            ({"timeout": 0}, "timeout"),
            ({"timeout": "5"}, "timeout"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_and_not_shown(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(InvalidInputError, match=named) as error:
            HTTPSource(options)
        assert "hunter2" not in str(error.value)


class TestNetrc:
    @pytest.fixture(autouse=True)
    def _netrc(self, _alone: None, tmp_path: Path) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login user password hunter2\n")
        netrc.chmod(0o600)

    def test_it_is_read(self, server: WebServer) -> None:
        HTTPSource({}).stat(f"{server.url}/x")
        assert sent(server, "Authorization") == {BASIC}

    def test_it_is_not_read_where_the_environment_is_not_trusted(self, server: WebServer) -> None:
        HTTPSource({"client_kwargs": {"trust_env": False}}).stat(f"{server.url}/x")
        assert sent(server, "Authorization") == {None}

    def test_a_configured_header_goes_before_it(self, server: WebServer) -> None:
        server.locations = {"/x": "/y"}
        HTTPSource({"headers": {"authorization": "Bearer token"}}).stat(f"{server.url}/x")
        assert [seen.target for seen in server.seen] == ["/x", "/y"]
        assert sent(server, "Authorization") == {"Bearer token"}


class TestRedirects:
    def test_the_uri_is_recorded_as_given(self, server: WebServer, other: WebServer) -> None:
        server.locations = {"/release/a.csv": f"{other.url}{SIGNED}"}
        other.data = b"elsewhere"
        source = HTTPSource({})
        [entry] = listed(source, f"{server.url}/release/a.csv").values()
        assert (entry.path, entry.uri, entry.size) == ("a.csv", f"{server.url}/release/a.csv", 9)
        assert (entry.content_id, entry.pin) == ("etag:one", None)
        assert read(source, entry) == b"elsewhere"
        assert [seen.headers["If-Match"] for seen in other.seen] == [None, '"one"']

    def test_ranges_are_redirected_too(self, server: WebServer, other: WebServer) -> None:
        server.locations = {"/a": f"{other.url}{SIGNED}"}
        other.data = bytes(300_000)
        source = HTTPSource({})
        [entry] = listed(source, f"{server.url}/a").values()
        with source.open(entry).file as stream:
            stream.seek(-10, 2)
            assert stream.read() == bytes(10)
        assert other.seen[-1].headers["Range"] == "bytes=299990-299999"

    @pytest.mark.parametrize(
        "options",
        [
            {"headers": {"Authorization": "Bearer hunter2", "X-Key": "hunter2", "Cookie": "hunter2"}},
            {"auth": ["user", "hunter2"]},
        ],
    )
    def test_credentials_stay_with_their_host(
        self, server: WebServer, other: WebServer, options: dict[str, Any]
    ) -> None:
        server.locations = {"/a": f"{other.url}/b"}
        source = HTTPSource(options)
        assert source.stat(f"{server.url}/a") is not None
        for header in ("Authorization", "X-Key", "Cookie"):
            assert sent(other, header) == {None}
        assert sent(server, "Authorization") != {None}

    def test_what_is_no_secret_goes_on(self, server: WebServer, other: WebServer) -> None:
        server.locations = {"/a": f"{other.url}/b"}
        HTTPSource({"headers": {"User-Agent": "lake/1", "Accept": "text/csv"}}).stat(f"{server.url}/a")
        assert (sent(other, "User-Agent"), sent(other, "Accept")) == ({"lake/1"}, {"text/csv"})

    def test_credentials_stay_on_the_same_host(self, server: WebServer) -> None:
        server.locations = {"/a": "/b"}
        HTTPSource({"headers": {"X-Key": "hunter2"}, "auth": ["user", "hunter2"]}).stat(f"{server.url}/a")
        assert [seen.target for seen in server.seen] == ["/a", "/b"]
        assert (sent(server, "X-Key"), sent(server, "Authorization")) == ({"hunter2"}, {BASIC})

    def test_a_circle(self, server: WebServer) -> None:
        server.locations = {"/a": "/b", "/b": "/a"}
        with pytest.raises(SourceError, match=r"/a: redirects lead on and on") as error:
            HTTPSource({}).stat(f"{server.url}/a")
        assert not error.value.transient

    @pytest.mark.parametrize("location", ["ftp://host/x", "http://[::1/x", "file:///etc/passwd"])
    def test_to_what_is_no_web_address(self, server: WebServer, location: str) -> None:
        server.locations = {"/a": location}
        with pytest.raises(SourceError, match=r"/a: is redirected to what is no web address"):
            HTTPSource({}).stat(f"{server.url}/a")


class TestNothingSecretIsShown:
    """Where a redirect leads to is often signed."""

    @staticmethod
    def _shown(error: RefartError) -> str:
        return "".join(traceback.format_exception(error))

    @pytest.mark.parametrize("status", [401, 403, 416, 500, 302])
    def test_by_an_answer(
        self, server: WebServer, other: WebServer, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server.locations = {"/a": f"{other.url}{SIGNED}"}
        other.statuses = {"HEAD": status, "GET": status}
        source = HTTPSource({"headers": {"X-Key": "hunter2"}})
        with pytest.raises((SourceError, PermissionDeniedError)) as error:
            source.stat(f"{server.url}/a")
        assert f"{server.url}/a" in str(error.value)
        assert "hunter2" not in self._shown(error.value) + caplog.text

    def test_by_no_answer(
        self, server: WebServer, other: WebServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server.locations = {"/a": f"{other.url}{SIGNED}"}
        other.close()
        with pytest.raises(SourceError, match="cannot be reached") as error:
            HTTPSource({}).stat(f"{server.url}/a")
        assert "hunter2" not in self._shown(error.value) + caplog.text

    def test_by_a_broken_body(
        self, server: WebServer, other: WebServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        server.locations = {"/a": f"{other.url}{SIGNED}"}
        source = HTTPSource({})
        [entry] = listed(source, f"{server.url}/a").values()
        other.cut_at = 0
        with pytest.raises(SourceError, match="at byte 0") as error:
            read(source, entry)
        assert "hunter2" not in self._shown(error.value) + caplog.text

    def test_by_a_proxy(self, monkeypatch: pytest.MonkeyPatch, server: WebServer) -> None:
        port = server.url.rpartition(":")[2]
        server.close()
        monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(SourceError, match="the proxy cannot be reached") as error:
            HTTPSource({}).stat("http://host.invalid/a")
        assert "hunter2" not in self._shown(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a web server for tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class TestTLS:
    @pytest.fixture
    def secure(self, certificate: Path) -> Iterator[WebServer]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with WebServer(tls=context) as server:
            yield server

    def test_an_unknown_authority(self, secure: WebServer) -> None:
        with pytest.raises(SourceError, match=r"/a: no secure connection.*REQUESTS_CA_BUNDLE") as error:
            HTTPSource({}).stat(f"{secure.url}/a")
        assert not error.value.transient
        assert secure.seen == []

    def test_an_authority_from_the_environment(
        self, secure: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert HTTPSource({}).stat(f"{secure.url}/a") is not None

    def test_certificates_that_are_not_checked(self, secure: WebServer) -> None:
        """Whoever asks for that is reminded of it."""
        with pytest.warns(Warning, match="Unverified HTTPS request"):
            assert HTTPSource({"ssl": False}).stat(f"{secure.url}/a") is not None

    def test_a_redirect_that_leaves_tls_is_not_followed(
        self, secure: WebServer, server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        secure.locations = {"/a": f"{server.url}{SIGNED}"}
        with pytest.raises(SourceError, match=r"/a: is redirected from https:// to http://") as error:
            HTTPSource({}).stat(f"{secure.url}/a")
        assert server.seen == []
        assert "hunter2" not in str(error.value)

    def test_a_redirect_to_tls_is_followed(
        self, secure: WebServer, server: WebServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        server.locations = {"/a": f"{secure.url}/b"}
        assert HTTPSource({}).stat(f"{server.url}/a") is not None


def test_cookies_are_carried_along_redirects(server: WebServer) -> None:
    """As portals that log in by redirects need it."""
    server.locations = {"/a": "/b"}

    def welcome(seen: Seen) -> None:
        server.headers = {"Set-Cookie": "seen=1"}

    server.then = welcome
    source = HTTPSource({})
    source.stat(f"{server.url}/b")
    source.stat(f"{server.url}/a")
    assert server.seen[-1].headers["Cookie"] == "seen=1"
