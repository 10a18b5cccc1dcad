"""References in Google Cloud Storage: pinned to generations by listing alone, read by one GET of that generation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import pyarrow as pa

from refart.entries import Entry, prefixed
from refart.errors import InvalidInputError, NotFoundError, RefartError
from refart.sources import kept, pinned
from refart.sources.base import Held
from refart.sources.findings import Finding
from refart.sources.gcs import history as gcs_history
from refart.sources.gcs import listing as gcs_listing
from refart.sources.gcs import reading as gcs_reading
from refart.sources.gcs import writing as gcs_writing
from refart.sources.gcs.client import GONE, MISSING, GCSClient, status_of
from refart.sources.gcs.listing import LISTING_FIELDS, OBJECT_FIELDS
from refart.sources.listed import Listed, Row, one_by_one
from refart.sources.object_source import ObjectSource
from refart.sources.pinned import uri_of
from refart.sources.splitting import AT_ONCE, Ranged

PAGE_OBJECTS = 5000
"""Asked for with every page. GCS promises 1,000 at most (objects.list, maxResults), and may give more."""

PINNED_BY_HAND: Final = "#"

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z")  # "About Cloud Storage buckets"


class GCSSource(ObjectSource):
    """The source of `gs://` and `gcs://`.

    A listing costs one request a page (GCS gives 1,000 objects or more). The pin is `generation:N`, on buckets without
    versions as well; the content id is the MD5, for composite objects the CRC32C. Where a customer's key encrypts, a
    listing tells neither, and the generation is the content id. `gs://bucket/key#N` is the generation N of `key` where
    no such literal key exists. Bytes are read by one GET of that generation, compressed where they are stored so.

    `options` are gcsfs' storage options; what they leave open, gcsfs and google-auth find (application default
    credentials, workload identity, the metadata server, `STORAGE_EMULATOR_HOST`). Raises `InvalidInputError` for an
    option that gcsfs does not know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = GCSClient(options)
        self._unordered: set[str] = set()

    def _place(self, uri: str) -> tuple[_Bucket, str]:
        root, name, key = split(uri)
        return _Bucket(self._client, root, name, self._unordered), key

    def _past(self, uri: str, at: datetime, prefix: str) -> Iterator[Listed]:
        root, name, _ = split(uri)
        return gcs_history.responses(self._client, name, prefix, at, f"listing {root}{prefix}")

    def _writes(self, root: str) -> kept.Listing:
        return partial(gcs_history.kept, self._client, split(root)[1], root)

    def _getter(self, entry: Entry) -> pinned.Get:
        _, bucket, key = split(uri_of(entry))
        return gcs_reading.getter(self._client, bucket, key, entry)

    def _wanted(self, entry: Entry) -> list[tuple[pinned.Which, Held]]:
        return gcs_reading.wanted(entry)

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.gcs import doctor as gcs_doctor  # here, since nothing else needs it

        return gcs_doctor.diagnose(self._client, *split(uri))

    def presign(self, entry: Entry, expires_s: int) -> str:
        """See `PresigningSource`; needs credentials that sign, as the key of a service account does."""
        _, bucket, key = split(uri_of(entry))
        kind, _, generation = (entry.pin or "").partition(":")
        which = generation if kind == "generation" else None
        return self._client.presigned(pinned.named(entry), bucket, key, which, expires_s)

    def copies(self, uri: str, to: str) -> bool:
        """See `WritableSource`: all that one account reaches."""
        return True

    def copy(self, entry: Entry, to: str, *, over: Entry | None) -> Entry:
        """See `WritableSource`: one GET of the metadata, and one request for every GB or more; see `gcs.writing`."""
        _, bucket, key = split(uri_of(entry))
        row = self._writer(to, over).copy(entry, bucket, key)
        return Entry(entry.path, row.size, row.content_id, to, row.pin)

    def delete(self, found: Entry) -> None:
        """See `WritableSource`: a bucket that keeps versions keeps it as a noncurrent one."""
        self._writer(uri_of(found), found).delete()

    def _writer(self, uri: str, over: Entry | None) -> gcs_writing.Writer:
        _, bucket, key = split(uri)
        return gcs_writing.Writer(self._client, self.stat, bucket, key, uri, over)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """See `objects.Bucket`."""

    client: GCSClient
    root: str
    name: str
    unordered: set[str]
    """Buckets that did not list by key (emulators)."""

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        return prefixed(self.root, keys)

    def responses(self, prefix: str) -> Iterator[Listed]:
        return one_by_one(partial(self.ask, prefix, ""), f"listing {self.root}{prefix}")

    def ranged(self, prefix: str) -> Ranged | None:
        if self.name in self.unordered:
            return None
        what = f"listing {self.root}{prefix}"
        return Ranged(
            partial(self.ask, prefix),
            prefix,
            what,
            at_once=AT_ONCE,
            give_up=lambda: self.unordered.add(self.name),
        )

    def ask(self, prefix: str, after: str, following: str | None) -> Listed:
        """One response of a listing; see `splitting.Ask`. The key `after` is listed once more where it exists."""
        asked = {
            "prefix": prefix,
            "fields": LISTING_FIELDS,
            "maxResults": str(PAGE_OBJECTS),
            "projection": "noAcl",
        }
        if following is not None:
            asked["pageToken"] = following
        elif after:
            asked["startOffset"] = after
        what = f"listing {self.root}{prefix}"
        return gcs_listing.parse(self.client.get_json(what, self.name, None, asked), what)

    def head(self, key: str, generation: str | None = None) -> Row | None:
        """One object by one request; None where it, or that generation of it, does not exist."""
        asked = {"fields": OBJECT_FIELDS, "projection": "noAcl"}
        if generation is not None:
            asked["generation"] = generation
        what = self.root + key
        try:
            row = gcs_listing.row_of(self.client.get_json(what, self.name, key, asked), what)
        except RefartError as error:
            if status_of(error) in (MISSING if generation is None else GONE):
                return None
            raise
        # Some emulators do not look at the parameter.
        return row if generation is None or row.pin == f"generation:{generation}" else None

    def by_hand(self, key: str) -> Row | None:
        """The generation that `key#N` names."""
        bare, _, generation = key.rpartition(PINNED_BY_HAND)
        if not bare or not (generation.isascii() and generation.isdigit()):
            return None
        row = self.head(bare, generation)
        if row is None:
            raise NotFoundError(
                f"{self.root}{bare} has no generation {generation} to read"
                f" (and no object has the literal name {self.root}{key})"
            )
        return row

    def write_by_hand(self, row: Row) -> str:
        return f"{self.root}{row.key}{PINNED_BY_HAND}{(row.pin or '').removeprefix('generation:')}"


def split(uri: str) -> tuple[str, str, str]:
    """`(scheme://bucket/, bucket, key)`; the bucket ends at the first slash and the key is all the rest, as
    it stands.

    Raises `InvalidInputError` for a URI without a bucket, or with one that GCS could not have.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InvalidInputError(f"{uri} names no bucket: write gs://bucket/key")
    if not _BUCKET.match(bucket):
        raise InvalidInputError(f"{uri}: {bucket!r} is not the name of a bucket of GCS")
    return f"{scheme.lower()}://{bucket}/", bucket, key
