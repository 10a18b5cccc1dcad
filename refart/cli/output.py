"""How results are shown: as text for people, or as JSON for scripts. Both stream, and neither shortens a value."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from typing import IO, Any, Final, Protocol, TypeAlias

import click

from refart.progress import format_bytes, printable

Record: TypeAlias = Mapping[str, Any]
"""A result under its documented JSON keys: text, numbers, times, lists and records."""

EXIT_CLOSED: Final = 141  # 128 + SIGPIPE, as shells count: whoever read our output has had enough
_AS_THEY_ARE: Final[Record] = {}
_WIDTH_ROWS: Final = 1000  # rows looked at for the widths of columns; later ones may stand out


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a listing as people see it; `--json` prints whole records instead."""

    key: str
    label: str | None = None
    text: Callable[[Record], str] | None = None
    colour: Callable[[Record], str] | None = None
    """The colour of the whole row."""

    def cell(self, row: Record) -> str:
        return printable(self.text(row) if self.text is not None else shown(self.key, row[self.key]))


@dataclass(slots=True)
class Node:
    """A node of a tree of text."""

    label: str
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a story: what happens, the line that does it, what came of it, and that as data."""

    title: str
    code: str
    lines: Sequence[str]
    facts: Record


class Output(Protocol):
    def record(
        self, record: Record, *, headline: str, hide: Sequence[str] = (), text: Record = _AS_THEY_ARE
    ) -> None:
        """One result. Text shows a headline and every field but the ones to hide and the empty ones; `text` has
        what a person reads instead of some of them."""

    def rows(self, rows: Iterable[Record], columns: Sequence[Column], *, header: bool = True) -> None:
        """A listing of any length, one row a line, as it comes."""

    def tree(self, root: Node, record: Record) -> None:
        """A tree for people, a record for scripts."""

    def story(self, steps: Iterable[Step]) -> None:
        """Steps, as they happen."""

    def raw(self, chunks: Iterable[bytes]) -> None:
        """Bytes as they are."""

    def note(self, text: str) -> None:
        """A remark for people, on standard error."""

    def error(self, kind: str, message: str, exit_code: int) -> None:
        """What went wrong, on standard error."""


class Json:
    """One document on standard output; a listing is JSON lines, one document a row. All ASCII."""

    def __init__(self) -> None:
        self._compact = json.JSONEncoder(default=_as_json).encode
        self._pretty = json.JSONEncoder(default=_as_json, indent=2).encode

    def record(
        self, record: Record, *, headline: str, hide: Sequence[str] = (), text: Record = _AS_THEY_ARE
    ) -> None:
        _write(self._pretty(record))

    def rows(self, rows: Iterable[Record], columns: Sequence[Column], *, header: bool = True) -> None:
        for row in rows:
            _write(self._compact(row))

    def tree(self, root: Node, record: Record) -> None:
        _write(self._pretty(record))

    def story(self, steps: Iterable[Step]) -> None:
        told = [{"title": s.title, "code": s.code, "lines": s.lines, **s.facts} for s in steps]
        _write(self._pretty({"steps": told}))

    def raw(self, chunks: Iterable[bytes]) -> None:
        _write_bytes(chunks)

    def note(self, text: str) -> None:
        pass

    def error(self, kind: str, message: str, exit_code: int) -> None:
        error = {"type": kind, "message": message, "exit_code": exit_code}
        _write(self._compact({"error": error}), sys.stderr)


class Text:
    """Lines of aligned text; colours only on a terminal (and not where `NO_COLOR` is set)."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def record(
        self, record: Record, *, headline: str, hide: Sequence[str] = (), text: Record = _AS_THEY_ARE
    ) -> None:
        _write(_style(printable(headline), bold=True))
        told = {key: value for key, value in {**record, **text}.items() if key not in hide}
        fields = [(label(k), _lines(k, v)) for k, v in told.items() if v not in (None, [], {}, ())]
        width = max((len(name) for name, _ in fields), default=0)
        for name, (first, *rest) in fields:
            _write(f"  {_style(name.ljust(width), dim=True)}  {first}")
            for line in rest:
                _write(f"  {'':{width}}  {line}")

    def rows(self, rows: Iterable[Record], columns: Sequence[Column], *, header: bool = True) -> None:
        later = ((row, [column.cell(row) for column in columns]) for row in rows)
        first = list(islice(later, _WIDTH_ROWS))
        labels = [column.label or label(column.key) for column in columns]
        right = [
            c.text is None and all(isinstance(row[c.key], int | None) for row, _ in first) for c in columns
        ]
        seen = [*([labels] if header else []), *(cells for _, cells in first)]
        widths = [max(map(len, column)) for column in zip(*seen, strict=True)]
        colour = next((column.colour for column in columns if column.colour is not None), None)
        if header and first:
            _write(_style(_aligned(labels, widths, right), dim=True))
        for row, cells in chain(first, later):
            line = _aligned(cells, widths, right)
            _write(line if colour is None else _style(line, fg=colour(row)))

    def tree(self, root: Node, record: Record) -> None:
        for line in branches(root):
            _write(line)

    def story(self, steps: Iterable[Step]) -> None:
        for number, step in enumerate(steps, 1):
            _write(_style(f"{number}. {step.title}", bold=True))
            for line in step.code.splitlines():
                _write("   " + _style(line, fg="cyan"))
            for line in step.lines:
                _write(f"   {printable(line)}".rstrip())
            _write("")

    def raw(self, chunks: Iterable[bytes]) -> None:
        _write_bytes(chunks)

    def note(self, text: str) -> None:
        if not self._quiet:
            _write(printable(text), sys.stderr)

    def error(self, kind: str, message: str, exit_code: int) -> None:
        _write(f"{_style('error:', fg='red', stream=sys.stderr)} {printable(message)}", sys.stderr)


