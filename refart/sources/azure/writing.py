"""Copies and deletions that Azure makes itself (REST API, "Copy Blob"): no byte moves through this machine.

Within an account only. A copy takes the metadata, the properties and the access tier of the version that it is made of;
index tags are not taken.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from azure.core import MatchConditions
from azure.storage.blob import StandardBlobTier

from refart.entries import Entry
from refart.errors import NotFoundError, RefartError, SourceError
from refart.parallel import check_stopped
from refart.sources import pinned
from refart.sources.azure import reading as azure_reading
from refart.sources.azure.client import CHANGED, GONE, MISSING, AzureClient, code_of, unchanged
from refart.sources.azure.uris import Place
from refart.sources.pinned import Stat, Which, named
from refart.sources.writing import changed, check_same

POLL_S: Final = 0.5
"""Between questions about a copy that Azure goes on with after its answer."""

_THERE: Final = frozenset({"BlobAlreadyExists", "409"})


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes to one blob, under the condition that it is still what it was."""

    client: AzureClient
    stat: Stat
    place: Place
    key: str
    uri: str
    over: Entry | None
    """What lies there; None for nothing."""

    def copy(self, entry: Entry, place: Place, key: str) -> Entry:
        """Make it a copy of the version that an entry pins; see `WritableSource.copy`."""
        which = azure_reading.wanted(entry)[0][0]
        source = self._source(entry, which, place, key)
        if source.blob_tier == StandardBlobTier.ARCHIVE.value:
            raise SourceError(f"{named(entry)} is archived (Archive): move it to an online tier first")
        etag = (source.etag or "").strip('"')
        tier = {} if source.blob_tier_inferred else _tier(source.blob_tier)
        asked = {"source_etag": f'"{etag}"', "source_match_condition": MatchConditions.IfNotModified, **tier}
        copied = self._send(
            lambda condition: self.client.start_copy(
                self.place, self.key, self.uri, place, key, which.version, **asked, **condition
            )
        )
        while copied.get("copy_status") == "pending":
            check_stopped()
            time.sleep(POLL_S)
            told = self.client.properties(self.place, self.key, self.uri).copy
            if told.id != copied.get("copy_id"):
                raise changed(self.uri)
            copied["copy_status"] = told.status
        if copied.get("copy_status") != "success":
            status = copied.get("copy_status")
            raise SourceError(f"{self.uri}: Azure gave the copy up ({status}): try again", transient=True)
        found = self.stat(self.uri)
        if found is None:
            raise changed(self.uri)
        return found

    def delete(self) -> None:
        """See `WritableSource.delete`."""
        self._send(lambda condition: self.client.delete(self.place, self.key, self.uri, **condition))

    def _source(self, entry: Entry, which: Which, place: Place, key: str) -> Any:
        asked: dict[str, Any] = {} if which.version is None else {"version_id": which.version}
        if which.etag is not None:
            asked |= unchanged(which.etag)
        try:
            return self.client.properties(place, key, named(entry), **asked)
        except RefartError as error:
            if code_of(error) in CHANGED | GONE:
                raise pinned.lost(entry, self.stat(str(entry.uri))) from error
            raise

    def _send(self, send: Any) -> Any:
        try:
            return send(self._condition())
        except RefartError as error:
            if code_of(error) in CHANGED | _THERE or (self.over is not None and code_of(error) in MISSING):
                raise changed(self.uri) from error
            raise

    def _condition(self) -> dict[str, Any]:
        """What holds as long as `over` lies there. Its ETag is asked for: that of a version is not recorded."""
        if self.over is None:
            return {"match_condition": MatchConditions.IfMissing}
        try:
            found = self.client.properties(self.place, self.key, self.uri)
        except NotFoundError:
            raise changed(self.uri) from None
        etag = (found.etag or "").strip('"')
        if self.over.pin != f"etag:{etag}" and self.over.content_id != f"etag:{etag}":
            check_same(self.uri, self.over, self.stat(self.uri))
        return unchanged(etag)


def _tier(name: str | None) -> dict[str, StandardBlobTier]:
    """The access tier of a block blob that was put there; those of page blobs are for their account to decide."""
    tiers = {tier.value: tier for tier in StandardBlobTier}
    return {"standard_blob_tier": tiers[name]} if name in tiers else {}
