"""Reading ahead: on bodies and a clock that each test makes as slow as it needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest

from refart.errors import ReferenceChangedError, SourceError
from refart.parallel import available_cores
from refart.sources import ahead
from refart.sources.ahead import read_ahead

DATA = bytes(n % 251 for n in range(1_000))


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "RANGE_BYTES", 100)
    monkeypatch.setattr(ahead, "_connections", threading.BoundedSemaphore(4))


@dataclass
class Server:
    """One object, and how long its bodies take."""

    wait_s: float = 1.0
    """For each chunk of a body."""
    work_s: float = 0.1
    """What is then done with it."""
    refuse: Callable[[int], Exception | None] = lambda start: None
    """What becomes of the request for the range from there on."""
    now_s: float = 0.0
    cpu_share: float = 0.0
    """Of all cores, what this process uses."""
    asked: list[tuple[int, int]] = field(default_factory=list)
    open_bodies: int = 0

    @property
    def cpu_s(self) -> float:
        return self.cpu_share * available_cores() * self.now_s

    def body(self, start: int = 0, stop: int = len(DATA)) -> Generator[bytes]:
        self.open_bodies += 1
        try:
            for at in range(start, stop, 10):
                self.now_s += self.wait_s
                yield DATA[at : min(at + 10, stop)]
        finally:
            self.open_bodies -= 1

    def open_range(self, start: int, stop: int) -> Generator[bytes]:
        self.asked.append((start, stop))
        if (refusal := self.refuse(start)) is not None:
            raise refusal
        return self.body(start, stop)

    def read(self, readers: int = 4) -> bytes:
        data = b""
        for chunk in read_ahead(
            self.body(),
            len(DATA),
            self.open_range,
            readers=readers,
            clock=lambda: self.now_s,
            cpu_clock=lambda: self.cpu_s,
        ):
            data += chunk
            self.now_s += self.work_s
        return data


def test_a_body_that_comes_fast_enough_is_all_that_is_asked_for() -> None:
    server = Server(wait_s=0.4, work_s=0.5)
    assert server.read() == DATA
    assert server.asked == []


def test_a_body_is_kept_where_the_processor_is_what_is_waited_for() -> None:
    server = Server(cpu_share=0.9)
    assert server.read() == DATA
    assert server.asked == []


@pytest.mark.parametrize("readers", [2, 3, 4])
def test_a_slow_body_is_given_up_for_ranges_that_cover_the_rest_once(readers: int) -> None:
    server = Server()
    assert server.read(readers) == DATA
    assert sorted(server.asked) == [(at, at + 100) for at in range(100, 1_000, 100)]
    assert server.open_bodies == 0


def test_a_body_that_becomes_slow_in_the_middle() -> None:
    server = Server(wait_s=0.0)
    body = server.body()

    def slower() -> Generator[bytes]:
        for number, chunk in enumerate(body):
            server.now_s += number > 45
            yield chunk

    chunks = read_ahead(
        slower(), len(DATA), server.open_range, clock=lambda: server.now_s, cpu_clock=lambda: server.cpu_s
    )
    assert b"".join(chunks) == DATA
    assert server.asked[0][0] == 500


def test_what_is_nearly_there_is_awaited() -> None:
    server = Server()
    body = server.body(0, 200)
    chunks = read_ahead(
        body, 200, server.open_range, clock=lambda: server.now_s, cpu_clock=lambda: server.cpu_s
    )
    assert b"".join(chunks) == DATA[:200]
    assert server.asked == []


def test_a_server_without_ranges_is_asked_for_one_only_once() -> None:
    server = Server(refuse=lambda start: SourceError("no ranges here"))
    assert server.read() == DATA
    assert server.asked == [(100, 200)]


def test_ranges_are_of_one_object_or_an_error() -> None:
    server = Server(refuse=lambda start: ReferenceChangedError("another") if start == 600 else None)
    with pytest.raises(ReferenceChangedError, match="another"):
        server.read()
    assert server.open_bodies == 0
    assert Server().read() == DATA, "the readers are free again"


def test_a_body_that_breaks_while_it_is_slow_raises_its_error() -> None:
    server = Server(refuse=lambda start: SourceError("broke off") if start == 300 else None)
    with pytest.raises(SourceError, match="broke off"):
        server.read()


def test_leaving_early_lets_go_of_all_that_was_begun() -> None:
    server = Server()
    chunks = read_ahead(
        server.body(),
        len(DATA),
        server.open_range,
        clock=lambda: server.now_s,
        cpu_clock=lambda: server.cpu_s,
    )
    for _ in range(25):
        next(chunks)
    assert server.asked
    chunks.close()
    assert server.open_bodies == 0
    assert Server().read() == DATA


def test_few_ranges_are_in_memory_at_once() -> None:
    """However slow the one who takes them is."""
    server = Server()
    chunks = read_ahead(
        server.body(),
        len(DATA),
        server.open_range,
        readers=2,
        clock=lambda: server.now_s,
        cpu_clock=lambda: server.cpu_s,
    )
    taken = sum(len(next(chunks)) for _ in range(15))
    assert all(start < taken + 300 for start, _ in server.asked)
    chunks.close()


@pytest.mark.parametrize("others", [3, 4])
def test_where_others_have_the_connections_the_body_is_kept(others: int) -> None:
    with ahead._free_connections(others):
        server = Server()
        assert server.read() == DATA
        assert server.asked == []