def label(key: str) -> str:
    """A JSON key as people read it: without its unit, which the value shows."""
    return key.removesuffix("_bytes").removesuffix("_s").removesuffix("_at").replace("_", " ")


def shown(key: str, value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if key.endswith("_bytes") or key == "size":
        return format_bytes(value)
    if key.endswith("_s"):
        return f"{value:,} s"
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case datetime():
            return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
        case list() | tuple():
            return ", ".join(map(str, value))
        case Mapping():
            return json.dumps(value, default=_as_json, ensure_ascii=False)
    return str(value)


def _lines(key: str, value: Any) -> list[str]:
    """The lines of a field: a long list and a record take one line an item."""
    if isinstance(value, list | tuple) and len(shown(key, value)) > 80:
        return [printable(str(item)) for item in value]
    if isinstance(value, Mapping):
        return [f"{printable(name)} = {printable(shown(name, item))}" for name, item in value.items()]
    return [printable(shown(key, value))]


def _aligned(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
    if not right[-1]:
        padded[-1] = cells[-1]  # nothing stands behind it, and a space at its own end must stay
    return "  ".join(padded) if padded[-1] else "  ".join(padded).rstrip()


def branches(root: Node) -> Iterator[str]:
    """The lines of a tree."""
    yield printable(root.label)
    waiting = [(child, "", child is root.children[-1]) for child in reversed(root.children)]
    while waiting:
        node, indent, last = waiting.pop()
        yield f"{indent}{'└── ' if last else '├── '}{printable(node.label)}"
        below = indent + ("    " if last else "│   ")
        waiting += [(child, below, child is node.children[-1]) for child in reversed(node.children)]


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} is no JSON")


def _style(text: str, *, stream: IO[str] | None = None, **style: Any) -> str:
    where = stream if stream is not None else sys.stdout
    return click.style(text, **style) if where.isatty() and not os.environ.get("NO_COLOR") else text


def _write(line: str, stream: IO[str] | None = None) -> None:
    where = stream if stream is not None else sys.stdout
    try:
        where.write(line + "\n")
    except BrokenPipeError:
        _closed(where)


def _write_bytes(chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        try:
            sys.stdout.buffer.write(chunk)
        except BrokenPipeError:
            _closed(sys.stdout)


def flush() -> None:
    """Bring out what is buffered, while a failure of it still can be told."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _closed(sys.stdout)


def _closed(stream: IO[str]) -> None:
    """End quietly: nobody reads on. What is still buffered goes nowhere, or the interpreter would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    raise SystemExit(EXIT_CLOSED)
