"""Examines a place in S3: rights, versions, lifecycle rules, storage classes, region, clock, checksums.

At most 9 requests: GetBucketVersioning, HeadBucket, one listing (two where versions may not be listed), a GET of one
byte (two where versions may not be read), HeadObject, GetBucketLifecycleConfiguration, GetBucketEncryption.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from refart.errors import NotFoundError, PermissionDeniedError, RefartError
from refart.sources.clients import harmless
from refart.sources.findings import (
    SAMPLE,
    Expiry,
    Finding,
    clock,
    days,
    identities,
    listed,
    of_sample,
    ok,
    refused,
    warn,
)
from refart.sources.listed import Row, rows_of
from refart.sources.s3 import checksums as s3_checksums
from refart.sources.s3 import listing as s3_listing
from refart.sources.s3.client import DENIED, MISSING, UNSUPPORTED, S3Client, code_of
from refart.sources.s3.reading import ARCHIVES, DIRECTORY_BUCKET

CREDENTIALS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
ELSEWHERE: Final = frozenset(
    {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
"""Answers to a request that was signed for another region than that of the bucket."""

NO_RULES: Final = "NoSuchLifecycleConfiguration"
NO_ENCRYPTION: Final = "ServerSideEncryptionConfigurationNotFoundError"

_CLASS: Final = re.compile(rb"<StorageClass>([A-Z_]{1,40})</StorageClass>")


def diagnose(client: S3Client, root: str, bucket: str, key: str) -> Iterator[Finding]:
    """See `DiagnosableSource`; `root` is `s3://bucket/`."""
    return _Examination(client, root, bucket, key).findings()


class _Examination:
    def __init__(self, client: S3Client, root: str, bucket: str, key: str) -> None:
        self._client, self._root, self._bucket, self._key = client, root, bucket, key
        self._headers: Mapping[str, str] = {}
        """Of the first answer."""

    def findings(self) -> Iterator[Finding]:
        versioning = self._ask("GetBucketVersioning")
        if (stop := _hopeless(versioning)) is not None:
            yield stop
            return
        yield from self._region()
        has_versions = isinstance(versioning, RefartError) or "Status" in versioning
        yield _versioning(versioning)
        row = None
        for found in self._listing(has_versions):
            if isinstance(found, Finding):
                yield found
            else:
                row = found
        if row is not None:
            yield from self._reading(row)
            yield from self._checksums(row)
        yield from self._lifecycle(has_versions)
        yield from self._encryption()
        if (skew := clock(self._headers)) is not None:
            yield skew

    def _ask(self, operation: str, **parameters: Any) -> dict[str, Any] | RefartError:
        try:
            answer = self._client.call(
                operation, f"{self._root}{self._key}", Bucket=self._bucket, **parameters
            )
        except RefartError as error:
            return error
        self._headers = self._headers or answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return answer

    def _region(self) -> Iterator[Finding]:
        endpoint, ours = self._client.place()
        shown = harmless(endpoint) or "the configured endpoint"
        answer = self._ask("HeadBucket")
        theirs = None if isinstance(answer, RefartError) else answer.get("BucketRegion")
        if theirs and ours and theirs != ours:
            yield warn(
                "region",
                f"the bucket lies in {theirs}, and requests are signed for {ours} ({shown})",
                "every process is redirected first, and servers other than Amazon's refuse",
                f'set AWS_REGION={theirs}, or client_kwargs = {{region_name = "{theirs}"}} for {self._root}',
            )
        else:
            yield ok("region", f"{shown}, region {theirs or ours or 'unknown'}")

    # -- listing and reading

    def _listing(self, has_versions: bool) -> Iterator[Finding | Row]:
        """Findings, and an object to try things on."""
        operation = "ListObjectVersions" if has_versions else "ListObjectsV2"
        asked = {"Prefix": self._key, "MaxKeys": SAMPLE, "EncodingType": "url"}
        answer = self._ask(operation, **asked)
        if has_versions and isinstance(answer, RefartError) and code_of(answer) in DENIED | UNSUPPORTED:
            yield warn(
                "list",
                f"versions may not be listed ({code_of(answer)})",
                "entries are pinned by their ETags, so that what is overwritten cannot be read again",
                "allow s3:ListBucketVersions on the bucket",
            )
            answer = self._ask("ListObjectsV2", **asked)
        if isinstance(answer, RefartError):
            yield refused(
                "list",
                answer,
                "prefixes cannot be logged, nor compared with what lies there",
                "allow s3:ListBucket on the bucket; a single object can be logged without",
            )
            return
        body = answer.get("RawBody", b"")
        try:
            found = s3_listing.parse(body, self._root)
        except RefartError as error:
            yield refused("list", error, "prefixes cannot be logged", "check endpoint_url")
            return
        yield listed(found, f"{self._root}{self._key}")
        yield from _classes(body)
        rows = [row for row in rows_of(found.objects) if not row.key.endswith("/")]
        yield from identities(rows, "uploaded in parts: no MD5 is told")
        if rows:
            yield next((row for row in rows if row.size), rows[0])

    def _reading(self, row: Row) -> Iterator[Finding]:
        part = {"Range": "bytes=0-0"} if row.size else {}
        kind, _, version = (row.pin or "").partition(":")
        pinned = {"VersionId": version} if kind == "version" else {}
        answer = self._ask("GetObject", Key=row.key, **part, **pinned)
        if isinstance(answer, dict):
            answer["Body"].close()
            what = "one byte of one object was read" + (", by its version id" if pinned else "")
            yield ok("read", what)
            return
        if code_of(answer) == "InvalidObjectState":
            yield refused("read", answer, "the first object is archived", "restore it in S3 first", "warn")
            return
        yield refused(
            "read",
            answer,
            "references can be logged, but not read",
            f"allow s3:GetObject{'Version' if pinned else ''}",
        )
        if pinned and code_of(answer) in DENIED:
            answer = self._ask("GetObject", Key=row.key, **part)
            if isinstance(answer, dict):
                answer["Body"].close()
                yield warn(
                    "read",
                    "the current object may be read, but no version of it by its id",
                    "what is pinned to a version cannot be downloaded",
                    "allow s3:GetObjectVersion",
                )

    # -- what identifies bytes

    def _checksums(self, row: Row) -> Iterator[Finding]:
        answer = self._ask("HeadObject", Key=row.key, ChecksumMode="ENABLED")
        if isinstance(answer, RefartError):
            return  # reading has said it
        encryption = str(answer.get("ServerSideEncryption", ""))
        if encryption.startswith("aws:kms") or "SSECustomerAlgorithm" in answer:
            yield warn(
                "checksum",
                f"objects are encrypted ({encryption or 'SSE-C'}), and their ETags are no MD5s",
                "a download is confirmed by the pin, not by a hash of the bytes",
                "log with checksum='sha256' (reads every byte once), or 'stored' where S3 keeps checksums",
            )
        elif self._bucket.endswith(DIRECTORY_BUCKET):
            yield warn(
                "checksum",
                "ETags of directory buckets are random",
                "a download is confirmed by the ETag, not by a hash of the bytes",
                "log with checksum='stored' or 'sha256'",
            )
        stored = s3_checksums.stored(answer)
        if stored is not None:
            algo = stored.partition(":")[0]
            yield ok("checksum", f"S3 keeps a {algo} of the object: checksum='stored' records it")

    def _encryption(self) -> Iterator[Finding]:
        answer = self._ask("GetBucketEncryption")
        if isinstance(answer, RefartError):
            return  # objects tell; nothing depends on the default alone
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        defaults = [
            rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "") for rule in rules
        ]
        if any(name.startswith("aws:kms") for name in defaults):
            yield warn(
                "checksum",
                "new objects are encrypted with KMS keys, and their ETags are no MD5s",
                "a download is confirmed by the pin, not by a hash of the bytes; reading needs the key as well",
                "log with checksum='sha256' or 'stored'; allow kms:Decrypt",
            )

    # -- what removes bytes

    def _lifecycle(self, has_versions: bool) -> Iterator[Finding]:
        answer = self._ask("GetBucketLifecycleConfiguration")
        if isinstance(answer, RefartError):
            code = code_of(answer)
            if code == NO_RULES:
                yield ok("lifecycle", "no lifecycle rule removes anything")
            else:
                yield warn(
                    "lifecycle",
                    f"lifecycle rules could not be asked for ({code or answer})",
                    "a rule may remove versions that are pinned, and nobody here would know",
                    "allow s3:GetLifecycleConfiguration, or ask whoever owns the bucket",
                )
            return
        found = list(_rules(answer.get("Rules", []), self._root, self._key, has_versions))
        yield from found or [ok("lifecycle", "no lifecycle rule removes anything here")]


def _hopeless(answer: dict[str, Any] | RefartError) -> Finding | None:
    """The one finding where nothing else can be asked."""
    if not isinstance(answer, RefartError):
        return None
    code = code_of(answer)
    if code == "RequestTimeTooSkewed":
        return refused("clock", answer, "no request is answered", "set the clock by NTP")
    if isinstance(answer, NotFoundError) or code in MISSING:
        return refused("access", answer, "nothing lies there", "check the name, and endpoint_url")
    if code in ELSEWHERE:
        return refused(
            "region", answer, "requests go to another region", "set AWS_REGION to that of the bucket"
        )
    if code in CREDENTIALS or (isinstance(answer, PermissionDeniedError) and not code):
        return refused(
            "access", answer, "no request is answered", "check the credentials and storage_options"
        )
    if not code:
        return refused(
            "access", answer, "no request is answered", "check endpoint_url, proxies and the network"
        )
    return None  # denied, or not offered: other questions may be answered


def _versioning(answer: dict[str, Any] | RefartError) -> Finding:
    if isinstance(answer, RefartError):
        return warn(
            "versions",
            f"whether versions are kept could not be asked ({code_of(answer)})",
            "without versions, what is overwritten cannot be read again",
            "allow s3:GetBucketVersioning; listings find it out all the same",
        )
    if answer.get("Status") == "Enabled":
        return ok("versions", "versioning is on: what is overwritten or deleted is kept")
    if "Status" in answer:
        return warn(
            "versions",
            "versioning is suspended: existing versions are kept, but what is written now has the version null, which"
            " the next write or delete replaces",
            "entries of versions stay readable; those of version null are pinned by their ETags, and their bytes cannot"
            " be had again once they are overwritten",
            "switch versioning on again, or keep managed copies of what was written while it was suspended",
        )
    return warn(
        "versions",
        "versioning is off: what is overwritten or deleted now is gone",
        "entries are pinned by their ETags: a change is noticed, but the logged bytes cannot be had again",
        "switch versioning on, or keep managed copies of what must not be lost",
    )


def _classes(body: bytes) -> Iterator[Finding]:
    classes = Counter(name.decode() for name in _CLASS.findall(body))
    count, total = sum(classes[name] for name in ARCHIVES), classes.total()
    if count:
        names = " and ".join(name for name in ARCHIVES if classes[name])
        yield warn(
            "archive",
            f"{of_sample(count, total, 'objects and versions')} are archived ({names})",
            "they can be logged and compared, but not read before S3 has restored them, which takes hours",
            "restore what is needed (RestoreObject), or exclude= it",
        )


def _rules(rules: list[dict[str, Any]], root: str, key: str, has_versions: bool) -> Iterator[Finding]:
    for rule in rules:
        chosen = {**rule.get("Filter", {}), **rule.get("Filter", {}).get("And", {})}
        prefix = rule.get("Prefix") or chosen.get("Prefix") or ""
        if rule.get("Status") != "Enabled" or not (prefix.startswith(key) or key.startswith(prefix)):
            continue
        name = f"rule {rule.get('ID') or 'without a name'!r} on {root}{prefix}{_limits(chosen)}"
        yield from _expiry(rule, name, root + prefix, has_versions)
        yield from _transitions(rule, name)


def _limits(chosen: Mapping[str, Any]) -> str:
    tags = [*chosen.get("Tags", []), *([chosen["Tag"]] if "Tag" in chosen else [])]
    limits = [f"tag {tag.get('Key')}={tag.get('Value')}" for tag in tags]
    limits += [f"> {chosen['ObjectSizeGreaterThan']:,} bytes"] if "ObjectSizeGreaterThan" in chosen else []
    limits += [f"< {chosen['ObjectSizeLessThan']:,} bytes"] if "ObjectSizeLessThan" in chosen else []
    return f" ({', '.join(limits)})" if limits else ""


def _expiry(rule: Mapping[str, Any], name: str, prefix: str, has_versions: bool) -> Iterator[Finding]:
    old = rule.get("NoncurrentVersionExpiration", {})
    if has_versions and "NoncurrentDays" in old:
        count, kept = old["NoncurrentDays"], old.get("NewerNoncurrentVersions")
        beyond = f", but for the newest {kept:,}" if kept else ""
        yield warn(
            "lifecycle",
            f"{name} removes versions {days(count)} after they were overwritten{beyond}",
            "what is pinned to such a version is gone then",
            "lengthen the rule, or materialize what must not be lost",
            Expiry(prefix, count, kept),
        )
    current = rule.get("Expiration", {})
    when = f"{days(current['Days'])} after they were written" if "Days" in current else current.get("Date")
    if when:
        lost = "turns objects into old versions" if has_versions else "deletes objects for good"
        yield warn(
            "lifecycle",
            f"{name} {lost} {when}",
            "they are missing from their place then, and old versions may expire in their turn",
            "lengthen the rule, or materialize what must not be lost",
            None if has_versions else Expiry(prefix),
        )


def _transitions(rule: Mapping[str, Any], name: str) -> Iterator[Finding]:
    steps = [*rule.get("Transitions", []), *rule.get("NoncurrentVersionTransitions", [])]
    archives = sorted({step.get("StorageClass", "") for step in steps} & set(ARCHIVES))
    if archives:
        yield warn(
            "archive",
            f"{name} moves objects to {' and '.join(archives)}",
            "they cannot be read then before S3 has restored them",
            "keep what is used in an online class, or plan restores",
        )
