"""Include and exclude patterns: the grammar of `.gitignore`, over whole pages."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from pathspec import GitIgnoreSpec

from refart import names
from refart.entries import Entry, entries_of, page_of
from refart.errors import InvalidInputError
from refart.ops.patterns import page_filter
from tests import strategies

FILES = ["a.jpg", "b.csv", "raw/a.jpg", "raw/b.csv", "raw/deep/c.csv", "rawer/d.csv", "#e", "f !.txt"]


def kept(paths: list[str], **patterns: Any) -> list[str]:
    page = page_of(Entry(path, 0, "none", f"s3://b/{path}") for path in paths)
    return [entry.path for entry in entries_of(page_filter(**patterns)(page))]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*.jpg", ["a.jpg", "raw/a.jpg"]),
        ("/*.jpg", ["a.jpg"]),
        ("raw/*.csv", ["raw/b.csv"]),
        ("raw/**/*.csv", ["raw/b.csv", "raw/deep/c.csv"]),
        ("raw/", ["raw/a.jpg", "raw/b.csv", "raw/deep/c.csv"]),
        ("raw", ["raw/a.jpg", "raw/b.csv", "raw/deep/c.csv"]),
        ("deep/", ["raw/deep/c.csv"]),
        ("/deep/", []),
        ("raw*", ["raw/a.jpg", "raw/b.csv", "raw/deep/c.csv", "rawer/d.csv"]),
        ("[ab].*", ["a.jpg", "b.csv", "raw/a.jpg", "raw/b.csv"]),
        ("?.csv", ["b.csv", "raw/b.csv", "raw/deep/c.csv", "rawer/d.csv"]),
        ("#e", ["#e"]),
        ("f !.txt", ["f !.txt"]),
        ("**", FILES),
    ],
)
def test_patterns_mean_what_they_mean_in_gitignore(pattern: str, matched: list[str]) -> None:
    assert kept(FILES, include=pattern) == matched
    assert kept(FILES, exclude=[pattern]) == [path for path in FILES if path not in matched]


def test_excluded_wins_over_included() -> None:
    assert kept(FILES, include=["*.csv", "*.jpg"], exclude="raw/deep/") == [
        *["a.jpg", "b.csv", "raw/a.jpg", "raw/b.csv", "rawer/d.csv"]
    ]


def test_no_pattern_keeps_everything() -> None:
    assert kept(FILES) == FILES
    assert kept(FILES, include=[], exclude=[]) == FILES
    assert kept([], include="*.csv") == []


_globs = st.lists(
    st.lists(st.sampled_from(["a", "b", "*", "?", ".", "-", " ", "[ab]", "[!a]", "\\*", "é", "+", "(", "$", "#"]))
    .map("".join)
    .filter(bool)
    | st.just("**"),
    min_size=1,
    max_size=4,
).map("/".join)  # fmt: skip
_patterns = st.builds(
    lambda a, b, c: a + b + c, st.sampled_from(["", "/"]), _globs, st.sampled_from(["", "/"])
)
_paths = (
    strategies.few_paths
    | strategies.paths
    | _globs.map(lambda glob: names.path_from_key(glob.replace("\\", "")))
)


@given(_patterns, st.lists(_paths, min_size=1, max_size=10))
@settings(max_examples=300)
@example("a[!b]c", ["axc", "abc", "a/c"])
@example("a\\ ", ["a ", "a"])
@example("[]a]", ["]", "a"])
@example("[^-a]", ["-", "b"])
def test_a_page_is_matched_as_pathspec_matches_each_path(pattern: str, paths: list[str]) -> None:
    """pathspec's expressions run in RE2 here, and in Python's `re` there."""
    try:
        spec = GitIgnoreSpec.from_lines(["\\" + pattern if pattern.startswith("#") else pattern])
        expected = [path for path in paths if spec.match_file(path)]
    except ValueError:
        expected = None
    try:
        found = kept(paths, include=pattern)
    except InvalidInputError:
        assert not expected
        return
    assert found == expected


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("pattern", ["", "  ", None, 3, b"*.csv", "!a", "/", "[z-a]", "[[:digit:]]", "a\\"])
def test_a_pattern_that_could_match_nothing_is_refused(argument: str, pattern: object) -> None:
    with pytest.raises(InvalidInputError, match=f"{argument} pattern"):
        page_filter(**{argument: [pattern]})


def test_an_escaped_exclamation_mark_is_a_character() -> None:
    assert kept(["!a", "a"], include=r"\!a") == ["!a"]
