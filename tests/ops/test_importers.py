"""Manifests of W&B and `.dvc` files, as those tools write them, become references with the versions that they pin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refart import Artifact
from refart.errors import FormatError, InvalidInputError, NotFoundError

Row = tuple[str, int | None, str, str | None, str | None]

MD5 = "d844b20151462c6d19a840c14f2ffc90"


def wandb(contents: dict[str, Any]) -> str:
    """What `Artifact.manifest.to_manifest_json()` of wandb 0.31 gives."""
    return json.dumps(
        {
            "version": 1,
            "storagePolicy": "wandb-storage-policy-v1",
            "storagePolicyConfig": {"storageLayout": "V2"},
            "contents": contents,
        }
    )


def rows(artifact: Artifact) -> list[Row]:
    return [(e.path, e.size, e.content_id, e.uri, e.pin) for e in artifact.entries()]


@pytest.fixture
def artifact() -> Artifact:
    return Artifact("imported", "dataset")


def test_references_of_wandb_keep_their_pins(artifact: Artifact, tmp_path: Path) -> None:
    file = tmp_path / "wandb_manifest.json"
    file.write_text(
        wandb(
            {
                "labels.csv": {
                    "digest": MD5,
                    "ref": "s3://lake/photos/labels.csv",
                    "size": 6,
                    "extra": {"etag": MD5, "versionID": "0195bd55-075e-4e8f-849a-620915b53d0d"},
                },
                "big.bin": {
                    "digest": "0123456789abcdef0123456789abcdef-2",
                    "ref": "s3://lake/big.bin",
                    "size": 9_000_000,
                    "extra": {"etag": "0123456789abcdef0123456789abcdef-2"},
                },
                "gcs.csv": {
                    "digest": "CPiH5oXs6ocDEAE=",
                    "ref": "gs://lake/gcs.csv#1700000000000001",
                    "size": 3,
                    "extra": {"versionID": 1700000000000001},
                },
                "azure.csv": {
                    "digest": "0x8DC1234",
                    "ref": "https://lake.blob.core.windows.net/c/azure.csv?versionId=2026-01-01T00:00:00Z",
                    "size": 4,
                    "extra": {"etag": "0x8DC1234", "versionID": "2026-01-01T00:00:00Z"},
                },
                "page.html": {
                    "digest": "abc",
                    "ref": "https://example.org/page.html",
                    "size": 5,
                    "extra": {"etag": '"abc"'},
                },
                "local.csv": {
                    "digest": "2EStIBUUYsbRmoQMFPL/yQ==",
                    "ref": "file:///data/local.csv",
                    "size": 6,
                },
                "unchecked": {"digest": "s3://lake/unchecked", "ref": "s3://lake/unchecked"},
            }
        )
    )
    assert len(artifact.add_wandb_manifest(file)) == 7
    assert rows(artifact) == [
        (
            "azure.csv",
            4,
            "etag:0x8DC1234",
            "https://lake.blob.core.windows.net/c/azure.csv",
            "version:2026-01-01T00:00:00Z",
        ),
        ("big.bin", 9_000_000, "etag:0123456789abcdef0123456789abcdef-2", "s3://lake/big.bin", None),
        (
            "gcs.csv",
            3,
            "generation:1700000000000001",
            "gs://lake/gcs.csv",
            "generation:1700000000000001",
        ),
        (
            "labels.csv",
            6,
            f"md5:{MD5}",
            "s3://lake/photos/labels.csv",
            "version:0195bd55-075e-4e8f-849a-620915b53d0d",
        ),
        ("local.csv", 6, "md5:d844ad20151462c6d19a840c14f2ffc9", "file:///data/local.csv", None),
        ("page.html", 5, "etag:abc", "https://example.org/page.html", None),
        ("unchecked", None, "none", "s3://lake/unchecked", None),
    ]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (
            wandb({"m": {"digest": "abZGI/ht7xbOF9RUuL5Brg==", "size": 2}}),
            InvalidInputError,
            "W&B's own storage",
        ),
        (
            wandb({"m": {"digest": "x", "ref": "wandb-artifact://1/m"}}),
            InvalidInputError,
            "another artifact of W&B",
        ),
        (wandb({"m": {"digest": "x", "ref": "s3://a:b@lake/m"}}), InvalidInputError, "carries credentials"),
        (wandb({"m": {"digest": "x", "ref": "s3://lake/m", "size": -1}}), InvalidInputError, "size"),
        (
            wandb({"m": {"digest": "x", "ref": "s3://lake/m", "size": "2"}}),
            FormatError,
            "value of another kind",
        ),
        (wandb({"m": {"digest": "x", "ref": "s3://lake/m", "size": True}}), FormatError, "'size' is bool"),
        (wandb({"m": {"digest": None, "ref": "s3://lake/m"}}), FormatError, "'digest' is missing"),
        (wandb({"m": {"digest": "x", "ref": None}}), FormatError, "'ref' is missing"),
        (wandb({"m": {"digest": "x", "ref": ["s3://lake/m"]}}), FormatError, "'ref' is list"),
        (wandb({"m": {"digest": "x", "ref": "s3://lake/m", "extra": "zzz"}}), FormatError, "'extra' is str"),
        (wandb({"m": {"digest": "x", "ref": "s3://lake/m", "extra": [1]}}), FormatError, "'extra' is list"),
        (
            wandb({"m": {"digest": "x", "ref": "s3://lake/m", "extra": {"versionID": ""}}}),
            FormatError,
            "'versionID' is empty",
        ),
        (wandb({"m": "x"}), FormatError, "is no manifest of W&B"),
        ('{"version": 2, "contents": {}}', FormatError, "is no manifest of W&B"),
        ("[]", FormatError, "is no manifest of W&B"),
        ("{", FormatError, "is no manifest of W&B"),
    ],
)
def test_what_wandb_keeps_itself_and_what_is_no_manifest_is_refused(
    artifact: Artifact, tmp_path: Path, text: str, error: type[Exception], said: str
) -> None:
    file = tmp_path / "wandb_manifest.json"
    file.write_text(text)
    with pytest.raises(error, match=said):
        artifact.add_wandb_manifest(file)
    assert artifact.file_count == 0


PUSHED = """\
outs:
- hash: md5
  path: data
  files:
  - relpath: a.txt
    md5: 60b725f10c9c85c70d97880dfe8191b3
    size: 2
    cloud:
      cloud:
        etag: 60b725f10c9c85c70d97880dfe8191b3
        version_id: a3111bbb-f2ab-47bd-9ee4-4d210c68d802
  - relpath: sub/b c.txt
    md5: 3b5d5c3712955042212316173ccf37be
    size: 2
    cloud:
      cloud:
        etag: 0123456789abcdef0123456789abcdef-2
        version_id: b85c013f-48f6-46f3-b7c3-8680739f645c
