"""Drift and pins of a version, by one listing and few requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refart import Artifact, Workspace
from refart.errors import InvalidInputError, PermissionDeniedError
from refart.ops.status import StatusReport
from refart.sources.object_source import ObjectSource
from refart.testing import Lake, S3Requests
from tests.places import Can, on_every_kind


def logged(workspace: Workspace, uri: str, **how: Any) -> Artifact:
    draft = Artifact("data", "dataset")
    draft.add_reference(uri, **how)
    with workspace.init() as run:
        return run.log_artifact(draft)


def rows(report: StatusReport) -> dict[str, tuple[str, str | None]]:
    """Path → what became of it, and of its pin."""
    return {row["path"]: (row["change"], row["pin_state"]) for page in report for row in page.to_pylist()}


def test_drift_and_pins_of_a_versioned_bucket(
    refart_workspace: Workspace, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    """One listing, and a HEAD for each pinned version of what changed."""
    for key in ("same", "again", "over", "gone"):
        versioned_lake.put(f"data/{key}", key.encode())
    lost = {key: versioned_lake.put(f"data/{key}", key.encode()) for key in ("purged", "forgotten")}
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/data")
    versioned_lake.put("data/again", b"again")
    versioned_lake.put("data/over", b"OVER")
    versioned_lake.delete("data/gone")
    versioned_lake.put("data/purged", b"PURGED")
    for key, version in lost.items():
        versioned_lake.delete(f"data/{key}", version)
    versioned_lake.put("data/more", b"more")
    s3_requests.clear()

    report = artifact.status()
    assert rows(report) == {
        "over": ("modified", "superseded"),
        "gone": ("removed", "superseded"),
        "purged": ("modified", "lost"),
        "forgotten": ("removed", "lost"),
        "more": ("new", None),
    }
    assert s3_requests.count("ListObjectVersions") == 1
    assert s3_requests.count("HeadObject") == 4
    summary = report.summary
    assert {state: n for state, n in summary.entries.items() if n} == {
        "unchanged": 2,
        "modified": 2,
        "removed": 2,
        "new": 1,
    }
    assert {state: n for state, n in summary.pins.items() if n} == {
        "pinned": 1,
        "equal": 1,
        "superseded": 2,
        "lost": 2,
    }
    assert (summary.size_bytes["modified"], summary.size_bytes["new"]) == (len("overpurged"), 4)
    assert summary.pin_bytes["lost"] == len("purgedforgotten")
    assert (summary.has_drift, summary.has_loss, summary.is_denied) == (True, True, False)

    whole = artifact.status(unchanged=True)
    assert {path: pin for path, (change, pin) in rows(whole).items() if change == "unchanged"} == {
        "same": "pinned",
        "again": "equal",
    }
    assert whole.summary == summary
    assert artifact.status("gone").read().entries["removed"] == 1


def test_what_took_the_place_of_something_listed_is_asked_about_by_itself(
    refart_workspace: Workspace, versioned_lake: Lake, s3_requests: S3Requests
) -> None:
    """An entry that replaced a listed one, and one that lies below the prefix under a path of its own."""
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/raw/2026")
    draft.add_reference(f"{versioned_lake.uri}/raw/labels.json", name="a.csv", overwrite=True)
    draft.add_reference(f"{versioned_lake.uri}/raw/2026/b.csv", name="other.csv")
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    summary = artifact.status().read()
    assert (summary.entries["unchanged"], summary.has_drift) == (3, False)
    versioned_lake.put("raw/labels.json", b"[]")
    assert rows(artifact.status()) == {"a.csv": ("modified", "superseded")}


def test_a_version_of_managed_files_has_nothing_that_could_drift(
    refart_workspace: Workspace, tmp_path: Any
) -> None:
    (tmp_path / "a").write_text("a")
    draft = Artifact("data", "dataset")
    draft.add_file(tmp_path / "a")
    with refart_workspace.init() as run:
        summary = run.log_artifact(draft).status().read()
    assert not any(summary.entries.values())
    assert not any(summary.pins.values())


def test_what_the_store_or_the_cache_still_has_is_not_lost(
    refart_workspace: Workspace, unversioned_lake: Lake, tmp_path: Path
) -> None:
    """By its SHA-256: of files of this machine, and of objects that were logged with one."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("in-cache", "in-store", "nowhere"):
        (folder / name).write_text(name)
        unversioned_lake.put(f"d/{name}", name.encode())
    here = logged(refart_workspace, str(folder))
    there = logged(refart_workspace, f"{unversioned_lake.uri}/d", checksum="sha256")
    managed = Artifact("kept", "dataset")
    managed.add_file(folder / "in-store")
    with refart_workspace.init() as run:
        run.log_artifact(managed)
    here.download(tmp_path / "there", path_prefix="in-cache")
    for name in ("in-cache", "in-store", "nowhere"):
        (folder / name).unlink()
        unversioned_lake.delete(f"d/{name}")
    for artifact in (here, there):
        report = artifact.status()
        assert rows(report) == {
            "in-cache": ("removed", "stored"),
            "in-store": ("removed", "stored"),
            "nowhere": ("removed", "lost"),
        }
        assert (report.summary.pins["stored"], report.summary.pins["lost"]) == (2, 1)
        for remote in (artifact.verify_remote(), artifact.verify_remote(sample=3)):
            assert (remote.pins["stored"], remote.lost) == (2, ["nowhere"])
    assert not here.status("in-store").read().has_loss
    assert here.verify_remote("in-store").is_good
    assert here.restore("in-store").restored_files == 1


def test_a_summary_is_not_shown_before_all_was_counted(
    refart_workspace: Workspace, versioned_lake: Lake
) -> None:
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    versioned_lake.delete("raw/labels.json")
    report = artifact.status()
    with pytest.raises(InvalidInputError, match=r"call read\(\)"):
        _ = report.summary
    assert report.read() == report.summary
    assert report.summary.entries["removed"] == 1


def test_a_prefix_that_can_be_no_path_is_refused(refart_workspace: Workspace, versioned_lake: Lake) -> None:
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    with pytest.raises(InvalidInputError, match="path prefix"):
        artifact.status("../a")


@on_every_kind(Can.LIST)
def test_drift_of_every_kind_of_place(lake: Any) -> None:
    for key in ("same", "gone", "over"):
        lake.put(f"d/{key}", key.encode())
    with Workspace.open() as workspace:
        artifact = logged(workspace, lake.uri_of("d"))
        lake.put("d/over", b"longer than before")
        lake.delete("d/gone")
        lake.put("d/more", b"more")
        pin = "superseded" if lake.kind.can(Can.KEEP) else "lost"
        assert rows(artifact.status()) == {
            "over": ("modified", pin),
            "gone": ("removed", pin),
            "more": ("new", None),
        }


def test_a_prefix_that_may_not_be_listed_is_denied_not_gone(
    refart_workspace: Workspace, versioned_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw", name="raw")

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionDeniedError("no")

    monkeypatch.setattr(ObjectSource, "scan", denied)
    summary = artifact.status().read()
    assert summary.entries["denied"] == summary.pins["denied"] == 3
    assert summary.refused == [f"{versioned_lake.uri}/raw"]
    assert (summary.has_drift, summary.has_loss, summary.is_denied) == (False, False, True)
