"""Copies and deletions that GCS makes itself (JSON API, "Objects: rewrite"): no byte moves through this machine.

A copy takes the metadata and the storage class of the generation that it is made of; access control is the bucket's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from refart.entries import Entry
from refart.errors import RefartError, SourceError
from refart.sources import pinned
from refart.sources.gcs import listing as gcs_listing
from refart.sources.gcs.client import CHANGED, GONE, MISSING, GCSClient, status_of
from refart.sources.gcs.listing import OBJECT_FIELDS
from refart.sources.listed import Row
from refart.sources.pinned import Stat, named
from refart.sources.writing import changed

_KEPT: Final = (
    *("contentType", "cacheControl", "contentDisposition", "contentEncoding", "contentLanguage"),
    *("customTime", "metadata", "storageClass"),
)
"""Told to the copy as the source has them: without, the bucket's default storage class would hold."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes to one object, under the condition that it is still what it was."""

    client: GCSClient
    stat: Stat
    bucket: str
    key: str
    uri: str
    over: Entry | None
    """What lies there; None for nothing."""

    def copy(self, entry: Entry, bucket: str, key: str) -> Row:
        """Make it a copy of the generation that an entry pins; see `WritableSource.copy`."""
        what = named(entry)
        kind, _, generation = (entry.pin or "").partition(":")
        which = {"generation": generation} if kind == "generation" else {}
        try:
            source = self.client.get_json(
                what, bucket, key, {"fields": ",".join(("generation", *_KEPT)), **which}
            )
        except RefartError as error:
            if status_of(error) in GONE:
                raise pinned.lost(entry, self.stat(str(entry.uri))) from error
            raise
        asked = {
            **self._condition(),
            "sourceGeneration": str(source.get("generation", generation)),
            "fields": f"done,rewriteToken,resource({OBJECT_FIELDS})",
        }
        kept = {name: source[name] for name in _KEPT if source.get(name)}
        path = ("b", bucket, "o", key, "rewriteTo", "b", self.bucket, "o", self.key)
        answer: dict[str, Any] = {}
        while not answer.get("done"):  # a large object is copied by several requests
            if answer:
                token = answer.get("rewriteToken")
                if not token or token == asked.get("rewriteToken"):
                    raise SourceError(f"{self.uri}: the server neither ends the copy nor says how to go on")
                asked["rewriteToken"] = token
            answer = self._send("POST", path, asked, kept)
        return gcs_listing.row_of(answer.get("resource") or {}, self.uri)

    def delete(self) -> None:
        """See `WritableSource.delete`."""
        self._send("DELETE", ("b", self.bucket, "o", self.key), self._condition(), None)

    def _condition(self) -> dict[str, str]:
        pin = "generation:0" if self.over is None else self.over.pin or ""
        return {"ifGenerationMatch": pin.removeprefix("generation:")}

    def _send(
        self, method: str, path: tuple[str, ...], asked: dict[str, str], body: dict[str, Any] | None
    ) -> dict[str, Any]:
        try:
            return self.client.send(method, self.uri, path, asked, body)
        except RefartError as error:
            if status_of(error) in CHANGED or (self.over is not None and status_of(error) in MISSING):
                raise changed(self.uri) from error
            raise
