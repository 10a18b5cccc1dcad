"""obstore: the Rust crate object_store from Python."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.store import S3Store

from benchmarks.peers import Task

TASKS: Final = 32
LIST_ROWS: Final = 10_000


def list_dicts(task: Task) -> int:
    """`obstore.list(store, prefix)`: a dictionary a key, without version ids."""
    return sum(len(chunk) for chunk in obstore.list(_store(task), task.prefix))


def list_arrow(task: Task) -> int:
    """`obstore.list(store, prefix, chunk_size=10_000, return_arrow=True)`: Arrow columns, without version ids."""
    chunks = obstore.list(_store(task), task.prefix, chunk_size=LIST_ROWS, return_arrow=True)
    return sum(chunk.num_rows for chunk in chunks)


def get_async(task: Task) -> int:
    """`get_async` in 32 tasks, streamed to files: files, of the current versions, not verified."""
    return asyncio.run(_download(task))


async def _download(task: Task) -> int:
    store, turn = _store(task), asyncio.Semaphore(TASKS)

    async def download(key: str) -> None:
        path = Path("out", key.removeprefix(task.prefix))
        path.parent.mkdir(parents=True, exist_ok=True)
        async with turn:
            response = await obstore.get_async(store, key)
            with path.open("wb") as file:
                async for chunk in response.stream():
                    file.write(chunk)

    found = [entry["path"] for chunk in obstore.list(store, task.prefix) for entry in chunk]
    await asyncio.gather(*map(download, found))
    return len(found)


def _store(task: Task) -> Any:
    return S3Store(
        task.bucket,
        endpoint=task.endpoint,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
