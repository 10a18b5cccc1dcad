"""A user's day with data on Azure: log by reference, log again, download, verify."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import refart
from refart.workspace import Workspace
from tests.cli.calls import Calls
from tests.servers import AzureContainer, Azurite
from tests.sources.azure.account import Account

KEYS = {
    "d/a.txt": b"alpha",
    "d/sub/b.txt": b"beta",
    "d/hash#1": b"hash",
    "d/ask?x=1": b"ask",
    "d/empty": b"",
}


@pytest.fixture
def cli(
    refart_workspace: Workspace, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Calls:
    """The command line, under a configuration that says how to reach Azurite by each form of URI."""
    Path(os.environ["REFART_CONFIG"]).write_text(
        f'[storage_options."az://"]\nconnection_string = "{azurite.connection_string}"\n'
    )
    url = "https://devstoreaccount1.blob.core.windows.net"
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps({url: azurite.storage_options}))
    monkeypatch.chdir(tmp_path)
    return Calls()


@pytest.fixture
def container(azurite: Azurite) -> AzureContainer:
    container = azurite.container()
    for key, data in KEYS.items():
        container.put(key, data)
    return container


@pytest.fixture
def kept(cli: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account with versions, in the place of Azurite."""
    account = Account()
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps({"az://": account.storage_options}))
    yield account
    account.close()


@pytest.mark.parametrize("root", ["az://{}", "https://devstoreaccount1.blob.core.windows.net/{}"])
def test_what_was_logged_is_what_is_downloaded(
    cli: Calls, container: AzureContainer, tmp_path: Path, root: str
) -> None:
    done = cli("put", f"{root.format(container.name)}/d", "-n", "d", "--json").document
    assert (done["entries"], done["managed_bytes"], done["referenced_bytes"]) == (5, 0, 16)
    report = cli("get", "d:v0", "--root", "got", "--json").document
    assert report["checked_by"] == {"md5": 5}
    for key, data in KEYS.items():
        assert (tmp_path / "got" / key.removeprefix("d/")).read_bytes() == data
    assert cli("verify", "d:v0", "--root", "got", "--json").document["good"]


def test_writing_the_same_again_and_editing_metadata_makes_no_version(
    cli: Calls, container: AzureContainer
) -> None:
    """PITFALLS 9 and 10: other ETags are no other content; and the entries can still be read."""
    first = cli("put", f"{container.uri}/d", "-n", "d", "--json").document
    for key, data in KEYS.items():
        container.put(key, data)
    container.client.get_blob_client("d/a.txt").set_blob_metadata({"label": "cat"})
    again = cli("put", f"{container.uri}/d", "-n", "d", "--json").document
    assert (again["created"], again["digest"]) == (False, first["digest"])
    assert cli("get", "d:v0", "--root", "got", "--json").document["checked_by"] == {"md5": 5}


def test_a_blob_that_was_overwritten(cli: Calls, container: AzureContainer, tmp_path: Path) -> None:
    cli("put", f"{container.uri}/d", "-n", "d")
    container.put("d/a.txt", b"ALPHA")
    assert cli("put", f"{container.uri}/d", "-n", "d", "--json").document["version"] == "v1"
    assert cli("cat", "d:v1/a.txt").stdout == "ALPHA"
    error = cli("get", "d:v0", "--root", "got", "--json", code=5).error
    assert f"{container.uri}/d/a.txt" in error["message"]
    assert not (tmp_path / "got" / "a.txt").exists()


def test_a_blob_that_was_overwritten_where_versions_are_kept(cli: Calls, kept: Account) -> None:
    kept.put("d/a.txt", b"alpha")
    cli("put", f"{kept.uri}/d", "-n", "d")
    kept.put("d/a.txt", b"ALPHA")
    assert cli("put", f"{kept.uri}/d", "-n", "d", "--json").document["version"] == "v1"
    assert cli("cat", "d:v1/a.txt").stdout == "ALPHA"
    assert cli("cat", "d:v0/a.txt").stdout == "alpha"


def test_a_version_by_hand(cli: Calls, kept: Account) -> None:
    old = kept.put("k", b"old").version
    kept.put("k", b"newer")
    cli("put", f"{kept.uri}/k?versionid={old}", "-n", "k")
    [entry] = cli("ls", "k:v0", "--json").documents
    assert (entry["path"], entry["uri"], entry["pin"]) == ("k", f"{kept.uri}/k", f"version:{old}")
    assert cli("cat", "k:v0/k").stdout == "old"
    error = cli("put", f"{kept.uri}/k?versionid=1", "-n", "k", "--json", code=3).error
    assert "has no version '1'" in error["message"]


def test_blobs_by_both_forms_of_uri_in_one_artifact(
    cli: Calls, container: AzureContainer, tmp_path: Path
) -> None:
    """Equal bytes at other URIs: one content digest, two references."""
    draft = refart.Artifact("both", type="dataset")
    draft.add_reference(f"{container.uri}/d", name="az")
    draft.add_reference(f"https://devstoreaccount1.blob.core.windows.net/{container.name}/d", name="url")
    with refart.init() as run:
        artifact = run.log_artifact(draft)
    assert artifact.file_count == 10
    root = Path(artifact.download(tmp_path / "got"))
    for key, data in KEYS.items():
        for form in ("az", "url"):
            assert (root / form / key.removeprefix("d/")).read_bytes() == data
    with artifact.open("url/hash#1") as file:
        assert file.read() == b"hash"
