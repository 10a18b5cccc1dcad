"""Work on the entries of a logged version part by part: in this process, or by the workers of an executor.

What travels to a worker is the configuration, the URL of the store, a part (a shard as the manifest index states it,
and a range of its rows) and a picklable function; what comes back is the result of that function. The worker opens the
store and the sources itself, and reads the shard: no list of entries travels, however large the version is.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from refart.config import Config
from refart.context import Context, Local
from refart.entries import Page
from refart.errors import InvalidInputError
from refart.local import local_side
from refart.manifest.index import ManifestIndex, ShardInfo
from refart.manifest.reader import Manifest
from refart.parallel import map_completed, thread_pool, unlike_any
from refart.progress import Silent, Task
from refart.store import Store, open_store

Result = TypeVar("Result")

PART_ROWS: Final = 8192
"""The most rows of a part. Each part reads its shard whole, some 0.1 s: nothing beside a request for each row."""

PART_BYTES: Final = 4 << 30  # 4 GiB
"""About how many bytes the entries of a part have, where their bytes are read."""

IN_THREADS: Final = 2
"""Parts worked on at once in this process: the second one goes on while the first one waits for its last entries."""

AHEAD: Final = 64
"""Parts submitted to an executor beyond those that have ended."""


class Part(NamedTuple):
    """Consecutive rows of one shard, or some that are drawn from them."""

    shard: ShardInfo
    start: int
    stop: int
    drawn: int | None = None
    """How many rows are drawn; None for all."""
    seed: int = 0

    @property
    def rows(self) -> int:
        return self.stop - self.start if self.drawn is None else self.drawn

    def numbers(self) -> pa.Int64Array:
        """The numbers of its rows in the shard."""
        every = range(self.start, self.stop)
        if self.drawn is None:
            return pa.array(every, pa.int64())
        noise = random.Random(f"{self.seed} {self.shard.key} {self.start}")  # noqa: S311  # no secret
        return pa.array(sorted(noise.sample(every, self.drawn)), pa.int64())


@dataclass(frozen=True, slots=True)
class Worker:
    """What a function has at hand where it runs: in a thread of this process, or on another machine."""

    local: Local
    store: Store
    task: Task | None = None
    """Shows progress; None elsewhere, where nobody sees it."""

    def pages(self, part: Part) -> Iterator[Page]:
        """The rows of a part. The whole shard is read, and compared with what the index states; errors as of
        `Manifest.shard_pages`."""
        row, numbers = 0, part.numbers()
        for page in Manifest(self.store, ManifestIndex((part.shard,))).shard_pages(part.shard):
            first, last = (
                bisect_left(numbers, row, key=_value),
                bisect_left(numbers, row + page.num_rows, key=_value),
            )
            if first < last:
                yield page.take(pc.subtract(numbers.slice(first, last - first), row))
            row += page.num_rows

    def advance(self, entries: int, *, size_bytes: int = 0) -> None:
        """Report finished entries, where somebody watches."""
        if self.task is not None:
            self.task.advance(entries, size_bytes=size_bytes)


def parts_of(
    shards: Iterable[ShardInfo], *, rows: int = PART_ROWS, size_bytes: int | None = None
) -> Iterator[Part]:
    """Cut shards into parts of at most so many rows and, by the mean size of their entries, about so many bytes.

    The cuts follow from the arguments and the shard, so that they are the same in the next call.
    """
    for shard in shards:
        most = rows
        if size_bytes is not None and shard.size_bytes:
            most = max(min(rows, size_bytes * shard.rows // shard.size_bytes), 1)
        for start in range(0, shard.rows, most):
            yield Part(shard, start, min(start + most, shard.rows))


def sample_of(shards: Iterable[ShardInfo], count: int, seed: int) -> list[Part]:
    """Draw so many rows from all of some shards, each with the same chance; the same ones for the same seed.

    What is drawn is told by numbers, so nothing is read for it. All parts where there are no more rows. Raises
    `InvalidInputError` for a number of rows that cannot be drawn.
    """
    if count < 1:
        raise InvalidInputError(f"sample must be at least 1, not {count}")
    shards = list(shards)
    ends = list(accumulate(shard.rows for shard in shards))
    if not shards or count >= ends[-1]:
        return list(parts_of(shards))
    noise = random.Random(seed)  # noqa: S311  # no secret
    drawn = Counter(bisect_right(ends, row) for row in noise.sample(range(ends[-1]), count))
    return [Part(shards[n], 0, shards[n].rows, drawn[n], seed) for n in sorted(drawn)]


def map_parts(
    context: Context,
    function: Callable[[Worker, Part], Result],
    parts: Iterable[Part],
    *,
    executor: Executor | None = None,
    task: Task | None = None,
) -> Iterator[tuple[Part, Result]]:
    """Yield each part with `function(worker, part)`, in the order in which the calls end.

    In threads of this process (`IN_THREADS` parts at once: the function spreads its requests over threads of its own),
    or by the workers of `executor`, which must see the same configuration, files and credentials, and a store that
    does not live in the memory of this process. `function` is then a function of a module, or a `partial` of one with
    small arguments. The first error drops what has not begun and is raised.
    """
    if executor is None:
        worker = Worker(context.local, context.store, task)
        with thread_pool(IN_THREADS) as pool:
            yield from map_completed(
                pool, partial(_with_part, partial(function, worker)), parts, window=IN_THREADS
            )
        return
    work = partial(_elsewhere, unlike_any(), context.local.config, context.store.url, function)
    for part, result in map_completed(executor, work, parts, window=AHEAD):
        if task is not None:
            task.advance(part.rows)
        yield part, result


def add_up(total: Any, part: Any) -> None:
    """Add the report of a part (a dataclass of numbers, lists, and numbers by name) to that of the whole."""
    for name in (field.name for field in fields(total)):
        whole, found = getattr(total, name), getattr(part, name)
        if isinstance(found, dict):
            for key, count in found.items():
                whole[key] = whole.get(key, 0) + count
        elif not isinstance(found, str):
            setattr(total, name, whole + found)


def _value(number: pa.Int64Scalar) -> int:
    return int(number.as_py())


def _with_part(function: Callable[[Part], Result], part: Part) -> tuple[Part, Result]:
    return part, function(part)


def _elsewhere(
    _call: str, config: Config, store_url: str, function: Callable[[Worker, Part], Result], part: Part
) -> tuple[Part, Result]:
    """Runs in a worker, perhaps on another machine."""
    local = replace(local_side(config), reporter=Silent())
    return part, function(Worker(local, opened_store(config, store_url)), part)


_lock = threading.Lock()
_opened: tuple[Config, Store] | None = None


def opened_store(config: Config, url: str) -> Store:
    """The store at a URL, opened once by each process of an executor."""
    global _opened  # one cached object, as in `local`: it holds connections
    with _lock:
        if _opened is None or _opened[1].url != url or _opened[0] != config:
            store = open_store(url, config.options_for(url), create=False, single_writer=config.single_writer)
            _opened = config, store
        return _opened[1]
