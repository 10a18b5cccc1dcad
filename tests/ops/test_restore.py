"""Bringing a bucket or folder back to a version, by copies that its server makes."""

from __future__ import annotations

import threading

import pytest

from refart import Artifact
from refart.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ReferenceMissingError,
    SourceError,
)
from refart.manifest.roots import Root
from refart.ops import live
from refart.sources.s3.source import S3Source
from tests.ops.test_live import log

VERSIONED, PLAIN = "versioned_lake", "unversioned_lake"


def content(lake) -> dict[str, bytes]:
    """Key → bytes of all current objects."""
    found = lake.client.list_objects_v2(Bucket=lake.bucket).get("Contents", [])
    return {
        item["Key"]: lake.client.get_object(Bucket=lake.bucket, Key=item["Key"])["Body"].read()
        for item in found
    }


def spoil(lake) -> None:
    """One of each: overwritten, deleted, new."""
    lake.put("raw/2026/a.csv", b"other")
    lake.delete("raw/labels.json")
    lake.put("raw/new.txt", b"new")


@pytest.mark.parametrize("checksum", [True, False, "sha256"])
def test_a_versioned_bucket_comes_back_by_one_copy_a_change(
    refart_workspace, versioned_lake, s3_requests, checksum
):
    before = content(versioned_lake)
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw", checksum=checksum)
    spoil(versioned_lake)
    s3_requests.clear()
    plan = artifact.restore_plan()
    assert (plan.counts["copy"], plan.counts["new"], plan.unchanged_files) == (2, 1, 1)
    assert s3_requests.operations == ["ListObjectVersions", "HeadObject", "HeadObject"]
    report = plan.execute()
    assert (report.restored_files, report.deleted_files, report.unverified) == (2, 0, [])
    assert s3_requests.count("CopyObject") == 2
    assert s3_requests.count("GetObject", "PutObject") == 0
    assert (
        s3_requests.count("HeadObject") == 2 + 2 * 2
    )  # of what is copied, and (not at Amazon) of what is there
    assert content(versioned_lake) == {**before, "raw/new.txt": b"new"}
    again = artifact.restore_plan()
    assert again.is_empty
    assert again.counts["new"] == 1


def test_whether_many_versions_are_kept_is_asked_by_few_requests(
    refart_workspace, versioned_lake, s3_requests
):
    for number in range(40):
        versioned_lake.put(f"many/{number}", b"1")
    artifact = log(refart_workspace, f"{versioned_lake.uri}/many")
    for number in range(40):
        versioned_lake.delete(f"many/{number}")
    s3_requests.clear()
    plan = artifact.restore_plan()
    assert s3_requests.operations == ["ListObjectVersions"] * 2
    assert plan.execute().restored_files == s3_requests.count("CopyObject") == 40


def test_what_is_new_is_deleted_only_when_asked_and_can_come_back(refart_workspace, versioned_lake):
    before = content(versioned_lake)
    artifact = log(refart_workspace, versioned_lake.uri)
    spoil(versioned_lake)
    with_new = log(refart_workspace, versioned_lake.uri)
    assert artifact.restore(delete=True).deleted_files == 1
    assert content(versioned_lake) == before
    assert with_new.restore().restored_files == 2
    assert content(versioned_lake)["raw/new.txt"] == b"new"


def test_one_folder_can_be_restored_alone_and_is_listed_alone(refart_workspace, versioned_lake, s3_requests):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw", name="in")
    spoil(versioned_lake)
    s3_requests.clear()
    assert artifact.restore("in/2026/").restored_files == 1
    assert s3_requests.count("ListObjectVersions") == 1
    assert content(versioned_lake)["raw/2026/a.csv"].startswith(b"id,label")
    assert "raw/labels.json" not in content(versioned_lake)
    with pytest.raises(NotFoundError):
        artifact.restore_plan("in/2027")


def test_metadata_tags_and_storage_class_come_back_too(refart_workspace, versioned_lake):
    lake, where = versioned_lake, {"Bucket": versioned_lake.bucket, "Key": "doc"}
    lake.client.put_object(
        **where,
        Body=b"1",
        Metadata={"by": "me"},
        Tagging="kind=doc",
        StorageClass="STANDARD_IA",
        ContentType="text/x",
    )
    artifact = log(refart_workspace, f"{lake.uri}/doc")
    lake.put("doc", b"2")
    artifact.restore()
    found = lake.client.get_object(**where)
    assert (found["Metadata"], found["StorageClass"], found["ContentType"]) == (
        {"by": "me"},
        "STANDARD_IA",
        "text/x",
    )
    assert lake.client.get_object_tagging(**where)["TagSet"] == [{"Key": "kind", "Value": "doc"}]


