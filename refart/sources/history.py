"""What lay below a prefix at a time, where a server keeps every version: listings of the past.

A server tells of each write when it was made; the one that stood at a time is the last that was made until then. What a
lifecycle rule has removed since is not told of any more, so that it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from refart.sources.listed import Listed, Row, rows_of
from refart.sources.objects import Bucket
from refart.sources.splitting import Ranged


@dataclass(frozen=True, slots=True)
class Past:
    """A bucket as it stood at a time; see `objects.Bucket`."""

    bucket: Bucket
    listing: Callable[[str], Iterator[Listed]]
    """Every response of the listing of what lay under a prefix then, in turn; at least one."""

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        return self.bucket.uris_of(keys)

    def responses(self, prefix: str) -> Iterator[Listed]:
        return self.listing(prefix)

    def ranged(self, prefix: str) -> Ranged | None:
        """One response after another: where one ends between two versions of a key, the next needs to know."""
        return None

    def head(self, key: str) -> Row | None:
        found = (row for listed in self.listing(key) for row in rows_of(listed.objects) if row.key == key)
        return next(found, None)

    def by_hand(self, key: str) -> Row | None:
        """A version named by hand needs no time."""
        return None

    def write_by_hand(self, row: Row) -> str:
        return self.bucket.write_by_hand(row)
