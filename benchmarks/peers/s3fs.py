"""s3fs, the fsspec driver."""

from __future__ import annotations

import s3fs

from benchmarks.peers import Task, files_below


def find(task: Task) -> int:
    """`S3FileSystem().find(prefix, detail=True)`: a dictionary a key, without version ids."""
    return len(s3fs.S3FileSystem().find(f"{task.bucket}/{task.prefix}", detail=True))


def get(task: Task) -> int:
    """`S3FileSystem().get(prefix, folder, recursive=True)`: files, of the current versions, not verified."""
    s3fs.S3FileSystem().get(f"{task.bucket}/{task.prefix}", "out", recursive=True)
    return files_below("out")
