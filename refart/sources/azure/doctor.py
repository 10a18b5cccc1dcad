"""Examines a place in Azure Blob Storage, by 3 requests: one listing, a GET of one byte, and the settings of the
service.

Clients that read data are not told whether an account keeps versions, nor what its lifecycle policies remove (both
belong to Azure Resource Manager): version ids in a listing tell the first, nothing tells the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from refart.errors import NotFoundError, PermissionDeniedError, RefartError
from refart.sources.azure import listing as azure_listing
from refart.sources.azure.client import UNSUPPORTED, AzureClient, code_of
from refart.sources.azure.uris import Place
from refart.sources.findings import Finding, days, identities, listed, of_sample, ok, refused, warn
from refart.sources.listed import Row, rows_of

_ARCHIVED: Final = re.compile(rb"<AccessTier>Archive</AccessTier>")


def diagnose(client: AzureClient, place: Place, key: str) -> Iterator[Finding]:
    """See `DiagnosableSource`."""
    where = place.uri_of(key)
    try:
        body, following = _first_page(client, place, key)
        found = azure_listing.parse(body, where, following)
    except NotFoundError as error:
        yield refused("access", error, "nothing lies there", "check the names of account and container")
        return
    except RefartError as error:
        yield refused(
            "list",
            error,
            "prefixes cannot be logged, nor compared with what lies there",
            "check the credentials, the clock and account_host; give the role Storage Blob Data Reader",
        )
        return
    yield listed(found, where)
    rows = list(rows_of(found.objects))
    yield from _versions(rows)
    if archived := len(_ARCHIVED.findall(body)):
        yield warn(
            "archive",
            f"{of_sample(archived, len(found.keys), 'blobs and versions')} are archived",
            "they can be logged and compared, but not read before they are back in an online tier",
            "move what is needed to an online tier, or exclude= it",
        )
    yield from identities(rows, "without a Content-MD5 (written in blocks)")
    if (row := next((row for row in rows if row.size), None)) is not None:
        yield _reading(client, place, row)
    yield _soft_delete(client, place, where)
    yield warn(
        "lifecycle",
        "what a lifecycle policy removes is not told to readers of data",
        "a rule may delete versions that are pinned, and nobody here would know",
        "look at the account's lifecycle management in the portal, or by `az storage account management-policy show`",
    )


def _first_page(client: AzureClient, place: Place, key: str) -> tuple[bytes, str | None]:
    for include in (["metadata", "versions"], ["metadata"]):
        try:
            return next(client.pages(place, key, include, place.uri_of(key)))
        except RefartError as error:
            may_do_without = isinstance(error, PermissionDeniedError) or code_of(error) in UNSUPPORTED
            if "versions" not in include or not may_do_without:
                raise
    raise AssertionError("the last listing returns or raises")


def _versions(rows: list[Row]) -> Iterator[Finding]:
    if not rows:
        return
    if any((row.pin or "").startswith("version:") for row in rows):
        yield ok("versions", "version ids are told: what is overwritten or deleted is kept")
        return
    yield warn(
        "versions",
        "no blob has a version id: what is overwritten or deleted is gone, or may not be told",
        "entries are pinned by their ETags: a change is noticed, but the logged bytes cannot be had again",
        "switch blob versioning on (not offered with a hierarchical namespace), or allow listing versions",
    )


def _reading(client: AzureClient, place: Place, row: Row) -> Finding:
    kind, _, version = (row.pin or "").partition(":")
    which = {"version_id": version} if kind == "version" else {}
    try:
        client.download(place, row.key, place.uri_of(row.key), 0, 1, **which)
    except RefartError as error:
        return refused(
            "read", error, "references can be logged, but not read", "give Storage Blob Data Reader"
        )
    return ok("read", "one byte of one blob was read" + (", by its version id" if which else ""))


def _soft_delete(client: AzureClient, place: Place, where: str) -> Finding:
    try:
        count = client.soft_delete_days(place, where)
    except RefartError as error:
        return refused(
            "versions",
            error,
            "whether deleted blobs can be brought back is not known",
            "allow reading the service's properties, or look in the portal",
            "warn",
        )
    if count is None:
        return ok("versions", "deleted blobs are not kept by soft delete")
    return Finding(
        "ok", "versions", f"soft delete keeps what is deleted for {days(count)}; undelete it to read it"
    )
