"""Bounded parallel work over any `concurrent.futures.Executor`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def thread_pool(threads: int) -> Iterator[Executor]:
    """A pool of named threads; on an error, work that has not begun is dropped before the error goes on."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="refart")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)


def map_bounded(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, window: int
) -> Iterator[Result]:
    """Yield `function(item)` in the order of `items`, with at most `window` calls submitted ahead.

    `items` may be endless: it is read only as results are taken, so memory is bounded by the window. The first
    error (of a call or of `items`) cancels what has not begun and is raised.
    """
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
