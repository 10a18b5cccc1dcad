"""Bounded parallel work over any `concurrent.futures.Executor`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(BaseException):
    """Ends a call whose result nobody waits for any more. No `Exception`: it is nothing to handle, retry or report."""


_thread = threading.local()


def check_stopped() -> None:
    """Raise `Stopped` where the pool that this thread works for was stopped; long work calls it between two steps."""
    stop: threading.Event | None = getattr(_thread, "stop", None)
    if stop is not None and stop.is_set():
        raise Stopped


def _stop_with(stop: threading.Event) -> None:
    _thread.stop = stop


@contextmanager
def thread_pool(threads: int) -> Iterator[Executor]:
    """A pool of named threads; on an error, work that has not begun is dropped before the error goes on.

    Calls that have begun are finished, so that what they did counts; but not where a person stopped the program
    (Ctrl-C): they end at their next `check_stopped`.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="refart", initializer=_stop_with, initargs=(stop,))
    try:
        yield pool
    except BaseException as error:
        if not isinstance(error, Exception):
            stop.set()
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
