"""Work on parts of a version: every row once, checked; and small what travels."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from refart import Artifact, Workspace
from refart.context import Context
from refart.errors import FormatError
from refart.manifest.index import ShardInfo
from refart.manifest.reader import Manifest
from refart.ops.shards import Part, Worker, map_parts, parts_of, sample_of
from tests.manifest.support import small_shards


class Posting(ThreadPoolExecutor):
    """Hands on calls as a process does, by pickle, and remembers how much travelled."""

    def __init__(self) -> None:
        super().__init__(2)
        self.sent_bytes: list[int] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        sent = pickle.dumps((function, args, kwargs))
        self.sent_bytes.append(len(sent))
        function, args, kwargs = pickle.loads(sent)
        return super().submit(function, *args, **kwargs)


@pytest.fixture
def manifest(refart_workspace: Workspace, tmp_path: Any) -> Manifest:
    """Some 200 files in many shards."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number:03}").write_text(str(number))
    artifact = Artifact("data", "dataset")
    artifact.add_reference(folder)
    with small_shards(4), refart_workspace.init() as run:
        return run.log_artifact(artifact)._reader()


@pytest.fixture
def context(refart_workspace: Workspace) -> Context:
    return refart_workspace._context


def paths(worker: Worker, part: Part) -> list[str]:
    return [path for page in worker.pages(part) for path in page["path"].to_pylist()]


@pytest.mark.parametrize("executor", [None, Posting])
def test_every_row_is_seen_once(
    context: Context, manifest: Manifest, executor: type[Executor] | None
) -> None:
    parts = list(parts_of(manifest.index.shards, rows=7))
    pool = executor() if executor is not None else None
    found = dict(map_parts(context, paths, parts, executor=pool))
    assert len(manifest.index.shards) > 3
    assert [path for part in parts for path in found[part]] == [f"{number:03}" for number in range(200)]
    if isinstance(pool, Posting):
        pool.shutdown()
        assert max(pool.sent_bytes) < 3000


def test_a_shard_that_is_not_what_the_index_states_is_an_error(context: Context, manifest: Manifest) -> None:
    """Also where only a part of it is asked for: a worker believes no file that it was not told of."""
    first, second = manifest.index.shards[:2]
    wrong = replace(second, key=first.key)
    with pytest.raises(FormatError, match="is damaged: its rows are not those"):
        list(map_parts(context, paths, [Part(wrong, 0, 1)]))


def shard(rows: int, size_bytes: int) -> ShardInfo:
    return ShardInfo("0" * 64, "", "", "a", "b", rows, 1, size_bytes, size_bytes, 0)


def rows_of(parts: Iterable[Part]) -> Iterator[range]:
    return (range(part.start, part.stop) for part in parts)


@given(st.integers(1, 100), st.integers(0, 10_000), st.integers(1, 120), st.none() | st.integers(1, 1000))
@settings(max_examples=50)
def test_parts_cover_a_shard(rows: int, size_bytes: int, most: int, part_bytes: int | None) -> None:
    parts = list(parts_of([shard(rows, size_bytes)], rows=most, size_bytes=part_bytes))
    assert [row for part in rows_of(parts) for row in part] == list(range(rows))
    assert max(part.rows for part in parts) <= most


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 300), st.integers(0, 3))
@settings(max_examples=50)
def test_a_sample_is_so_many_rows(rows: list[int], count: int, seed: int) -> None:
    """Each row once, and all of them where there are no more."""
    shards = [replace(shard(n, n), key=f"{number:064}") for number, n in enumerate(rows)]
    parts = sample_of(shards, count, seed)
    drawn = [(part.shard.key, row) for part in parts for row in part.numbers().to_pylist()]
    assert len(set(drawn)) == len(drawn) == sum(part.rows for part in parts) == min(count, sum(rows))
    assert sample_of(shards, count, seed) == parts


def test_a_sample_is_drawn_from_all_rows_alike() -> None:
    shards = [replace(shard(n, n), key=f"{number:064}") for number, n in enumerate((1, 9))]
    drawn = [
        (part.shard.rows, row)
        for seed in range(2000)
        for part in sample_of(shards, 1, seed)
        for row in part.numbers().to_pylist()
    ]
    counts = [drawn.count(row) for row in set(drawn)]
    assert len(counts) == 10
    assert 140 < min(counts) <= max(counts) < 260


def test_large_entries_make_small_parts() -> None:
    assert [part.rows for part in parts_of([shard(10, 1000)], size_bytes=300)] == [3, 3, 3, 1]
    assert [part.rows for part in parts_of([shard(3, 3000)], size_bytes=300)] == [1, 1, 1]
