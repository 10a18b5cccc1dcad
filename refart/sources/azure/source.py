"""References in Azure Blob Storage and Data Lake Storage: pinned by listing alone, read by conditional GETs.

What an account with versions holds is pinned to its version id; elsewhere the ETag pins, by `If-Match`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from refart.entries import Entry, prefixed
from refart.errors import NotFoundError, PermissionDeniedError, RefartError, SourceError
from refart.sources import pinned
from refart.sources.azure import listing as azure_listing
from refart.sources.azure import reading as azure_reading
from refart.sources.azure import writing as azure_writing
from refart.sources.azure.client import GONE, MISSING, UNSUPPORTED, AzureClient, code_of
from refart.sources.azure.uris import BY_HAND, Place, split
from refart.sources.base import Held
from refart.sources.findings import Finding
from refart.sources.listed import Circles, Listed, Row
from refart.sources.object_source import ObjectSource
from refart.sources.pinned import uri_of

NO_VERSION: Final = "null"
"""In a URI by hand: the blob as it is, where it has no version (the word of S3, as Azure has none)."""


class AzureSource(ObjectSource):
    """The source of `az://`, `abfs://`, `abfss://` and `https://account.blob.core.windows.net/`.

    A listing costs one request for every 5,000 blobs, old versions counted. Versions are always asked for: an account
    without them lists the same, and where they are denied or not offered, ETags pin. The content id is the Content-
    MD5, else the ETag. Blobs that stand for folders are not entries, nor are snapshots, and blobs that are deleted or
    not yet committed. `az://container/name?versionid=ID` is that version of `name` where no such literal name exists
    (`null`: the blob without a version). Bytes are read by one GET for every 4 MiB, all of one write.

    `options` are adlfs' storage options; what they leave open comes from `AZURE_STORAGE_…` variables, as with adlfs,
    and from `azure.identity.DefaultAzureCredential`. Raises `InvalidInputError` for an option that adlfs does not
    know.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._client = AzureClient(options)

    def _place(self, uri: str) -> tuple[_Container, str]:
        place, key = split(uri)
        return _Container(self._client, place), key

    def _getter(self, entry: Entry) -> pinned.Get:
        place, key = split(uri_of(entry))
        return azure_reading.getter(self._client, place, key, entry)

    def _wanted(self, entry: Entry) -> list[tuple[pinned.Which, Held]]:
        return azure_reading.wanted(entry)

    def diagnose(self, uri: str) -> Iterator[Finding]:
        """See `DiagnosableSource`."""
        from refart.sources.azure import doctor as azure_doctor  # here, since nothing else needs it

        return azure_doctor.diagnose(self._client, *split(uri))

    def presign(self, entry: Entry, expires_s: int) -> str:
        """See `PresigningSource`: signed with the account's key, else with a key that Azure gives to an identity."""
        place, key = split(uri_of(entry))
        kind, _, version = (entry.pin or "").partition(":")
        which = version if kind == "version" else None
        return self._client.presigned(place, key, pinned.named(entry), which, expires_s)

    def copies(self, uri: str, to: str) -> bool:
        """See `WritableSource`: within an account. Another one would have to be let in by a signed URL."""
        return split(uri)[0].account == split(to)[0].account

    def copy(self, entry: Entry, to: str, *, over: Entry | None) -> Entry:
        """See `WritableSource`: Copy Blob between two or three HEADs; see `azure.writing`."""
        place, key = split(uri_of(entry))
        return replace(self._writer(to, over).copy(entry, place, key), path=entry.path)

    def delete(self, found: Entry) -> None:
        """See `WritableSource`: an account with versions keeps it as one of them."""
        self._writer(uri_of(found), found).delete()

    def _writer(self, uri: str, over: Entry | None) -> azure_writing.Writer:
        place, key = split(uri)
        return azure_writing.Writer(self._client, self.stat, place, key, uri, over)


@dataclass(frozen=True, slots=True)
class _Container:
    """See `objects.Bucket`."""

    client: AzureClient
    place: Place

    def uris_of(self, keys: pa.StringArray) -> pa.StringArray:
        if self.place.is_encoded:
            return pa.array(map(self.place.uri_of, keys.to_pylist()), pa.string())
        return prefixed(self.place.root, keys)

    def responses(self, prefix: str) -> Iterator[Listed]:
        without_versions = self.client.without_versions()
        if self.place not in without_versions:
            responses = self._responses(prefix, ["metadata", "versions"])
            try:
                first = next(responses)
            except RefartError as error:
                if not isinstance(error, PermissionDeniedError) and code_of(error) not in UNSUPPORTED:
                    raise
                without_versions.add(self.place)
            else:
                yield first
                yield from responses
                return
        yield from self._responses(prefix, ["metadata"])

    def _responses(self, prefix: str, include: list[str]) -> Iterator[Listed]:
        what = f"listing {self.place.uri_of(prefix)}"
        circles = Circles(what)
        for body, marker in self.client.pages(self.place, prefix, include, what):
            yield azure_listing.parse(body, what, marker)
            if marker is not None:
                circles.check(marker)

    def ranged(self, prefix: str) -> None:
        return None  # a marker comes from the server; no listing starts at a name of ours

    def head(self, key: str, version: str | None = None) -> Row | None:
        """One blob by one HEAD; None where it, or that version of it, does not exist, or stands for a folder."""
        which = {} if version is None else {"version_id": version}
        try:
            found = self.client.properties(self.place, key, self.place.uri_of(key), **which)
        except RefartError as error:
            if code_of(error) in (MISSING if version is None else GONE):
                return None
            raise
        if version not in (None, found.version_id):
            return None  # a server without versions, which did not look at the parameter
        if azure_listing.is_folder(found.metadata or {}):
            return None
        try:
            row = azure_listing.row_of(
                key,
                found.size,
                found.content_settings.content_md5,
                found.etag or "",
                found.version_id,
                found.blob_type and found.blob_type.value,
            )
        except ValueError as error:
            what = self.place.uri_of(key)
            raise SourceError(f"{what}: the server's answer is not that of Azure: {error}") from error
        return row._replace(pin=f"version:{version}") if version is not None else row

    def by_hand(self, key: str) -> Row | None:
        """The version that `key?versionid=ID` names."""
        bare, _, version = key.rpartition(BY_HAND)
        if not bare or not version:
            return None
        row = self.head(bare, None if version == NO_VERSION else version)
        if row is None or (version == NO_VERSION and _version_of(row) is not None):
            raise NotFoundError(
                f"{self.place.uri_of(bare)} has no version {version!r} to read"
                f" (and no blob has the literal name {key!r})"
            )
        return row

    def write_by_hand(self, row: Row) -> str:
        return f"{self.place.uri_of(row.key)}{BY_HAND}{_version_of(row) or NO_VERSION}"


def _version_of(row: Row) -> str | None:
    kind, _, value = (row.pin or "").partition(":")
    return value if kind == "version" else None
