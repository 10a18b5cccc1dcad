"""What the same work costs at least in Python: not a tool, and it checks nothing that need not be."""

from __future__ import annotations

import hashlib
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from benchmarks import floor
from benchmarks.peers import Task

DOWNLOAD_THREADS: Final = 3
"""More made small files slower: they wait for one another."""


def version() -> str:
    return f"Python {platform.python_version()}"


def list_objects(task: Task) -> int:
    """Raw sockets over 32 ranges of keys known beforehand, one regular expression a page (`benchmarks.floor`):
    nothing is kept."""
    return floor.count(task.endpoint, task.bucket, task.prefix, versions=False).rows


def list_versions(task: Task) -> int:
    """Raw sockets over 32 ranges of keys known beforehand, one regular expression a page (`benchmarks.floor`):
    nothing is kept."""
    return floor.count(task.endpoint, task.bucket, task.prefix, versions=True).rows


def download(task: Task) -> int:
    """Raw sockets in 3 threads, `hashlib.sha256`: files, of the current versions, hashed but compared with nothing."""
    connection = floor.Connection(task.endpoint)
    root = f"/{task.bucket}?list-type=2&encoding-type=url&prefix={quote(task.prefix)}"
    pages = floor.pages(connection, root, "", versions=False)
    keys = [unquote(key.decode()) for page in pages for key, *_ in floor.OBJECT.findall(page)]
    connection.close()

    def download_share(share: int) -> None:
        connection = floor.Connection(task.endpoint)
        for key in keys[share::DOWNLOAD_THREADS]:
            body = connection.get(f"/{task.bucket}/{quote(key)}")
            hashlib.sha256(body).hexdigest()
            path = Path("out", key.removeprefix(task.prefix))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        connection.close()

    with ThreadPoolExecutor(DOWNLOAD_THREADS) as pool:
        list(pool.map(download_share, range(DOWNLOAD_THREADS)))
    return len(keys)


def sha256(task: Task) -> int:
    """`os.walk` and `hashlib.file_digest(…, "sha256")` in a thread for each core: digests, which are dropped."""

    def digest(path: str) -> str:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = [f"{folder}/{name}" for folder, _, names in os.walk(task.source) for name in names]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return len(list(pool.map(digest, paths)))
