"""What goes wrong with servers has one class and one sentence, whatever their clients say."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from refart.errors import NotFoundError, NotInstalledError, PermissionDeniedError, StoreError
from refart.store import open_store
from tests.faults import FaultProxy
from tests.servers import Azurite, FakeGCS, SeaweedFS
from tests.stores import Place, key_of, place_on

NOWHERE = "http://127.0.0.1:9"
WRONG = "d3Jvbmc="  # base64, as Azure's keys are


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert not re.search(r"<\?xml|Traceback", text)
    assert WRONG not in text
    return text


@pytest.fixture(params=["seaweed", "fake_gcs", "azurite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(kind)


@pytest.fixture
def place(kind: str, server: Any, request: pytest.FixtureRequest) -> Place:
    return place_on(kind, request)


def at(server: Any, place: Place, url: str) -> Place:
    """The same place by another address of the server."""
    if isinstance(server, Azurite):
        account = server.url.rpartition("/")[2]
        connection = server.connection_string.replace(server.url, f"{url}/{account}")
        return Place(place.url, {"connection_string": connection})
    return Place(place.url, {**place.options, "endpoint_url": url})


def test_a_bucket_that_does_not_exist(place: Place) -> None:
    scheme = place.url.partition("://")[0]
    missing = Place(f"{scheme}://no-such-bucket-here/x", place.options)
    with pytest.raises(StoreError, match="bucket or container does not exist; create it") as error:
        missing.open()
    assert "no-such-bucket-here/x" in one_sentence(error.value)
    with pytest.raises(NotFoundError, match="no refart store at"):
        missing.open(create=False)


def test_wrong_credentials(server: Any, place: Place) -> None:
    """fake-gcs-server takes any: a proxy answers in its place, as Google does."""
    place.open()
    if isinstance(server, SeaweedFS):
        wrong = Place(place.url, {**place.options, "secret": WRONG})
    elif isinstance(server, Azurite):
        connection = re.sub("AccountKey=[^;]+", f"AccountKey={WRONG}", server.connection_string)
        wrong = Place(place.url, {"connection_string": connection})
    else:
        assert isinstance(server, FakeGCS)
        proxy = FaultProxy(server.url)
        proxy.add(
            "*", status=403, body=b'{"error": {"code": 403, "message": "no storage.objects.get access"}}'
        )
        wrong = at(server, place, proxy.url)
    with pytest.raises(PermissionDeniedError, match="check the credentials and their rights there") as error:
        wrong.open()
    assert "cannot read refart-store.json" in one_sentence(error.value)


def test_credentials_that_are_no_longer_right(server: Any, place: Place) -> None:
    """Whoever opened a store may lose access to it: every method says the same."""
    proxy = FaultProxy(server.url)
    store = at(server, place, proxy.url).open()
    body = b'{"error": {"code": 403, "message": "denied"}}'
    if isinstance(server, SeaweedFS):
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    proxy.add("*", status=403, body=body, headers={"Content-Type": "application/xml"})
    key = key_of(b"x")
    for use in (
        lambda: store.has("blobs", key),
        lambda: store.read("blobs", key),
        lambda: list(store.chunks("blobs", key)),
        lambda: list(store.keys("blobs")),
        lambda: store.put_bytes("blobs", key, b"x"),
    ):
        with pytest.raises(PermissionDeniedError, match="check the credentials") as error:
            use()
        one_sentence(error.value)
    proxy.close()


def test_a_server_that_is_not_there(server: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage.blob._shared.policies_async import AsyncStorageRetryPolicy

    # They would try for half a minute and more: gcsfs sleeps for the lesser of two times, azure increments its tries.
    monkeypatch.setattr("gcsfs.retry.min", lambda *times: 0, raising=False)
    monkeypatch.setattr(AsyncStorageRetryPolicy, "increment", lambda *arguments, **options: False)
    there = at(server, place, NOWHERE)
    if isinstance(server, SeaweedFS):
        there.options["config_kwargs"] = {"retries": {"max_attempts": 0}}  # type: ignore[index]
    with pytest.raises(StoreError, match="check the address, and the network") as error:
        there.open()
    assert "cannot read refart-store.json" in one_sentence(error.value)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [("s3://b/x", "s3fs", "s3"), ("gs://b/x", "gcsfs", "gcs"), ("az://c/x", "adlfs", "azure")],
)
def test_a_driver_that_is_not_installed(
    url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    # What earlier tests had loaded. (`fsspec.registry` is the name of a mapping as well as of the module.)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition(":")[0], raising=False)
    with pytest.raises(
        NotInstalledError,
        match=rf"{re.escape(url)} needs {driver}, .*pip install 'refart\[{extra}\]'",
    ):
        open_store(url)
