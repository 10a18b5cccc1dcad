"""How an Azure account is reached: options, environment, credentials; and what errors say."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Mapping
from typing import Any

import pytest
from adlfs import AzureBlobFileSystem
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import CredentialUnavailableError, DefaultAzureCredential
from azure.identity.aio import DefaultAzureCredential as AsyncCredential
from azure.storage.blob import BlobServiceClient
from requests.exceptions import SSLError

from refart.entries import Entry
from refart.errors import InvalidInputError, PermissionDeniedError, SourceError
from refart.sources.azure import client as azure_client
from refart.sources.azure.client import DRIVER_OPTIONS, IDENTITY_OPTIONS, STORE_OPTIONS, connect, translated
from refart.sources.azure.source import AzureSource

KEY = "c2VjcmV0"
SAS = "?sv=2026-02-06&sr=c&sig=c2lnbmF0dXJl"
SERVICE_PRINCIPAL = {"tenant_id": "tenant", "client_id": "client", "client_secret": "hush"}


@pytest.fixture(autouse=True)
def nothing_ambient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)


def connection_string(account: str) -> str:
    return f"DefaultEndpointsProtocol=https;AccountName={account};AccountKey={KEY};EndpointSuffix=core.windows.net"


def credential_of(service: BlobServiceClient) -> type | None:
    """What signs the requests; keys of every form end up as the client's own policy."""
    return None if service.credential is None else type(service.credential)


KEYED = "SharedKeyCredentialPolicy"