@pytest.mark.parametrize("lake", [VERSIONED, PLAIN])
def test_another_bucket_gets_each_entry_at_its_path(request, refart_workspace, lake, s3_requests):
    lake = request.getfixturevalue(lake)
    artifact = log(refart_workspace, f"{lake.uri}/raw", name="in")
    lake.client.create_bucket(Bucket="spare")
    to = "s3://spare/back"
    s3_requests.clear()
    report = artifact.restore(to=to)
    assert report.restored_files == artifact.file_count
    assert s3_requests.count("CopyObject") == artifact.file_count
    assert s3_requests.count("GetObject", "PutObject") == 0
    assert log(refart_workspace, to).digest == artifact.digest
    assert artifact.restore_plan(to=to).is_empty


def test_to_another_prefix_the_pinned_version_is_copied_although_the_bucket_moved_on(
    refart_workspace, versioned_lake
):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    spoil(versioned_lake)
    artifact.restore(to=f"{versioned_lake.uri}/back")
    assert log(refart_workspace, f"{versioned_lake.uri}/back").digest == artifact.digest
    assert content(versioned_lake)["raw/2026/a.csv"] == b"other"


def test_what_cannot_be_restored_is_named_before_anything_is_written(
    refart_workspace, versioned_lake, s3_requests
):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    versions = versioned_lake.client.list_object_versions(Bucket=versioned_lake.bucket)["Versions"]
    spoil(versioned_lake)
    version = next(v["VersionId"] for v in versions if v["Key"] == "raw/labels.json")
    versioned_lake.delete("raw/labels.json", version)
    s3_requests.clear()
    with pytest.raises(
        ReferenceMissingError, match=r"labels.json.*version is gone.*nothing|nothing.*labels.json"
    ):
        artifact.restore()
    assert s3_requests.count("CopyObject") == 0
    report = artifact.restore(allow_missing=True)
    assert (report.restored_files, report.impossible) == (1, ["labels.json"])


def test_an_overwritten_object_of_a_bucket_without_versions_is_lost(refart_workspace, unversioned_lake):
    artifact = log(refart_workspace, f"{unversioned_lake.uri}/raw")
    spoil(unversioned_lake)
    with pytest.raises(ReferenceMissingError, match="no version of it is pinned"):
        artifact.restore()


@pytest.mark.parametrize("to", [None, "back"])
def test_what_may_not_be_looked_at_is_named(refart_workspace, unversioned_lake, monkeypatch, to):
    artifact = log(refart_workspace, f"{unversioned_lake.uri}/raw")
    scan = S3Source.scan

    def denied(self, uri, **options):
        if uri.endswith("/raw/"):
            raise PermissionDeniedError(f"{uri} may not be listed")
        return scan(self, uri, **options)

    monkeypatch.setattr(S3Source, "scan", denied)
    with pytest.raises(ReferenceMissingError, match="it may not be looked at"):
        artifact.restore(to=to and f"{unversioned_lake.uri}/{to}")


def test_what_changed_since_the_plan_is_left_as_it_is(refart_workspace, versioned_lake):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    spoil(versioned_lake)
    plan = artifact.restore_plan(delete=True)
    versioned_lake.put("raw/2026/a.csv", b"even newer")
    versioned_lake.put("raw/new.txt", b"newer")
    report = plan.execute()
    assert report.conflicts == ["2026/a.csv", "new.txt"]
    assert report.restored_files == 1
    found = content(versioned_lake)
    assert (found["raw/2026/a.csv"], found["raw/new.txt"]) == (b"even newer", b"newer")
    assert artifact.restore().restored_files == 1


def test_what_somebody_else_restored_meanwhile_is_no_conflict(refart_workspace, versioned_lake):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    spoil(versioned_lake)
    plan = artifact.restore_plan()
    artifact.restore()
    report = plan.execute()
    assert (report.conflicts, report.restored_files, report.already_restored_files) == ([], 0, 2)


