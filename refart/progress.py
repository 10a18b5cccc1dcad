"""Progress of long work: one small protocol, with a silent, a plain and a rich implementation.

Verbs report to the `Reporter` of their context; who shows it decides how. Reporting is thread-safe and cheap:
verbs call `advance` once a page, not once an entry, where they can.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol


class Task(Protocol):
    def advance(self, count: int = 1, *, size_bytes: int = 0) -> None:
        """Report `count` more finished units and `size_bytes` more moved bytes."""


class Reporter(Protocol):
    def task(self, label: str, *, total: int | None = None, unit: str = "entries") -> Any:
        """A context manager that yields a `Task`; `total` is unknown for a listing."""


class _SilentTask:
    def advance(self, count: int = 1, *, size_bytes: int = 0) -> None:
        pass


class Silent:
    """Shows nothing: the default of the library away from a terminal."""

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "entries") -> Iterator[Task]:
        yield _SilentTask()


class _PlainTask:
    def __init__(self, owner: Plain, label: str, total: int | None, unit: str) -> None:
        self._owner, self._label, self._total, self._unit = owner, label, total, unit
        self._lock = threading.Lock()
        self._count = self._bytes = 0
        self._shown = False
        self._next_s = time.monotonic() + owner.every_s

    def advance(self, count: int = 1, *, size_bytes: int = 0) -> None:
        with self._lock:
            self._count += count
            self._bytes += size_bytes
            now_s = time.monotonic()
            if now_s >= self._next_s:
                self._next_s = now_s + self._owner.every_s
                self._shown = True
                self._write("")

    def close(self) -> None:
        with self._lock:
            if self._shown:
                self._write(", done")

    def _write(self, end: str) -> None:
        of = f" of {self._total:,}" if self._total is not None else ""
        moved = f", {format_bytes(self._bytes)}" if self._bytes else ""
        print(
            f"{printable(self._label)}: {self._count:,}{of} {self._unit}{moved}{end}",
            file=self._owner.stream,
            flush=True,
        )


class Plain:
    """One line to `stream` (stderr) every `every_s` seconds; nothing at all for work that ends sooner."""

    def __init__(self, stream: IO[str] | None = None, every_s: float = 5.0) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.every_s = every_s

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "entries") -> Iterator[Task]:
        task = _PlainTask(self, label, total, unit)
        try:
            yield task
        finally:
            task.close()


class Rich:
    """Progress bars on stderr, one a task, removed when its work is done. Imports rich on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Any = None  # one display for all tasks of the moment: a terminal has room for one
        self._open = 0

    @contextmanager
    def task(self, label: str, *, total: int | None = None, unit: str = "entries") -> Iterator[Task]:
        bars = self._begin()
        row = bars.add_task(printable(label), total=total, unit=unit, moved="")
        moved_bytes = 0
        lock = threading.Lock()

        class RichTask:
            def advance(self, count: int = 1, *, size_bytes: int = 0) -> None:
                nonlocal moved_bytes
                with lock:
                    moved_bytes += size_bytes
                    bars.update(row, advance=count, moved=format_bytes(moved_bytes) if moved_bytes else "")

        try:
            yield RichTask()
        finally:
            bars.remove_task(row)
            self._end()

    def _begin(self) -> Any:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._open == 0:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[unit]}"),
                    TextColumn("{task.fields[moved]}"),
                    TimeElapsedColumn(),
                    console=Console(stderr=True),
                    transient=True,
                )
                self._bars.start()
            self._open += 1
            return self._bars

    def _end(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


def default_reporter() -> Reporter:
    """Bars where a person watches stderr, silence elsewhere (the CLI asks for `Plain` there)."""
    return Rich() if sys.stderr is not None and sys.stderr.isatty() else Silent()


def printable(text: str) -> str:
    """Text from outside as a terminal may show it: what is not printable (control characters, escape sequences,
    marks that change the direction of writing) is written as `\\x1b`, `\\n`, `\\u202e`. For people: a backslash that
    was there stays one."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def format_bytes(size_bytes: int) -> str:
    """A size for people: `0 B`, `1.5 KiB`, `3.2 GiB` (binary units)."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    power = min((size_bytes.bit_length() - 1) // 10, 5)
    return f"{size_bytes / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[power]}"
