"""A user's day with data on GCS: log by reference, log again, download, verify."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

import refart
from refart.testing import Lake
from refart.workspace import Workspace
from tests.cli.calls import Calls
from tests.servers import FakeGCS, GCSBucket

KEYS = {
    "d/a.txt": b"alpha",
    "d/sub/b.txt": b"beta",
    "d/hash#1": b"hash",
    "d/ask?x=1": b"ask",
    "d/empty": b"",
}


@pytest.fixture
def cli(
    refart_workspace: Workspace, fake_gcs: FakeGCS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Calls:
    """The command line, under a configuration that says how to reach every bucket of fake-gcs-server."""
    options = "\n".join(f'{name} = "{value}"' for name, value in fake_gcs.storage_options.items())
    config = f'[storage_options."gs://"]\n{options}\n'
    Path(os.environ["REFART_CONFIG"]).write_text(config)
    monkeypatch.chdir(tmp_path)
    return Calls()


@pytest.fixture(params=[True, False], ids=["versioned", "unversioned"])
def bucket(request: pytest.FixtureRequest, fake_gcs: FakeGCS) -> GCSBucket:
    bucket = fake_gcs.bucket(versioned=request.param)
    for key, data in KEYS.items():
        bucket.put(key, data)
    return bucket


@pytest.fixture
def kept(fake_gcs: FakeGCS) -> GCSBucket:
    return fake_gcs.bucket(versioned=True)


def test_what_was_logged_is_what_is_downloaded(cli: Calls, bucket: GCSBucket, tmp_path: Path) -> None:
    done = cli("put", f"{bucket.uri}/d", "-n", "d", "--json").document
    assert (done["entries"], done["managed_bytes"], done["referenced_bytes"]) == (5, 0, 16)
    report = cli("get", "d:v0", "--root", "got", "--json").document
    assert report["checked_by"] == {"md5": 5}
    for key, data in KEYS.items():
        assert (tmp_path / "got" / key.removeprefix("d/")).read_bytes() == data
    assert cli("verify", "d:v0", "--root", "got", "--json").document["good"]


def test_writing_the_same_again_and_editing_metadata_makes_no_version(cli: Calls, bucket: GCSBucket) -> None:
    """PITFALLS 9 and 10: other generations and ETags are no other content; and the pins still hold."""
    first = cli("put", f"{bucket.uri}/d", "-n", "d", "--json").document
    for key, data in KEYS.items():
        bucket.put(key, data)
    url = f"{bucket.url}/storage/v1/b/{bucket.name}/o/{quote('d/a.txt', safe='')}"
    bucket.session.patch(url, json={"metadata": {"label": "cat"}}).raise_for_status()
    again = cli("put", f"{bucket.uri}/d", "-n", "d", "--json").document
    assert (again["created"], again["digest"]) == (False, first["digest"])
    assert cli("get", "d:v0", "--root", "got", "--json").document["checked_by"] == {"md5": 5}


def test_an_object_that_was_overwritten(cli: Calls, bucket: GCSBucket, tmp_path: Path) -> None:
    """On a bucket with versions the logged bytes, elsewhere an error that names the object."""
    versioned = bucket.session.get(f"{bucket.url}/storage/v1/b/{bucket.name}").json()["versioning"]["enabled"]
    cli("put", f"{bucket.uri}/d", "-n", "d")
    bucket.put("d/a.txt", b"ALPHA")
    assert cli("put", f"{bucket.uri}/d", "-n", "d", "--json").document["version"] == "v1"
    assert cli("cat", "d:v1/a.txt").stdout == "ALPHA"
    if versioned:
        assert cli("cat", "d:v0/a.txt").stdout == "alpha"
    else:
        error = cli("get", "d:v0", "--root", "got", "--json", code=5).error
        assert f"{bucket.uri}/d/a.txt" in error["message"]
        assert not (tmp_path / "got" / "a.txt").exists()


def test_a_generation_by_hand(cli: Calls, kept: GCSBucket) -> None:
    old = kept.put("k", b"old")
    kept.put("k", b"newer")
    cli("put", f"{kept.uri}/k#{old}", "-n", "k")
    [entry] = cli("ls", "k:v0", "--json").documents
    assert (entry["path"], entry["uri"], entry["pin"]) == ("k", f"{kept.uri}/k", f"generation:{old}")
    assert cli("cat", "k:v0/k").stdout == "old"
    error = cli("put", f"{kept.uri}/k#1", "-n", "k", "--json", code=3).error
    assert "has no generation 1" in error["message"]


def test_gcs_and_s3_in_one_artifact(
    cli: Calls, kept: GCSBucket, versioned_lake: Lake, refart_workspace: Workspace, tmp_path: Path
) -> None:
    kept.put("a.txt", b"on gcs")
    versioned_lake.put("b.txt", b"on s3")
    draft = refart.Artifact("both", type="dataset")
    draft.add_reference(f"{kept.uri}/a.txt")
    draft.add_reference(f"{versioned_lake.uri}/b.txt")
    with refart.init() as run:
        artifact = run.log_artifact(draft)
    root = Path(artifact.download(tmp_path / "got"))
    assert (root / "a.txt").read_bytes() == b"on gcs"
    assert (root / "b.txt").read_bytes() == b"on s3"
    with artifact.open("a.txt") as file:
        assert file.read() == b"on gcs"
