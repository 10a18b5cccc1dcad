"""DataChain."""

from __future__ import annotations

import os
from typing import Any

import datachain

from benchmarks.peers import Task, files_below


def read_storage(task: Task) -> int:
    """`read_storage(uri).save(name)`: a dataset in SQLite, with version ids."""
    dataset = datachain.read_storage(task.uri, client_config=_options(task)).save("data")
    return int(dataset.count())


prepare_to_storage = read_storage


def to_storage(task: Task) -> int:
    """`read_dataset(name).to_storage(folder)`, its defaults: files, of the versions that were saved, not verified."""
    datachain.read_dataset("data").to_storage("out", client_config=_options(task))
    return files_below("out")


def _options(task: Task) -> dict[str, Any]:
    return {
        "aws_endpoint_url": task.endpoint,
        "aws_key": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret": os.environ["AWS_SECRET_ACCESS_KEY"],
    }
