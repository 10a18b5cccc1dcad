"""One flat listing asked for in many ranges of keys at once, whatever the layout of the keys.

A listing goes on from response to response, each as late as the one before it. Servers that list from any key on
(`StartAfter`, `KeyMarker`) let the rest be cut into ranges that are listed beside each other. Nobody knows where the
keys lie, so ranges are cut while they are listed: wherever most seems to be left, whenever a request could be made.
A range that turns out to be empty cost one request.

No delimiter is needed. Between two keys a cut is their middle, as numbers whose digits are the characters seen so far
at each position; where nobody knows yet at what depth keys branch, cuts skip what shares a beginning with the present
one (`a/b/17`: `a/b/18`, `a/b/2`, `a/c`, `b`), which tells in one round.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import partial
from os.path import commonprefix
from queue import SimpleQueue
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits
from typing import Any, Final, Protocol, TypeAlias

import pyarrow as pa

from refart.errors import SourceError
from refart.parallel import Enough, thread_pool
from refart.sources.listed import Circles, Listed

AT_ONCE: Final = 16
"""Requests at once, at most: at 50 ms each they bring more than one core parses, and more would need more memory."""

FIRST_AT_ONCE: Final = 8
"""Requests at once in the beginning; then as few as keep this process busy (`parallel.Enough`)."""

SKIPS: Final = 10
"""Cuts made at once where nobody knows at what depth keys branch."""

TOGETHER: Final = 4
"""Responses of a range that are handed on as one batch."""

FREE_MISSES: Final = 32
"""Ranges that may turn out empty; beyond, one for every `RESPONSES_A_MISS` responses."""
RESPONSES_A_MISS: Final = 4

A_TASK: Final = 4
"""Ranges that one task of an executor lists at once."""

IN_A_ROW: Final = 4
"""Responses of each range that such a task takes one after another."""

AT_ONCE_ELSEWHERE: Final = 64
"""Requests at once by all workers of an executor, at most, unless fewer were asked for than this process would make."""

WORTH_A_CUT: Final = 2.0
"""Responses that must seem to be left of a range, for it to be cut."""

KINDS: Final = tuple(
    map(frozenset, (digits, digits + "abcdef", ascii_lowercase, ascii_uppercase, digits + ascii_letters))
)
"""What may stand at a position of keys, where some of it was seen there: the first of these that has it all."""

DIGITS: Final = 12
"""Characters beyond a common beginning that are looked at."""

SAMPLES: Final = 8
"""Keys of a response whose characters are looked at."""

LONGEST_KEY: Final = 1024
"""Characters of a key that are looked at; S3 and GCS take no more bytes."""


class Ask(Protocol):
    """One response of the listing of a prefix, asked from any thread."""

    def __call__(self, after: str, following: Any) -> Listed:
        """What follows the key `after` (`""`: from the beginning), or where `following` (`Listed.following`)
        continues."""


@dataclass(frozen=True, slots=True)
class Ranged:
    """The listing of a prefix by a server that lists in order, and from any key on."""

    ask: Ask
    prefix: str
    what: str
    """Begins the messages of errors."""
    at_once: int
    give_up: Callable[[], None]
    """Called where the server turns out not to list in order: it should not be asked for ranges again."""


Wanted: TypeAlias = tuple[str, Any, str | None]
"""A request (`Ask`), and the last key that is of interest, None where all are."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Workers that make requests, and parse what they are told, for a listing that is put together here."""

    executor: Executor
    ask: Callable[[str, list[Wanted]], list[Listed]]
    """`ask(prefix, [(after, following, hi), …])`: what `in_a_row` tells of each of these, asked at once; picklable."""


def rest(
    ranged: Ranged, below: str, last: Listed, responses: int, elsewhere: Elsewhere | None = None
) -> Iterator[pa.RecordBatch]:
    """The objects that a listing tells after its response `last`, the one with the number `responses`: each once, in
    batches of consecutive ones. All keys wanted begin with `below`, those listed at least with the listing's prefix.

    The batches come in any order. As with every listing, what is written or deleted meanwhile may be told or not.
    Raises `SourceError` where the server turns out not to list in order when it is too late to list in one range
    after all; transient, since the next listing will be a plain one.
    """
    if elsewhere is not None:
        if ranged.at_once >= AT_ONCE:
            ranged = replace(ranged, at_once=AT_ONCE_ELSEWHERE)
        yield from _Listing(ranged, below, _Far(ranged.prefix, elsewhere)).run(last, responses)
        return
    with thread_pool(ranged.at_once) as pool:
        yield from _Listing(ranged, below, _Near(ranged.ask, pool)).run(last, responses)


