"""The warning that a bucket keeps nothing once it is overwritten."""

from __future__ import annotations

import logging

import pytest

from refart import Artifact, Workspace
from refart.ops import pins
from refart.testing import Lake, S3Requests


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "_told", set())


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "refart")
    return caplog


def test_once_a_bucket_and_process_without_a_request(
    unversioned_lake: Lake,
    refart_workspace: Workspace,
    s3_requests: S3Requests,
    warnings: pytest.LogCaptureFixture,
) -> None:
    s3_requests.clear()
    with refart_workspace.init() as run:
        run.log_artifact(f"{unversioned_lake.uri}/raw", name="a")
        run.log_artifact(f"{unversioned_lake.uri}/README.txt", name="b")
    assert s3_requests.operations == ["GetBucketVersioning", "ListObjectsV2"] * 2
    [message] = warnings.messages
    assert message.startswith("s3://unversioned-lake/ told no version ids")


def test_many_single_objects_count_too(
    unversioned_lake: Lake, refart_workspace: Workspace, warnings: pytest.LogCaptureFixture
) -> None:
    artifact = Artifact("a", "dataset")
    artifact.add_references([f"{unversioned_lake.uri}/README.txt"])
    with refart_workspace.init() as run:
        run.log_artifact(artifact)
    assert len(warnings.messages) == 1


def test_versions_are_silent(
    versioned_lake: Lake, refart_workspace: Workspace, warnings: pytest.LogCaptureFixture
) -> None:
    with refart_workspace.init() as run:
        run.log_artifact(versioned_lake.uri, name="a")
    assert warnings.messages == []


def test_a_write_from_before_versioning_is_told(
    unversioned_lake: Lake, refart_workspace: Workspace, warnings: pytest.LogCaptureFixture
) -> None:
    unversioned_lake.client.put_bucket_versioning(
        Bucket=unversioned_lake.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    unversioned_lake.put("README.txt", b"newer")
    with refart_workspace.init() as run:
        run.log_artifact(f"{unversioned_lake.uri}/README.txt", name="new")
        assert warnings.messages == []
        run.log_artifact(unversioned_lake.uri, name="mixed")
    assert len(warnings.messages) == 1


def test_nothing_is_told_of_what_was_not_logged(
    unversioned_lake: Lake, warnings: pytest.LogCaptureFixture
) -> None:
    Artifact("a", "dataset").add_reference(unversioned_lake.uri)
    assert warnings.messages == []
