"""Examines a place in Google Cloud Storage, by 3 requests: the bucket, one listing, and a GET of one byte.

What a lifecycle rule does is read by the conditions of the API ("Object Lifecycle Management"): one that asks for
noncurrent time, newer versions or `isLive: false` removes old generations, any other removes what is current.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from refart.errors import NotFoundError, RefartError
from refart.sources.findings import (
    SAMPLE,
    Expiry,
    Finding,
    clock,
    days,
    identities,
    listed,
    ok,
    refused,
    warn,
)
from refart.sources.gcs import listing as gcs_listing
from refart.sources.gcs.client import GCSClient
from refart.sources.listed import Row, rows_of

FIELDS: Final = "versioning,softDeletePolicy,lifecycle,location,storageClass"
OF_OLD: Final = frozenset({"daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"})


def diagnose(client: GCSClient, root: str, bucket: str, key: str) -> Iterator[Finding]:
    """See `DiagnosableSource`; `root` is `gs://bucket/`."""
    where = root + key
    about: dict[str, Any] | None = None
    try:
        about = client.bucket_json(where, bucket, FIELDS)
    except NotFoundError as error:
        yield refused("access", error, "nothing lies there", "check the name, and endpoint_url")
        return
    except RefartError as error:
        yield refused(
            "versions",
            error,
            "whether versions are kept, and what a lifecycle rule removes, is not known",
            "allow storage.buckets.get (roles/storage.legacyBucketReader)",
            "warn",
        )
    else:
        location = str(about.get("location", "unknown"))
        yield Finding(
            "ok", "region", f"the bucket lies in {location}, class {about.get('storageClass', 'unknown')}"
        )
        yield from _versions(about)
    row = None
    try:
        asked = {"prefix": key, "fields": gcs_listing.LISTING_FIELDS, "maxResults": str(SAMPLE)}
        found = gcs_listing.parse(client.get_json(where, bucket, None, asked), where)
    except RefartError as error:
        yield refused(
            "list",
            error,
            "prefixes cannot be logged, nor compared with what lies there",
            "check the credentials; allow storage.objects.list",
        )
    else:
        yield listed(found, where)
        rows = list(rows_of(found.objects))
        yield from identities(rows, "composite or encrypted by a customer's key: no MD5 is told")
        row = next((row for row in rows if row.size), None)
    if row is not None:
        yield from _reading(client, root, bucket, row)
    if about is not None:
        found_rules = list(_rules(about.get("lifecycle", {}).get("rule", []), root, key))
        yield from found_rules or [ok("lifecycle", "no lifecycle rule removes anything here")]


def _reading(client: GCSClient, root: str, bucket: str, row: Row) -> Iterator[Finding]:
    asked = {"alt": "media", "generation": (row.pin or "").partition(":")[2]}
    try:
        with client.get(root + row.key, bucket, row.key, asked, headers={"Range": "bytes=0-0"}) as response:
            yield ok("read", "one byte of one object was read, by its generation")
            if (skew := clock(response.headers)) is not None:
                yield skew
    except RefartError as error:
        yield refused("read", error, "references can be logged, but not read", "allow storage.objects.get")


def _versions(about: Mapping[str, Any]) -> Iterator[Finding]:
    if about.get("versioning", {}).get("enabled"):
        yield ok("versions", "versioning is on: what is overwritten or deleted is kept")
        return
    seconds = int(about.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0) or 0)
    kept = (
        f"; it can be restored (soft delete) for {days(seconds // 86_400)}, and only then read"
        if seconds
        else ""
    )
    yield warn(
        "versions",
        f"versioning is off: what is overwritten or deleted cannot be read{kept}",
        "generations pin, so that a change is noticed, but the logged bytes are gone with their generation",
        "switch object versioning on, or keep managed copies of what must not be lost",
    )


def _rules(rules: list[Mapping[str, Any]], root: str, key: str) -> Iterator[Finding]:
    for rule in rules:
        when: Mapping[str, Any] = rule.get("condition", {})
        prefixes = [p for p in when.get("matchesPrefix", [""]) if p.startswith(key) or key.startswith(p)]
        if rule.get("action", {}).get("type") != "Delete" or not prefixes:
            continue
        is_of_old = bool(OF_OLD & when.keys()) or when.get("isLive") is False
        said = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(when.items()))
        for prefix in prefixes:
            what = "old generations" if is_of_old else "objects"
            yield warn(
                "lifecycle",
                f"a rule on {root}{prefix} deletes {what} ({said or 'without condition'})",
                "what is pinned to such a generation is gone then",
                "lengthen the rule, or materialize what must not be lost",
                Expiry(root + prefix, when.get("daysSinceNoncurrentTime"), when.get("numNewerVersions"))
                if is_of_old
                else None,
            )


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