def in_a_row(ask: Ask, after: str, following: Any, hi: str | None) -> Listed:
    """What a request is told, and those that go on from it, as one response: at most `IN_A_ROW`, and none that begins
    behind `hi` or out of order."""
    told = [ask(after, following)]
    while (
        (last := told[-1]).in_order
        and last.following is not None
        and len(told) < IN_A_ROW
        and (hi is None or last.last_key <= hi)
        and (more := ask("", last.following)).in_order
        and more.first_key >= last.last_key
    ):
        told.append(more)
    objects = [told[0].objects]
    for listed in told[1:]:  # a key that is told once more at the beginning of the next response is told once
        keys = objects[-1].column("key")
        objects.append(_after(listed.objects, str(keys[-1])) if len(keys) else listed.objects)
    return replace(
        told[-1],
        objects=pa.concat_batches(objects),
        keys=[key for listed in told for key in listed.keys],
        current_keys=[key for listed in told for key in listed.current_keys],
    )


class _Requests(Protocol):
    """Makes requests."""

    def submit(self, after: str, following: Any, hi: str | None) -> Future[Listed]: ...

    def flush(self) -> None:
        """Called before an answer is waited for: now requests that were kept back must be made."""


class _Near:
    """Each in a thread of this process."""

    def __init__(self, ask: Ask, pool: Executor) -> None:
        self._ask, self._pool = ask, pool

    def submit(self, after: str, following: Any, hi: str | None) -> Future[Listed]:
        return self._pool.submit(self._ask, after, following)

    def flush(self) -> None:
        pass


class _Far:
    """A few at a time in a worker of an executor."""

    def __init__(self, prefix: str, elsewhere: Elsewhere) -> None:
        self._prefix, self._elsewhere = prefix, elsewhere
        self._waiting: list[tuple[Wanted, Future[Listed]]] = []

    def submit(self, after: str, following: Any, hi: str | None) -> Future[Listed]:
        answer: Future[Listed] = Future()
        self._waiting.append(((after, following, hi), answer))
        return answer

    def flush(self) -> None:
        while self._waiting:
            asked, answers = zip(*self._waiting[:A_TASK], strict=True)
            del self._waiting[:A_TASK]
            task = self._elsewhere.executor.submit(self._elsewhere.ask, self._prefix, list(asked))
            task.add_done_callback(partial(_answer, answers))


def _answer(answers: tuple[Future[Listed], ...], task: Future[list[Listed]]) -> None:
    try:
        found = task.result()
    except BaseException as error:  # whatever became of it, somebody waits for these
        for answer in answers:
            answer.set_exception(error)
    else:
        for answer, listed in zip(answers, found, strict=True):
            answer.set_result(listed)


_Asked: TypeAlias = tuple[str, Any]
"""A request: the least key that its answer may have, and what it continues, None where it begins after that key."""


@dataclass(slots=True, eq=False)
class _Range:
    """The keys after `lo`, up to and with `hi` (None: to the end)."""

    lo: str
    hi: str | None
    listed_to: str
    """The greatest key that was listed in it, and that of the last object: `lo` before its first response."""
    told_to: str
    responses: int = 0
    listed_from: str = ""
    """The least key of the last response."""
    is_explored: bool = True
    """Whether its keys seem to lie all over it. Where not, nobody knows at what depth they branch."""
    is_done: bool = False
    asked: _Asked = ("", None)
    """The last request for it."""
    left: float | None = None
    """How many responses seem to be left of it; None where that was not estimated since it changed."""
    first: str | None = None
    """The first key after `lo` of which was told what is current, `_END` for none; None before that."""
    beyond: str | None = None
    """The first key after `hi` of which was told what is current, `_END` for none; None before that, and once it was
    compared."""
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    circles: Circles | None = None


