"""One listing in many ranges: every key once, from servers that do as S3 does and from those that do not."""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refart.errors import SourceError
from refart.parallel import Enough
from refart.sources import splitting
from refart.sources.listed import Listed, Row, batch_of, listed
from refart.sources.splitting import Elsewhere, Ranged, in_a_row, rest

BELOW = "data/"


class Server:
    """Lists its keys as S3 does, `page` at a time."""

    def __init__(self, keys: list[str], page: int = 1000) -> None:
        self.keys, self.page = sorted(set(keys)), page
        self.gave_up = self.requests = 0

    def ask(self, after: str, following: Any) -> Listed:
        self.requests += 1
        return self.answer(following if following is not None else bisect_right(self.keys, after))

    def answer(self, start: int) -> Listed:
        page = self.keys[start : start + self.page]
        stop = start + len(page)
        rows = batch_of(Row(key, 1, "none", None) for key in page)
        return listed(rows, page, stop if stop < len(self.keys) else None)

    def list_all(self, at_once: int = 8, first_responses: int = 2, *, far: bool = False) -> list[str]:
        """As a scan does: the first responses one after another, the rest in ranges, if `far` by an executor."""
        if far:
            with ThreadPoolExecutor(2) as workers:
                asked = Elsewhere(
                    workers, lambda prefix, wanted: [in_a_row(self.ask, *one) for one in wanted]
                )
                return self._list_all(at_once, first_responses, asked)
        return self._list_all(at_once, first_responses, None)

    def _list_all(self, at_once: int, first_responses: int, elsewhere: Elsewhere | None) -> list[str]:
        told: list[str] = []
        response = self.ask("", None)
        for _ in range(first_responses - 1):
            told += response.objects.column("key").to_pylist()
            if response.is_last:
                return told
            response = self.ask("", response.following)
        told += response.objects.column("key").to_pylist()
        if not response.is_last:
            for batch in rest(self.ranged(at_once), BELOW, response, first_responses, elsewhere):
                keys = batch.column("key").to_pylist()
                assert keys == sorted(keys)
                told += keys
        return told

    def ranged(self, at_once: int) -> Ranged:
        return Ranged(self.ask, BELOW, "listing s3://b/data/", at_once, self.give_up)

    def give_up(self) -> None:
        self.gave_up += 1


keys = st.lists(
    st.one_of(
        st.text("ab/0", min_size=1, max_size=4),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6),
    ).map(BELOW.__add__),
    max_size=120,
)


