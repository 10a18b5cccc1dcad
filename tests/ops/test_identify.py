"""Stronger content ids: what is read, what is asked, who does it, and what stays as a pin."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from refart import Artifact, Workspace
from refart.errors import InvalidInputError, ReferenceChangedError
from refart.testing import Lake, S3Requests
from tests.ops.support import content_id

DATA = b"some bytes of an object"


def entries(uri: str | Path, **options: Any) -> dict[str, tuple[str, str | None]]:
    artifact = Artifact("things", "dataset")
    artifact.add_reference(uri, **options)
    return {entry.path: (entry.content_id, entry.pin) for entry in artifact.entries()}


@pytest.fixture(params=["threads", "processes", "own threads"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == "own threads":
        yield None
        return
    started = multiprocessing.get_context("spawn")  # a fork takes the threads of a test's servers along
    threads = request.param == "threads"
    with ThreadPoolExecutor(2) if threads else ProcessPoolExecutor(2, mp_context=started) as pool:
        yield pool


def test_sha256_of_objects_by_any_executor(
    refart_workspace: Workspace, versioned_lake: Lake, unversioned_lake: Lake, executor: Executor | None
) -> None:
    """The version still pins; without versions the ETag does, which the content id no longer carries."""
    version = versioned_lake.put("d/a", DATA)
    unversioned_lake.put("d/a", DATA)
    sha256, md5 = content_id(DATA), content_id(DATA, "md5")
    found = entries(f"{versioned_lake.uri}/d", checksum="sha256", executor=executor)
    assert found == {"a": (sha256, f"version:{version}")}
    found = entries(f"{unversioned_lake.uri}/d", checksum="sha256", executor=executor)
    assert found == {"a": (sha256, md5.replace("md5", "etag"))}


def test_sha256_of_local_files_by_any_executor(
    refart_workspace: Workspace, tmp_path: Path, executor: Executor | None
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(70):  # more than travels at once
        (folder / f"{number:02d}").write_bytes(b"%d" % number)
    expected = {f"{number:02d}": (content_id(b"%d" % number), None) for number in range(70)}
    for checksum in (True, "sha256", "stored"):
        assert entries(folder, checksum=checksum, executor=executor) == expected


def test_a_large_prefix_is_listed_by_any_executor(
    refart_workspace: Workspace,
    versioned_lake: Lake,
    executor: Executor | None,
    s3_requests: S3Requests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers make most of the requests, and none of the entries goes missing."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for number in range(40):
        versioned_lake.put(f"d/{number:02d}", b"%d" % number)
    expected = {f"{number:02d}": content_id(b"%d" % number, "md5") for number in range(40)}
    found = entries(f"{versioned_lake.uri}/d", executor=executor)
    assert {path: content_id for path, (content_id, _) in found.items()} == expected
    assert all(str(pin).startswith("version:") for _, pin in found.values())
    assert s3_requests.count("ListObjectVersions") >= 40 / 3


def test_an_error_in_a_worker_is_the_error_of_the_call(
    refart_workspace: Workspace, unversioned_lake: Lake, executor: Executor | None, monkeypatch: Any
) -> None:
    """Here: an object that is overwritten after it was listed."""
    artifact = Artifact("things", "dataset")
    from refart.ops import identify

    taken = identify.identified

    def overwritten(local: Any, pages: Any, *rest: Any) -> Any:
        listed = list(pages)
        unversioned_lake.put("raw/labels.json", b"[]")
        return taken(local, listed, *rest)

    monkeypatch.setattr(identify, "identified", overwritten)
    with pytest.raises(ReferenceChangedError, match=r"labels\.json"):
        artifact.add_reference(unversioned_lake.uri, checksum="sha256", executor=executor)
    assert len(artifact) == 0


@pytest.mark.parametrize("algorithm", ["SHA256", "CRC64NVME", "CRC32C"])
def test_stored_checksums_cost_one_head_and_no_get(
    refart_workspace: Workspace, unversioned_lake: Lake, s3_requests: S3Requests, algorithm: str
) -> None:
    """A stronger one takes the place of what the listing told; a weaker one does not."""
    unversioned_lake.client.put_object(
        Bucket=unversioned_lake.bucket, Key="d/a", Body=DATA, ChecksumAlgorithm=algorithm
    )
    s3_requests.clear()
    found = entries(f"{unversioned_lake.uri}/d", checksum="stored")
    assert s3_requests.count("HeadObject") == 1
    assert s3_requests.count("GetObject") == 0
    md5 = content_id(DATA, "md5")
    if algorithm == "SHA256":
        assert found == {"a": (content_id(DATA), md5.replace("md5", "etag"))}
    else:
        assert found == {"a": (md5, None)}


def test_stored_checksums_of_a_multipart_object(
    refart_workspace: Workspace, unversioned_lake: Lake, tmp_path: Path
) -> None:
    where = {"Bucket": unversioned_lake.bucket, "Key": "d/a"}
    client = unversioned_lake.client
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    etag = client.upload_part(**upload, PartNumber=1, Body=DATA)["ETag"]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    [(found, pin)] = entries(f"{unversioned_lake.uri}/d", checksum="stored").values()
    assert found.startswith("etag:")
    assert found.endswith("-1")
    assert pin is None


def test_size_and_time_of_files(refart_workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    found = entries(file, checksum="stat")
    assert found == {"file": (f"stat:{file.stat().st_mtime_ns}", None)}


@pytest.mark.parametrize(
    "options",
    [
        {"checksum": "md5"},
        {"checksum": None},
        {"checksum": "stat"},
        {"follow_symlinks": False},
    ],
)
def test_what_makes_no_sense_is_refused(
    refart_workspace: Workspace, unversioned_lake: Lake, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        entries(unversioned_lake.uri, **options)


@pytest.mark.parametrize("checksum", [False, "stat"])
def test_an_executor_without_work_is_refused(
    refart_workspace: Workspace, tmp_path: Path, checksum: Any
) -> None:
    with pytest.raises(InvalidInputError, match="executor= computes checksums, and lists prefixes of S3"):
        entries(tmp_path, checksum=checksum, executor=ThreadPoolExecutor(1))


def test_links_can_be_left_out(refart_workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "file").write_bytes(DATA)
    (folder / "link").symlink_to("file")
    assert entries(folder).keys() == {"file", "link"}
    assert entries(folder, follow_symlinks=False).keys() == {"file"}
    artifact = Artifact("things", "dataset")
    assert len(artifact.add_dir(folder, follow_symlinks=False)) == 1
