"""Listing responses of S3, parsed from their bytes.

botocore's own parser makes nested dictionaries, with a timestamp each, of a response: 60 times the CPU of taking four
texts a key by regular expressions, and it bounds every listing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import compress
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import prefixed
from refart.errors import SourceError
from refart.sources.listed import OBJECTS, Listed, Row, batch_of, listed, size_of

NULL_VERSION: Final = "null"
"""The version id of writes made while versioning was off or suspended. It selects no write of its own: the
next such write takes its place, so the ETag pins instead."""


def content_id_of(etag: str) -> str:
    """The content id of an ETag; `none` where the server gives none, or one that does not speak of bytes
    (`W/"…"`)."""
    bare = etag.strip('"')
    return checksums.from_etag(bare) if bare and '"' not in bare else checksums.NONE


def row_of(key: str, size: object, etag: str, version_id: str | None) -> Row:
    """An object as S3 describes it; `null` is no version id. Raises `ValueError` for what is no size."""
    pin = None if version_id in (None, NULL_VERSION) else f"version:{version_id}"
    return Row(key, size_of(size), content_id_of(etag), pin)


def parse(body: bytes, what: str) -> Listed:
    """Parse the answer to ListObjectsV2 or ListObjectVersions; `what` begins the message of an error.

    `following` are the request parameters that continue the listing. Raises `SourceError` for a body that is no such
    answer, is cut off, holds keys that are not UTF-8 or cannot be told from others, or goes on without saying where.
    """
    try:
        if (told := _by_patterns(body)) is not None:
            return _listed(*told)
        # From the endpoint that the user chose; expat bounds the expansion of entities by itself.
        root = ElementTree.fromstring(body)  # noqa: S314
        return _listed(*_by_elements(root, raw_returns=b"\r" in body))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise SourceError(
            f"{what}: the server's answer is not a listing ({type(error).__name__}: {str(error)[:100]})",
            transient=isinstance(error, ElementTree.ParseError),  # a body that was cut off
        ) from error


@dataclass(frozen=True, slots=True)
class _Told:
    """What a response tells of versions (or objects) and of delete markers, each in its order."""

    keys: list[str]
    sizes: pa.Int64Array
    content_ids: pa.StringArray
    pins: pa.StringArray
    are_current: list[bool]
    """Which of these versions are the newest of their keys."""

    markers: list[str]
    """Keys of delete markers."""
    newest_markers: list[str]
    """Of these, where the marker is the newest."""

    has_versions: bool


def _listed(head: dict[str, str], told: _Told) -> Listed:
    columns = [
        pa.array(told.keys, pa.string()),
        told.sizes,
        told.content_ids,
        told.pins,
    ]
    objects, current_keys = pa.RecordBatch.from_arrays(columns, schema=OBJECTS), told.keys
    if not all(told.are_current):
        objects = objects.filter(pa.array(told.are_current))
        current_keys = list(compress(told.keys, told.are_current))
    found = listed(objects, told.keys, following(head))
    if not told.has_versions:
        return found
    keys = sorted([*told.keys, *told.markers]) if told.markers else found.keys
    last_key = keys[-1] if keys else ""
    # The newest comes first. Where that of the last key is not here, it was (or will be) told elsewhere.
    if told.newest_markers:
        current_keys = sorted([*current_keys, *told.newest_markers])
    is_settled = current_keys[-1:] == keys[-1:]
    resume_key = (
        last_key if is_settled else keys[bisect_left(keys, last_key) - 1] if keys[0] < last_key else ""
    )
    return replace(
        found,
        keys=keys,
        current_keys=current_keys,
        resume_key=resume_key if found.in_order and resume_key else None,
    )


def following(head: dict[str, str]) -> dict[str, str] | None:
    """The request parameters that continue a listing."""
    if head.get("IsTruncated") != "true":
        return None
    if token := head.get("NextContinuationToken"):
        return {"ContinuationToken": token}
    if marker := head.get("NextKeyMarker"):
        following = {"KeyMarker": unquote_plus(marker, errors="strict") if _is_encoded(head) else marker}
        if version_marker := head.get("NextVersionIdMarker"):
            following["VersionIdMarker"] = version_marker
        return following
    raise ValueError("it is truncated, and has no token to continue with")


def _is_encoded(head: dict[str, str]) -> bool:
    return head.get("EncodingType") == "url"


# --- as any server may write it


def head_of(root: ElementTree.Element) -> dict[str, str]:
    """What a response says of itself. Raises `ValueError` for one that is no listing."""
    kind = root.tag.rpartition("}")[2]
    if kind not in _KINDS:
        raise ValueError(f"found <{kind}>")
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}


_VERSIONS: Final = "ListVersionsResult"
_KINDS: Final = ("ListBucketResult", _VERSIONS)


def key_reader(head: dict[str, str], *, raw_returns: bool) -> Callable[[str], str]:
    """A function from the text of a `Key` to the key; it raises `ValueError` for what cannot be told from others."""

    def key_of(text: str) -> str:
        if _is_encoded(head):
            # S3 writes a space as `+` and a plus as `%2B`, as forms do; others write `%20`.
            return unquote_plus(text, errors="strict")
        if raw_returns and "\n" in text:
            # XML turns a bare carriage return into a line feed. `EncodingType=url` was asked for, and
            # ignored.
            raise ValueError("a key holds line breaks, and the server does not encode keys")
        return text

    return key_of


def _by_elements(root: ElementTree.Element, *, raw_returns: bool) -> tuple[dict[str, str], _Told]:
    head = head_of(root)
    key_of = key_reader(head, raw_returns=raw_returns)
    rows: list[Row] = []
    are_current: list[bool] = []
    markers: list[str] = []
    newest_markers: list[str] = []

    for element in root:
        kind = element.tag.rpartition("}")[2]
        if kind not in ("Contents", "Version", "DeleteMarker"):
            continue
        texts = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
        key, is_current = key_of(texts["Key"]), texts.get("IsLatest", "true") == "true"
        if kind == "DeleteMarker":
            markers.append(key)
            newest_markers.extend([key] * is_current)
        else:
            rows.append(row_of(key, texts["Size"], texts.get("ETag", ""), texts.get("VersionId")))
            are_current.append(is_current)
    batch = batch_of(rows)
    return head, _Told(
        [row.key for row in rows],
        batch.column("size"),
        batch.column("content_id"),
        batch.column("pin"),
        are_current,
        markers,
        newest_markers,
        has_versions=root.tag.endswith(_VERSIONS),
    )


# --- as Amazon S3 and most others write it: elements without attributes, comments or space between them


def _by_patterns(body: bytes) -> tuple[dict[str, str], _Told] | None:
    """What a response says of itself, parsed as XML without its elements, and what these tell, by regular expressions;
    None where it may be written in another way."""
    has_versions = _VERSIONS.encode() in body[:_HEAD_BYTES]
    has_markers = has_versions and b"<DeleteMarker>" in body
    tags = [b"Version"] if has_versions else [b"Contents"]
    tags += [b"DeleteMarker"] * has_markers
    starts = [start for tag in tags if (start := body.find(b"<%b>" % tag)) >= 0]
    ends = [end + len(tag) + 3 for tag in tags if (end := body.rfind(b"</%b>" % tag)) >= 0]
    if not starts or not ends or (b"!" in body and b"<!" in body):  # one character is found much faster
        return None
    start, end = min(starts), max(ends)
    try:
        head = head_of(ElementTree.fromstring(body[:start] + body[end:]))  # noqa: S314
    except ElementTree.ParseError:
        return None
    if "IsTruncated" not in head:
        return None
    is_encoded = _is_encoded(head)
    markers, newest_markers = list[str](), list[str]()
    if has_markers:
        elements = body[start:end]
        of_markers = _Elements(b"".join(_MARKER.findall(elements)), b"<DeleteMarker>")
        found, latest = of_markers.keys(is_encoded=is_encoded), of_markers.are_latest()
        if found is None or latest is None:
            return None
        markers, newest_markers = found, list(compress(found, latest))
        elements_of = _Elements(_MARKER.sub(b"", elements), b"<Version>")
    else:
        elements_of = _Elements(body, b"<%b>" % tags[0], start, end)
    keys, sizes = elements_of.keys(is_encoded=is_encoded), elements_of.texts(_SIZE)
    etags = elements_of.etags()
    if keys is None or sizes is None or etags is None:
        return None
    pins = pa.nulls(len(keys), pa.string())
    are_current = [True] * len(keys)
    if has_versions:
        versions, latest = elements_of.texts(_VERSION), elements_of.are_latest()
        if versions is None or latest is None:
            return None
        version = pa.array(versions, pa.string())
        pins = pc.if_else(pc.equal(version, NULL_VERSION), None, prefixed("version:", version))
        are_current = latest
    etag = pa.array(etags, pa.string())
    is_md5 = pc.equal(pc.binary_length(etag), _MD5_DIGITS)
    content_ids = pc.if_else(is_md5, prefixed("md5:", etag), prefixed("etag:", etag))
    size = pa.array(sizes, pa.string()).cast(pa.int64())
    return head, _Told(keys, size, content_ids, pins, are_current, markers, newest_markers, has_versions)


_HEAD_BYTES: Final = 1024
"""Where the root element stands, if no comment of any length is before it."""

_MARKER: Final = re.compile(rb"<DeleteMarker>.*?</DeleteMarker>", re.DOTALL)
_KEY: Final = re.compile(rb"<Key>([^<]+)</Key>")
_SIZE: Final = re.compile(rb"<Size>([0-9]{1,18})</Size>")
_ETAG: Final = [re.compile(b"<ETag>%b([^<&]+)%b</ETag>" % (q, q)) for q in (b"&quot;", b"&#34;")]
_ETAGS: Final = re.compile(r"(?:[0-9a-f]{32}(?:-[0-9]{1,5})?\n)*")
_MD5_DIGITS: Final = checksums.HEX_DIGITS["md5"]
_VERSION: Final = re.compile(rb"<VersionId>([^<]+)</VersionId>")
_LATEST: Final = re.compile(rb"<IsLatest>(true|false)</IsLatest>")


class _Elements:
    """Elements of one kind, one after another."""

    def __init__(self, body: bytes, tag: bytes, start: int = 0, end: int | None = None) -> None:
        self._body, self._start, self._end = body, start, len(body) if end is None else end
        self._count = body.count(tag, self._start, self._end)

    def are_latest(self) -> list[bool] | None:
        """Which of them are the newest of their keys."""
        if self._body.count(b"<IsLatest>true</IsLatest>", self._start, self._end) == self._count:
            return [True] * self._count
        latest = self.texts(_LATEST)
        return None if latest is None else [text == "true" for text in latest]

    def etags(self) -> list[str] | None:
        """Their ETags without quotes, where all are MD5s or those of multipart uploads."""
        found = (self.texts(pattern) for pattern in _ETAG)  # one for all is half as fast
        etags = next((texts for texts in found if texts is not None), None)
        if etags is None:
            return None
        joined = "\n".join([*etags, ""])
        if "-" in joined:
            return etags if _ETAGS.fullmatch(joined) else None
        # That takes three times as long, and most have no parts.
        is_hex = not joined.encode().translate(None, b"0123456789abcdef\n")
        return etags if is_hex and all(len(etag) == _MD5_DIGITS for etag in etags) else None

    def texts(self, pattern: re.Pattern[bytes]) -> list[str] | None:
        """What a pattern finds, where that is one text in each element."""
        found = pattern.findall(self._body, self._start, self._end)
        joined = b"\n".join(found)
        if len(found) != self._count or b"&" in joined:
            return None
        texts = joined.decode().split("\n") if found else []
        return texts if len(texts) == self._count else None

    def keys(self, *, is_encoded: bool) -> list[str] | None:
        """Their keys, where patterns can be sure of them."""
        found = _KEY.findall(self._body, self._start, self._end)
        joined = b"\n".join(found)
        if len(found) != self._count or b"&" in joined:
            return None
        if is_encoded and (b"%" in joined or b"+" in joined):
            if b"%0A" in joined or b"%0a" in joined:  # a line feed would end a key
                return [unquote_plus(key.decode(), errors="strict") for key in found]
            joined = unquote_to_bytes(joined.replace(b"+", b" "))
        elif not is_encoded and b"\r" in joined:
            return None
        keys = joined.decode().split("\n") if found else []
        return keys if len(keys) == self._count else None