@given(keys, st.integers(1, 7), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_every_key_is_told_once(
    keys: list[str], page: int, at_once: int, first_responses: int, far: bool
) -> None:
    server = Server(keys, page)
    assert sorted(server.list_all(at_once, first_responses, far=far)) == server.keys
    assert not server.gave_up


@given(keys, st.integers(1, 7))
def test_siblings_of_the_prefix_are_not_listed_to_their_end(keys: list[str], page: int) -> None:
    """A listing of `data` begins with `data/`, and goes on with `data2`."""
    server = Server([*keys, *(f"data2/{n:03}" for n in range(300))], page)
    told = server.list_all()
    wanted = {key for key in server.keys if key.startswith(BELOW)}
    assert wanted <= set(told)
    assert len(told) == len(set(told))
    assert server.requests < len(wanted) / page + splitting.FREE_MISSES + 300 / page


# --- how many requests, one after another and in all


class Rounds:
    """Stands for the pool: answers all requests made so far at once, and counts how often it had to."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.rounds = 0
        self._asked: list[Callable[[], None]] = []
        self._answered: deque[Any] = deque()

    def submit(self, after: str, following: Any, hi: str | None) -> Future[Listed]:
        answer: Future[Listed] = Future()
        self._asked.append(lambda: answer.set_result(self._server.ask(after, following)))
        return answer

    def flush(self) -> None:
        pass

    def put(self, answer: Any) -> None:
        self._answered.append(answer)

    def empty(self) -> bool:
        return not self._answered

    def get(self) -> Any:
        if not self._answered:
            self.rounds += 1
            asked, self._asked = self._asked, []
            for answer in asked:
                answer()
        return self._answered.popleft()


def flat(count: int) -> Iterator[str]:
    return (f"{random.Random(n).getrandbits(128):032x}" for n in range(count))


def hot(count: int) -> Iterator[str]:
    """One folder that has nine of ten."""
    few = (f"{folder}{number:02}/part-{number:05}" for folder in "abxyz" for number in range(count // 50))
    return itertools.chain(few, (f"hot/{key}" for key in flat(count * 9 // 10)))


def dates(count: int) -> Iterator[str]:
    days = [(month, day) for month in range(1, 13) for day in range(1, 29)]
    return (
        f"date=2024-{month:02}-{day:02}/part-{number:06}.parquet"
        for month, day in days
        for number in range(count // len(days))
    )


def numbered(count: int) -> Iterator[str]:
    return (f"img_{number:09}.jpg" for number in range(count))


@pytest.mark.parametrize("layout", [flat, hot, dates, numbered])
def test_any_layout_is_spread_over_all_requests(
    layout: Callable[[int], Iterator[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 responses, of which 32 come at once: 10 rounds are the least, 300 the most. No layout is known before."""
    monkeypatch.setattr(splitting, "FIRST_AT_ONCE", 32)
    monkeypatch.setattr(Enough, "TRIAL_S", math.inf)  # so many all the time
    server = Server([BELOW + key for key in layout(30_000)], page=100)
    first, rounds = server.ask("", None), Rounds(server)
    listing = splitting._Listing(server.ranged(32), BELOW, rounds)
    listing._answers = rounds  # type: ignore[assignment]
    told = first.objects.num_rows + sum(batch.num_rows for batch in listing.run(first, 1))
    assert told == len(server.keys)
    assert rounds.rounds < 40
    assert server.requests < 2 * len(server.keys) / server.page


def test_as_many_requests_at_once_as_wanted_and_no_more() -> None:
    server, running, most = Server([BELOW + key for key in flat(3_000)], page=10), 0, 0
    ask = server.ask

    def counted(after: str, following: Any) -> Listed:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return ask(after, following)
        finally:
            running -= 1

    server.ask = counted  # type: ignore[method-assign]
    assert sorted(server.list_all(at_once=3)) == server.keys
    assert most <= 3


# --- servers that do not do as S3 does


class FromTheBeginning(Server):
    """Takes no notice of the key to begin after."""

    def ask(self, after: str, following: Any) -> Listed:
        self.requests += 1
        return self.answer(following or 0)


@pytest.mark.parametrize("far", [False, True])
def test_a_server_that_does_not_begin_where_asked_is_listed_in_one_range(far: bool) -> None:
    server = FromTheBeginning([BELOW + key for key in flat(500)], page=10)
    assert sorted(server.list_all(far=far)) == server.keys
    assert server.gave_up
    assert server.requests < 50 + splitting.FREE_MISSES * (splitting.IN_A_ROW if far else 1)


class WithTheStart(Server):
    """Lists the key that it was to begin after once more."""

    def ask(self, after: str, following: Any) -> Listed:
        self.requests += 1
        return self.answer(following if following is not None else bisect_left(self.keys, after))


@given(keys, st.integers(2, 7), st.booleans())
def test_a_key_listed_twice_is_told_once(keys: list[str], page: int, far: bool) -> None:
    server = WithTheStart(keys, page)
    assert sorted(server.list_all(far=far)) == server.keys


class Shuffled(Server):
    """Lists in order until it was asked `orderly` times."""

    orderly = 0

    def answer(self, start: int) -> Listed:
        response = super().answer(start)
        if self.requests <= self.orderly or response.objects.num_rows < 2:
            return response
        keys = response.objects.column("key").to_pylist()[::-1]
        return listed(batch_of(Row(key, 1, "none", None) for key in keys), keys, response.following)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("orderly", [2, 5, 20])
def test_keys_out_of_order_are_an_error_that_the_next_listing_does_not_meet(orderly: int, far: bool) -> None:
    server = Shuffled([BELOW + key for key in flat(500)], page=10)
    server.orderly = orderly
    with pytest.raises(SourceError, match="does not list keys in order; nothing was added") as caught:
        server.list_all(far=far)
    assert caught.value.transient
    assert server.gave_up


class Late(Server):
    """Leaves out what comes first after a key that is none of its own."""

    def __init__(self, keys: list[str], page: int, left_out: int) -> None:
        super().__init__(keys, page)
        self.left_out = left_out

    def ask(self, after: str, following: Any) -> Listed:
        if following is not None or not after or after in self.keys:
            return super().ask(after, following)
        self.requests += 1
        return self.answer(bisect_right(self.keys, after) + self.left_out)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("left_out", [1, 4, 25])
def test_what_a_range_leaves_out_at_its_beginning_is_asked_for_again(left_out: int, far: bool) -> None:
    """The range before it tells what comes there."""
    server = Late([BELOW + key for key in flat(1_000)], 10, left_out)
    assert sorted(server.list_all(far=far)) == server.keys


def test_a_listing_that_goes_round_in_circles_is_an_error() -> None:
    server = Server([BELOW + key for key in flat(500)], page=10)
    answer = server.answer
    server.answer = lambda start: answer(min(start, 480))  # type: ignore[method-assign]
    stuck = listed(pa.RecordBatch.from_pylist([], answer(0).objects.schema), [], 7)
    server.ask = lambda after, following: stuck if following else answer(0)  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="round in circles"):
        list(rest(server.ranged(4), BELOW, answer(0), 1))


class NeverAtWork(Executor):
    """Lets go of what it is given, as an executor that is shut down does."""

    def submit(self, *_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


def test_workers_that_are_gone_are_an_error_and_not_waited_for() -> None:
    server = Server([BELOW + key for key in flat(500)], page=10)
    elsewhere = Elsewhere(NeverAtWork(), lambda prefix, asked: [])
    with pytest.raises(CancelledError):
        list(rest(server.ranged(4), BELOW, server.ask("", None), 1, elsewhere))


def test_few_ranges_are_kept_of_a_long_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking among them must not take longer the more were listed."""
    most, forget = 0, splitting._Listing._forget

    def forgetting(listing: splitting._Listing, span: splitting._Range) -> None:
        nonlocal most
        forget(listing, span)
        most = max(most, len(listing._ranges))

    monkeypatch.setattr(splitting._Listing, "_forget", forgetting)
    server = Server([BELOW + key for key in hot(20_000)], page=10)
    assert sorted(server.list_all(at_once=16)) == server.keys
    assert most < 4 * 16 + splitting.SKIPS


def test_a_key_longer_than_any_costs_no_more_than_others() -> None:
    server = Server([BELOW + "k" * 1_000_000 + str(n) for n in range(40)], page=10)
    assert sorted(server.list_all()) == server.keys


def test_an_error_of_one_range_ends_the_listing() -> None:
    server = Server([BELOW + key for key in flat(500)], page=10)
    ask = server.ask

    def broken(after: str, following: Any) -> Listed:
        if server.requests > 20:
            raise SourceError("the server hung up")
        return ask(after, following)

    server.ask = broken  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="hung up"):
        server.list_all()
