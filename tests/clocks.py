"""Times between the writes of a test."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def next_second() -> datetime:
    """A time after all writes so far and before all later ones, also where times are cut off to the second."""
    begun = int(time.time())
    while int(time.time()) <= begun:
        time.sleep(0.02)
    return datetime.fromtimestamp(begun + 0.999, UTC)
