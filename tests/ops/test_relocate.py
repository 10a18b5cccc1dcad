"""References whose data moved to another prefix."""

from __future__ import annotations

import pytest

from refart.errors import InvalidInputError, NotFoundError, ReferenceChangedError
from tests.ops.test_live import log, states
from tests.ops.test_materialize import log_draft


def copy(lake, old: str, new: str) -> None:
    """Copy all objects below a prefix, as a person would who moves data."""
    for item in lake.client.list_objects_v2(Bucket=lake.bucket, Prefix=f"{old}/")["Contents"]:
        source = {"Bucket": lake.bucket, "Key": item["Key"]}
        key = new + item["Key"].removeprefix(old)
        lake.client.copy_object(Bucket=lake.bucket, Key=key, CopySource=source)


@pytest.mark.parametrize("lake", ["versioned_lake", "unversioned_lake"])
def test_a_prefix_moves_by_one_listing_and_so_does_its_root(
    request, refart_workspace, lake, s3_requests, tmp_path
):
    lake = request.getfixturevalue(lake)
    artifact = log(refart_workspace, f"{lake.uri}/raw", name="in")
    copy(lake, "raw", "new/place")
    draft = artifact.new_draft()
    s3_requests.clear()
    assert draft.relocate(f"{lake.uri}/raw/", f"{lake.uri}/new/place") == 3
    assert s3_requests.count("HeadObject", "GetObject") == 0
    moved = log_draft(refart_workspace, draft)
    assert (moved.created, moved.digest) == (True, artifact.digest)
    assert moved["in/labels.json"].uri == f"{lake.uri}/new/place/labels.json"
    for key in ("raw/2026/a.csv", "raw/2026/b.csv", "raw/labels.json"):
        lake.delete(key)
    assert set(states(refart_workspace, moved).values()) == {"unchanged"}
    moved.download(tmp_path / "there")


def test_a_part_of_what_was_listed_can_move(refart_workspace, versioned_lake, s3_requests):
    lake = versioned_lake
    artifact = log(refart_workspace, lake.uri, name="in")
    copy(lake, "raw/2026", "archive")
    draft = artifact.new_draft()
    s3_requests.clear()
    assert draft.relocate(f"{lake.uri}/raw/2026", f"{lake.uri}/archive") == 2
    assert s3_requests.count("HeadObject") == 0
    moved = log_draft(refart_workspace, draft)
    uris = {entry.path: entry.uri for entry in moved.entries()}
    assert uris["in/raw/2026/a.csv"] == f"{lake.uri}/archive/a.csv"
    assert uris["in/raw/labels.json"] == f"{lake.uri}/raw/labels.json"
    lake.put("archive/a.csv", b"other")
    assert states(refart_workspace, moved, changed_only=True)["in/raw/2026/a.csv"] == "modified"


def test_what_differs_or_is_missing_is_named_and_nothing_moves(refart_workspace, versioned_lake):
    lake = versioned_lake
    draft = log(refart_workspace, f"{lake.uri}/raw").new_draft()
    copy(lake, "raw", "new")
    lake.put("new/labels.json", b"other")
    lake.delete("new/2026/a.csv")
    before = {entry.path: entry.uri for entry in draft.entries()}
    with pytest.raises(
        ReferenceChangedError, match=r"2 references.*a\.csv.*nothing lies.*labels\.json.*other bytes"
    ):
        draft.relocate(f"{lake.uri}/raw", f"{lake.uri}/new")
    assert {entry.path: entry.uri for entry in draft.entries()} == before


@pytest.mark.parametrize("checksum", ["sha256", False])
def test_what_cannot_be_compared_is_read_when_asked(refart_workspace, versioned_lake, s3_requests, checksum):
    lake = versioned_lake
    artifact = log(refart_workspace, f"{lake.uri}/raw", checksum=checksum)
    copy(lake, "raw", "new")
    with pytest.raises(ReferenceChangedError, match=r"checksum='sha256' \(--checksum sha256\) reads it"):
        artifact.new_draft().relocate(f"{lake.uri}/raw", f"{lake.uri}/new")
    draft = artifact.new_draft()
    assert draft.relocate(f"{lake.uri}/raw", f"{lake.uri}/new", checksum="sha256") == 3
    moved = log_draft(refart_workspace, draft)
    assert all(entry.content_id.startswith("sha256:") for entry in moved.entries())
    lake.put("new/labels.json", b'["dog", "cat"]\n')  # of the same size
    with pytest.raises(ReferenceChangedError, match=r"labels\.json.*changed|labels\.json.*other"):
        artifact.new_draft().relocate(f"{lake.uri}/raw", f"{lake.uri}/new", checksum="sha256")


def test_folders_of_this_machine_can_move(refart_workspace, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("a")
    draft = log(refart_workspace, str(tmp_path / "old")).new_draft()
    (tmp_path / "old").rename(tmp_path / "new")
    assert draft.relocate(tmp_path / "old", tmp_path / "new") == 1
    assert log_draft(refart_workspace, draft).open("a").read() == b"a"


def test_nothing_to_move_is_an_error(refart_workspace, versioned_lake):
    draft = log(refart_workspace, f"{versioned_lake.uri}/raw").new_draft()
    with pytest.raises(NotFoundError):
        draft.relocate(f"{versioned_lake.uri}/ra", f"{versioned_lake.uri}/new")
    with pytest.raises(InvalidInputError):
        draft.relocate(f"{versioned_lake.uri}/raw", f"{versioned_lake.uri}/raw/")
    with pytest.raises(InvalidInputError):
        draft.relocate("s3://", f"{versioned_lake.uri}/raw/")
