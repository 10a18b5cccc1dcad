"""Objects under SSE-KMS: their ETag looks like an MD5 and is none, which only the answer to a GET tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from moto.s3.models import FakeKey

import refart
from refart.artifact import Artifact
from refart.testing import Lake
from refart.workspace import Workspace

BYTES = b"the bytes as they come"
OTHER_MD5 = "0" * 32
"""What the server calls the ETag; it is not the MD5 of `BYTES`."""


@pytest.fixture(params=["versioned_lake", "unversioned_lake"])
def lake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Two objects that the server gives one ETag, as if it had encrypted both; it owns up to one of them."""
    lake: Lake = request.getfixturevalue(request.param)
    lake.client.put_object(
        Bucket=lake.bucket, Key="kms/secret.bin", Body=BYTES, ServerSideEncryption="aws:kms"
    )
    lake.client.put_object(Bucket=lake.bucket, Key="plain/secret.bin", Body=BYTES)
    # moto encrypts nothing, and its ETag is always the MD5.
    monkeypatch.setattr(FakeKey, "etag", property(lambda key: f'"{OTHER_MD5}"'))
    return lake


def logged(lake: Lake, workspace: Workspace, prefix: str) -> Artifact:
    draft = refart.Artifact(prefix, type="dataset")
    draft.add_reference(f"{lake.uri}/{prefix}")
    with workspace.init() as run:
        return run.log_artifact(draft)


def test_an_encrypted_object_is_confirmed_by_the_server(
    lake: Lake, refart_workspace: Workspace, tmp_path: Path
) -> None:
    artifact = logged(lake, refart_workspace, "kms")
    assert artifact["secret.bin"].content_id == f"md5:{OTHER_MD5}", "a listing cannot tell"
    with artifact.open("secret.bin") as file:
        assert file.read() == BYTES
    report = artifact.download_report(tmp_path / "root")
    assert (report.confirmed_by_server, report.unverified) == (1, [])
    assert (tmp_path / "root" / "secret.bin").read_bytes() == BYTES


def test_an_encrypted_object_is_downloaded_once_and_verified(
    lake: Lake, refart_workspace: Workspace, tmp_path: Path
) -> None:
    artifact = logged(lake, refart_workspace, "kms")
    artifact.download(tmp_path / "root")
    again = artifact.download_report(tmp_path / "root")
    assert (again.kept_files, again.moved_bytes) == (1, 0)
    assert artifact.download_report(tmp_path / "elsewhere").cached_files == 1
    assert artifact.verify(tmp_path / "root").ok_files == 1


def test_what_is_not_encrypted_must_have_the_md5(
    lake: Lake, refart_workspace: Workspace, tmp_path: Path
) -> None:
    artifact = logged(lake, refart_workspace, "plain")
    with artifact.open("secret.bin") as file, pytest.raises(refart.ChecksumError, match=r"secret\.bin"):
        file.read()
    with pytest.raises(refart.ChecksumError, match=r"secret\.bin.*expected md5:0000"):
        artifact.download(tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_an_encrypted_object_stands_for_no_other_with_its_etag(
    lake: Lake, refart_workspace: Workspace, tmp_path: Path
) -> None:
    """A server must not choose, by calling its object encrypted, which bytes stand for an MD5 logged elsewhere."""
    logged(lake, refart_workspace, "kms").download(tmp_path / "encrypted")
    honest = logged(lake, refart_workspace, "plain")
    with pytest.raises(refart.ChecksumError):
        honest.download(tmp_path / "root")
    (tmp_path / "root" / "secret.bin").write_bytes(BYTES)
    with pytest.raises(refart.ChecksumError):
        honest.verify(tmp_path / "root")
    with pytest.raises(refart.ChecksumError):
        honest.download(tmp_path / "root")