def test_a_plan_that_is_carried_out_twice_counts_its_writes_once(refart_workspace, versioned_lake, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "kept").write_text("1")
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw", str(folder))
    artifact.download(tmp_path / "there", path_prefix="kept")
    spoil(versioned_lake)
    (folder / "kept").write_text("2")
    (folder / "new").write_text("new")
    plan = artifact.restore_plan(delete=True)
    first, again = plan.execute(), plan.execute()
    assert (first.restored_files, first.deleted_files, first.already_restored_files) == (3, 2, 0)
    assert (again.restored_files, again.restored_bytes, again.deleted_files) == (0, 0, 0)
    assert (again.already_restored_files, again.conflicts) == (5, [])


def test_files_come_back_from_the_store_or_the_cache(refart_workspace, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("kept", "stored", "cached", "lost"):
        (folder / name).write_text(name)
    (folder / "stored").chmod(0o640)
    artifact = log(refart_workspace, str(folder))
    stored = Artifact("stored", "dataset")
    stored.add_file(folder / "stored")
    with refart_workspace.init() as run:
        run.log_artifact(stored)
    artifact.download(tmp_path / "there", path_prefix="cached")
    (folder / "stored").write_text("other")
    (folder / "cached").unlink()
    (folder / "lost").write_text("LOST")
    (folder / "new").write_text("new")
    with pytest.raises(ReferenceMissingError, match=r"'lost'.*neither the store nor the cache"):
        artifact.restore()
    report = artifact.restore(allow_missing=True, delete=True)
    assert (report.restored_files, report.deleted_files, report.impossible) == (2, 1, ["lost"])
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "kept": "kept",
        "stored": "stored",
        "cached": "cached",
        "lost": "LOST",
    }
    assert (folder / "stored").stat().st_mode & 0o777 == 0o640
    assert artifact.restore(to=tmp_path / "back", allow_missing=True).restored_files == 3


def rows(plan) -> dict[str, tuple[str, str | None]]:
    """Path → action and why."""
    return {
        row["path"]: (row["action"], row["why"])
        for page in plan.pages()
        for row in page.select(["path", "action", "why"]).to_pylist()
    }


@pytest.fixture
def linked(refart_workspace, tmp_path):
    """A folder that was logged and whose bytes are kept, and another one beside it."""
    folder, outside = tmp_path / "data", tmp_path / "outside"
    for path, text in (("data/sub/a", "a"), ("data/b", "b"), ("outside/a", "precious"), ("outside/c", "c")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    artifact = log(refart_workspace, str(folder))
    artifact.download(tmp_path / "there")
    return artifact, folder, outside


def test_nothing_is_deleted_beyond_a_link_below_the_folder(linked):
    artifact, folder, outside = linked
    (folder / "link").symlink_to(outside)
    (folder / "again").symlink_to(folder / "sub")
    (folder / "new").symlink_to(outside / "c")
    plan = artifact.restore_plan(delete=True)
    beyond = f"it is reached through the symbolic link {folder}/%s, beyond which nothing is deleted"
    assert rows(plan) == {
        "again/a": ("new", beyond % "again"),
        "link/a": ("new", beyond % "link"),
        "link/c": ("new", beyond % "link"),
        "new": ("delete", None),
    }
    assert plan.execute().deleted_files == 1
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"a": "precious", "c": "c"}
    assert (folder / "sub" / "a").read_text() == "a"
    assert not (folder / "new").is_symlink()


def test_a_part_of_a_folder_keeps_its_links_in_sight(linked):
    artifact, folder, outside = linked
    (folder / "sub" / "a").unlink()
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(outside)
    plan = artifact.restore_plan("sub", delete=True)
    assert {path: action for path, (action, _) in rows(plan).items()} == {
        "sub/a": "impossible",
        "sub/c": "new",
    }
    assert plan.is_empty


@pytest.mark.parametrize("itself", [False, True])
def test_nothing_is_written_beyond_a_link_below_the_folder(linked, itself):
    artifact, folder, outside = linked
    (folder / "sub" / "a").unlink()
    if itself:
        (folder / "sub" / "a").symlink_to(outside / "a")
    else:
        (folder / "sub").rmdir()
        (folder / "sub").symlink_to(outside)
    with pytest.raises(ReferenceMissingError, match=r"symbolic link .*data/sub.*nothing is written"):
        artifact.restore()
    assert artifact.restore(allow_missing=True).impossible == ["sub/a"]
    assert (outside / "a").read_text() == "precious"


