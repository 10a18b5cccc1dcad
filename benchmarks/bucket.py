"""What S3 answers about a simulated lake: the words of its API, without the wire.

Written after the API reference of Amazon S3: ListObjectsV2, ListObjects, ListObjectVersions, GetObject, HeadObject,
GetBucketVersioning, GetBucketLocation, HeadBucket, "Error responses".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import parse_qsl, quote_plus, unquote
from xml.sax.saxutils import escape

from benchmarks.lake import Lake, Records, tail

NULL_VERSION: Final = "null"
BUCKET: Final = "lake"
PAGE_KEYS: Final = 1_000
_LISTING_PARAMETERS: Final = frozenset(
    {"versions", "list-type", "prefix", "delimiter", "max-keys", "encoding-type", "fetch-owner", "x-id"}
    | {"start-after", "continuation-token", "marker", "key-marker", "version-id-marker"}
)
_XML: Final = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class Answer:
    operation: str
    body: Sequence[bytes | memoryview] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/xml"


class Refusal(Exception):
    """An error in the words of S3."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Bucket:
    """What S3 answers about one lake, request by request."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._shared = memoryview(lake.shared)

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        """Answer any request; what S3 refuses is refused in its words."""
        path, _, query_text = target.partition("?")
        query = dict(parse_qsl(query_text, keep_blank_values=True))
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        try:
            if bucket != BUCKET:
                raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
            if method not in ("GET", "HEAD"):
                raise Refusal(501, "NotImplemented", "This server only reads")
            return self._object(method, key, query, headers) if key else self._bucket(method, query)
        except Refusal as refusal:
            text = f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message></Error>"
            return Answer("refused", [_XML + text.encode()], refusal.status)

    def _bucket(self, method: str, query: dict[str, str]) -> Answer:
        if method == "HEAD":
            return Answer("HeadBucket", headers={"x-amz-bucket-region": "us-east-1"})
        if "location" in query:
            return Answer("GetBucketLocation", [_XML, f'<LocationConstraint xmlns="{_NAMESPACE}"/>'.encode()])
        if "versioning" in query:
            status = "<Status>Enabled</Status>" if self.lake.versions else ""
            text = f'<VersioningConfiguration xmlns="{_NAMESPACE}">{status}</VersioningConfiguration>'
            return Answer("GetBucketVersioning", [_XML, text.encode()])
        if not set(query) <= _LISTING_PARAMETERS:
            raise Refusal(501, "NotImplemented", f"This server does not know all of {sorted(query)}")
        if "versions" in query:
            return self._list_versions(query)
        return self._list_v2(query) if query.get("list-type") == "2" else self._list_v1(query)

    # -- listings ------------------------------------------------------------------------------------------------

    def _list_v2(self, query: dict[str, str]) -> Answer:
        records, after, token = self.lake.objects, query.get("start-after"), query.get("continuation-token")
        page = _Page(
            records, _index_of(token) if token else records.first_after((after or "").encode()), query
        )
        head: dict[str, str | None] = {
            "StartAfter": after and page.text(after),
            "ContinuationToken": token,
            "NextContinuationToken": _token_of(page.end) if page.is_truncated else None,
            "KeyCount": str(page.count),
        }
        return page.answer("ListObjectsV2", "ListBucketResult", head)

    def _list_v1(self, query: dict[str, str]) -> Answer:
        records, marker = self.lake.objects, query.get("marker", "")
        page = _Page(records, _after_marker(records, marker, query), query)
        has_next = page.is_truncated and page.delimiter
        head = {"Marker": page.text(marker), "NextMarker": page.text(page.last) if has_next else None}
        return page.answer("ListObjects", "ListBucketResult", head)

    def _list_versions(self, query: dict[str, str]) -> Answer:
        records = self.lake.versions or self.lake.objects
        marker, version = query.get("key-marker", ""), query.get("version-id-marker")
        if version is None:
            start = _after_marker(records, marker, query)
        elif marker and version:
            start = 1 + self._find(marker, version, Refusal(400, "InvalidArgument", "Invalid version id"))
        else:
            raise Refusal(400, "InvalidArgument", "A version-id marker needs a key marker, and is not empty")
        page = _Page(records, start, query)
        head: dict[str, str | None] = {"KeyMarker": page.text(marker), "VersionIdMarker": version or ""}
        if page.is_truncated:
            head["NextKeyMarker"] = page.text(page.last)
            if not page.ends_in_common:
                head["NextVersionIdMarker"] = records.field(page.end - 1, b"VersionId") or NULL_VERSION
        is_plain = self.lake.versions is None
        return page.answer("ListObjectVersions", "ListVersionsResult", head, null_versions=is_plain)

    def _find(self, key: str, version: str | None, missing: Refusal) -> int:
        """The index of a version in the list of all, or of the latest one. Raises `missing`."""
        records = self.lake.versions or self.lake.objects
        wanted = key.encode()
        for index in range(records.first_at(wanted), len(records)):
            if records[index] != wanted:
                break
            if version is None or (records.field(index, b"VersionId") or NULL_VERSION) == version:
                return index
        raise missing

    # -- objects -------------------------------------------------------------------------------------------------

    def _object(self, method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        operation = "HeadObject" if method == "HEAD" else "GetObject"
        if not set(query) <= {"versionId", "x-id"} or (method == "GET" and not self.lake.shared):
            raise Refusal(501, "NotImplemented", f"This server has no {operation} with {sorted(query)}")
        records, version = self.lake.versions or self.lake.objects, query.get("versionId")
        if version is None:
            index = self._find(key, None, Refusal(404, "NoSuchKey", "The specified key does not exist."))
        else:
            unknown = Refusal(404, "NoSuchVersion", "The specified version does not exist.")
            index = self._find(key, version, unknown)
        if not (etag := records.field(index, b"ETag").replace("&quot;", '"')):
            if version is None:
                raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
            raise Refusal(
                405, "MethodNotAllowed", "The specified method is not allowed against this resource."
            )
        size = int(records.field(index, b"Size"))
        known = {
            "ETag": etag,
            "Last-Modified": _http_date(records.field(index, b"LastModified")),
            "Accept-Ranges": "bytes",
        }
        if self.lake.versions:
            known["x-amz-version-id"] = records.field(index, b"VersionId")
        if headers.get("if-match", etag) not in (etag, etag.strip('"'), "*"):
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        if headers.get("if-none-match") in (etag, etag.strip('"'), "*"):
            return Answer(operation, status=304, headers=known)
        start, end, status = 0, size, 200
        if "range" in headers:
            start, end = _range_of(headers["range"], size)
            status, known["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        if method == "HEAD":
            known["Content-Length"] = str(end - start)
            return Answer(operation, (), status, known, "binary/octet-stream")
        wanted = key.encode()
        own = tail(wanted, index - records.first_at(wanted))
        cut = len(self._shared)
        body: list[bytes | memoryview] = [
            self._shared[start:end],
            own[max(start - cut, 0) : max(end - cut, 0)],
        ]
        return Answer(operation, body, status, known, "binary/octet-stream")


class _Page:
    """The records that one response tells, from `start` on."""

    def __init__(self, records: Records, start: int, query: dict[str, str]) -> None:
        self._query, self._records = query, records
        self.delimiter = query.get("delimiter", "")
        prefix, delimiter = query.get("prefix", "").encode(), self.delimiter.encode()
        try:
            limit = min(int(query.get("max-keys", PAGE_KEYS)), PAGE_KEYS)
        except ValueError:
            raise Refusal(400, "InvalidArgument", "max-keys is not a number") from None
        stop = records.first_beyond(prefix)
        start = max(start, records.first_at(prefix))
        self._runs: list[tuple[int, int]] = []
        self._common: list[bytes] = []
        self.end, self.count = start, 0
        if not delimiter:
            self.end = max(start, min(start + limit, stop))
            self.count = self.end - start
            self._runs.append((start, self.end))
        while delimiter and self.end < stop and self.count < limit:
            key = records[self.end]
            cut = key.find(delimiter, len(prefix))
            if cut >= 0:
                self._common.append(key[: cut + len(delimiter)])
                self.end = records.first_beyond(self._common[-1])
            else:
                if self._runs and self._runs[-1][1] == self.end:
                    start, _ = self._runs.pop()
                else:
                    start = self.end
                self.end += 1
                self._runs.append((start, self.end))
            self.count += 1
        self.is_truncated = self.end < stop and limit > 0
        self.ends_in_common = not self._runs or self._runs[-1][1] != self.end

    @property
    def last(self) -> str:
        """The last key, or common prefix, of the page."""
        return (self._common[-1] if self.ends_in_common else self._records[self.end - 1]).decode()

    @property
    def _is_encoded(self) -> bool:
        return self._query.get("encoding-type") == "url"

    def text(self, key: str) -> str:
        return quote_plus(key, safe="/*") if self._is_encoded else escape(key)

    def answer(
        self, operation: str, kind: str, more: dict[str, str | None], *, null_versions: bool = False
    ) -> Answer:
        head: dict[str, str | None] = {
            "Name": BUCKET,
            "Prefix": self.text(self._query.get("prefix", "")),
            **more,
            "MaxKeys": self._query.get("max-keys", str(PAGE_KEYS)),
            "Delimiter": (self.delimiter and self.text(self.delimiter)) or None,
            "EncodingType": "url" if self._is_encoded else None,
            "IsTruncated": str(self.is_truncated).lower(),
        }
        told = "".join(f"<{name}>{text}</{name}>" for name, text in head.items() if text is not None)
        fragments: list[bytes | memoryview] = [self._records.slice(*run) for run in self._runs]
        if null_versions:
            fragments = [_with_null_version(bytes(part)) for part in fragments]
        if not self._is_encoded:
            fragments = [bytes(part).replace(b"%3D", b"=") for part in fragments]
        common = "".join(
            f"<CommonPrefixes><Prefix>{self.text(prefix.decode())}</Prefix></CommonPrefixes>"
            for prefix in self._common
        )
        first = _XML + f'<{kind} xmlns="{_NAMESPACE}">{told}'.encode()
        return Answer(operation, [first, *fragments, f"{common}</{kind}>".encode()])


def _after_marker(records: Records, marker: str, query: dict[str, str]) -> int:
    """Where a listing goes on behind a key, or behind all that a common prefix stands for."""
    delimiter = query.get("delimiter")
    if delimiter and marker.endswith(delimiter) and marker != query.get("prefix"):
        return records.first_beyond(marker.encode())
    return records.first_after(marker.encode())


def _with_null_version(fragments: bytes) -> bytes:
    """A bucket that never had versions lists its objects as versions all the same."""
    of_versions = fragments.replace(b"Contents>", b"Version>")
    return of_versions.replace(b"</Key>", b"</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>")


def _token_of(index: int) -> str:
    return base64.b64encode(f"simulated continuation at {index}".encode()).decode()


def _index_of(token: str) -> int:
    try:
        return int(base64.b64decode(token, validate=True).split()[-1])
    except (ValueError, IndexError):
        raise Refusal(400, "InvalidArgument", "The continuation token provided is incorrect") from None


def _http_date(text: str) -> str:
    return format_datetime(datetime.fromisoformat(text), usegmt=True)


def _range_of(text: str, size: int) -> tuple[int, int]:
    """First byte and end of a range of one part."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if not found or not any(found.groups()):
        return 0, size  # RFC 9110: what is not understood is ignored
    first, last = found.groups()
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last or size) + 1, size)
    if start >= end:
        raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
    return start, end
