"""Storage options of `s3://`: each in the words of s3fs, and really on its way to the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refart.errors import InvalidInputError, PermissionDeniedError
from refart.sources.s3.source import S3Source
from refart.testing import ENVIRONMENT, LAKE_OBJECTS, Lake, S3Server
from tests.faults import FaultProxy
from tests.servers import SeaweedFS
from tests.sources.suite import listed, read


@pytest.fixture
def proxy(s3: Any, s3_server: S3Server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.url)
    yield proxy
    proxy.close()


def use_everything(source: S3Source, lake: Lake) -> None:
    """One request of every kind that reading takes."""
    entry = listed(source, lake.uri)["README.txt"]
    read(source, entry)
    source.open(entry).file.close()
    assert source.stat(f"{lake.uri}/README.txt") == entry
    source.checksum(entry)


class TestAcceptance:
    def test_s3fs_words_reach_the_bucket(
        self, unversioned_lake: Lake, s3_server: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ENVIRONMENT:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        source = S3Source(
            {
                "key": "k",
                "secret": "s",
                "token": "t",
                "client_kwargs": {"region_name": "eu-central-1", "endpoint_url": s3_server.url},
                "config_kwargs": {"s3": {"addressing_style": "path"}},
                "requester_pays": True,
                "use_listings_cache": False,
            }
        )
        assert listed(source, unversioned_lake.uri).keys() == LAKE_OBJECTS.keys()

    def test_an_unknown_option_is_refused_without_its_value(self) -> None:
        with pytest.raises(InvalidInputError, match="'endpont_url'") as error:
            S3Source({"endpont_url": "https://hush.example"})
        assert "hush" not in str(error.value)

    @pytest.mark.parametrize(
        "options",
        [
            {"profile": "nobody"},
            {"endpoint_url": "no url"},
            {"client_kwargs": {"nonsense": 1}},
            {"config_kwargs": {"nonsense": 1}},
        ],
    )
    def test_an_option_that_cannot_be_used(self, s3: Any, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidInputError):
            S3Source(options).scan("s3://lake/x")

    def test_no_credentials_say_what_to_do(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(PermissionDeniedError, match="anon = true"):
            S3Source({}).scan("s3://lake/x")

    def test_anonymous_reads_need_none(self, unversioned_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert listed(S3Source({"anon": True}), unversioned_lake.uri).keys() == LAKE_OBJECTS.keys()


@pytest.mark.parametrize("kind", ["versioned_lake", "unversioned_lake"])
class TestWhatIsSent:
    @pytest.fixture
    def lake(self, request: pytest.FixtureRequest, kind: str) -> Lake:
        lake: Lake = request.getfixturevalue(kind)
        lake.client.put_object_acl(Bucket=lake.bucket, Key="README.txt", ACL="public-read")  # for strangers
        return lake

    @pytest.mark.parametrize(
        ("options", "header", "value"),
        [
            ({"requester_pays": True}, "x-amz-request-payer", "requester"),
            ({"requester_pays": False}, "x-amz-request-payer", None),
            ({}, "x-amz-request-payer", None),
            ({"s3_additional_kwargs": {"ExpectedBucketOwner": "123"}}, "x-amz-expected-bucket-owner", "123"),
            ({"key": "k", "secret": "s", "token": "session"}, "x-amz-security-token", "session"),
            ({"anon": True}, "authorization", None),
        ],
    )
    def test_with_every_request(
        self, proxy: FaultProxy, lake: Lake, options: dict[str, Any], header: str, value: str | None
    ) -> None:
        use_everything(S3Source({"endpoint_url": proxy.url, **options}), lake)
        sent = {seen.operation: seen.headers.get(header) for seen in proxy.seen}
        if header == "x-amz-request-payer":
            del sent["GetBucketVersioning"]  # for which Amazon charges nobody but the owner
        assert len(sent) >= 3
        assert set(sent.values()) == {value}

    def test_the_region_is_signed(self, proxy: FaultProxy, lake: Lake) -> None:
        use_everything(
            S3Source({"endpoint_url": proxy.url, "client_kwargs": {"region_name": "eu-north-1"}}), lake
        )
        assert all("/eu-north-1/s3/" in seen.headers["authorization"] for seen in proxy.seen)


class TestAmbientCredentials:
    """What users of the AWS tools have set up works as it is, on a server that checks signatures."""

    @pytest.fixture
    def lake(self, seaweed: SeaweedFS) -> Lake:
        lake = seaweed.bucket(versioned=False)
        lake.put("k", b"bytes")
        return lake

    @pytest.fixture(autouse=True)
    def _profiles(self, seaweed: SeaweedFS, s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Nothing but the files that `aws configure` writes."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        (tmp_path / "config").write_text(
            f"[default]\nregion = us-east-1\n"
            f"[profile lake]\nregion = eu-north-1\nendpoint_url = {seaweed.url}\n"
            f"[profile stranger]\nregion = us-east-1\nendpoint_url = {seaweed.url}\n"
        )
        (tmp_path / "credentials").write_text(
            f"[lake]\naws_access_key_id = {seaweed.access_key}\naws_secret_access_key = {seaweed.secret_key}\n"
            f"[stranger]\naws_access_key_id = {seaweed.access_key}\naws_secret_access_key = wrong\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    def test_a_profile_gives_credentials_region_and_endpoint(self, lake: Lake) -> None:
        assert listed(S3Source({"profile": "lake"}), lake.uri).keys() == {"k"}

    def test_each_profile_has_its_own(self, lake: Lake) -> None:
        with pytest.raises(PermissionDeniedError, match="not valid"):
            listed(S3Source({"profile": "stranger"}), lake.uri)

    def test_the_profile_of_the_environment(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "lake")
        assert listed(S3Source({}), lake.uri).keys() == {"k"}

    def test_variables_come_before_files(
        self, seaweed: SeaweedFS, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in seaweed.environment.items():
            monkeypatch.setenv(name, value)
        assert listed(S3Source({}), lake.uri).keys() == {"k"}

    def test_options_come_before_everything(
        self, seaweed: SeaweedFS, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_PROFILE", "stranger")
        assert listed(S3Source(seaweed.storage_options), lake.uri).keys() == {"k"}

    def test_credentials_that_change_are_followed(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of many hours outlives the session it began with."""
        source = S3Source({})
        monkeypatch.setenv("AWS_PROFILE", "stranger")
        with pytest.raises(PermissionDeniedError):
            listed(source, lake.uri)
        monkeypatch.setenv("AWS_PROFILE", "lake")
        assert listed(source, lake.uri).keys() == {"k"}
