"""Which references nothing keeps once their objects are overwritten: told once a bucket and process, when they are
logged.

What a listing told is enough to know: in a bucket with versions, every object that was written since has a version id.
`doctor` asks for more (lifecycle rules), which a listing does not tell.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow.compute as pc

from refart.entries import Page
from refart.manifest.draft import Draft

_PLACE: Final = re.compile(
    r"(?:s3a?|az|abfss?)://[^/]+/|https://[^/]+\.blob\.core\.windows\.net/[^/]+/", re.IGNORECASE
)
"""A bucket or container of a store that can keep versions. GCS always tells generations, kept or not."""

KEPT: Final = r"^(version|generation):"

_log = logging.getLogger("refart.pins")
_lock = threading.Lock()
_told: set[str] = set()


def noted(draft: Draft, pages: Iterable[Page]) -> Iterator[Page]:
    """The pages as they are; the draft is told which buckets pin nothing but ETags."""
    for page in pages:
        if page.num_rows and (place := _place_of(page)) is not None:
            draft.unkept.add(place)
        yield page


def _place_of(page: Page) -> str | None:
    """The bucket of the first entry that no version id pins."""
    pin = page["pin"]
    if not pin.null_count and pc.all(pc.match_substring_regex(pin, KEPT)).as_py():
        return None
    is_kept = pc.fill_null(pc.match_substring_regex(pin, KEPT), False)
    row = pc.index(is_kept, False).as_py()
    match = _PLACE.match(page["uri"][row].as_py() or "") if row >= 0 else None
    return None if match is None else match[0]


def warn(draft_places: Iterable[str]) -> None:
    """Say which of these buckets keep nothing, each once a process."""
    with _lock:
        news = sorted(set(draft_places) - _told)
        _told.update(news)
    for place in news:
        _log.warning(
            "%s told no version ids, so that entries are pinned by their ETags: once such an object is overwritten or"
            " deleted, its logged bytes are gone. Versioning of the bucket keeps them (`refart doctor %s` says more)",
            *(place, place),
        )