class TestCredentials:
    @pytest.mark.parametrize(
        ("options", "kind"),
        [
            ({}, "DefaultAzureCredential"),
            ({"anon": False, "exclude_cli_credential": True}, "DefaultAzureCredential"),
            ({"anon": True}, None),
            ({"account_key": KEY}, KEYED),
            ({"account_key": KEY, "anon": True}, KEYED),
            ({"account_key": KEY, "sas_token": SAS}, KEYED),
            ({"sas_token": SAS}, "AzureSasCredential"),
            ({"sas_token": SAS.lstrip("?"), **SERVICE_PRINCIPAL}, "AzureSasCredential"),
            (SERVICE_PRINCIPAL, "ClientSecretCredential"),
            ({**SERVICE_PRINCIPAL, "anon": True}, "ClientSecretCredential"),
            ({"credential": KEY}, KEYED),
            ({"credential": AzureNamedKeyCredential("lake", KEY)}, KEYED),
            ({"credential": AzureSasCredential(SAS), "account_key": KEY}, "AzureSasCredential"),
            ({"credential": DefaultAzureCredential()}, "DefaultAzureCredential"),
            ({"connection_string": connection_string("lake"), "sas_token": SAS}, KEYED),
        ],
    )
    def test_options_are_taken_in_the_order_of_adlfs(
        self, options: Mapping[str, Any], kind: str | None
    ) -> None:
        service = connect({"account_name": "lake", **options}, None)
        found = credential_of(service)
        assert (found and found.__name__) == kind
        assert service.url.startswith("https://lake.blob.core.windows.net/")

    @pytest.mark.parametrize(
        ("environment", "kind"),
        [
            ({"ACCOUNT_KEY": KEY}, KEYED),
            ({"SAS_TOKEN": SAS}, "AzureSasCredential"),
            ({"CONNECTION_STRING": connection_string("lake")}, KEYED),
            ({"TENANT_ID": "t", "CLIENT_ID": "c", "CLIENT_SECRET": "s"}, "ClientSecretCredential"),
            ({"ANON": "true"}, None),
            ({"ANON": "F"}, "DefaultAzureCredential"),
            ({}, "DefaultAzureCredential"),
        ],
    )
    def test_the_environment_says_what_options_leave_open(
        self, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], kind: str | None
    ) -> None:
        for name, value in {"ACCOUNT_NAME": "lake", **environment}.items():
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        found = credential_of(connect({}, None))
        assert (found and found.__name__) == kind

    def test_an_account_of_a_uri_takes_nothing_of_another_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key, SAS or connection string of the environment goes to no other account."""
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
        monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", SAS)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string("other"))
        service = connect({"anon": True}, "lake")
        assert (service.account_name, credential_of(service)) == ("lake", None)
        assert connect({}, "other").account_name == connect({}, None).account_name == "other"

    @pytest.mark.parametrize(
        "options", [{"account_name": "other"}, {"connection_string": connection_string("other")}]
    )
    def test_options_of_another_account_than_the_uri_names_are_refused(
        self, options: Mapping[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError, match=r"names the account 'lake'.*those of 'other'"):
            connect(options, "lake")

    @pytest.mark.parametrize(
        ("text", "account"),
        [
            (connection_string("lake"), "lake"),
            (f"BlobEndpoint=https://lake.blob.core.windows.net;SharedAccessSignature={SAS}", "lake"),
            ("UseDevelopmentStorage=true", "devstoreaccount1"),
        ],
    )
    def test_a_connection_string_tells_its_account(self, text: str, account: str) -> None:
        assert connect({"connection_string": text}, account).account_name == account
        with pytest.raises(InvalidInputError, match="names the account 'another'"):
            connect({"connection_string": text}, "another")

    def test_an_account_has_to_be_named(self) -> None:
        with pytest.raises(InvalidInputError, match="needs an account"):
            connect({}, None)

    def test_a_host_of_another_cloud(self) -> None:
        service = connect(
            {"account_name": "lake", "account_key": KEY, "account_host": "lake.blob.core.chinacloudapi.cn"},
            None,
        )
        assert service.url == "https://lake.blob.core.chinacloudapi.cn/"
        assert service.account_name == "lake"

    def test_the_secondary_location(self) -> None:
        service = connect({"account_name": "lake", "account_key": KEY, "location_mode": "secondary"}, None)
        assert service.url == "https://lake-secondary.blob.core.windows.net/"

    @pytest.mark.parametrize(
        "options",
        [
            {"connection_string": f"AccountKey={KEY}"},
            {"connection_string": f"nonsense {KEY}"},
            {"connection_string": 7},
            {"account_name": "lake", "location_mode": "tertiary"},
            {"account_name": "lake", "client_id": "client"},
            {"account_name": "lake", "credential": object()},
        ],
    )
    def test_options_that_cannot_be_used_say_so_and_show_nothing(self, options: Mapping[str, Any]) -> None:
        with pytest.raises(InvalidInputError, match="az://") as error:
            connect(options, None)
        assert KEY not in "".join(traceback.format_exception(error.value))

    def test_a_credential_for_asynchronous_clients_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match=r"not of azure\.identity\.aio"):
            connect({"account_name": "lake", "credential": AsyncCredential()}, None)


class TestOptions:
    def test_every_option_of_adlfs_is_known(self) -> None:
        of_adlfs = set(inspect.signature(AzureBlobFileSystem).parameters) - {"kwargs", "args"}
        assert of_adlfs <= DRIVER_OPTIONS | STORE_OPTIONS

    def test_what_only_adlfs_has_a_use_for_is_accepted(self) -> None:
        AzureSource(
            {"account_name": "lake", "blocksize": 1 << 20, "max_concurrency": 4, "version_aware": True}
        )

    def test_every_option_for_the_credential_is_one(self) -> None:
        assert all(f" {name}: " in (DefaultAzureCredential.__doc__ or "") for name in IDENTITY_OPTIONS)

    def test_any_other_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="'acount_name' is not one of az://"):
            AzureSource({"acount_name": "lake"})


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "kind", "transient"),
        [
            (CredentialUnavailableError(message=f"no {KEY}"), PermissionDeniedError, None),
            (ClientAuthenticationError(message=f"no {KEY}"), PermissionDeniedError, None),
            (ServiceRequestError(f"/c/a{SAS}", error=SSLError("expired")), SourceError, False),
            (ServiceRequestError(f"Failed to resolve /c/a{SAS}"), SourceError, True),
            (ServiceResponseError(f"timed out {SAS}"), SourceError, True),
            (ValueError(f"Required Content-Range {SAS}"), SourceError, False),
        ],
    )
    def test_what_the_client_raises_itself(
        self, error: Exception, kind: type[Exception], transient: bool | None
    ) -> None:
        said = translated(error, "az://lake/x")
        assert isinstance(said, kind)
        assert getattr(said, "transient", None) is transient
        assert "az://lake/x: " in str(said)
        assert KEY not in str(said)
        assert "sig=" not in str(said)

    def test_a_name_that_resolves_to_nothing_may_do_so_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of the client repeats the URL with the SAS; not even a traceback may."""
        monkeypatch.setattr(azure_client, "RETRIES", 0)
        source = AzureSource({"account_name": "lake", "account_host": "refart.invalid", "sas_token": SAS})
        with pytest.raises(SourceError, match="cannot be reached") as error:
            source.scan("az://c/a")
        assert error.value.transient
        assert "sig=" not in "".join(traceback.format_exception(error.value))

    def test_a_key_that_is_none_is_named_as_such(self) -> None:
        source = AzureSource(
            {"account_name": "lake", "account_key": "no-key", "account_host": "refart.invalid"}
        )
        with pytest.raises(PermissionDeniedError, match="cannot be used") as error:
            source.scan("az://c/a")
        assert "no-key" not in "".join(traceback.format_exception(error.value))

    @pytest.mark.parametrize("key", ["..", "a/../b", "./a"])
    def test_a_name_that_urls_resolve_is_never_asked_for(self, key: str) -> None:
        source = AzureSource({"account_name": "lake", "anon": True, "account_host": "refart.invalid"})
        for ask in (source.stat, lambda uri: source.open(Entry("a", 1, "none", uri))):
            with pytest.raises(InvalidInputError, match="no request can name this blob"):
                ask(f"az://c/{key}")
