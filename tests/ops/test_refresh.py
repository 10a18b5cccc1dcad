"""A draft brought up to date: what is kept, what is identified again, what it costs, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from refart.artifact import Artifact
from refart.errors import NotFoundError, PermissionDeniedError, StoreError
from refart.ops.refresh import RefreshReport
from refart.workspace import Workspace
from tests.manifest.support import small_shards
from tests.ops.support import write
from tests.places import Can, on_every_kind


def log(workspace: Workspace, draft: Artifact) -> Artifact:
    with workspace.init() as run:
        return run.log_artifact(draft)


def logged(workspace: Workspace, *uris: str, **how: Any) -> Artifact:
    draft = workspace.draft("data")
    for uri in uris:
        draft.add_reference(uri, **how)
    return log(workspace, draft)


@on_every_kind(Can.LIST)
def test_a_refreshed_draft_is_what_would_be_logged_now(lake: Any) -> None:
    """On every kind of place, to the digest."""
    for key in ("same", "sub/changed", "gone"):
        lake.put(f"data/{key}", key.encode())
    with Workspace.open() as workspace:
        base = logged(workspace, lake.uri_of("data"), name="in", exclude="*.tmp")
        lake.put("data/sub/changed", b"longer than before")
        lake.put("data/more", b"more")
        lake.put("data/left-out.tmp", b"-")
        lake.delete("data/gone")
        draft = base.new_draft()
        assert draft.refresh() == RefreshReport(kept=1, added=1, changed=1, removed=1, repinned=0)
        plain = workspace.draft("plain")
        plain.add_reference(lake.uri_of("data"), name="in", exclude="*.tmp")
        assert draft.manifest_digest == plain.manifest_digest
        assert [handle.pin for handle in draft.entries()] == [handle.pin for handle in plain.entries()]
        assert draft.refresh() == RefreshReport(kept=3, added=0, changed=0, removed=0, repinned=0)
        version = log(workspace, draft)
        assert (version.version, version.created) == ("v1", True)
        again = version.new_draft()
        assert again.refresh().is_empty
        assert not log(workspace, again).created


def test_strong_checksums_are_kept_and_only_changes_are_read(
    refart_workspace: Workspace, versioned_lake: Any, s3_requests: Any
) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/raw", checksum="sha256")
    versioned_lake.put("raw/labels.json", b"[]")
    versioned_lake.put("raw/new.json", b"{}")
    s3_requests.clear()
    draft = base.new_draft()
    assert draft.refresh() == RefreshReport(kept=2, added=1, changed=1, removed=0, repinned=0)
    assert sorted(s3_requests.operations) == ["GetObject", "GetObject", "ListObjectVersions"]
    assert all(handle.content_id.startswith("sha256:") for handle in draft.entries())


def test_bytes_written_again_are_kept_with_the_newest_pin(
    refart_workspace: Workspace, versioned_lake: Any
) -> None:
    """Where only reading tells that they are the same, they are read once; no version comes of either."""
    for checksum in (True, "sha256"):
        base = logged(refart_workspace, f"{versioned_lake.uri}/raw", checksum=checksum)
        newest = versioned_lake.put("raw/labels.json", b'["cat", "dog"]\n')
        draft = base.new_draft()
        assert draft.refresh() == RefreshReport(kept=3, added=0, changed=0, removed=0, repinned=1)
        assert draft["labels.json"].content_id == base["labels.json"].content_id
        assert draft["labels.json"].pin == f"version:{newest}"
        assert not log(refart_workspace, draft).created


@pytest.mark.parametrize("lake", ["versioned_lake", "unversioned_lake"])
@pytest.mark.parametrize("checksum", [True, False, "sha256", "stored"])
def test_entries_are_identified_as_their_root_was(
    request: Any, refart_workspace: Workspace, lake: str, checksum: Any
) -> None:
    """One that nobody identified is not identified now, and pinned as if it were added."""
    lake = request.getfixturevalue(lake)
    base = logged(refart_workspace, f"{lake.uri}/raw", f"{lake.uri}/README.txt", checksum=checksum)
    lake.put("raw/labels.json", b"[]")
    lake.put("README.txt", b"A larger lake.\n")
    lake.put("raw/new.json", b"{}")
    draft, plain = base.new_draft(), refart_workspace.draft("plain")
    assert draft.refresh() == RefreshReport(kept=2, added=1, changed=2, removed=0, repinned=0)
    for path in ("raw", "README.txt"):
        plain.add_reference(f"{lake.uri}/{path}", checksum=checksum)
    assert [(h.path, h.content_id, h.pin) for h in draft.entries()] == [
        (h.path, h.content_id, h.pin) for h in plain.entries()
    ]


def test_each_prefix_is_refreshed_by_its_own_checksum(
    refart_workspace: Workspace, versioned_lake: Any, s3_requests: Any
) -> None:
    """Also one that lies inside of another, and single objects beside them."""
    draft = refart_workspace.draft("data")
    draft.add_reference(f"{versioned_lake.uri}/raw", name="all")
    draft.add_reference(f"{versioned_lake.uri}/raw/2026", name="strong", checksum="sha256", include="a.*")
    draft.add_references([f"{versioned_lake.uri}/README.txt"], checksum="sha256")
    base = log(refart_workspace, draft)
    versioned_lake.put("raw/2026/a.csv", b"changed")
    versioned_lake.put("raw/2026/a.txt", b"new")
    versioned_lake.put("README.txt", b"changed")
    s3_requests.clear()
    draft = base.new_draft()
    assert draft.refresh() == RefreshReport(kept=2, added=2, changed=3, removed=0, repinned=0)
    assert s3_requests.count("GetObject") == 3
    assert {handle.path: handle.content_id.partition(":")[0] for handle in draft.entries()} == {
        **dict.fromkeys(("all/2026/a.csv", "all/2026/a.txt", "all/2026/b.csv", "all/labels.json"), "md5"),
        **dict.fromkeys(("README.txt", "strong/a.csv", "strong/a.txt"), "sha256"),
    }


def test_managed_files_stay_also_in_the_place_of_an_object(
    refart_workspace: Workspace, versioned_lake: Any, tmp_path: Path
) -> None:
    own = write(tmp_path / "own", {"labels.json": b"[]"}) / "labels.json"
    draft = refart_workspace.draft("data")
    draft.add_reference(f"{versioned_lake.uri}/raw")
    draft.add_file(own, overwrite=True)
    base = log(refart_workspace, draft)
    versioned_lake.put("raw/labels.json", b"changed")
    versioned_lake.delete("raw/2026/a.csv")
    draft = base.new_draft()
    assert draft.refresh() == RefreshReport(kept=2, added=0, changed=0, removed=1, repinned=0)
    assert draft["labels.json"].uri is None


def test_what_is_lost_empties_nothing(refart_workspace: Workspace, tmp_path: Path) -> None:
    """A mount that is gone looks like an empty folder, or like none."""
    for name in ("one", "other"):
        write(tmp_path / name, {f"{name}.txt": name.encode()})
    base = logged(refart_workspace, str(tmp_path / "one"), str(tmp_path / "other"))
    (tmp_path / "other" / "other.txt").unlink()
    draft = base.new_draft()
    with pytest.raises(NotFoundError, match=r"nothing lies at file://.*/other now, where 1 entries were"):
        draft.refresh()
    (tmp_path / "other").rmdir()
    with pytest.raises(NotFoundError, match="allow_empty=True"):
        draft.refresh()
    assert draft.manifest_digest == base.manifest_digest
    assert draft.refresh(allow_empty=True).removed == 1
    assert [handle.path for handle in draft.entries()] == ["one.txt"]


def test_a_folder_in_the_place_of_another_is_refused(refart_workspace: Workspace, tmp_path: Path) -> None:
    """As below a mount point, where something lay before."""
    write(tmp_path / "one", {"one.txt": b"1"})
    write(tmp_path / "other", {"a": b"1", "b": b"2"})
    base = logged(refart_workspace, str(tmp_path / "one"), str(tmp_path / "other"))
    for name in "ab":
        (tmp_path / "other" / name).unlink()
    write(tmp_path / "other", {".keep": b"", "zero": b"0"})
    draft = base.new_draft()
    with pytest.raises(
        NotFoundError, match=r"none of the 2 entries of file://.*/other is there now, and others"
    ):
        draft.refresh()
    assert draft.manifest_digest == base.manifest_digest
    report = draft.refresh(allow_empty=True)
    assert (report.removed, report.added) == (2, 2)
    (tmp_path / "other" / "zero").unlink()
    assert draft.refresh().removed == 1


def test_a_draft_is_as_it_was_where_the_second_half_fails(
    refart_workspace: Workspace, versioned_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    versioned_lake.delete("raw/labels.json")
    versioned_lake.put("raw/new", b"new")
    draft = base.new_draft()

    def full(*_: Any) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("refart.manifest.draft.Draft.remove_all", full)
        with pytest.raises(StoreError):
            draft.refresh()
    assert (draft.manifest_digest, draft.file_count) == (base.manifest_digest, base.file_count)
    assert draft.refresh() == RefreshReport(kept=2, added=1, changed=0, removed=1, repinned=0)


def test_single_objects_that_are_all_gone_are_an_error_too(
    refart_workspace: Workspace, versioned_lake: Any
) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/README.txt")
    versioned_lake.delete("README.txt")
    with pytest.raises(NotFoundError, match="nothing is left of 1 entries"):
        base.new_draft().refresh()
    assert base.new_draft().refresh(allow_empty=True).removed == 1


def test_what_may_not_be_looked_at_is_an_error(
    refart_workspace: Workspace, versioned_lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/raw")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionDeniedError("listing s3://versioned-lake/raw: access is denied")

    monkeypatch.setattr("refart.ops.live.scan", refuse)
    with pytest.raises(PermissionDeniedError, match="access is denied; nothing was changed"):
        base.new_draft().refresh(allow_empty=True)


def test_only_shards_that_change_are_written(refart_workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path / "data", {f"{n:03d}": b"%d" % n for n in range(400)})
    with small_shards(cut_bits=4, group_bits=2, max_group_rows=16):
        base = logged(refart_workspace, str(tmp_path / "data"))
        write(tmp_path / "data", {"100": b"changed", "new": b"new"})
        (tmp_path / "data" / "300").unlink()
        draft = base.new_draft()
        assert draft.refresh() == RefreshReport(kept=398, added=1, changed=1, removed=1, repinned=0)
        version = log(refart_workspace, draft)
    keys = [{shard.key for shard in each._reader().index.shards} for each in (base, version)]
    assert len(keys[0]) > 15
    assert len(keys[1] - keys[0]) <= 3


def test_an_executor_computes_what_changed(refart_workspace: Workspace, versioned_lake: Any) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/raw", checksum="sha256")
    versioned_lake.put("raw/labels.json", b"[]")
    draft = base.new_draft()
    with ThreadPoolExecutor(2) as executor:
        assert draft.refresh(executor=executor).changed == 1
    assert draft["labels.json"].content_id.startswith("sha256:")


def test_the_version_that_was_refreshed_is_an_input(refart_workspace: Workspace, versioned_lake: Any) -> None:
    base = logged(refart_workspace, f"{versioned_lake.uri}/raw")
    versioned_lake.put("raw/new", b"new")
    draft = base.new_draft()
    draft.refresh()
    version = log(refart_workspace, draft)
    assert [used.qualified_name for used in version.logged_by().used_artifacts()] == [base.qualified_name]
