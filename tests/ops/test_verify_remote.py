"""Whether references are still good, without reading them."""

from __future__ import annotations

from typing import Any

import pytest

from refart import Artifact, Workspace
from refart.errors import InvalidInputError, PermissionDeniedError, ReferenceMissingError
from refart.sources.object_source import ObjectSource
from refart.testing import Lake, S3Requests
from tests.places import Can, on_every_kind


@pytest.fixture
def artifact(refart_workspace: Workspace, versioned_lake: Lake) -> Artifact:
    """40 objects, of which the first was overwritten and the second is gone for good."""
    versions = [versioned_lake.put(f"d/{number:02}", str(number).encode()) for number in range(40)]
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/d")
    with refart_workspace.init() as run:
        logged = run.log_artifact(draft)
    versioned_lake.put("d/00", b"other")
    versioned_lake.delete("d/01", versions[1])
    versioned_lake.put("d/new", b"new")
    return logged


def test_one_listing_tells_what_is_lost(artifact: Artifact, s3_requests: S3Requests) -> None:
    s3_requests.clear()
    report = artifact.verify_remote()
    assert {state: n for state, n in report.pins.items() if n} == {"pinned": 38, "superseded": 1, "lost": 1}
    assert (report.references, report.lost, report.is_good) == (40, ["01"], False)
    assert (s3_requests.count("ListObjectVersions"), s3_requests.count("HeadObject")) == (1, 2)
    with pytest.raises(
        ReferenceMissingError, match="data:v0: the bytes of 1 references are lost, such as '01'"
    ):
        report.check("data:v0")
    assert artifact.verify_remote("00").is_good


def test_a_sample_is_asked_about_without_a_listing(artifact: Artifact, s3_requests: S3Requests) -> None:
    s3_requests.clear()
    report = artifact.verify_remote(sample=5, seed=3)
    assert report.references == 5
    assert set(s3_requests.operations) == {"HeadObject"}
    assert report == artifact.verify_remote(sample=5, seed=3)
    assert artifact.verify_remote(sample=1000) == artifact.verify_remote()
    for wrong in ({"sample": 0}, {"sample": 1, "path_prefix": "a"}):
        with pytest.raises(InvalidInputError):
            artifact.verify_remote(**wrong)


def test_what_may_not_be_asked_about_is_not_good(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(ObjectSource, "scan", denied)
    report = artifact.verify_remote()
    assert (len(report.denied), report.is_good) == (40, False)
    with pytest.raises(PermissionDeniedError, match="40 references may not be looked at"):
        report.check()


@on_every_kind()
def test_references_to_every_kind_of_place(lake: Any) -> None:
    for key in ("a", "b"):
        lake.put(f"d/{key}", key.encode())
    with Workspace.open() as workspace, workspace.init() as run:
        draft = Artifact("data", "dataset")
        for key in ("a", "b"):
            draft.add_reference(lake.uri_of(f"d/{key}"))
        artifact = run.log_artifact(draft)
        report = artifact.verify_remote()
        assert (report.pins["pinned"], report.is_good) == (2, True)
        lake.delete("d/a")
        assert artifact.verify_remote().lost == ([] if lake.kind.can(Can.KEEP) else ["a"])
