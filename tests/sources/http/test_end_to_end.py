"""A user's day with data on the web: log by reference, log again, download, notice what changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import refart
from refart.artifact import Artifact
from refart.workspace import Workspace
from tests.cli.calls import Calls
from tests.servers import Nginx, Site
from tests.sources.webserver import WebServer


@pytest.fixture
def site(nginx: Nginx) -> Site:
    site = nginx.site()
    site.put("d/a.csv", b"alpha")
    site.put("d/sub/b 1.csv", b"beta")
    return site


def logged(workspace: Workspace, *uris: str, name: str = "web") -> Artifact:
    draft = refart.Artifact(name, type="dataset")
    for uri in uris:
        draft.add_reference(uri)
    with workspace.init() as run:
        return run.log_artifact(draft)


def test_a_url_is_logged_and_downloaded(refart_workspace: Workspace, site: Site, tmp_path: Path) -> None:
    artifact = logged(refart_workspace, site.url("d/a.csv"))
    assert (artifact["a.csv"].uri, artifact.referenced_size, artifact.weak_count) == (
        site.url("d/a.csv"),
        5,
        0,
    )
    report = artifact.download_report(tmp_path / "root")
    assert (tmp_path / "root" / "a.csv").read_bytes() == b"alpha"
    assert (report.confirmed_by_server, report.unverified) == (1, [])
    with artifact.open("a.csv") as file:
        assert file.read() == b"alpha"
    assert not logged(refart_workspace, site.url("d/a.csv")).created


def test_many_urls_keep_their_paths_below_a_base(
    refart_workspace: Workspace, site: Site, tmp_path: Path
) -> None:
    """Names without the query, also below a base (PITFALLS 13)."""
    draft = refart.Artifact("web", type="dataset")
    uris = [site.url("d/a.csv") + "?version=3&from=/x", site.url("d/sub/b 1.csv")]
    draft.add_references(uris, base=site.url("d"))
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    assert {entry.path: entry.uri for entry in artifact.entries()} == {
        "a.csv": uris[0],
        "sub/b%201.csv": uris[1],
    }
    artifact.download(tmp_path / "root")
    assert (tmp_path / "root" / "sub" / "b%201.csv").read_bytes() == b"beta"


def test_what_changed_is_refused_and_what_is_gone_can_be_left_out(
    refart_workspace: Workspace, site: Site, nginx: Nginx, tmp_path: Path
) -> None:
    """PITFALLS 13, 15: with an ETag or without, and leaving out what is missing hides no change."""
    for location in ("", "noetag"):
        site.put("d/a.csv", b"alpha")
        artifact = logged(refart_workspace, site.url("d/a.csv", location=location), name=f"in{location}")
        site.put("d/a.csv", b"omega")
        with pytest.raises(refart.ReferenceChangedError, match=r"a\.csv"):
            artifact.download(tmp_path / f"changed{location}", allow_missing_references=True)
        site.delete("d/a.csv")
        with pytest.raises(refart.ReferenceMissingError, match=r"a\.csv"):
            artifact.download(tmp_path / f"missing{location}")
        artifact.download(tmp_path / f"rest{location}", allow_missing_references=True)
        assert list((tmp_path / f"rest{location}").iterdir()) == []


def test_a_changed_object_makes_the_next_version(refart_workspace: Workspace, site: Site) -> None:
    for location in ("", "noetag"):
        uri = site.url("d/a.csv", location=location)
        assert logged(refart_workspace, uri, name=f"in{location}").version == "v0"
        assert logged(refart_workspace, uri, name=f"in{location}").version == "v0"
        site.put("d/a.csv", b"omega")
        assert logged(refart_workspace, uri, name=f"in{location}").version == "v1"


def test_a_weak_identity_is_shown_as_weak(
    refart_workspace: Workspace, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli = Calls()
    done = cli("put", site.url("d/a.csv", location="noetag"), "-n", "web", "--json").document
    assert done["weak_entries"] == 1
    assert cli("show", "web:v0", "--json").document["weak_entries"] == 1
    report = cli("get", "web:v0", "--root", "got", "--json").document
    assert report["checked_by"] == {"weak": 1}
    assert "weak" in cli("ls", "web:v0").stdout


def test_a_hash_on_request_is_compared_for_ever(
    refart_workspace: Workspace, site: Site, tmp_path: Path
) -> None:
    """Where the server states nothing, too; and the same bytes, uploaded again, are still the entry."""
    draft = refart.Artifact("web", type="dataset")
    draft.add_reference(site.url("d/a.csv", location="noetag-nolm"), checksum="sha256")
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    assert artifact.weak_count == 0
    site.put("d/a.csv", b"omega")
    with pytest.raises(refart.ReferenceChangedError, match="changed"):
        artifact.download(tmp_path / "root")
    site.put("d/a.csv", b"alpha")
    artifact.download(tmp_path / "root")
    assert (tmp_path / "root" / "a.csv").read_bytes() == b"alpha"


def test_a_signed_url_is_refused_or_stripped(refart_workspace: Workspace, site: Site) -> None:
    signed = site.url("d/a.csv") + "?part=1&X-Amz-Signature=hunter2&X-Amz-Date=1"
    draft = refart.Artifact("web", type="dataset")
    with pytest.raises(refart.InvalidInputError, match="strip_signature=True") as error:
        draft.add_reference(signed)
    assert "hunter2" not in str(error.value)
    draft.add_reference(signed, strip_signature=True)
    assert draft["a.csv"].uri == site.url("d/a.csv") + "?part=1"


def test_each_place_has_its_own_credentials(
    refart_workspace: Workspace, site: Site, nginx: Nginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = site.url("d/a.csv", location="auth")
    with pytest.raises(refart.PermissionDeniedError):
        logged(refart_workspace, private)
    options = {f"{nginx.server_url}/auth": {"headers": nginx.authorization}}
    monkeypatch.setenv("REFART_STORAGE_OPTIONS", json.dumps(options))
    with Workspace.open(refart_workspace.url) as workspace:
        assert logged(workspace, private).file_count == 1


def test_one_request_to_log_and_one_to_download(refart_workspace: Workspace, tmp_path: Path) -> None:
    with WebServer(headers={"ETag": '"one"'}) as server:
        artifact = logged(refart_workspace, f"{server.url}/a")
        assert server.methods == ["HEAD"]
        artifact.download(tmp_path / "root")
        assert server.methods == ["HEAD", "GET"]
        artifact.download(tmp_path / "root")
        assert server.methods == ["HEAD", "GET"], "what is there already is not asked for"


def test_many_objects_cost_one_head_each(refart_workspace: Workspace) -> None:
    with WebServer(headers={"ETag": '"one"'}) as server:
        draft = refart.Artifact("web", type="dataset")
        draft.add_references([f"{server.url}/{n}" for n in range(50)])
        assert server.methods == ["HEAD"] * 50
