"""The fixtures that refart ships for other people's tests, used as they would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refart.testing import ENVIRONMENT, LAKE_OBJECTS, Lake, S3Requests, S3Server, operation_of


def test_s3_is_empty_in_every_test_first(s3: Any) -> None:
    assert s3.list_buckets()["Buckets"] == []
    s3.create_bucket(Bucket="left-behind")


def test_s3_is_empty_in_every_test_second(s3: Any) -> None:
    assert s3.list_buckets()["Buckets"] == []
    s3.create_bucket(Bucket="left-behind")


def test_the_environment_points_at_the_server_and_at_no_one_else(s3: Any, s3_server: S3Server) -> None:
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    assert aws == {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server.url}
    assert s3_server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("kind", ["versioned_lake", "unversioned_lake"])
def test_a_lake_is_a_bucket_with_objects(kind: str, request: pytest.FixtureRequest) -> None:
    lake: Lake = request.getfixturevalue(kind)
    stored = lake.client.list_objects_v2(Bucket=lake.bucket)["Contents"]
    assert {item["Key"] for item in stored} == LAKE_OBJECTS.keys()
    assert lake.uri == f"s3://{lake.bucket}"
    version = lake.put("new", b"x")
    assert (version is not None) == (kind == "versioned_lake")
    lake.delete("new")
    assert "new" not in {item["Key"] for item in lake.client.list_objects_v2(Bucket=lake.bucket)["Contents"]}
    assert "testing" not in repr(lake)


def test_requests_of_child_processes_are_counted(versioned_lake: Lake, s3_requests: S3Requests) -> None:
    s3_requests.clear()
    code = """
import boto3
boto3.client("s3").head_object(Bucket="versioned-lake", Key="README.txt")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert s3_requests.operations == ["HeadObject"]
    assert s3_requests.count() == s3_requests.count("HeadObject", "GetObject") == 1
    assert s3_requests.count("GetObject") == 0
    s3_requests.clear()
    assert s3_requests.count() == 0


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("GET", "/", "", "ListBuckets"),
        ("GET", "/b", "list-type=2&prefix=versions", "ListObjectsV2"),
        ("GET", "/b/", "versions&prefix=a", "ListObjectVersions"),
        ("GET", "/b", "prefix=versions", "ListObjects"),
        ("GET", "/b", "versioning", "GetBucketVersioning"),
        ("GET", "/b/k", "versionId=1", "GetObject"),
        ("HEAD", "/b/a/b", "", "HeadObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=u", "UploadPart"),
        ("POST", "/b/k", "uploadId=u", "CompleteMultipartUpload"),
        ("DELETE", "/b/k", "", "DeleteObject"),
        ("POST", "/b/k", "restore", "POST ?restore"),
    ],
)
def test_operations_are_named_as_in_the_api(method: str, path: str, query: str, operation: str) -> None:
    assert operation_of(method, path, query) == operation


def test_a_workspace_is_the_default_of_this_process(refart_workspace: Any, tmp_path: Path) -> None:
    assert os.environ["REFART_URL"] == str(tmp_path / "workspace")
    assert {name for name in os.environ if name.startswith("REFART_")} == {
        "REFART_URL",
        "REFART_CACHE",
        "REFART_CONFIG",
    }
    assert list(refart_workspace.projects()) == []


def test_the_examples_of_the_documentation_hold(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    examples = [block for block in blocks if "def test_" in block]
    (tmp_path / "test_examples.py").write_text("\n\n".join(examples), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(blocks[0], encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{sum(block.count('def test_') for block in examples)} passed" in done.stdout