"""
PUSHED_FILE = """\
outs:
- md5: 69b64623f86def16ce17d454b8be41ae
  size: 2
  path: model.bin
  cloud:
    cloud:
      etag: 0123456789abcdef0123456789abcdef-2
      version_id: 117dc46c-3818-429c-8123-edfc15d89868
"""
IMPORTED = """\
md5: 763b5cd06fd5d2c6f39dd16da18ebadd
frozen: true
deps:
- hash: md5
  path: s3://lake/photos
  fs_config:
    version_aware: true
  files:
  - relpath: labels.csv
    etag: d844b20151462c6d19a840c14f2ffc90
    size: 6
    version_id: dad1f4e2-8fb2-441c-9b63-c932aa9eab08
  - relpath: train/cat-0.jpg
    etag: d077f244def8a70e5ea758bd8352fcd8
    size: 3
    version_id: c5dbde53-e6c7-4911-9f57-34fe38511190
outs:
- md5: 04b6f3c254e8ec52af7ac477d5e60da6.dir
  size: 24
  nfiles: 4
  hash: md5
  path: photos
  push: false
"""
IMPORTED_FILE = """\
deps:
- etag: 9dd4e461268c8034f5c8564e155c67a6
  size: 1
  version_id: 2de6ebd4-265a-4638-933c-4f8fd630c197
  hash: md5
  path: s3://lake/other/x.csv
outs:
- md5: 9dd4e461268c8034f5c8564e155c67a6
  size: 1
  hash: md5
  path: renamed.csv
