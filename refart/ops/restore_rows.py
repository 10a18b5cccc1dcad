"""The rows of a plan of restore: what is to be done for each path."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa

from refart import checksums
from refart.entries import Entry

Action: TypeAlias = Literal["copy", "write", "delete", "new", "unverifiable", "impossible"]
"""What a plan says of an entry or object.

- `copy`: its server copies the pinned write; `write`: a file is written from the store or the cache
- `delete`: nothing was recorded of what lies there; `new`: the same, and it stays
- `unverifiable`: whether it changed cannot be told; it stays as it is
- `impossible`: it is not what was recorded, and cannot be brought back; `why` says so
"""

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

DOING: Final = frozenset({"copy", "write", "delete"})
"""What writes."""

PLANNED: Final[pa.Schema] = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("why", pa.string()),
        *(
            pa.field(f"{side}_{name}", kind)
            for side in ("from", "now")
            for name, kind in (
                ("size", pa.int64()),
                ("content_id", pa.string()),
                ("uri", pa.string()),
                ("pin", pa.string()),
            )
        ),
    ]
)
"""The columns of a page of a plan: `uri` is where something is done; `from_` what is copied; `now_` what lies there."""


class Planned(NamedTuple):
    """A row of a plan, before it is one of `PLANNED`."""

    path: str
    action: Action
    size: int | None
    uri: str
    why: str | None = None
    source: Entry | None = None
    now: Entry | None = None


def same_content(found: Entry | None, wanted: Entry) -> bool:
    """Whether what was found is known to have the content that is wanted."""
    return (
        found is not None
        and found.content_id == wanted.content_id
        and found.size == wanted.size
        and not checksums.is_weak(wanted.content_id)
    )


def page_of_rows(rows: list[Planned]) -> pa.RecordBatch:
    """Rows as a page of `PLANNED`."""
    sides = ("source", "now")
    fields = ("size", "content_id", "uri", "pin")
    own = [[getattr(row, name) for row in rows] for name in ("path", "action", "size", "uri", "why")]
    others = [
        [None if (entry := getattr(row, side)) is None else getattr(entry, name) for row in rows]
        for side in sides
        for name in fields
    ]
    columns = [pa.array(values, field.type) for values, field in zip([*own, *others], PLANNED, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=PLANNED)


def row_of(row: dict[str, Any]) -> Planned:
    """A row of a page of `PLANNED`, as `to_pylist` gives it."""
    source, now = (
        Entry(row["path"], *(row[f"{side}_{name}"] for name in ("size", "content_id", "uri", "pin")))
        if row[f"{side}_content_id"] is not None
        else None
        for side in ("from", "now")
    )
    return Planned(row["path"], row["action"], row["size"], row["uri"], row["why"], source, now)
