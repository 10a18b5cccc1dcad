"""Text for people: aligned, whole, and safe to look at. JSON for scripts."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from refart.cli.output import Column, Json, Node, Step, Text, branches, label, shown

HOSTILE = "a\x1b[2J\x9b31m[red]b[/red]\u202egpj\n:smile:"


def text(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.split("\n")[:-1]


def test_hostile_text_is_shown_literally_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    out = Text(quiet=False)
    out.record({"path": HOSTILE, "list": [HOSTILE], "metadata": {HOSTILE: HOSTILE}}, headline=HOSTILE)
    out.rows([{"path": HOSTILE}], [Column("path")])
    out.tree(Node(HOSTILE, [Node(HOSTILE)]), {})
    out.story([Step("title", "code", [HOSTILE], {})])
    out.note(HOSTILE)
    out.error("Kind", HOSTILE, 1)
    captured = capsys.readouterr()
    for line in (captured.out + captured.err).split("\n"):
        assert line.isprintable()
    assert captured.out.count("a\\x1b[2J\\x9b31m[red]b[/red]\\u202egpj\\n:smile:") == 9
    assert len(captured.err.splitlines()) == 2


def test_columns_are_aligned_numbers_to_the_right_and_nothing_is_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 500
    rows = [{"size": 5, "path": "a ", "tags": ["t", "u"]}, {"size": 2048, "path": long, "tags": []}]
    Text(quiet=False).rows(rows, [Column("size"), Column("path"), Column("tags")])
    assert text(capsys) == [
        "   size  path" + " " * 498 + "tags",
        "    5 B  a " + " " * 500 + "t, u",
        f"2.0 KiB  {long}",
    ]


def test_a_space_at_the_end_of_the_last_column_stays(capsys: pytest.CaptureFixture[str]) -> None:
    Text(quiet=False).rows([{"path": "a "}, {"path": "bcd"}], [Column("path")], header=False)
    assert text(capsys) == ["a ", "bcd"]


def test_an_empty_listing_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Text(quiet=False).rows([], [Column("path")])
    Json().rows([], [Column("path")])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("out", [Text(quiet=False), Json()], ids=["text", "json"])
def test_a_listing_streams(out: Text | Json, capsys: pytest.CaptureFixture[str]) -> None:
    """After at most a thousand rows the first are out; a row is never kept."""

    def endless() -> object:
        for number in range(1500):
            yield {"path": str(number)}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        out.rows(endless(), [Column("path")], header=False)  # type: ignore[arg-type]
    assert len(text(capsys)) == 1500


def test_a_record_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "name": "n",
        "size_bytes": 1536,
        "ttl_s": 3600,
        "aliases": [],
        "description": None,
        "metadata": {"k": {"deep": [1]}},
        "missing": ["a" * 50, "b" * 50],
    }
    Text(quiet=False).record(record, headline="n:v0", hide=("name",))
    assert text(capsys) == [
        "n:v0",
        "  size      1.5 KiB",
        "  ttl       3,600 s",
        '  metadata  k = {"deep": [1]}',
        "  missing   " + "a" * 50,
        "            " + "b" * 50,
    ]


def test_a_tree_has_guides() -> None:
    root = Node("r", [Node("a", [Node("b")]), Node("c", [Node("d"), Node("e")])])
    assert list(branches(root)) == ["r", "├── a", "│   └── b", "└── c", "    ├── d", "    └── e"]


def test_a_tree_may_be_deeper_than_python_recurses() -> None:
    root = Node("0")
    at = root
    for number in range(3000):
        at.children.append(Node(str(number)))
        at = at.children[0]
    assert sum(1 for _ in branches(root)) == 3001


def test_quiet_says_results_and_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    out = Text(quiet=True)
    out.note("remark")
    out.error("Kind", "wrong", 1)
    assert capsys.readouterr().err == "error: wrong\n"


def test_colours_are_for_terminals_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Text(quiet=False).record({}, headline="h")
    assert capsys.readouterr().out == "h\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Text(quiet=False).record({}, headline="h")
    assert capsys.readouterr().out == "\x1b[1mh\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    Text(quiet=False).record({}, headline="h")
    assert capsys.readouterr().out == "h\n"


def test_json_is_ascii_and_keeps_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    Json().rows([{"path": HOSTILE, "at": at}], [])
    (line,) = text(capsys)
    assert line.isascii()
    assert json.loads(line) == {"path": HOSTILE, "at": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("size", None, "-"),
        ("size", 0, "0 B"),
        ("moved_bytes", 1 << 20, "1.0 MiB"),
        ("entries", 1234567, "1,234,567"),
        ("created", True, "yes"),
        ("aliases", ("a", "b"), "a, b"),
        ("name", "n", "n"),
    ],
)
def test_values_as_people_read_them(key: str, value: object, expected: str) -> None:
    assert shown(key, value) == expected


def test_labels_leave_units_to_the_values() -> None:
    assert [label(key) for key in ("size_bytes", "created_at", "ttl_s", "content_id")] == [
        "size",
        "created",
        "ttl",
        "content id",
    ]