def test_a_link_that_was_logged_is_read_and_left_alone(refart_workspace, tmp_path, linked):
    _, folder, outside = linked
    (folder / "link").symlink_to(outside)
    artifact = log(refart_workspace, str(folder))
    artifact.download(tmp_path / "there")
    (outside / "a").write_text("other")
    assert artifact.restore_plan().counts["impossible"] == 1
    assert artifact.restore(allow_missing=True, delete=True).impossible == ["link/a"]
    assert (outside / "a").read_text() == "other"


def test_a_folder_that_is_named_by_a_link_is_restored(refart_workspace, tmp_path, linked):
    _, folder, _ = linked
    (tmp_path / "name").symlink_to(folder)
    artifact = log(refart_workspace, str(tmp_path / "name"))
    (folder / "b").write_text("other")
    (folder / "new").write_text("new")
    report = artifact.restore(delete=True)
    assert (report.restored_files, report.deleted_files) == (1, 1)
    assert (folder / "b").read_text() == "b"


def test_a_link_that_appears_after_the_plan_is_a_conflict(linked):
    artifact, folder, outside = linked
    (folder / "sub" / "a").unlink()
    (folder / "more").mkdir()
    (folder / "more" / "c").write_text("c")
    plan = artifact.restore_plan(delete=True)
    assert (plan.counts["write"], plan.counts["delete"]) == (1, 1)
    (folder / "more" / "c").unlink()
    for name in ("sub", "more"):
        (folder / name).rmdir()
        (folder / name).symlink_to(outside)
    report = plan.execute()
    assert report.conflicts == ["more/c", "sub/a"]
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"a": "precious", "c": "c"}


def test_another_folder_is_guarded_as_well(linked, tmp_path):
    artifact, _, outside = linked
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "sub").symlink_to(outside)
    report = artifact.restore(to=tmp_path / "back", delete=True, allow_missing=True)
    assert (report.restored_files, report.impossible) == (1, ["sub/a"])
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"a": "precious", "c": "c"}