"""
CACHED = """\
outs:
- md5: 69b64623f86def16ce17d454b8be41ae
  size: 2
  hash: md5
  path: model.bin
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a remote called `cloud`."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = cloud\n['remote \"cloud\"']\n    url = s3://lake/dvcstore\n    version_aware = true\n"
    )
    (tmp_path / "models").mkdir()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "x.dvc"
    file.write_text(text)
    return file


def test_what_dvc_pushed_with_versions_lies_in_its_remote(artifact: Artifact, repository: Path) -> None:
    artifact.add_dvc(write(repository, PUSHED))
    assert rows(artifact) == [
        (
            "a.txt",
            2,
            "md5:60b725f10c9c85c70d97880dfe8191b3",
            "s3://lake/dvcstore/data/a.txt",
            "version:a3111bbb-f2ab-47bd-9ee4-4d210c68d802",
        ),
        (
            "sub/b c.txt",
            2,
            "md5:3b5d5c3712955042212316173ccf37be",
            "s3://lake/dvcstore/data/sub/b c.txt",
            "version:b85c013f-48f6-46f3-b7c3-8680739f645c",
        ),
    ]


def test_an_old_md5_of_dvc_is_not_taken_for_that_of_the_bytes(artifact: Artifact, repository: Path) -> None:
    """Before DVC 3, line ends of text were changed before it was hashed; `hash: md5` says that they were not."""
    artifact.add_dvc(write(repository / "models", PUSHED_FILE))
    assert rows(artifact) == [
        (
            "model.bin",
            2,
            "etag:0123456789abcdef0123456789abcdef-2",
            "s3://lake/dvcstore/models/model.bin",
            "version:117dc46c-3818-429c-8123-edfc15d89868",
        )
    ]


def test_what_dvc_imported_is_known_by_its_dependency(artifact: Artifact, tmp_path: Path) -> None:
    artifact.add_dvc(write(tmp_path, IMPORTED))
    artifact.add_dvc(write(tmp_path, IMPORTED_FILE))
    found = rows(artifact)
    assert [row[0] for row in found] == ["labels.csv", "renamed.csv", "train/cat-0.jpg"]
    assert found[1][1:] == (
        1,
        "md5:9dd4e461268c8034f5c8564e155c67a6",
        "s3://lake/other/x.csv",
        "version:2de6ebd4-265a-4638-933c-4f8fd630c197",
    )
    assert found[2][3] == "s3://lake/photos/train/cat-0.jpg"


def test_the_remote_can_be_named(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    file = write(tmp_path, PUSHED)
    with pytest.raises(NotFoundError, match="no URL of the remote 'cloud'"):
        artifact.add_dvc(file)
    artifact.add_dvc(file, remote="gs://lake/store/")
    assert rows(artifact)[0][3:] == (
        "gs://lake/store/data/a.txt",
        "generation:a3111bbb-f2ab-47bd-9ee4-4d210c68d802",
    )


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (CACHED, InvalidInputError, "its bytes lie in DVC's cache"),
        (
            "deps:\n- path: s3://lake/x\n  size: 1\nouts:\n- path: x\n",
            InvalidInputError,
            "neither a version id nor an ETag",
        ),
        ("outs: {", FormatError, "is no .dvc file"),
        ("a: 1", FormatError, "is no .dvc file"),
        ("!!python/object/apply:os.system [echo]", FormatError, "is no .dvc file"),
        (PUSHED.replace("size: 2", "size: two"), FormatError, "'size' is str"),
        (PUSHED.replace("- relpath: a.txt", "- relpath: [a.txt]"), FormatError, "'relpath' is list"),
        (IMPORTED_FILE.replace("etag: 9", "etag: [9] #"), FormatError, "'etag' is list"),
        (IMPORTED_FILE.replace("path: s3://lake/other/x.csv", "path: 1"), FormatError, "'path' is int"),
        (IMPORTED_FILE + "- path: second\n", FormatError, "2 outputs of 1 imported dependencies"),
        ("outs: [a]", FormatError, "is no .dvc file"),
    ],
)
def test_what_has_no_cloud_versions_and_what_is_no_dvc_file_is_refused(
    artifact: Artifact, repository: Path, text: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        artifact.add_dvc(write(repository, text))
    assert artifact.file_count == 0
