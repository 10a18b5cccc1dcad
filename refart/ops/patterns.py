"""Include and exclude patterns over pages, in the grammar of `.gitignore`.

`*.jpg` matches at any depth, `raw/*.csv` in one folder, `raw/` everything below. A path is taken when it matches any
`include` pattern (or there are none) and no `exclude` pattern. pathspec translates the patterns; their regular
expressions are ones that RE2 runs too, so a whole page is matched in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from refart.entries import Page
from refart.errors import InvalidInputError

Patterns: TypeAlias = str | Iterable[str] | None


def patterns_of(patterns: Patterns) -> tuple[str, ...]:
    """One pattern, several or none, as a tuple."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns or ())


def pattern_of(path: str) -> str:
    """The pattern of exactly this path and what lies below it."""
    return "/" + "".join(f"\\{character}" if character in "\\*?[]!# " else character for character in path)


def page_filter(include: Patterns = None, exclude: Patterns = None) -> Callable[[Page], Page]:
    """A function that keeps the rows of a page whose path is wanted.

    Raises `InvalidInputError` for a pattern that is empty, negated (`!…`: use the other argument) or malformed.
    """
    wanted, unwanted = _compile(include, "include"), _compile(exclude, "exclude")
    if not wanted and not unwanted:
        return lambda page: page

    def keep(page: Page) -> Page:
        path = page.column("path")
        mask: Any = _any_match(path, wanted) if wanted else None
        if unwanted:
            rest = pc.invert(_any_match(path, unwanted))
            mask = rest if mask is None else pc.and_(mask, rest)
        return page.filter(mask)

    return keep


def _any_match(path: Any, expressions: list[str]) -> Any:
    mask = pc.match_substring_regex(path, expressions[0])
    for expression in expressions[1:]:
        mask = pc.or_(mask, pc.match_substring_regex(path, expression))
    return mask


def _compile(patterns: Patterns, what: str) -> list[str]:
    if patterns is None:
        return []
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    result = []
    for pattern in patterns_of(patterns):
        if not isinstance(pattern, str) or not pattern.strip():
            raise InvalidInputError(f"{what} pattern {pattern!r} is empty or not a string")
        if pattern.startswith("!"):
            other = "exclude" if what == "include" else "include"
            raise InvalidInputError(f"{what} pattern {pattern!r} is negated; give it as {other} without '!'")
        try:
            # A leading '#' would be a comment in a file of patterns; here it is a character of a name.
            expression, _ = GitIgnoreSpecPattern.pattern_to_regex(
                "\\" + pattern if pattern.startswith("#") else pattern
            )
        except ValueError as error:
            raise InvalidInputError(f"{what} pattern {pattern!r} is malformed: {error}") from None
        if expression is None:
            raise InvalidInputError(f"{what} pattern {pattern!r} matches nothing")
        try:
            pc.match_substring_regex(pa.scalar(""), expression)
        except pa.ArrowInvalid:
            raise InvalidInputError(
                f"{what} pattern {pattern!r} is malformed: check its [ranges]; there are no [[:classes:]]"
            ) from None
        result.append(expression)
    return result
