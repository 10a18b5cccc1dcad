"""Many single objects of one bucket: by listings where they lie close together, by one HEAD each where they do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import Final, TypeAlias, TypeVar

from refart.errors import NotFoundError, PermissionDeniedError
from refart.parallel import map_bounded
from refart.sources.listed import Row, rows_of
from refart.sources.splitting import Ranged

Found: TypeAlias = Row | PermissionDeniedError | None
"""The current object; that it may not be looked at; or that there is none."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")

FEW: Final = 16
"""Objects for which nothing is listed; and of those that are looked for, as many as a response must tell of, or the
next are asked about one by one: a response costs a server, the network and us about as much as so many HEADs."""

APART: Final = 8 * FEW
"""So many are asked about one by one before it is tried again whether they lie close together."""

_LAST: Final = "\U0010fffd"


def rows(
    ranged: Ranged | None, keys: Sequence[str], head: Callable[[str], Found], pool: Executor, window: int
) -> Iterator[tuple[str, Found]]:
    """The current object at each of `keys`, in ascending order of the keys; None where there is none.

    A listing begins at the next key that is looked for and not where the one before ended, so there are never more
    requests than keys. `ranged` lists a prefix of all keys; None where a server has no such listing. Errors as those
    of `head`, which is asked where listing is denied. In a bucket that is gone there is none of them.
    """
    tell = None if ranged is None else partial(_told, ranged)
    return found(tell, sorted(set(keys)), head, pool, window)


def found(
    tell: Callable[[Sequence[Item]], list[tuple[Item, Answer | None]]] | None,
    left: Sequence[Item],
    ask: Callable[[Item], Answer | None],
    pool: Executor,
    window: int,
) -> Iterator[tuple[Item, Answer | None]]:
    """The answer for each item, in their order: `tell` gives those of the first ones by one request, `ask` one."""
    while left:
        told: list[tuple[Item, Answer | None]] = []
        if tell is not None and len(left) > FEW:
            try:
                told = tell(left)
                if told and told[0][1] is None:  # some servers lose what follows where a listing begins
                    told[0] = (left[0], ask(left[0]))
            except PermissionDeniedError:
                tell = None
            except NotFoundError:  # the bucket itself
                told = [(item, None) for item in left]
        yield from told
        left = left[len(told) :]
        if len(told) < FEW:
            apart = APART if tell is not None else len(left)
            some = left[:apart]
            yield from zip(some, map_bounded(pool, ask, some, window=window), strict=True)
            left = left[apart:]


def _told(ranged: Ranged, keys: Sequence[str]) -> list[tuple[str, Found]]:
    """Those of the first of `keys` (ascending) of which one response tells, whether they are there or not."""
    response = ranged.ask(before(keys[0], ranged.prefix), None)
    if not response.in_order:
        ranged.give_up()
        return []
    end = None if response.is_last else response.resume_key
    if end is None and not response.is_last:
        return []
    decided = len(keys) if end is None else next((n for n, key in enumerate(keys) if key > end), len(keys))
    found = {row.key: row for row in rows_of(response.objects)} if decided else {}
    return [(key, found.get(key)) for key in islice(keys, decided)]


def before(key: str, prefix: str) -> str:
    """A key that comes before `key`, with nothing likely between them; `""` where there is no such below `prefix`."""
    if len(key) <= len(prefix):
        return ""
    rest, last = key[:-1], ord(key[-1])
    before = last - 1
    if last <= 0x20 or 0xD800 <= before <= 0xDFFF or before in (0x7F, 0xFFFE, 0xFFFF):
        return rest if len(rest) > len(prefix) else ""
    return rest + chr(before) + _LAST


def common(keys: Sequence[str]) -> str:
    """What all keys begin with."""
    return os.path.commonprefix(list(keys))  # noqa: RUF071  # of characters is what is wanted
