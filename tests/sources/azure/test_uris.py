"""Which account, container and blob a URI names, and which source serves it."""

from __future__ import annotations

from contextlib import suppress

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from refart import names
from refart.config import Config
from refart.errors import InvalidInputError
from refart.sources.azure.client import connect
from refart.sources.azure.source import AzureSource
from refart.sources.azure.uris import split
from refart.sources.http.source import HTTPSource
from refart.sources.registry import Sources

URL = "https://lake.blob.core.windows.net/c/"


@pytest.mark.parametrize(
    ("uri", "account", "root"),
    [
        ("az://c/d/a", None, "az://c/"),
        ("abfs://c/d/a", None, "abfs://c/"),
        ("az://$web/d/a", None, "az://$web/"),
        ("abfs://c@lake.dfs.core.windows.net/d/a", "lake", "abfs://c@lake.dfs.core.windows.net/"),
        ("abfss://c@lake.blob.core.windows.net/d/a", "lake", "abfss://c@lake.blob.core.windows.net/"),
        ("az://c@Lake.DFS.core.windows.net/d/a", "lake", "az://c@Lake.DFS.core.windows.net/"),
        ("abfs://lake.dfs.core.windows.net/c/d/a", "lake", "abfs://lake.dfs.core.windows.net/c/"),
        (f"{URL}d/a", "lake", URL),
        ("https://Lake.Blob.core.windows.net/$web/d/a", "lake", "https://Lake.Blob.core.windows.net/%24web/"),
    ],
)
def test_a_uri_names_account_and_container(uri: str, account: str | None, root: str) -> None:
    place, key = split(uri)
    assert (place.account, place.root, key) == (account, root, "d/a")
    assert place.container in ("c", "$web")


@pytest.mark.parametrize(
    "uri", ["az://c", "az://c/", "abfs://lake.dfs.core.windows.net/c", URL, URL.rstrip("/")]
)
def test_a_container_is_a_prefix_of_everything(uri: str) -> None:
    place, key = split(uri)
    assert (place.container, key) == ("c", "")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@pytest.mark.parametrize("root", ["az://c/", "abfs://c@lake.dfs.core.windows.net/", URL])
def test_the_uri_of_a_blob_gives_its_name_back(root: str, key: str) -> None:
    place, _ = split(root)
    again, found = split(place.uri_of(key))
    assert (again, found) == (place, key)
    if "\0" not in key and {".", ".."}.isdisjoint(key.split("/")):  # neither can be asked for
        names.check_uri(place.uri_of(key))


def test_a_url_is_encoded_in_one_way() -> None:
    """However it was written: the same blob is the same URI in every manifest."""
    for written in ("a b+c", "a%20b+c", "a%20b%2Bc", "%61%20b%2bc"):
        place, key = split(URL + written)
        assert (key, place.uri_of(key)) == ("a b+c", f"{URL}a%20b%2Bc")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("az://", "names no container"),
        ("az:///a", "names no container"),
        ("abfs://@lake.dfs.core.windows.net/a", "names no container"),
        ("abfs://lake.dfs.core.windows.net/", "names no container"),
        ("abfs://c@lake.example.org/a", "set account_host"),
        ("abfs://c@.dfs.core.windows.net/a", "set account_host"),
        ("https://lake.blob.core.windows.net/", "not of the form"),
        ("https://.blob.core.windows.net/c/a", "not of the form"),
        (f"{URL}a?snapshot=2026-11-24", "only \\?versionid=ID"),
        (f"{URL}a?x=1&versionid=2", "only \\?versionid=ID"),
        (f"{URL}%FF", "not UTF-8"),
        ("https://evil.example#.blob.core.windows.net/c/a", "not of the form"),
        ("https://evil.example?.blob.core.windows.net/c/a", "not of the form"),
        ("https://evil.example:1\\.blob.core.windows.net/c/a", "not of the form"),
        ("https://user@lake.blob.core.windows.net/c/a", "not of the form"),
        ("abfs://c@evil.example#.dfs.core.windows.net/a", "set account_host"),
        ("abfs://c@evil.example?.blob.core.windows.net/a", "set account_host"),
    ],
)
def test_what_names_no_blob_is_refused(uri: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        split(uri)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="/"), max_size=40))
@example("evil.example#").via("clients end a host at these")
@example("evil.example?")
@example("evil.example:443\\")
def test_no_account_leads_to_another_host(account: str) -> None:
    """Or credentials of the environment would be sent there."""
    with suppress(InvalidInputError):
        place, _ = split(f"https://{account}.blob.core.windows.net/c/a")
        url = connect({"anon": True}, place.account).url
        assert requests.Request("GET", url).prepare().url == f"https://{place.account}.blob.core.windows.net/"


def test_the_url_of_a_blob_is_served_by_azure_and_any_other_by_http() -> None:
    sources = Sources(Config())
    assert isinstance(sources.for_uri("https://LAKE.blob.core.windows.net/c/a"), AzureSource)
    assert sources.for_uri(f"{URL}a") is sources.for_uri("az://c/a") is sources.for_uri("abfss://c/a")
    for url in (
        "http://lake.blob.core.windows.net/c/a",
        "https://example.org/lake.blob.core.windows.net/a",
        "https://lake.blob.core.windows.net.example.org/c/a",
    ):
        assert isinstance(sources.for_uri(url), HTTPSource)
