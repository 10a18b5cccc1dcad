"""boto3, the SDK: paginators and the transfer manager."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config

from benchmarks.peers import Task

THREADS: Final = 32


def list_objects(task: Task) -> int:
    """Paginator of `list_objects_v2`: a dictionary a key, without version ids."""
    pages = (
        boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=task.bucket, Prefix=task.prefix)
    )
    return len([found for page in pages for found in page["Contents"]])


def list_versions(task: Task) -> int:
    """Paginator of `list_object_versions`: a dictionary a key, with version ids."""
    paginator = boto3.client("s3").get_paginator("list_object_versions")
    pages = paginator.paginate(Bucket=task.bucket, Prefix=task.prefix)
    return len([found for page in pages for found in page["Versions"] if found["IsLatest"]])


def download_file(task: Task) -> int:
    """`download_file` in 32 threads: files, of the current versions, not verified."""
    client = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=task.bucket, Prefix=task.prefix)

    def download(key: str) -> None:
        path = Path("out", key.removeprefix(task.prefix))
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(task.bucket, key, str(path))

    with ThreadPoolExecutor(THREADS) as pool:
        return len(list(pool.map(download, [found["Key"] for page in pages for found in page["Contents"]])))
