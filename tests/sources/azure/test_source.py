"""Azure by the shared suite, on Azurite: by the name of a container, and by the URL of a blob."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import pytest

from refart.sources.azure.source import AzureSource
from tests.servers import AzureContainer, Azurite
from tests.sources.suite import SourceSuite


class AzureSuite(SourceSuite):
    """Azurite keeps no versions; `test_azure_versions.py` has an account that does."""

    held = "etag"
    keeps_versions = False
    content_algo = "md5"
    rung = "md5"
    missing_prefix_is_error = False
    refuses_changed = True
    has_folder_markers = True
    object_beside_prefix = True
    odd_keys = (
        # Azurite, as Azure, takes a backslash for a slash.
        *(key for key in SourceSuite.odd_keys if "\\" not in key),
        # No `.` or `..` as a component: clients of HTTP resolve them, so that no request can name such a blob.
        "k" * 1000,
        "a//b",
        "c:drive",
        "%2F",
        "tab\tin",
        "query?versionid=abc",
        "https://example.org/x",
        "delete\x7f",
        "private use \ue000, before \U0001f600 in UTF-8 and after it in UTF-16",
    )

    @pytest.fixture
    def source(self, azurite: Azurite) -> AzureSource:
        return AzureSource(azurite.storage_options)

    @pytest.fixture
    def stranger(self, azurite: Azurite) -> AzureSource:
        """Somebody whose key is not the account's."""
        real = azurite.client.credential.account_key
        return AzureSource({"connection_string": azurite.connection_string.replace(real, "c3RyYW5nZXI=")})


class TestContainer(AzureSuite):
    @pytest.fixture
    def place(self, azurite: Azurite) -> AzureContainer:
        return azurite.container()


@dataclass(frozen=True)
class Site:
    """A container by the URL it would have in Azure; the connection string says where the account really is."""

    container: AzureContainer

    @property
    def uri(self) -> str:
        return f"https://devstoreaccount1.blob.core.windows.net/{self.container.name}"

    def uri_of(self, key: str) -> str:
        return f"{self.uri}/{quote(key)}"

    def put(self, key: str, data: bytes) -> object:
        return self.container.put(key, data)

    def delete(self, key: str) -> None:
        self.container.delete(key)


class TestURL(AzureSuite):
    many = 100  # listed as above, and written more slowly than anything else here

    @pytest.fixture
    def place(self, azurite: Azurite) -> Site:
        return Site(azurite.container())
