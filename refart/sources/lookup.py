"""Many single objects of one bucket: by listings where they lie close together, by one HEAD each where they do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import islice
from typing import Final, TypeAlias

from refart.errors import NotFoundError, PermissionDeniedError
from refart.parallel import map_bounded
from refart.sources.listed import Row, rows_of
from refart.sources.splitting import Ranged

Found: TypeAlias = Row | PermissionDeniedError | None
"""The current object; that it may not be looked at; or that there is none."""

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
    left = sorted(set(keys))
    while left:
        told: list[tuple[str, Found]] = []
        if ranged is not None and len(left) > FEW:
            try:
                told = _told(ranged, left)
                if told and told[0][1] is None:
                    told[0] = (
                        left[0],
                        head(left[0]),
                    )  # some servers lose what follows where a listing begins
            except PermissionDeniedError:
                ranged = None
            except NotFoundError:  # the bucket itself
                told = [(key, None) for key in left]
        yield from told
        left = left[len(told) :]
        if len(told) < FEW:
            apart = APART if ranged is not None else len(left)
            some = left[:apart]
            yield from zip(some, map_bounded(pool, head, some, window=window), strict=True)
            left = left[apart:]


def _told(ranged: Ranged, keys: Sequence[str]) -> list[tuple[str, Found]]:
    """Those of the first of `keys` (ascending) of which one response tells, whether they are there or not."""
    response = ranged.ask(_before(keys[0], ranged.prefix), None)
    if not response.in_order:
        ranged.give_up()
        return []
    end = None if response.is_last else response.resume_key
    if end is None and not response.is_last:
        return []
    decided = len(keys) if end is None else next((n for n, key in enumerate(keys) if key > end), len(keys))
    found = {row.key: row for row in rows_of(response.objects)} if decided else {}
    return [(key, found.get(key)) for key in islice(keys, decided)]


def _before(key: str, prefix: str) -> str:
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
