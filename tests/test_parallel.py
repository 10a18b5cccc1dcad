"""Bounded parallel work: order, bound, errors, endless input."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from refart import parallel
from refart.parallel import (
    Enough,
    Lanes,
    Pace,
    Stopped,
    check_stopped,
    map_bounded,
    map_completed,
    map_paced,
    thread_pool,
)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8), st.integers(1, 4))
@settings(max_examples=30)
def test_results_come_in_the_order_of_the_items(items: list[int], window: int, threads: int) -> None:
    with thread_pool(threads) as pool:
        assert list(map_bounded(pool, lambda x: x * 2, items, window=window)) == [x * 2 for x in items]


class Counted:
    """Endless items that tell how many were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.taken += 1
            yield number


@pytest.mark.parametrize("window", [1, 2, 7])
def test_endless_input_is_read_only_as_results_are_taken(window: int) -> None:
    items = Counted()
    with thread_pool(2) as pool:
        results = map_bounded(pool, lambda x: x, items, window=window)
        assert items.taken == 0, "nothing begins before a result is asked for"
        for number in range(20):
            assert next(results) == number
            assert items.taken == number + window
        results.close()


def test_at_most_a_window_of_calls_is_under_way() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    with thread_pool(16) as pool:
        list(map_bounded(pool, work, range(200), window=3))
    assert most <= 3


def test_calls_really_run_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=30)
    with thread_pool(4) as pool:
        assert len(list(map_bounded(pool, lambda _: meeting.wait(), range(4), window=4))) == 4


class Recording(ThreadPoolExecutor):
    """A pool of one thread that remembers what was submitted."""

    def __init__(self) -> None:
        super().__init__(1)
        self.futures: list[Future] = []

    def submit(self, *args, **kwargs):
        self.futures.append(super().submit(*args, **kwargs))
        return self.futures[-1]


def test_the_first_error_is_raised_in_its_place_and_cancels_what_has_not_begun() -> None:
    started = []
    failed = threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number == 2:
            failed.set()
            raise ValueError("two")
        return number

    with Recording() as pool:
        results = map_bounded(pool, work, itertools.count(), window=3)
        assert [next(results), next(results)] == [0, 1]
        blocker = pool.submit(failed.wait, 30)  # the thread is busy: later items have not begun
        with pytest.raises(ValueError, match="two"):
            next(results)
        assert blocker.result()
    assert started[:3] == [0, 1, 2]
    assert all(future.done() for future in pool.futures), "nothing is left waiting"


def test_calls_that_have_not_begun_when_the_caller_stops_are_cancelled() -> None:
    release = threading.Event()
    began = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            began.set()
            release.wait(30)
        return number

    with Recording() as pool:
        results = map_bounded(pool, work, itertools.count(), window=5)
        assert next(results) == 0
        began.wait(30)
        results.close()
        release.set()
        assert [future.cancelled() for future in pool.futures] == [False, False, True, True, True]


def test_results_come_as_calls_end_where_order_does_not_matter() -> None:
    """The first call ends only after the result of another one was taken."""
    taken = threading.Event()

    def work(number: int) -> int:
        assert number != 0 or taken.wait(60)
        return number

    with thread_pool(2) as pool:
        results = map_completed(pool, work, range(20), window=3)
        first = next(results)
        taken.set()
        assert first != 0
        assert sorted([first, *results]) == list(range(20))


