"""Progress: plain lines, bars, silence; and text from outside that cannot drive a terminal."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import given

from refart import progress
from refart.progress import Plain, Rich, Silent, format_bytes, printable


def test_plain_shows_every_step_when_no_time_needs_to_pass() -> None:
    stream = io.StringIO()
    with Plain(stream, every_s=0).task("Reading", total=2000, unit="files") as task:
        task.advance(1500)
        task.advance(500, size_bytes=3 << 20)
    assert stream.getvalue().splitlines() == [
        "Reading: 1,500 of 2,000 files",
        "Reading: 2,000 of 2,000 files, 3.0 MiB",
        "Reading: 2,000 of 2,000 files, 3.0 MiB, done",
    ]


def test_plain_says_nothing_of_work_that_ends_soon() -> None:
    stream = io.StringIO()
    with Plain(stream, every_s=3600).task("Reading") as task:
        task.advance(10)
    assert stream.getvalue() == ""


def test_plain_speaks_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    stream = io.StringIO()
    with Plain(stream, every_s=5).task("Reading") as task:
        for _ in range(20):
            now_s += 1
            task.advance()
    assert stream.getvalue().splitlines() == [
        *(f"Reading: {count} entries" for count in (5, 10, 15, 20)),
        "Reading: 20 entries, done",
    ]


def test_plain_tells_the_end_of_work_that_failed() -> None:
    stream = io.StringIO()
    failing = Plain(stream, every_s=0).task("Reading")
    failing.__enter__().advance()
    assert not failing.__exit__(ValueError, ValueError(), None), "the error goes on"
    assert stream.getvalue().splitlines()[-1].startswith("Reading: 1 entries")


def test_plain_counts_right_from_many_threads_and_never_mixes_lines() -> None:
    stream = io.StringIO()
    with (
        Plain(stream, every_s=0).task("Reading", unit="files") as task,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda _: task.advance(1, size_bytes=1024), range(400)))
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "Reading: 400 files, 400.0 KiB, done"
    assert [line.split()[1] for line in lines[:-1]] == [str(n) for n in range(1, 401)]


def test_bars_are_gone_when_the_work_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    label = "Downloading [bold]x[/bold] to \x1b[2J"
    with Rich().task(label, total=4, unit="files") as task, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: task.advance(1, size_bytes=1 << 20), range(4)))
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b[2J" not in err


def test_bars_may_stand_inside_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    reporter = Rich()
    for _ in range(2):
        with reporter.task("Listing") as outer, reporter.task("Hashing", total=2) as inner:
            outer.advance(5)
            inner.advance(1, size_bytes=1024)
    shown = capsys.readouterr().err
    assert all(label in shown for label in ("Listing", "Hashing"))


def test_silence() -> None:
    with Silent().task("x") as task:
        task.advance(3, size_bytes=3)


def test_bars_only_where_a_person_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, kind in ((Terminal(), Rich), (io.StringIO(), Silent), (None, Silent)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert isinstance(progress.default_reporter(), kind)


@given(st.text())
def test_what_is_shown_cannot_drive_a_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202egnp", r"\u202egnp"),
        ("é🐈", "é🐈"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_sizes_for_people(size: int, shown: str) -> None:
    assert format_bytes(size) == shown
