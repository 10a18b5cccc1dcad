"""What the Azure source asks of Azurite, by how many requests, and what it makes of bad answers."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from azure.storage.blob import BlobBlock, ContentSettings

from refart.entries import Entry
from refart.errors import (
    ChecksumError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceChangedError,
    SourceError,
)
from refart.sources.azure import client as azure_client
from refart.sources.azure.client import PIECE_BYTES, RETRIES
from refart.sources.azure.source import AzureSource
from tests.children import good, run_python
from tests.faults import FaultProxy
from tests.servers import AzureContainer, Azurite
from tests.sources.suite import listed, read, read_checked


def operation_of(method: str, path: str, query: str) -> str:
    return "List" if "comp=list" in query else method


def azure_error(status: int, code: str) -> dict[str, Any]:
    """The fields of a `Fault` that answers with an error in Azure's form."""
    xml = f"<Error><Code>{code}</Code><Message>{code}.\nRequestId:1\nTime:2</Message></Error>"
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code}
    return {"status": status, "body": xml.encode(), "headers": headers}


@pytest.fixture
def proxy(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    monkeypatch.setattr(azure_client, "BACKOFF_S", 0)
    proxy = FaultProxy(azurite.url, operation_of)
    yield proxy
    proxy.close()


@pytest.fixture
def source(azurite: Azurite, proxy: FaultProxy) -> AzureSource:
    account = azurite.url.rpartition("/")[2]
    through = azurite.connection_string.replace(azurite.url, f"{proxy.url}/{account}")
    return AzureSource({"connection_string": through})


@pytest.fixture
def container(azurite: Azurite) -> AzureContainer:
    return azurite.container()


def logged(source: AzureSource, container: AzureContainer, data: bytes = b"logged") -> Entry:
    container.put("d/a", data)
    return entry_of(source, container)


def entry_of(source: AzureSource, container: AzureContainer) -> Entry:
    [entry] = listed(source, f"{container.uri}/d").values()
    return entry


def put_blocks(container: AzureContainer, data: bytes, md5: bytes | None = None) -> None:
    """Write a blob as large ones are written: Azure then keeps the MD5 that the writer says, or none."""
    blob = container.client.get_blob_client("d/a")
    blob.stage_block("01", data)
    blob.commit_block_list([BlobBlock("01")], content_settings=ContentSettings(content_md5=md5))


class TestCounts:
    def test_one_request_for_each_thing(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        for n in range(20):
            container.put(f"d/{n}", b"x")
        entries = listed(source, f"{container.uri}/d/")
        assert proxy.requests.operations == ["List"]
        asked = proxy.seen[0].query
        assert (asked["maxresults"], asked["include"]) == ("5000", "metadata,versions")
        assert source.scan(f"{container.uri}/d/1").is_object
        assert proxy.requests.operations == ["List", "List"]
        assert source.stat(f"{container.uri}/d/1") == entries["1"]
        assert proxy.requests.operations == ["List", "List", "HEAD"]
        read(source, entries["1"])
        assert proxy.requests.operations == ["List", "List", "HEAD", "GET"]
        assert proxy.seen[-1].headers["if-match"] == f'"{(entries["1"].pin or "")[5:]}"'

    def test_pieces_of_a_large_blob_are_all_of_one_etag(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        entry = logged(source, container, b"x" * (2 * PIECE_BYTES + 1))
        read(source, entry)
        gets = [seen for seen in proxy.seen if seen.operation == "GET"]
        assert [seen.headers["if-match"] for seen in gets] == [f'"{(entry.pin or "")[5:]}"'] * 3
        assert gets[-1].headers["x-ms-range"] == f"bytes={2 * PIECE_BYTES}-{2 * PIECE_BYTES}"

    def test_pages_follow_each_other(
        self,
        source: AzureSource,
        proxy: FaultProxy,
        container: AzureContainer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(azure_client, "PAGE_BLOBS", 7)
        for n in range(20):
            container.put(f"d/{n:02}", b"x")
        assert len(listed(source, f"{container.uri}/d/")) == 20
        asked = [(seen.operation, seen.query["prefix"], seen.query["maxresults"]) for seen in proxy.seen]
        assert asked == [("List", "d/", "7")] * 3


class TestIdentity:
    def test_an_edit_of_the_metadata_breaks_no_pin(
        self, source: AzureSource, container: AzureContainer
    ) -> None:
        """PITFALLS 10: the ETag changes, the bytes do not."""
        entry = logged(source, container)
        container.client.get_blob_client("d/a").set_blob_metadata({"label": "cat"})
        edited = entry_of(source, container)
        assert (edited.content_id, edited.pin == entry.pin) == (entry.content_id, False)
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"logged", "md5")

    def test_a_blob_of_blocks_has_its_etag_only(self, source: AzureSource, container: AzureContainer) -> None:
        put_blocks(container, b"blocks")
        entry = entry_of(source, container)
        assert (entry.content_id[:5], entry.pin) == ("etag:", None)
        data, checked = read_checked(source, entry)
        assert (data, checked.rung) == (b"blocks", "etag")
        container.client.get_blob_client("d/a").set_blob_metadata({"label": "cat"})
        with pytest.raises(ReferenceChangedError, match=entry.content_id):
            read(source, entry)

    def test_identity_that_nobody_keeps_leaves_the_etag_to_pin(
        self, source: AzureSource, container: AzureContainer
    ) -> None:
        put_blocks(container, b"blocks")
        etag = entry_of(source, container).content_id
        [entry] = listed(source, f"{container.uri}/d", identify="none").values()
        assert (entry.content_id, entry.pin) == ("none", etag)
        assert read(source, entry) == b"blocks"

    def test_an_md5_that_was_never_that_of_the_bytes(
        self, source: AzureSource, container: AzureContainer
    ) -> None:
        """Azure keeps what the writer of a block list says, unseen."""
        put_blocks(container, b"blocks", md5=b"\1" * 16)
        entry = entry_of(source, container)
        assert entry.content_id == f"md5:{'01' * 16}"
        with pytest.raises(ChecksumError, match=entry.content_id):
            read_checked(source, entry)

    def test_a_server_that_ignores_versions_hands_over_no_other_bytes(
        self, source: AzureSource, container: AzureContainer
    ) -> None:
        """Azurite answers with the current blob, whatever version is asked for."""
        entry = logged(source, container)
        pinned = Entry(
            entry.path, entry.size, entry.content_id, entry.uri, "version:2026-01-01T00:00:00.0000000Z"
        )
        assert read(source, pinned) == b"logged"  # by its MD5, not by the version
        container.put("d/a", b"newer!")
        with pytest.raises(ReferenceChangedError):
            read(source, pinned)
        with pytest.raises(NotFoundError, match="has no version"):
            source.scan(f"{entry.uri}?versionid=2026-01-01T00:00:00.0000000Z")

    def test_a_pin_of_another_kind_is_refused(self, source: AzureSource, container: AzureContainer) -> None:
        entry = logged(source, container)
        with pytest.raises(InvalidInputError, match="no pins of the kind 'generation'"):
            read(source, Entry(entry.path, entry.size, entry.content_id, entry.uri, "generation:1"))


class TestDenied:
    def test_an_object_is_found_by_one_head_where_listing_is_denied(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        container.put("d/a", b"x")
        proxy.add("List", **azure_error(403, "AuthorizationPermissionMismatch"))
        assert source.scan(f"{container.uri}/d/a").is_object
        assert proxy.requests.operations == ["List", "List", "HEAD"]
        with pytest.raises(PermissionDeniedError, match="AuthorizationPermissionMismatch"):
            source.scan(f"{container.uri}/d/")

    def test_versions_that_may_not_be_listed_leave_etags_to_pin(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        proxy.add("List", times=1, **azure_error(403, "AuthorizationPermissionMismatch"))
        assert (logged(source, container).pin or "")[:5] == "etag:"
        entry_of(source, container)
        assert proxy.requests.operations == ["List"] * 3

    def test_an_error_repeats_nothing_secret(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        """Azure explains a wrong signature by the string that was to be signed."""

        def echo(request: dict[str, str]) -> bytes:
            detail = f"<AuthenticationErrorDetail>{request['authorization']}</AuthenticationErrorDetail>"
            message = f"<Message>{request['authorization']}</Message>"
            return f"<Error><Code>AuthenticationFailed</Code>{message}{detail}</Error>".encode()

        proxy.add("*", status=403, body=echo, headers={"Content-Type": "application/xml"})
        with pytest.raises(PermissionDeniedError, match="credentials are not valid") as error:
            source.scan(f"{container.uri}/d/")
        assert "SharedKey" not in "".join(traceback.format_exception(error.value))


class TestFailing:
    @pytest.mark.parametrize(
        ("status", "code", "kind", "transient"),
        [
            (401, "NoAuthenticationInformation", PermissionDeniedError, None),
            (403, "AccountIsDisabled", PermissionDeniedError, None),
            (403, "AuthorizationFailure", PermissionDeniedError, None),
            (409, "PublicAccessNotPermitted", PermissionDeniedError, None),
            (409, "BlobArchived", SourceError, False),
            (409, "BlobUsesCustomerSpecifiedEncryption", SourceError, False),
            (400, "InvalidHeaderValue", InvalidInputError, None),
            (429, "TooManyRequests", SourceError, True),
            (503, "ServerBusy", SourceError, True),
            (500, "InternalError", SourceError, True),
            (501, "NotImplemented", SourceError, False),
        ],
    )
    def test_a_refused_read_says_why(
        self,
        source: AzureSource,
        proxy: FaultProxy,
        container: AzureContainer,
        status: int,
        code: str,
        kind: type[Exception],
        transient: bool | None,
    ) -> None:
        entry = logged(source, container)
        proxy.add("GET", **azure_error(status, code))
        for attempt in (lambda: read(source, entry), lambda: source.open(entry)):
            with pytest.raises(
                kind, match=rf"'a' \({entry.uri}\): .* \(the server answered {code}\)"
            ) as error:
                attempt()
            assert getattr(error.value, "transient", None) is transient

    def test_a_busy_server_is_asked_again(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        for operation in ("List", "HEAD", "GET"):
            proxy.add(operation, times=RETRIES, **azure_error(503, "ServerBusy"))
        entry = logged(source, container)
        assert source.stat(entry.uri or "") == entry
        assert read(source, entry) == b"logged"

    def test_a_container_that_is_not_there(self, source: AzureSource) -> None:
        for uri in ("az://not-there-at-all", "az://not-there-at-all/d/a"):
            with pytest.raises(NotFoundError, match="the container does not exist"):
                source.scan(uri)
        assert source.stat("az://not-there-at-all/d/a") is None

    def test_what_cannot_be_the_name_of_a_container(self, source: AzureSource) -> None:
        with pytest.raises(InvalidInputError, match="not the name of a container"):
            source.scan("az://UPPER_case/d")

    @pytest.mark.parametrize("times", [1, 3])
    def test_a_body_that_breaks_off_is_continued(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer, times: int
    ) -> None:
        """The client tries a piece three times; then the source goes on from where it was."""
        data = bytes(range(256)) * (PIECE_BYTES // 256) + b"the second piece"
        entry = logged(source, container, data)
        with source.fetch(entry) as fetched:
            first = next(fetched.chunks)
            proxy.add("GET", times=times, cut_at=3)
            assert first + b"".join(fetched.chunks) == data
        assert proxy.requests.count("GET") == 2 + times

    def test_a_listing_that_breaks_off_is_asked_for_again(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        proxy.add("List", times=1, cut_at=50)
        logged(source, container)
        assert proxy.requests.operations == ["List"] * 2

    def test_a_listing_that_goes_round_in_circles(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        container.put("d/a", b"x")
        again = b"<NextMarker>again</NextMarker>"
        proxy.add("List", edit=lambda headers, body: body.replace(b"<NextMarker/>", again))
        with pytest.raises(SourceError, match="goes round in circles"):
            listed(source, f"{container.uri}/d/")

    def test_an_answer_of_some_other_server(
        self, source: AzureSource, proxy: FaultProxy, container: AzureContainer
    ) -> None:
        entry = logged(source, container)
        proxy.add("*", status=200, body=b"<html>please log in</html>", headers={"Content-Type": "text/html"})
        with pytest.raises(SourceError):
            source.scan(f"{container.uri}/d/")
        with pytest.raises(SourceError):
            read(source, entry)


FORK = """
import os, sys
from refart.sources.azure.source import AzureSource
from tests.sources.suite import listed, read

connection_string, uri = sys.argv[1:]
source = AzureSource({"connection_string": connection_string})
entries = list(listed(source, uri).values()) * 10
child = os.fork()
good = all(read(source, entry) == entry.path.encode() * 100_000 for entry in entries)
if child == 0:
    os._exit(0 if good else 1)
sys.exit(os.waitpid(child, 0)[1] or not good)
"""


def test_a_forked_child_opens_connections_of_its_own(azurite: Azurite, container: AzureContainer) -> None:
    """A socket shared with the parent would give either the answer to the other."""
    for n in range(8):
        container.put(f"d/{n}", b"%d" % n * 100_000)
    good(run_python(FORK, azurite.connection_string, f"{container.uri}/d"))