def test_a_link_that_was_logged_by_itself_stays_one(refart_workspace, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").write_text("1")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    artifact = log(refart_workspace, str(tmp_path / "data" / "link"))
    artifact.download(tmp_path / "there")
    (tmp_path / "elsewhere").write_text("2")
    artifact.restore()
    assert (tmp_path / "data" / "link").is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "1"


def test_a_copy_whose_answer_is_lost_is_looked_at(refart_workspace, versioned_lake, monkeypatch):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    spoil(versioned_lake)
    copy = S3Source.copy

    def lost(self, entry, to, *, over):
        copy(self, entry, to, over=over)
        raise SourceError("the server hung up", transient=True)

    monkeypatch.setattr(S3Source, "copy", lost)
    assert artifact.restore().restored_files == 2
    assert artifact.restore_plan().is_empty


@pytest.mark.parametrize("transient", [False, True])
def test_what_fails_is_reported_and_the_rest_is_done_unless_the_server_is_away(
    refart_workspace, versioned_lake, monkeypatch, transient
):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    spoil(versioned_lake)
    copy, may_copy = S3Source.copy, threading.Semaphore(1)

    def once(self, entry, to, *, over):
        if not may_copy.acquire(blocking=False):
            raise SourceError("it is out of order", transient=transient)
        return copy(self, entry, to, over=over)

    monkeypatch.setattr(S3Source, "copy", once)
    report = artifact.restore_plan(delete=True).execute()
    assert (report.restored_files, len(report.failed), report.is_broken_off) == (1, 1, transient)
    assert report.deleted_files == 0
    with pytest.raises(SourceError, match=r"1 objects could not be restored.*out of order"):
        report.check()
    monkeypatch.setattr(S3Source, "copy", copy)
    assert artifact.restore_plan().counts["copy"] == 1
    assert artifact.restore().restored_files == 1


@pytest.mark.parametrize(
    ("root", "prefix", "listed"),
    [
        (Root("s3://b/data"), None, [Root("s3://b/data")]),
        (Root("s3://b/data"), "x/y", [Root("s3://b/data/x/y", "x/y")]),
        (Root("s3://b", "in"), "in", [Root("s3://b", "in")]),
        (Root("s3://b", "in/deep"), "in", [Root("s3://b", "in/deep")]),
        (Root("s3://b/", "in"), "in/x", [Root("s3://b/x", "in/x")]),
        (Root("s3://b", "in"), "inner", []),
        (Root("s3://b", "in", include=("*.jpg",)), "in/x", [Root("s3://b", "in", include=("*.jpg",))]),
        (Root("s3://b"), "a%2F", [Root("s3://b")]),
    ],
)
def test_only_what_may_hold_a_path_is_listed(root, prefix, listed):
    assert [each.to_json() for each in live.narrowed([root], prefix)] == [each.to_json() for each in listed]


@pytest.mark.parametrize("to", ["s3://", "https://host/x", ""])
def test_a_place_that_is_none_is_refused(refart_workspace, versioned_lake, to):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    with pytest.raises(InvalidInputError):
        artifact.restore_plan(to=to)


def test_a_version_of_a_bucket_is_not_restored_to_a_folder(
    refart_workspace, versioned_lake, s3_requests, tmp_path
):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw")
    s3_requests.clear()
    with pytest.raises(InvalidInputError, match=r"bytes cannot be copied by the server there.*refart get"):
        artifact.restore_plan(to=tmp_path / "back")
    assert s3_requests.operations == []


def test_what_is_archived_is_named_and_the_rest_is_restored(refart_workspace, versioned_lake):
    lake = versioned_lake
    for key in "amz":
        lake.client.put_object(
            Bucket=lake.bucket,
            Key=f"x/{key}",
            Body=b"1",
            StorageClass="GLACIER" if key == "m" else "STANDARD",
        )
    artifact = log(refart_workspace, f"{lake.uri}/x")
    for key in "amz":
        lake.put(f"x/{key}", b"other")
    report = artifact.restore_plan().execute()
    assert (report.restored_files, list(report.failed)) == (2, ["m"])
    with pytest.raises(SourceError, match=r"'m'.* is archived \(GLACIER\): restore it first"):
        report.check()


LEFT = ".refart-0123456789abcdef.tmp"


def test_what_a_killed_restore_left_is_no_data_and_goes(refart_workspace, tmp_path, monkeypatch):
    monkeypatch.setattr("refart.ops.targets.QUIET_S", -10.0)  # what was left just now is old enough
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    artifact = log(refart_workspace, str(folder))
    artifact.download(tmp_path / "there")
    (folder / "sub" / "a").unlink()
    (folder / "sub" / LEFT).write_text("half")
    plan = artifact.restore_plan(delete=True)
    assert plan.counts == {**dict.fromkeys(plan.counts, 0), "write": 1}
    plan.execute()
    assert [path.name for path in (folder / "sub").iterdir()] == ["a"]


def test_a_file_that_is_made_at_the_last_moment_is_not_replaced(refart_workspace, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "a"
    path.write_text("1")
    artifact = log(refart_workspace, str(tmp_path / "data"))
    artifact.download(tmp_path / "there")
    path.unlink()
    monkeypatch.setattr("refart.ops.restore_files.check_same", lambda *_: path.write_text("theirs"))
    assert artifact.restore_plan().execute().conflicts == ["a"]
    assert (path.read_text(), list(path.parent.iterdir())) == ("theirs", [path])


def test_what_was_written_before_versioning_is_kept_as_version_null(
    refart_workspace, unversioned_lake, tmp_path
):
    lake = unversioned_lake
    before = content(lake)
    artifact = log(refart_workspace, f"{lake.uri}/raw")
    lake.client.put_bucket_versioning(Bucket=lake.bucket, VersioningConfiguration={"Status": "Enabled"})
    spoil(lake)
    assert artifact.status().read().pins["superseded"] == 2
    artifact.download(tmp_path / "there")
    assert (tmp_path / "there" / "2026" / "a.csv").read_bytes() == before["raw/2026/a.csv"]
    assert artifact.restore().restored_files == 2
    assert content(lake) == {**before, "raw/new.txt": b"new"}
    lake.delete("raw/labels.json", "null")
    lake.delete("raw/labels.json")
    assert artifact.restore_plan().counts["impossible"] == 1
