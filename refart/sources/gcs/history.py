"""Listings of GCS as a prefix stood at a time, from all generations that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from refart.errors import InvalidInputError, PermissionDeniedError, SourceError
from refart.sources.gcs import listing as gcs_listing
from refart.sources.gcs.client import GCSClient
from refart.sources.gcs.listing import LISTING_FIELDS, OBJECT_FIELDS
from refart.sources.kept import Kept, pinned_write
from refart.sources.listed import Listed, one_by_one, rows_of

FIELDS: Final = f"items({OBJECT_FIELDS},timeCreated,timeDeleted),nextPageToken"


def responses(client: GCSClient, bucket: str, prefix: str, at: datetime, what: str) -> Iterator[Listed]:
    """Every response of the listing of what lay under `prefix` at a time.

    Each generation tells when it was made (of an upload: when it ended), and when it ceased to be the live one.
    (JSON API, "Objects", timeCreated and timeDeleted.) Raises `InvalidInputError` for a bucket without versioning.
    """
    _check_versioned(client, bucket, what)
    return one_by_one(partial(_ask, client, bucket, prefix, at, what), what)


def _ask(
    client: GCSClient, bucket: str, prefix: str, at: datetime, what: str, following: str | None
) -> Listed:
    asked = {"prefix": prefix, "fields": FIELDS, "versions": "true", "projection": "noAcl"}
    if following is not None:
        asked["pageToken"] = following
    answer = client.get_json(what, bucket, None, asked)
    try:
        standing = [item for item in answer.get("items", ()) if _stood(item, at)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{what}: the server's answer is not one of the JSON API of GCS ({type(error).__name__})"
        ) from error
    return gcs_listing.parse({**answer, "items": standing}, what)


def kept(client: GCSClient, bucket: str, root: str, prefix: str, first: str) -> Kept:
    """One response of the listing of all generations of names under `prefix`, from the name `first` on."""
    what = f"listing {root}{prefix}"
    asked = {"prefix": prefix, "startOffset": first, "versions": "true", "projection": "noAcl"}
    told = gcs_listing.parse(client.get_json(what, bucket, None, {**asked, "fields": LISTING_FIELDS}), what)
    end = max(told.keys, default=first) if told.following else None
    return Kept({pinned_write(row) for row in rows_of(told.objects)}, end)


def _stood(item: Mapping[str, Any], at: datetime) -> bool:
    ceased = item.get("timeDeleted")
    return _time(item["timeCreated"]) <= at and (ceased is None or at < _time(ceased))


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _check_versioned(client: GCSClient, bucket: str, what: str) -> None:
    try:
        versioning = client.bucket_json(what, bucket, "versioning").get("versioning")
    except PermissionDeniedError:
        return  # most who may list may not ask; generations that are there tell the same
    if not isinstance(versioning, dict) or versioning.get("enabled") is not True:
        raise InvalidInputError(
            f"{what}: the bucket keeps no versions, so it does not know how it stood at another time; as_of= needs"
            " versioning"
        )
