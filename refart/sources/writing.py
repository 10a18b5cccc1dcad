"""What sources that copy and delete have in common: what is where it was, and what is said where it is not."""

from __future__ import annotations

from refart.entries import Entry
from refart.errors import ConflictError


def same_write(one: Entry | None, other: Entry | None) -> bool:
    """Whether two looks at one URI saw the same: nothing both times, or the same write as far as both tell."""
    if one is None or other is None:
        return one is other
    if one.pin is not None and other.pin is not None:
        return one.pin == other.pin
    return (one.size, one.content_id) == (other.size, other.content_id)


def check_same(uri: str, over: Entry | None, found: Entry | None) -> None:
    """Raise the `ConflictError` of a source where `found` is not what was there when it was looked at, `over`."""
    if not same_write(over, found):
        raise changed(uri)


def changed(uri: str) -> ConflictError:
    """The error for a place that changed between a look at it and a write to it."""
    return ConflictError(f"{uri} changed while it was about to be written; it was left as it is: try again")