_END: Final = "\U0010ffff"
"""Stands for the end of a listing: no key comes after it."""


class _Listing:
    """What is known of one listing. All of it changes in one thread; only requests are made in others."""

    def __init__(self, ranged: Ranged, below: str, requests: _Requests) -> None:
        self._ranged, self._below, self._requests = ranged, below, requests
        self._answers: SimpleQueue[tuple[_Range, str, Future[Listed]]] = SimpleQueue()
        self._in_flight = self._responses = self._misses = 0
        self._ranges: list[_Range] = []  # by `lo`; each begins where the one before it ends
        self._ready: list[_Range] = []  # those whose next request is to be made
        self._is_cutting = True
        self._alphabets = _Alphabets()
        self._enough = Enough(FIRST_AT_ONCE, ranged.at_once)

    def run(self, last: Listed, responses: int) -> Iterator[pa.RecordBatch]:
        resume_key = last.resume_key or ""
        # What is listed besides, such as `data2` with `data/`, is not asked for.
        end = self._below[:-1] + chr(ord(self._below[-1]) + 1) if self._below else None
        first = _Range(
            self._below, end, last.last_key, resume_key, responses, last.first_key, is_explored=False
        )
        self._ranges = [first]
        self._alphabets.learn(last)
        self._ask(first, last.last_key, last.following)
        self._go_on()
        while self._in_flight:
            if self._answers.empty():
                self._requests.flush()
            span, floor, answer = self._answers.get()
            self._in_flight -= 1
            yield from self._take(span, floor, answer.result())
            self._go_on()

    # --- responses

    def _ask(self, span: _Range, floor: str, following: Any) -> None:
        """Ask for what continues a range, when it is its turn; no key of it may be less than `floor`."""
        span.asked = floor, following
        if self._in_flight < self._enough.width:
            self._submit(span)
        else:
            self._ready.append(span)

    def _go_on(self) -> None:
        """Make as many requests as there should be at once."""
        while self._ready and self._in_flight < self._enough.width:
            self._submit(self._ready.pop())  # the last one: what comes in order is not sorted
        while not self._ready and self._cut_where_worth():
            pass

    def _submit(self, span: _Range) -> None:
        floor, following = span.asked
        answer = self._requests.submit(floor if following is None else "", following, span.hi)
        answer.add_done_callback(partial(self._answered, span, floor))
        self._in_flight += 1

    def _answered(self, span: _Range, floor: str, answer: Future[Listed]) -> None:
        self._answers.put((span, floor, answer))

    def _take(self, span: _Range, floor: str, listed: Listed) -> Iterator[pa.RecordBatch]:
        if not listed.in_order or (listed.keys and listed.first_key < floor):
            self._join(span)
            return
        self._responses += 1
        self._enough.ended()
        self._alphabets.learn(listed)
        objects = _after(listed.objects, span.told_to)
        if span.first is None:
            span.first = _first_after(span.lo, listed)
        span.responses += 1
        is_past = span.hi is not None and listed.last_key > span.hi
        if is_past:
            span.beyond = _first_after(str(span.hi), listed)
            objects = objects.slice(0, objects.num_rows - _after(objects, str(span.hi)).num_rows)
        elif listed.following is None:
            span.beyond = _END
        span.is_done = span.beyond is not None
        span.listed_to, span.listed_from = max(span.listed_to, listed.last_key), listed.first_key
        span.left = None
        if objects.num_rows:
            span.waiting.append(objects)
            span.told_to = str(objects.column("key")[-1])
        elif span.is_done and span.responses == 1:
            self._misses += 1
            self._beside(span, -1).is_explored = False
        if not span.is_done:
            span.circles = span.circles or Circles(self._ranged.what)
            span.circles.check(listed.following)
            self._ask(span, listed.last_key, listed.following)
        if span.waiting and (span.is_done or len(span.waiting) >= TOGETHER):
            yield pa.concat_batches(span.waiting)
            span.waiting = []
        for left in (self._beside(span, -1), span):
            yield from self._seams(left)
        self._forget(span)

    def _forget(self, span: _Range) -> None:
        """Make ranges that are done, and whose seams were compared, one with their neighbours: few are looked at."""
        for left in (span, self._beside(span, -1)):
            right = self._beside(left, 1)
            if right is left or not (left.is_done and right.is_done) or left.beyond is not None:
                continue
            left.hi, left.beyond, left.asked = right.hi, right.beyond, right.asked
            left.first = min(left.first or _END, right.first or _END)
            left.listed_to, left.told_to = right.listed_to, max(left.told_to, right.told_to)
            self._ranges.remove(right)

    def _beside(self, span: _Range, step: int) -> _Range:
        """The neighbour of a range; at either end, itself."""
        index = self._ranges.index(span) + step
        return self._ranges[index] if 0 <= index < len(self._ranges) else span

    def _seams(self, left: _Range) -> Iterator[pa.RecordBatch]:
        """Where two ranges meet, both were told the key that comes next. Where the listing that begins there was told a
        later one, it may have left some out: what comes in between is taken from the listing that passes by."""
        while True:
            right = self._beside(left, 1)
            if right is left or not left.is_done or left.beyond is None or right.first is None:
                return
            beyond, first = left.beyond, right.first
            left.beyond, right.first = None, min(beyond, first)
            if beyond >= first:
                return
            hi = _END if right.hi is None else right.hi
            if beyond <= hi:
                stop = min(first, hi + "\0")
                for asked, listed in self._again(left.asked, stop):
                    objects = _after(listed.objects, str(left.hi))
                    yield objects.slice(0, bisect_left(objects.column("key"), stop, key=str))
                    beyond, left.asked = _first_after(hi, listed) or _END, asked
            if first <= hi:
                return
            # It has nothing, and what comes after it was left out, too.
            right.beyond, right.asked = beyond, left.asked
            left = right

    def _again(self, asked: _Asked, stop: str) -> Iterator[tuple[_Asked, Listed]]:
        """What an earlier request was told, and what follows, up to the key `stop`; each with its request."""
        circles = Circles(self._ranged.what)
        while True:
            floor, following = asked
            listed = self._ranged.ask(floor if following is None else "", following)
            if not listed.in_order or (listed.keys and listed.first_key < floor):
                raise self._out_of_order()
            yield asked, listed
            if listed.following is None or listed.current_keys[-1:] >= [stop]:
                return
            asked = listed.last_key, listed.following
            circles.check(listed.following)

    def _join(self, span: _Range) -> None:
        """A server that did not list a range from its beginning on: its keys are left to the range before it."""
        left = self._beside(span, -1)
        if span.responses or left is span:
            raise self._out_of_order()
        self._is_cutting = False
        self._ranged.give_up()
        left.hi, left.left = span.hi, None
        self._ranges.remove(span)
        if left.is_done:  # once more, since what lay beyond its end was left out
            left.is_done, left.beyond = False, None
            self._ask(left, *left.asked)

    def _out_of_order(self) -> SourceError:
        self._ranged.give_up()
        return SourceError(
            f"{self._ranged.what}: the server does not list keys in order; nothing was added: try again, then it is"
            " listed without relying on that",
            transient=True,
        )

    # --- cuts

    def _cut_where_worth(self) -> bool:
        """Cut the range of which most seems to be left; whether there was one."""
        free = self._enough.width - self._in_flight
        if (
            not self._is_cutting
            or free <= 0
            or self._misses >= FREE_MISSES + self._responses / RESPONSES_A_MISS
        ):
            return False
        followed = zip(self._ranges, [*self._ranges[1:], None], strict=True)
        candidates = [
            (self._left(span) if span.left is None else span.left, span)
            for span, right in followed
            if not span.is_done and span.responses and (right is None or right.responses)
        ]
        left, span = max(candidates, key=lambda candidate: candidate[0], default=(0.0, None))
        if span is None or left < WORTH_A_CUT:
            return False
        if span.is_explored and span.hi is not None:
            cuts = self._alphabets.between(
                span.listed_to,
                span.hi,
                int(min(free, max(1, free / len(candidates)), left / WORTH_A_CUT)),
            )
        else:
            span.is_explored = True
            cuts = self._skips(span, min(free, SKIPS))
        if not cuts:
            span.left = 0
        for cut in reversed(cuts):
            self._cut(span, cut)
        return True

    def _cut(self, span: _Range, at: str) -> None:
        new = _Range(at, span.hi, at, at)
        span.hi, span.left = at, None
        self._ranges.insert(self._ranges.index(span) + 1, new)
        self._ask(new, at, None)

    def _left(self, span: _Range) -> float:
        if span.hi is None:
            span.left = math.inf
        else:
            span.left = self._alphabets.ratio(span.listed_from, span.listed_to, span.hi)
        return span.left

    def _skips(self, span: _Range, count: int) -> list[str]:
        """Cuts that skip what shares a beginning with the last key: the least keys that do not."""
        key, hi = span.listed_to, span.hi or _END
        top = max(len(_common(key, hi)), len(self._below))
        depths = range(top, min(len(_common(key, span.listed_from)) + 1, len(key)))
        skips = {
            key[:depth] + following
            for depth in depths[:: max(1, -(-len(depths) // count))]
            if (following := _next(key[depth]))
        }
        return sorted(cut for cut in skips if key < cut < hi)


class _Alphabets:
    """The characters of keys, position by position; by them, keys are numbers."""

    def __init__(self) -> None:
        self._seen: defaultdict[int, set[str]] = defaultdict(set)

    def learn(self, listed: Listed) -> None:
        for key in listed.keys[:: max(1, len(listed.keys) // SAMPLES)]:
            for position, character in enumerate(key[:LONGEST_KEY]):
                self._seen[position].add(character)

    def ratio(self, first: str, last: str, hi: str) -> float:
        """How often the way from `first` to `last` fits into that from there to `hi`."""
        scale = _Digits(self._seen, [first, last, hi])
        low, at, high = map(scale.number, (first, last, hi))
        return (high - at) / max(at - low, 1)

    def between(self, lo: str, hi: str, count: int) -> list[str]:
        """`count` texts (or fewer) between two keys, evenly spaced, ascending."""
        scale = _Digits(self._seen, [lo, hi])
        low, high = scale.number(lo), scale.number(hi)
        texts = {scale.text(low + (high - low) * part // (count + 1)) for part in range(1, count + 1)}
        return sorted(text for text in texts if lo < text < hi)


class _Digits:
    """Numbers for texts that have a beginning in common, in their order as far as `DIGITS` characters tell."""

    def __init__(self, seen: Mapping[int, set[str]], texts: list[str]) -> None:
        self._common = _common(*texts)
        self._alphabets: list[list[str]] = []
        for position in range(len(self._common), len(self._common) + DIGITS):
            known = seen.get(position, set()) | {text[position] for text in texts if position < len(text)}
            self._alphabets.append(sorted(known | next((kind for kind in KINDS if known <= kind), known)))

    def number(self, text: str) -> int:
        number = 0
        for digit, alphabet in enumerate(self._alphabets, len(self._common)):
            rank = 1 + bisect_left(alphabet, text[digit]) if digit < len(text) else 0
            number = number * (len(alphabet) + 1) + rank
        return number

    def text(self, number: int) -> str:
        characters: list[str] = []
        for alphabet in reversed(self._alphabets):
            number, rank = divmod(number, len(alphabet) + 1)
            characters = [alphabet[rank - 1], *characters] if rank else []
        return self._common + "".join(characters)


def _common(*texts: str) -> str:
    """What texts begin with, all of them."""
    return commonprefix(texts)  # noqa: RUF071 - of texts, not of paths


def _next(character: str) -> str:
    """The character after this one; `""` after the last."""
    code = ord(character) + 1
    return "" if code > 0x10FFFF else chr(0xE000 if 0xD800 <= code < 0xE000 else code)


def _after(objects: pa.RecordBatch, key: str) -> pa.RecordBatch:
    """The objects, which are in order, with keys after this one."""
    keys = objects.column("key")
    return objects.slice(bisect_right(keys, key, key=str)) if len(keys) and str(keys[0]) <= key else objects


def _first_after(key: str, listed: Listed) -> str | None:
    """The first key after this one of which a response tells what is current, `_END` where none comes; None where it
    does not say."""
    index = bisect_right(listed.current_keys, key)
    if index < len(listed.current_keys):
        return listed.current_keys[index]
    return _END if listed.following is None else None
