"""How the options of gcsfs, the environment and credentials reach GCS, and that nothing secret is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.oauth2.credentials import Credentials

from refart.errors import InvalidInputError, PermissionDeniedError, SourceError
from refart.sources.gcs.client import GCSClient
from refart.sources.gcs.source import GCSSource
from tests.children import good, run_python
from tests.faults import FaultProxy
from tests.gcs import operation_of, service_account
from tests.servers import FakeGCS, GCSBucket
from tests.sources.suite import listed, read

TOKEN = "ya29.of-nobody"  # has the form of Google's


@pytest.fixture
def proxy(fake_gcs: FakeGCS) -> Iterator[FaultProxy]:
    proxy = FaultProxy(fake_gcs.url, operation_of)
    yield proxy
    proxy.close()


@pytest.fixture
def options(proxy: FaultProxy) -> dict[str, Any]:
    return {"endpoint_url": proxy.url, "token": "anon"}


@pytest.fixture
def kept(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=True)


class TestOptions:
    def test_an_unknown_option(self) -> None:
        with pytest.raises(InvalidInputError, match="'tokn' is not one of gs://: access, endpoint_url"):
            GCSSource({"tokn": "anon"})

    def test_options_of_a_store_at_the_same_place_are_accepted(
        self, options: dict[str, Any], kept: GCSBucket
    ) -> None:
        kept.put("d/a", b"bytes")
        tuning = {
            "consistency": "md5",
            "cache_timeout": 0,
            "use_listings_cache": False,
            "version_aware": True,
        }
        assert listed(GCSSource(options | tuning), f"{kept.uri}/d").keys() == {"a"}

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (
                {"session_kwargs": {"connector": None}},
                "may hold headers, proxy, trust_env; all else is for aiohttp",
            ),
            ({"session_kwargs": 1}, "may hold headers, proxy, trust_env"),
            ({"requests_timeout": "soon"}, "requests_timeout must be seconds"),
            ({"access": "everything"}, "access must be one of"),
            ({"token": {"nothing": "useful"}}, "not usable: KeyError"),
            ({"requester_pays": True}, "needs the project that pays"),
        ],
    )
    def test_options_that_cannot_be_used(
        self, options: dict[str, Any], wrong: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InvalidInputError, match=said):
            GCSSource(options | wrong).scan("gs://lake")

    @pytest.mark.parametrize(
        ("payer", "project", "billed"),
        [(True, "ours", "ours"), ("theirs", "ours", "theirs"), (False, "ours", None)],
    )
    def test_who_pays_is_named_in_every_request(
        self,
        options: dict[str, Any],
        proxy: FaultProxy,
        kept: GCSBucket,
        payer: object,
        project: str,
        billed: str | None,
    ) -> None:
        source = GCSSource(options | {"requester_pays": payer, "project": project})
        kept.put("d/a", b"bytes")
        entry = listed(source, f"{kept.uri}/d")["a"]
        source.stat(entry.uri or "")
        read(source, entry)
        assert [seen.query.get("userProject") for seen in proxy.seen] == [billed] * 3

    def test_the_emulator_of_the_environment_is_used(
        self, proxy: FaultProxy, kept: GCSBucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept.put("d/a", b"bytes")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        source = GCSSource({"token": "anon"})
        assert listed(source, f"{kept.uri}/d").keys() == {"a"}
        # A source that lives longer follows the environment.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", kept.url)
        assert listed(source, f"{kept.uri}/d").keys() == {"a"}
        assert proxy.requests.operations == ["list"]

    def test_headers_and_proxy_of_the_session(
        self, options: dict[str, Any], proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        """The name is only known to the proxy."""
        kept.put("d/a", b"bytes")
        session = {"proxy": proxy.url, "headers": {"X-Team": "cats"}, "trust_env": False}
        source = GCSSource({**options, "endpoint_url": "http://gcs.invalid", "session_kwargs": session})
        assert listed(source, f"{kept.uri}/d").keys() == {"a"}
        [seen] = proxy.seen
        assert seen.path.startswith("http://gcs.invalid/storage/v1/b/")
        assert seen.headers["x-team"] == "cats"


class TestCredentials:
    @pytest.mark.parametrize("form", ["token", "Credentials"])
    def test_a_token_is_sent_and_never_shown(
        self,
        options: dict[str, Any],
        proxy: FaultProxy,
        kept: GCSBucket,
        monkeypatch: pytest.MonkeyPatch,
        form: str,
    ) -> None:
        monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")  # gcsfs would ask Google
        token = TOKEN if form == "token" else Credentials(TOKEN)
        source = GCSSource(options | {"token": token})
        kept.put("d/a", b"bytes")
        read(source, listed(source, f"{kept.uri}/d")["a"])
        assert {seen.headers["authorization"] for seen in proxy.seen} == {f"Bearer {TOKEN}"}
        proxy.add("list", status=403, body=lambda given: given["authorization"].encode())
        with pytest.raises(PermissionDeniedError) as error:
            source.scan(kept.uri)
        assert TOKEN not in f"{error.value}{error.value.__cause__!r}"

    def test_a_token_that_has_expired(
        self, options: dict[str, Any], proxy: FaultProxy, kept: GCSBucket
    ) -> None:
        proxy.add("list", status=401)
        source = GCSSource(options | {"token": Credentials(TOKEN)})
        with pytest.raises(PermissionDeniedError, match="credentials cannot be used") as error:
            source.scan(kept.uri)
        assert TOKEN not in str(error.value)

    def test_a_service_account_is_found_by_the_environment(
        self,
        options: dict[str, Any],
        fake_gcs: FakeGCS,
        kept: GCSBucket,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        """Its token comes from where its file says: here a proxy that gives one out."""
        kept.put("d/a", b"bytes")
        issuer = FaultProxy(fake_gcs.url, operation_of)
        try:
            answer = json.dumps({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode()
            issuer.add("POST /token", status=200, body=answer, headers={"Content-Type": "application/json"})
            path = tmp_path / "account.json"
            path.write_text(json.dumps(service_account() | {"token_uri": f"{issuer.url}/token"}))
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
            for token in (None, "google_default", str(path)):
                source = GCSSource({**options, "token": token})
                assert listed(source, f"{kept.uri}/d").keys() == {"a"}
            assert issuer.requests.operations == ["POST /token"] * 3
        finally:
            issuer.close()

    def test_no_credentials_where_some_are_asked_for(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
        with pytest.raises(PermissionDeniedError, match="no Google credentials were found"):
            GCSSource(options | {"token": "google_default"}).scan("gs://lake")

    def test_a_token_that_cannot_be_asked_about_is_not_shown(
        self, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gcsfs asks Google about it, by a URL that holds it; here by way of a proxy that refuses."""
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        with pytest.raises(SourceError) as error:
            GCSSource(options | {"token": TOKEN}).scan("gs://lake")
        assert TOKEN not in str(error.value)
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__

    def test_options_are_not_in_a_repr(self, options: dict[str, Any]) -> None:
        assert TOKEN not in repr(GCSClient(options | {"token": TOKEN}))


FORK = """
import os, sys
from refart.sources.gcs.source import GCSSource
from tests.sources.suite import listed, read

url, uri = sys.argv[1:]
source = GCSSource({"endpoint_url": url, "token": "anon"})
entries = list(listed(source, uri).values()) * 10
child = os.fork()
good = all(read(source, entry) == entry.path.encode() * 100_000 for entry in entries)
if child == 0:
    os._exit(0 if good else 1)
sys.exit(os.waitpid(child, 0)[1] or not good)
"""


def test_a_forked_child_opens_connections_of_its_own(kept: GCSBucket) -> None:
    """A socket shared with the parent would give either the answer to the other."""
    for n in range(8):
        kept.put(f"d/{n}", b"%d" % n * 100_000)
    good(run_python(FORK, kept.url, f"{kept.uri}/d"))
