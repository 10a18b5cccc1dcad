"""Signed URLs: the logged bytes for whoever has the URL, with plain requests."""

from __future__ import annotations

import logging
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

import refart
from refart import Workspace
from refart.entries import Entry
from refart.errors import InvalidInputError, ReferenceChangedError, ReferenceMissingError
from refart.handles import ArtifactEntry
from refart.s3server import S3Requests
from refart.sources.azure.source import AzureSource
from refart.sources.gcs.source import GCSSource
from refart.sources.s3.source import S3Source
from refart.testing import Lake as Bucket
from tests.gcs import service_account
from tests.lakes import Lake
from tests.places import Can, on_every_kind
from tests.servers import FakeGCS

WITHOUT_URLS = {"file", "sftp", "webdav", "memory"}


def logged(uri: str) -> ArtifactEntry:
    with refart.init() as run:
        draft = refart.Artifact("one", "dataset")
        draft.add_reference(uri, name="some")
        return run.log_artifact(draft).get_entry("some")


def given(url: str) -> bytes:
    answer = requests.get(url, timeout=20)
    answer.raise_for_status()
    return answer.content


@on_every_kind()
def test_a_url_gives_the_logged_bytes_or_says_why_there_is_none(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    key = (
        "a folder/100% é?#" if lake.kind.name != "webdav" else "some"
    )  # whose driver cannot ask for such names
    lake.put(key, b"old bytes")
    entry = logged(lake.uri_of(key))
    scheme = lake.kind.schemes[0]
    if scheme in WITHOUT_URLS:
        with pytest.raises(InvalidInputError, match="has no URLs that others could read by"):
            entry.presign(60)
        return
    if scheme == "gs":
        with pytest.raises(InvalidInputError, match="anonymous, which cannot sign"):
            entry.presign(60)
        return
    with caplog.at_level(logging.DEBUG, "refart"):
        assert given(entry.presign(60)) == b"old bytes"
    assert "ignature" not in caplog.text
    lake.put(key, b"new bytes!")
    if lake.kind.can(Can.KEEP):
        assert given(entry.presign(60)) == b"old bytes"
    else:
        with pytest.raises(ReferenceChangedError):
            entry.presign(60)
        lake.delete(key)
        with pytest.raises(ReferenceMissingError):
            entry.presign(60)


def test_a_pinned_version_is_signed_without_a_request_and_by_version_4(
    versioned_lake: Bucket, refart_workspace: Workspace, s3_requests: S3Requests
) -> None:
    entry = logged(f"{versioned_lake.uri}/README.txt")
    s3_requests.clear()
    url = entry.presign(600)
    assert s3_requests.operations == []
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["600"]
    assert [f"version:{query['versionId'][0]}"] == [entry.pin]
    versioned_lake.put("README.txt", b"other")
    versioned_lake.delete("README.txt")
    assert given(url) == b"A small lake.\n"


def test_a_lifetime_that_no_server_would_take_is_refused(
    versioned_lake: Bucket, refart_workspace: Workspace
) -> None:
    entry = logged(f"{versioned_lake.uri}/README.txt")
    for expires_s in (0, -1, 7 * 24 * 3600 + 1, True, 1.5, "60"):
        with pytest.raises(InvalidInputError, match="expires after 1 to 604,800 seconds"):
            entry.presign(expires_s)  # type: ignore[arg-type]


def test_a_managed_file_has_no_url(refart_workspace: Workspace) -> None:
    with refart_workspace.init() as run:
        draft = refart.Artifact("one", "dataset")
        with draft.new_file("some") as file:
            file.write("text")
        entry = run.log_artifact(draft).get_entry("some")
    with pytest.raises(InvalidInputError, match="managed file"):
        entry.presign()


def test_s3_signs_no_headers_that_a_url_cannot_carry() -> None:
    source = S3Source({"key": "a", "secret": "hunter2", "requester_pays": True})
    with pytest.raises(InvalidInputError, match="headers x-amz-request-payer, which no URL can carry"):
        source.presign(Entry("some", 9, "none", "s3://lake/some", "version:1"), 60)
    assert (
        S3Source({"anon": True})
        .presign(Entry("some", 9, "none", "s3://lake/a b", "version:1"), 60)
        .endswith("/a%20b?versionId=1")
    )


def test_gcs_signs_the_generation_with_the_key_of_a_service_account(fake_gcs: FakeGCS) -> None:
    bucket = fake_gcs.bucket(versioned=True)
    generation = bucket.put("some", b"old bytes")
    bucket.put("some", b"new bytes")
    token = service_account() | {"token_uri": "https://nobody.invalid/token"}
    source = GCSSource({"token": token, "endpoint_url": fake_gcs.url, "project": fake_gcs.project})
    url = source.presign(Entry("some", 9, "none", f"{bucket.uri}/some", f"generation:{generation}"), 60)
    query = parse_qs(urlsplit(url).query)
    assert query["generation"] == [generation]
    assert (query["X-Goog-Algorithm"], query["X-Goog-Expires"]) == (["GOOG4-RSA-SHA256"], ["60"])
    assert given(url) == b"old bytes"


AZURE = "DefaultEndpointsProtocol=https;AccountName=lake;AccountKey=a2V5;EndpointSuffix=core.windows.net"
VERSION = "2026-01-02T03:04:05.1234567Z"


def test_azure_signs_the_version() -> None:
    source = AzureSource({"connection_string": AZURE})
    url = source.presign(Entry("some", 9, "none", "az://data/a b", f"version:{VERSION}"), 60)
    assert url.startswith("https://lake.blob.core.windows.net/data/a%20b?versionid=")
    query = parse_qs(urlsplit(url).query)
    assert (query["versionid"], query["sr"], query["sp"]) == ([VERSION], ["bv"], ["r"])


def test_azure_signs_by_an_identity_where_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage.blob import BlobServiceClient, UserDelegationKey

    key = UserDelegationKey()
    key.signed_oid, key.signed_tid, key.signed_start = "oid", "tid", "2026-01-01T00:00:00Z"
    key.signed_expiry, key.signed_service, key.signed_version = "2026-01-02T00:00:00Z", "b", "2020-02-10"
    key.value = "a2V5"
    monkeypatch.setattr(BlobServiceClient, "get_user_delegation_key", lambda *_, **__: key)

    class Identity:
        def get_token(self, *_: str, **__: object) -> None:
            raise AssertionError("asked for a token")

    source = AzureSource({"account_name": "lake", "credential": Identity()})
    query = parse_qs(urlsplit(source.presign(Entry("some", 9, "none", "az://data/a", None), 60)).query)
    assert (query["skoid"], query["sr"], query["sp"]) == (["oid"], ["b"], ["r"])


@pytest.mark.parametrize("options", [{"sas_token": "sv=1&sig=hunter2"}, {"anon": True}])
def test_azure_cannot_sign_by_another_signature(options: dict[str, object]) -> None:
    source = AzureSource({"account_name": "lake", **options})
    with pytest.raises(InvalidInputError, match="have neither") as caught:
        source.presign(Entry("some", 9, "none", "az://data/a", None), 60)
    assert "hunter2" not in str(caught.value)
