"""Bounded parallel work over any `concurrent.futures.Executor`."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Final, Generic, TypeVar

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


def map_completed(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, window: int
) -> Iterator[Result]:
    """As `map_bounded`, but in the order in which the calls end: a long one holds up none of the others."""
    pending: set[Future[Result]] = set()
    try:
        for item in items:
            pending.add(executor.submit(function, item))
            if len(pending) >= window:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        for future in pending:
            future.cancel()


def unlike_any() -> str:
    """An argument that makes calls differ from those before: Dask gives equal calls one result, as long as it has it,
    but what lies in a bucket changes."""
    return uuid.uuid4().hex


AHEAD: Final = 1024
"""Items that `map_paced` reads ahead of the calls, and results that calls make ahead of who takes them."""

TICK_S: Final = 0.05
"""How long `map_paced` waits, at most, before it looks how the work gets on."""


class Pace:
    """How many calls should run at once, found by trying: four times as many, where that is much faster; half as many,
    where that is nearly as fast.

    Few threads are faster than many where this machine is the bound, since those of Python wait for each other; many
    where a server takes its time. The rate at which calls end tells the one from the other, whatever they do. What was
    tried in vain is tried again later, and ever later: servers change, and so does what else the machine does.
    """

    TRIAL_S: Final = 0.1
    MUCH_FASTER: Final = 1.3
    NEARLY_AS_FAST: Final = 0.85
    FIRST_REST, LONGEST_REST = 1, 64
    """Between trials, in times of `TRIAL_S` or more."""

    def __init__(
        self,
        first: int,
        most: int,
        *,
        least: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`first` calls are tried first; `least` is the same by default, so that more are tried only."""
        self.width = min(first, most)
        """How many calls should run now."""
        self._least = self.width if least is None else min(least, most)
        self._most, self._clock = most, clock
        self._settled, self._rate = self.width, 0.0
        self._rest, self._rested = self.FIRST_REST, self.FIRST_REST
        self._try_more = True
        self._begin()

    def ended(self, calls: int) -> None:
        """Tell that so many calls have ended since it was last told."""
        if self._warm_up > 0:  # these began at another width
            self._warm_up -= calls
            self._since_s = self._clock()
            return
        self._calls += calls
        elapsed_s = self._clock() - self._since_s
        if elapsed_s >= self.TRIAL_S and self._calls >= 2 * self.width:
            self._judge(self._calls / elapsed_s)
            self._begin()

    def _begin(self) -> None:
        self._warm_up, self._calls, self._since_s = self.width, 0, self._clock()

    def _judge(self, rate: float) -> None:
        if self.width == self._settled:
            self._rested += 1
            if self._rested < self._rest:
                return
        elif rate > self._rate * (self.MUCH_FASTER if self.width > self._settled else self.NEARLY_AS_FAST):
            self._try_more = self.width > self._settled  # and further in this direction, at once
            self._settled, self._rest = self.width, self.FIRST_REST
        else:
            self.width, self._rested, self._rest = self._settled, 0, min(2 * self._rest, self.LONGEST_REST)
            self._try_more = not self._try_more
            return
        self._rate, self._rested = rate, 0
        more, fewer = min(4 * self._settled, self._most), max(self._settled // 2, self._least)
        self.width = more if (self._try_more and more > self._settled) or fewer == self._settled else fewer


class Enough:
    """How many calls should run at once: as few as keep this process busy, found by trying.

    For calls of which each is much work for this process, and perhaps waits for others before. More threads than keep
    it busy make it slower: they wait for each other, and all that changes hands costs time. What was found too few is
    tried again later: servers change, and so does what else the machine does.
    """

    TRIAL_S: Final = 0.1
    BUSY: Final = 0.6
    """Of one processor, for all threads together."""
    REMEMBERED: Final = 64
    """Trials for which a number is remembered as too few."""

    def __init__(
        self,
        first: int,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.width = min(first, most)
        """How many calls should run now."""
        self._most, self._clock, self._cpu_clock = most, clock, cpu_clock
        self._too_few = self._trials = 0
        self._begin()

    def ended(self) -> None:
        """Tell that a call has ended."""
        self._calls += 1
        elapsed_s = self._clock() - self._since_s
        if elapsed_s < self.TRIAL_S or self._calls < 2 * self.width:
            return
        self._trials += 1
        if self._trials % self.REMEMBERED == 0:
            self._too_few = 0
        if self._cpu_clock() - self._since_cpu_s < self.BUSY * elapsed_s:
            self._too_few, self.width = self.width, min(2 * self.width, self._most)
        elif self.width // 2 > self._too_few:
            self.width //= 2
        self._begin()

    def _begin(self) -> None:
        self._calls, self._since_s, self._since_cpu_s = 0, self._clock(), self._cpu_clock()


def available_cores() -> int:
    """The processor cores that this process may use, where the system tells; all there are, where it does not."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Lanes:
    """Lets as many threads of a pool work as their pace has them; the others wait."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._busy = 0
        self._changed = threading.Condition()

    @contextmanager
    def lane(self, calls: int) -> Iterator[None]:
        """Work on so many calls, when it is this thread's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._pace.width)
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._pace.ended(calls)
                self._changed.notify_all()


def map_paced(
    executor: Executor, function: Callable[[Item], Result], items: Iterable[Item], pace: Pace
) -> Iterator[list[Result]]:
    """Yield lists of results of `function(item)`, in the order in which the calls end, `pace.width` of them at once.

    For many short calls: a thread takes one item after the other without waiting for the caller. `items` may be endless
    and is read here, not in those threads. The first error (of a call or of `items`) drops what has not begun, and is
    raised when what has begun has ended, after the results of that.
    """
    crew = _Crew(function)
    rest = iter(items)
    try:
        while not crew.is_done:
            crew.feed(rest)
            crew.hire(executor, pace.width)
            results = crew.results()
            pace.ended(len(results))
            if results:
                yield results
    finally:
        crew.drop()
    if crew.error is not None:
        raise crew.error


class _Crew(Generic[Item, Result]):
    """Threads that take items from one heap and put results on another."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self.error: BaseException | None = None
        self._function = function
        self._items: deque[Item] = deque()
        self._are_all = False
        self._results: list[Result] = []
        self._hired = self._width = 0
        self._changed = threading.Condition(threading.Lock())

    @property
    def is_done(self) -> bool:
        with self._changed:
            return self._are_all and not (self._items or self._results or self._hired)

    def feed(self, rest: Iterator[Item]) -> None:
        """Read items, up to the bound."""
        if self._are_all:
            return
        room = AHEAD - len(self._items)
        try:
            more = list(islice(rest, room))
        except Exception as error:
            with self._changed:
                self._end(error)
            return
        with self._changed:
            self._are_all = self._are_all or len(more) < room
            self._items += more if self.error is None else ()

    def hire(self, executor: Executor, width: int) -> None:
        """Have as many threads as there should be and can be of use; those that are too many end by themselves."""
        with self._changed:
            self._width = width
            missing = min(width - self._hired, len(self._items))
            self._hired += max(missing, 0)
        for _ in range(missing):
            executor.submit(self._work)

    def results(self) -> list[Result]:
        """What there is after a tick, or sooner where there is something to do for the caller."""
        with self._changed:
            self._changed.wait_for(self._waits_for_caller, TICK_S)
            results, self._results = self._results, []
        return results

    def drop(self) -> None:
        """Let go of what has not begun."""
        with self._changed:
            self._items.clear()

    def _waits_for_caller(self) -> bool:
        is_hungry = not self._are_all and len(self._items) <= AHEAD // 2
        return is_hungry or not self._hired or len(self._results) >= AHEAD

    def _work(self) -> None:
        with self._changed:
            try:
                while self._items and self._hired <= self._width and len(self._results) < AHEAD:
                    item = self._items.popleft()
                    self._changed.release()
                    try:
                        result = self._function(item)
                    finally:
                        self._changed.acquire()
                    self._results.append(result)
                    if self._waits_for_caller():
                        self._changed.notify()
            except BaseException as error:
                self._end(error)
            self._hired -= 1
            self._changed.notify()

    def _end(self, error: BaseException) -> None:
        self.error = self.error or error
        self._are_all = True
        self._items.clear()
