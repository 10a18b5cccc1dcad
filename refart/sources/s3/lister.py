"""Requests for listings of S3: with version ids where they pin and do not cost too much."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import Final

from refart.errors import RefartError
from refart.sources.listed import Listed
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3.client import DENIED, UNSUPPORTED, S3Client, code_of

MAX_OLD: Final = 0.9
"""Of what a listing with version ids tells, the share of old versions and delete markers beyond which it goes on
without them: the rest would cost ten times the requests, or more. Objects are pinned by their ETags then."""

JUDGED_FROM: Final = 5_000
"""Of what a listing tells, before that share means something."""

_log = logging.getLogger("refart.sources")


class S3Lister:
    """Lists prefixes of a bucket for one scan, from any key on and for any number of threads."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._lock = threading.Lock()
        self._told = self._current = 0
        self._with_versions: bool | None = None

    def ask(self, prefix: str, what: str, after: str, following: dict[str, str] | None) -> Listed:
        """One response of the listing of all keys that begin with `prefix`.

        Of those after the key `after`, or where `following` (`Listed.following`) continues; `what` begins the message
        of an error.
        """
        with_versions = "KeyMarker" in following if following else self._wants_versions(what)
        while True:
            asked = following or ({"KeyMarker" if with_versions else "StartAfter": after} if after else {})
            try:
                response = self._client.call(
                    "ListObjectVersions" if with_versions else "ListObjectsV2",
                    what,
                    Bucket=self._bucket,
                    Prefix=prefix,
                    EncodingType="url",
                    **asked,
                )
            except RefartError as error:
                # Only as long as nothing was pinned to a version: the rest would not be, and nobody would know.
                is_first = not following and not self._told
                if with_versions and is_first and code_of(error) in DENIED | UNSUPPORTED:
                    with_versions = self._with_versions = False
                    self._client.learnt().has_versions[self._bucket] = False
                    continue
                raise
            listed = s3_listing.parse(response.get("RawBody", b""), what)
            return self._judged(listed, what) if with_versions else listed

    def _judged(self, listed: Listed, what: str) -> Listed:
        """The response; where most of what such a listing tells is old, it continues without versions."""
        with self._lock:
            self._told += len(listed.keys)
            self._current += listed.objects.num_rows
            old = self._told - self._current
            is_new = self._with_versions is not False and self._client.lists_versions is None
            if is_new and self._told >= JUDGED_FROM and old > MAX_OLD * self._told:
                self._with_versions = False
                _log.warning(
                    "%s: %d of %d versions are old, so it goes on without version ids; entries are pinned by their"
                    " ETags, and cannot be read once they are overwritten (the storage option version_aware = true"
                    " lists all versions)",
                    what,
                    old,
                    self._told,
                )
            goes_on_without = self._with_versions is False  # None in a worker that only continued so far
        if goes_on_without and listed.following is not None and listed.resume_key is not None:
            return replace(listed, following={"StartAfter": listed.resume_key})
        return listed

    def _wants_versions(self, what: str) -> bool:
        with self._lock:
            if self._with_versions is None:
                self._with_versions = self._has_versions(what)
            return self._with_versions

    def _has_versions(self, what: str) -> bool:
        """Whether to list with version ids; tried where asking is denied.

        Versioning once switched on can only be suspended, so a yes is remembered; a no may change.
        """
        if self._client.lists_versions is not None:
            return self._client.lists_versions
        has_versions = self._client.learnt().has_versions
        if self._bucket not in has_versions:
            try:
                response = self._client.call("GetBucketVersioning", what, Bucket=self._bucket)
            except RefartError as error:
                if code_of(error) not in DENIED | UNSUPPORTED:
                    raise
            else:
                if "Status" not in response:  # absent where versioning was never configured
                    return False
            has_versions[self._bucket] = True
        return has_versions[self._bucket]