def test_an_error_of_a_completed_call_is_raised_and_cancels_what_has_not_begun() -> None:
    with Recording() as pool:
        with pytest.raises(ZeroDivisionError):
            list(map_completed(pool, lambda number: 1 // number, itertools.count(), window=4))
        assert all(future.done() for future in pool.futures), "nothing is left waiting"


def test_an_error_of_the_items_is_raised_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("items")

    with thread_pool(1) as pool, pytest.raises(KeyError, match="items"):
        list(map_bounded(pool, lambda x: x, items(), window=4))


def test_an_error_inside_a_pool_drops_what_has_not_begun() -> None:
    release = threading.Event()

    def fail_while_one_runs_and_one_waits() -> None:
        with thread_pool(1) as pool:
            pool.submit(release.wait, 30)
            waiting = pool.submit(pytest.fail, "this must not run")
            waiting.add_done_callback(lambda dropped: dropped.cancelled() and release.set())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_while_one_runs_and_one_waits()
    assert release.is_set()


def test_a_pool_waits_for_its_work() -> None:
    done: list[int] = []
    with thread_pool(2) as pool:
        for number in range(50):
            pool.submit(done.append, number)
    assert sorted(done) == list(range(50))


def begun_then(error: BaseException, checks: Iterator[int]) -> Future[None]:
    """A call that checks whether it is stopped, so often as `checks` says, in a pool that `error` ends meanwhile."""
    begun, nothing = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        for _ in checks:
            nothing.wait(0.001)
            check_stopped()

    def use_pool() -> None:
        nonlocal call
        with thread_pool(1) as pool:
            call = pool.submit(work)
            assert begun.wait(10)
            raise error

    call: Future[None] = Future()
    with pytest.raises(type(error)):
        use_pool()
    return call


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_work_that_has_begun_ends_soon_where_a_person_stops_it(error: type[BaseException]) -> None:
    call = begun_then(error(), checks=itertools.count())
    assert isinstance(call.exception(), Stopped)


def test_work_that_has_begun_is_finished_after_an_error() -> None:
    call = begun_then(ValueError(), checks=iter(range(50)))
    assert call.exception() is None


def test_a_thread_of_no_pool_is_never_stopped() -> None:
    check_stopped()


# -- paced ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(), max_size=60), st.integers(1, 4), st.integers(1, 8))
@settings(max_examples=30)
def test_every_item_is_called_once(items: list[int], least: int, most: int) -> None:
    with thread_pool(most) as pool:
        results = [x for xs in map_paced(pool, lambda x: x * 2, items, Pace(least, most)) for x in xs]
    assert sorted(results) == sorted(x * 2 for x in items)


def test_paced_calls_take_few_items_and_make_few_results_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "AHEAD", 10)
    items = Counted()
    with thread_pool(2) as pool:
        results = map_paced(pool, lambda x: x, items, Pace(2, 2))
        taken = 0
        while taken < 100:
            taken += len(next(results))
            assert items.taken <= taken + 10 + 12, "a heap of items, a heap of results, two under way"
        results.close()


def test_paced_calls_run_at_the_same_time_but_no_more_than_they_should() -> None:
    meeting = threading.Barrier(3, timeout=30)
    with thread_pool(8) as pool:
        assert sum(map(len, map_paced(pool, lambda _: meeting.wait(), range(6), Pace(3, 3)))) == 6
    running, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    with thread_pool(8) as pool:
        list(map_paced(pool, work, range(500), Pace(3, 3)))
    assert most <= 3


def test_what_has_begun_counts_before_an_error_is_raised() -> None:
    """An error in one thread, while another is in the middle of its call."""
    begun, failed = threading.Event(), threading.Event()

    def work(number: int) -> int:
        if number == 0:
            begun.set()
            assert failed.wait(30)
        elif number == 1:
            assert begun.wait(30)
            failed.set()
            raise KeyError("one")
        return number

    done: list[int] = []

    def use() -> None:
        with thread_pool(2) as pool:
            for results in map_paced(pool, work, range(100), Pace(2, 2)):
                done.extend(results)

    with pytest.raises(KeyError, match="one"):
        use()
    assert done == [0]


def test_an_error_of_the_items_ends_paced_calls_too() -> None:
    def items() -> Iterator[int]:
        yield from range(2_000)
        raise KeyError("items")

    def use() -> None:
        with thread_pool(1) as pool:
            list(map_paced(pool, lambda x: x, items(), Pace(1, 1)))

    with pytest.raises(KeyError, match="items"):
        use()


class Simulated:
    """Calls of a given kind, on a clock of its own: how long `width` of them take at once."""

    def __init__(self, most: int, rate: Callable[[int], float]) -> None:
        self.now_s = 0.0
        self.rate = rate
        self.pace = Pace(2, most, least=1, clock=lambda: self.now_s)

    def run(self, seconds: float) -> int:
        for _ in range(int(seconds / 0.05)):
            self.now_s += 0.05
            self.pace.ended(int(self.rate(self.pace.width) * 0.05))
        return self.pace.width


def waits(width: int) -> float:
    """Calls a second where each waits 50 ms for a server."""
    return width * 20


def computes(width: int) -> float:
    """Calls a second where each needs the processor, which more threads only make a little slower."""
    return 4000 - 20 * width


def test_slow_servers_are_asked_by_many_threads_and_a_busy_processor_by_few() -> None:
    assert Simulated(32, waits).run(3) == 32
    assert Simulated(32, computes).run(3) == 1
    assert Simulated(32, lambda width: min(20 * width, 160)).run(5) == 8


def test_fewer_than_the_first_are_tried_only_where_that_is_wanted() -> None:
    work = Simulated(32, computes)
    work.pace = Pace(2, 32, clock=lambda: work.now_s)
    assert {work.run(0.05) for _ in range(100)} == {2, 8}
    assert work.run(0.05) == 2


@pytest.mark.parametrize(("before", "after", "width"), [(computes, waits, 32), (waits, computes, 1)])
def test_work_that_becomes_another_is_tried_anew(
    before: Callable[[int], float], after: Callable[[int], float], width: int
) -> None:
    work = Simulated(32, before)
    work.run(3)
    work.rate = after
    assert work.run(20) == width


def test_trials_cost_little_where_nothing_changes() -> None:
    work = Simulated(32, waits)
    work.run(3)
    assert sum(work.run(0.05) for _ in range(1_000)) > 0.95 * 32 * 1_000


def test_a_moment_of_haste_does_not_last() -> None:
    """A rate that is high for another reason than the width, when more threads are just tried."""
    work = Simulated(32, computes)
    while work.pace.width < 4:
        work.run(0.05)
    work.rate = lambda width: 3 * computes(width)
    while work.pace.width <= 4:
        work.run(0.05)
    work.rate = computes
    assert work.run(20) == 1


def test_no_more_threads_work_than_their_pace_has_them() -> None:
    """Nor fewer: as many meet, and a lane that was left by an error is free again."""
    lanes = Lanes(Pace(3, 3))
    busy: list[int] = []
    most = [0]
    together = threading.Barrier(3)

    def work(number: int) -> None:
        with lanes.lane(1):
            busy.append(number)
            most[0] = max(most[0], len(busy))
            together.wait(30)
            busy.remove(number)
            if number % 2:
                raise ValueError(number)

    with thread_pool(8) as pool:
        calls = [pool.submit(work, number) for number in range(12)]
        assert [call.exception() is not None for call in calls] == [False, True] * 6
    assert most == [3]


def test_the_cores_of_this_process_are_counted() -> None:
    assert 1 <= parallel.available_cores() <= (os.cpu_count() or 1)


class Machine:
    """One processor, and calls of which each works for a while and waits for longer; so many at once."""

    WORK_S = 0.004

    def __init__(self, wait_s: float) -> None:
        self.wait_s, self.now_s, self.worked_s = wait_s, 0.0, 0.0

    def run(self, enough: Enough, calls: int) -> set[int]:
        """The widths that were tried."""
        widths = set()
        for _ in range(calls):
            widths.add(enough.width)
            self.worked_s += self.WORK_S
            self.now_s += max(self.WORK_S, (self.WORK_S + self.wait_s) / enough.width)
            enough.ended()
        return widths

    def enough(self) -> Enough:
        return Enough(8, 16, clock=lambda: self.now_s, cpu_clock=lambda: self.worked_s)


class TestEnough:
    @pytest.mark.parametrize(("wait_s", "width"), [(0.0, 1), (0.004, 2), (0.01, 4), (0.05, 16), (10, 16)])
    def test_as_few_as_keep_the_process_busy(self, wait_s: float, width: int) -> None:
        machine = Machine(wait_s)
        enough = machine.enough()
        machine.run(enough, 300)
        assert enough.width == width

    def test_too_few_are_not_tried_all_the_time(self) -> None:
        machine = Machine(0.01)
        enough = machine.enough()
        machine.run(enough, 300)
        assert machine.run(enough, 1_000) == {4}

    def test_a_server_that_becomes_slow_or_fast_is_noticed(self) -> None:
        machine = Machine(0.0)
        enough = machine.enough()
        machine.run(enough, 300)
        machine.wait_s = 0.05
        machine.run(enough, 300)
        assert enough.width == 16
        machine.wait_s = 0.0
        machine.run(enough, 5_000)
        assert enough.width == 1
