"""What this machine has verified: parts of versions whose every byte was read and was right, and when.

Only a memory, as everything in the cache folder: where it is lost, bytes are read again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from refart.localdb import LocalDb
from refart.ops.shards import Part

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parts (
    store TEXT, shard TEXT, start INTEGER, stop INTEGER, began_s REAL NOT NULL, found TEXT NOT NULL,
    PRIMARY KEY (store, shard, start, stop)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passes (
    store TEXT, manifest TEXT, began_s REAL NOT NULL, PRIMARY KEY (store, manifest)
) WITHOUT ROWID;
"""


class Journal:
    """Verified parts of the shards of one store, and passes over its manifests that have not come to their end.

    A part is known by the shard's key, so that versions share what they have in common. A shard names its entries, not
    the store that holds its managed files: hence the store's URL.
    """

    def __init__(self, folder: Path, store_url: str) -> None:
        self._db = LocalDb(folder / "verified.sqlite", _SCHEMA)
        self._store = store_url

    def unfinished(self, manifest: str) -> float | None:
        """When the pass over a manifest (its address) began that did not come to its end, in seconds since 1970."""

        def select(connection: sqlite3.Connection) -> float | None:
            found = connection.execute(
                "SELECT began_s FROM passes WHERE store = ? AND manifest = ?", (self._store, manifest)
            ).fetchone()
            return None if found is None else float(found[0])

        return self._db.read(select, None)

    def begin(self, manifest: str, now_s: float) -> None:
        """A pass begins."""
        row = (self._store, manifest, now_s)
        self._db.write(lambda db: db.execute("INSERT OR REPLACE INTO passes VALUES (?, ?, ?)", row), None)

    def finish(self, manifest: str) -> None:
        """The pass came to its end."""
        row = (self._store, manifest)
        self._db.write(
            lambda db: db.execute("DELETE FROM passes WHERE store = ? AND manifest = ?", row), None
        )

    def note(self, part: Part, began_s: float, found: Mapping[str, Any]) -> None:
        """A part was right: when its reading began, and what was found (as JSON)."""
        row = (self._store, part.shard.key, part.start, part.stop, began_s, json.dumps(found))
        self._db.write(
            lambda db: db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", row), None
        )

    def found(self, part: Part, since_s: float) -> dict[str, Any] | None:
        """What was found of a part whose reading began at a time or later; None where it is to be read."""

        def select(connection: sqlite3.Connection) -> dict[str, Any] | None:
            row = connection.execute(
                "SELECT found FROM parts WHERE store = ? AND shard = ? AND start = ? AND stop = ? AND began_s >= ?",
                (self._store, part.shard.key, part.start, part.stop, since_s),
            ).fetchone()
            return None if row is None else dict(json.loads(row[0]))

        return self._db.read(select, None)

    def close(self) -> None:
        self._db.close()
