"""What a version's references point at now: one listing, and a state for each entry."""

from __future__ import annotations

import pytest

from refart import Artifact
from refart.entries import Entry, page_of
from refart.manifest.reader import Manifest
from refart.ops import live

VERSIONED, PLAIN = "versioned_lake", "unversioned_lake"
MD5, OTHER = "md5:" + "0" * 32, "md5:" + "1" * 32


def log(workspace, *uris, **how):
    draft = Artifact("data", "dataset")
    for uri in uris:
        draft.add_reference(uri, **how)
    with workspace.init() as run:
        return run.log_artifact(draft)


def states(workspace, artifact, **asked) -> dict[str, str]:
    """Path → state of all rows."""
    context = workspace._context
    manifest = Manifest.open(context.store, artifact._logged().manifest.address)
    with live.listed(context.local, manifest.index.roots) as now:
        rows = live.Comparison(context.local, manifest, now, **asked)
        found = {row["path"]: row["change"] for page in rows for row in page.to_pylist()}
        assert sum(rows.counts.values()) >= len(found)
    return found


@pytest.mark.parametrize("lake", [VERSIONED, PLAIN])
@pytest.mark.parametrize("checksum", [True, "sha256"])
def test_each_change_of_a_bucket_is_told_apart(request, refart_workspace, lake, checksum):
    lake = request.getfixturevalue(lake)
    for key in ("same", "changed", "gone"):
        lake.put(f"data/{key}", key.encode())
    lake.put("data/skipped.tmp", b"-")
    artifact = log(refart_workspace, f"{lake.uri}/data", name="in", exclude="*.tmp", checksum=checksum)
    lake.put("data/changed", b"CHANGED")
    lake.delete("data/gone")
    lake.put("data/more", b"more")
    lake.put("data/other.tmp", b"-")
    expected = {"in/same": "unchanged", "in/gone": "removed", "in/more": "new"}
    found = states(refart_workspace, artifact)
    # A listing tells no SHA-256: that other bytes of one size are other bytes is known from hashes of one kind only.
    assert found.pop("in/changed") == ("modified" if checksum is True else "rewritten")
    assert found == expected
    assert states(refart_workspace, artifact, changed_only=True, prefix="in/gone") == {"in/gone": "removed"}


def test_the_same_bytes_written_again_are_unchanged(refart_workspace, versioned_lake):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw", name="raw")
    versioned_lake.put("raw/labels.json", b'["cat", "dog"]\n')
    assert set(states(refart_workspace, artifact).values()) == {"unchanged"}


def test_prefixes_are_listed_and_single_objects_are_asked_about(
    refart_workspace, versioned_lake, s3_requests
):
    artifact = log(refart_workspace, f"{versioned_lake.uri}/raw/2026", f"{versioned_lake.uri}/README.txt")
    versioned_lake.delete("README.txt")
    s3_requests.clear()
    assert states(refart_workspace, artifact) == {
        "a.csv": "unchanged",
        "b.csv": "unchanged",
        "README.txt": "removed",
    }
    assert s3_requests.count("HeadObject") == 1
    assert s3_requests.count("ListObjectVersions") == 1


def test_many_single_objects_cost_a_listing(refart_workspace, versioned_lake, s3_requests):
    keys = [f"many/{number:03}" for number in range(300)]
    for key in keys:
        versioned_lake.put(key, key.encode())
    draft = Artifact("data", "dataset")
    draft.add_references([f"{versioned_lake.uri}/{key}" for key in keys], base=versioned_lake.uri)
    with refart_workspace.init() as run:
        artifact = run.log_artifact(draft)
    versioned_lake.delete(keys[7])
    versioned_lake.put(keys[8], b"-")
    s3_requests.clear()
    found = states(refart_workspace, artifact)
    assert (found.pop(keys[7]), found.pop(keys[8])) == ("removed", "modified")
    assert set(found.values()) == {"unchanged"}
    assert (s3_requests.count("HeadObject"), s3_requests.count("ListObjectVersions")) in [(0, 1), (1, 1)]


def test_a_folder_is_read_only_where_it_changed(refart_workspace, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    artifact = log(refart_workspace, str(folder))
    (folder / "a").write_text("A")
    (folder / "b").unlink()
    assert states(refart_workspace, artifact) == {"a": "modified", "b": "removed", "c": "unchanged"}
    (folder / "c").unlink()
    (folder / "a").unlink()
    folder.rmdir()
    assert set(states(refart_workspace, artifact).values()) == {"removed"}


@pytest.mark.parametrize(
    ("recorded", "now", "state"),
    [
        ((3, MD5, None), (3, MD5, None), "unchanged"),
        ((3, MD5, None), (4, MD5, None), "modified"),
        ((3, MD5, "version:1"), (3, MD5, "version:2"), "unchanged"),
        ((3, MD5, "version:1"), (3, OTHER, "version:2"), "modified"),
        ((3, MD5, None), (3, "etag:x-2", None), "rewritten"),
        ((3, "sha256:" + "0" * 64, "version:1"), (3, MD5, "version:1"), "unchanged"),
        ((3, "sha256:" + "0" * 64, "version:1"), (3, MD5, "version:2"), "rewritten"),
        ((3, "sha256:" + "0" * 64, "etag:" + "0" * 32), (3, MD5, None), "unchanged"),
        ((3, "sha256:" + "0" * 64, "etag:x"), (3, MD5, None), "rewritten"),
        ((3, "none", "version:1"), (3, MD5, "version:1"), "unchanged"),
        ((3, "none", "version:1"), (3, MD5, "version:2"), "rewritten"),
        ((3, "none", None), (3, MD5, None), "unverifiable"),
        ((None, "none", None), (3, "none", None), "unverifiable"),
        ((3, "none", None), (4, "none", None), "modified"),
        ((3, "stat:1", None), (3, "stat:2", None), "modified"),
        ((3, "etag:W/a", None), (3, "etag:W/a", None), "unchanged"),
        ((3, "etag:W/a", "etag:a"), (3, "etag:W/b", None), "modified"),
    ],
)
def test_what_can_be_told_of_one_object(recorded, now, state):
    old, new = (
        page_of([Entry("p", size, content, "s3://b/k", pin)]) for size, content, pin in (recorded, now)
    )
    assert live.judge(old, new).to_pylist() == [state]
