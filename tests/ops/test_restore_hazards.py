"""What restore, relocate and refresh must never write or delete, however prefixes, names and patterns overlap."""

from __future__ import annotations

import pytest

from refart import Artifact
from refart.errors import InvalidInputError, ReferenceMissingError


def keys(lake) -> dict[str, bytes]:
    """What the bucket holds now."""
    listed = lake.client.list_objects_v2(Bucket=lake.bucket).get("Contents", ())
    return {
        row["Key"]: lake.client.get_object(Bucket=lake.bucket, Key=row["Key"])["Body"].read()
        for row in listed
    }


def log(workspace, draft):
    with workspace.init() as run:
        return run.log_artifact(draft)


def logged(workspace, *uris, **how):
    draft = Artifact("data", "dataset")
    for uri in uris:
        draft.add_reference(uri, **how)
    return log(workspace, draft)


@pytest.mark.parametrize("to", ["/raw", "/raw/2026", "/raw/2026/", "/raw/2026/2026"])
def test_nothing_is_restored_over_what_the_version_points_at(refart_workspace, unversioned_lake, to):
    """Above, at and below the prefix that was logged: a copy could take the place of what another copy reads."""
    unversioned_lake.put("raw/2026/2026/a.csv", b"inner")
    before = keys(unversioned_lake)
    artifact = logged(refart_workspace, f"{unversioned_lake.uri}/raw/2026")
    for uri in (unversioned_lake.uri, unversioned_lake.uri.replace("s3:", "s3a:")):
        with pytest.raises(InvalidInputError, match="points at what lies there itself"):
            artifact.restore(to=f"{uri}{to}", delete=True)
    assert keys(unversioned_lake) == before


def test_nor_over_folders_that_are_the_same_through_a_link(refart_workspace, tmp_path):
    folder = tmp_path / "data" / "in"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    artifact = logged(refart_workspace, str(folder))
    for to in (tmp_path / "link", tmp_path / "link" / "in", tmp_path / "data"):
        with pytest.raises(InvalidInputError, match="points at what lies there itself"):
            artifact.restore(to=str(to), delete=True)
    through = logged(refart_workspace, str(tmp_path / "link" / "in"))
    with pytest.raises(InvalidInputError, match="points at what lies there itself"):
        through.restore(to=str(folder), delete=True)
    assert (folder / "a").read_text() == "a"


def test_an_object_that_is_recorded_by_another_path_is_not_new(refart_workspace, unversioned_lake):
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{unversioned_lake.uri}/raw")
    draft.remove("labels.json")
    draft.add_reference(f"{unversioned_lake.uri}/raw/labels.json", name="hero.json")
    artifact = log(refart_workspace, draft)
    before = keys(unversioned_lake)
    assert not artifact.status().read().has_drift
    assert artifact.restore_plan(delete=True).is_empty
    assert artifact.restore_plan("2026", delete=True).is_empty
    artifact.restore(delete=True)
    assert keys(unversioned_lake) == before


def test_an_old_version_beside_the_current_one_needs_nothing(refart_workspace, versioned_lake):
    old = versioned_lake.put("raw/labels.json", b"old")
    versioned_lake.put("raw/labels.json", b"new")
    draft = Artifact("data", "dataset")
    draft.add_reference(f"{versioned_lake.uri}/raw")
    draft.add_reference(f"{versioned_lake.uri}/raw/labels.json?versionId={old}", name="before/labels.json")
    artifact = log(refart_workspace, draft)
    assert artifact.restore_plan().is_empty
    versioned_lake.put("raw/labels.json", b"newer")
    artifact.restore()
    assert keys(versioned_lake)["raw/labels.json"] == b"new"
    assert artifact.restore_plan().is_empty
    versioned_lake.delete("raw/labels.json", old)
    with pytest.raises(ReferenceMissingError, match="before/labels"):
        artifact.restore()


def test_the_patterns_given_last_say_what_a_prefix_is_to_hold(refart_workspace, unversioned_lake):
    unversioned_lake.put("raw/k.tmp", b"-")
    uri = f"{unversioned_lake.uri}/raw"
    draft = logged(refart_workspace, uri).new_draft()
    draft.remove("k.tmp")
    draft.add_reference(uri, exclude="*.tmp", overwrite=True)
    artifact = log(refart_workspace, draft)
    assert not artifact.status().read().has_drift
    artifact.restore(delete=True)
    assert "raw/k.tmp" in keys(unversioned_lake)


def test_an_object_that_has_the_name_of_a_prefix_is_none_of_it(refart_workspace, unversioned_lake):
    artifact = logged(refart_workspace, f"{unversioned_lake.uri}/raw")
    unversioned_lake.put("raw", b"an object")
    status = artifact.status().read()
    assert (status.entries["unchanged"], status.entries["new"]) == (3, 0)
    for below in ("raw/2026/a.csv", "raw/2026/b.csv", "raw/labels.json"):
        unversioned_lake.delete(below)
    artifact.restore(delete=True, allow_missing=True)
    assert keys(unversioned_lake)["raw"] == b"an object"


def test_an_object_that_has_the_name_of_a_folder_is_new_beside_it(refart_workspace, unversioned_lake):
    artifact = logged(refart_workspace, f"{unversioned_lake.uri}/raw")
    unversioned_lake.put("raw/2026", b"an object")
    for prefix, unchanged in ((None, 3), ("2026", 2)):
        status = artifact.status(prefix).read()
        assert (status.entries["unchanged"], status.entries["new"]) == (unchanged, 1)


def test_one_file_of_a_folder_can_be_looked_at_alone(refart_workspace, unversioned_lake, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    for uri, path in ((str(tmp_path / "data"), "a"), (f"{unversioned_lake.uri}/raw", "2026/a.csv")):
        status = logged(refart_workspace, uri).status(path).read()
        assert (status.entries["unchanged"], sum(status.entries.values())) == (1, 1)


def test_what_is_new_where_a_part_moved_from_is_left_alone(refart_workspace, unversioned_lake):
    lake = unversioned_lake
    draft = logged(refart_workspace, f"{lake.uri}/raw").new_draft()
    for name in ("a.csv", "b.csv"):
        lake.put(
            f"cold/{name}", lake.client.get_object(Bucket=lake.bucket, Key=f"raw/2026/{name}")["Body"].read()
        )
    draft.relocate(f"{lake.uri}/raw/2026", f"{lake.uri}/cold")
    moved = log(refart_workspace, draft)
    lake.put("raw/2026/new", b"somebody else's")
    assert not moved.status().read().has_drift
    moved.restore(delete=True)
    assert "raw/2026/new" in keys(lake)
    lake.delete("cold/a.csv")
    again = moved.new_draft()
    report = again.refresh()
    assert (report.removed, report.added) == (1, 0)
    assert "2026/a.csv" not in again


def test_deletions_come_last(refart_workspace, versioned_lake, s3_requests):
    artifact = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    versioned_lake.put("raw/0-new", b"-")
    versioned_lake.put("raw/labels.json", b"overwritten")
    s3_requests.clear()
    artifact.restore(delete=True)
    order = [operation for operation in s3_requests.operations if operation in ("CopyObject", "DeleteObject")]
    assert order == ["CopyObject", "DeleteObject"]
