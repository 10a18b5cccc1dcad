"""Listing responses of S3, parsed from their bytes.

botocore's own parser makes nested dictionaries, with a timestamp each, of a response: 60 times the CPU of taking four
texts a key by regular expressions, and it bounds every listing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Final
from urllib.parse import unquote_plus, unquote_to_bytes
from xml.etree import ElementTree

import pyarrow as pa

from refart import checksums
from refart.errors import SourceError
from refart.sources.listed import OBJECTS, Listed, Row, listed, size_of

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
        plain = _split_off(body)
        if plain is not None:
            head = _head(plain[0])
            told = _by_patterns(plain[1], is_encoded=_is_encoded(head)) if "IsTruncated" in head else None
            if told is not None:
                return _listed(head, told)
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
    sizes: list[int]
    content_ids: list[str]
    pins: list[str | None]
    are_current: list[bool]
    """Which of these versions are the newest of their keys."""

    markers: list[str]
    """Keys of delete markers."""
    newest_markers: list[str]
    """Of these, where the marker is the newest."""

    has_versions: bool


def _listed(head: dict[str, str], told: _Told) -> Listed:
    columns: list[list[Any]] = [told.keys, told.sizes, told.content_ids, told.pins]
    if not all(told.are_current):
        columns = [list(compress(column, told.are_current)) for column in columns]
    objects = pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, OBJECTS, strict=True)], schema=OBJECTS
    )
    found = listed(objects, told.keys, _following(head))
    if not told.has_versions:
        return found
    keys = sorted([*told.keys, *told.markers]) if told.markers else found.keys
    last_key = keys[-1] if keys else ""
    # The newest comes first. Where that of the last key is not here, it was (or will be) told elsewhere.
    current_keys = sorted([*columns[0], *told.newest_markers]) if told.newest_markers else columns[0]
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


def _following(head: dict[str, str]) -> dict[str, str] | None:
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


def _head(root: ElementTree.Element) -> dict[str, str]:
    """What a response says of itself. Raises `ValueError` for one that is no listing."""
    kind = root.tag.rpartition("}")[2]
    if kind not in _KINDS:
        raise ValueError(f"found <{kind}>")
    return {child.tag.rpartition("}")[2]: child.text or "" for child in root}


_KINDS: Final = ("ListBucketResult", "ListVersionsResult")


def _by_elements(root: ElementTree.Element, *, raw_returns: bool) -> tuple[dict[str, str], _Told]:
    head = _head(root)
    told = _Told([], [], [], [], [], [], [], has_versions=root.tag.endswith(_KINDS[1]))

    def key_of(text: str) -> str:
        if _is_encoded(head):
            # S3 writes a space as `+` and a plus as `%2B`, as forms do; others write `%20`.
            return unquote_plus(text, errors="strict")
        if raw_returns and "\n" in text:
            # XML turns a bare carriage return into a line feed. `EncodingType=url` was asked for, and
            # ignored.
            raise ValueError("a key holds line breaks, and the server does not encode keys")
        return text

    for element in root:
        kind = element.tag.rpartition("}")[2]
        if kind not in ("Contents", "Version", "DeleteMarker"):
            continue
        texts = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
        key, is_current = key_of(texts["Key"]), texts.get("IsLatest", "true") == "true"
        if kind == "DeleteMarker":
            told.markers.append(key)
            told.newest_markers.extend([key] * is_current)
            continue
        row = row_of(key, texts["Size"], texts.get("ETag", ""), texts.get("VersionId"))
        told.keys.append(row.key)
        told.sizes.append(row.size)
        told.content_ids.append(row.content_id)
        told.pins.append(row.pin)
        told.are_current.append(is_current)
    return head, told


# --- as Amazon S3 and most others write it: elements without attributes, comments or space between them


def _split_off(body: bytes) -> tuple[ElementTree.Element, bytes] | None:
    """A response without its versions, and these; None where it has none, or may be written in another way."""
    starts = [start for tag in _ELEMENTS if (start := body.find(b"<%b>" % tag)) >= 0]
    ends = [end + len(tag) + 3 for tag in _ELEMENTS if (end := body.rfind(b"</%b>" % tag)) >= 0]
    if not starts or not ends or b"<!" in body:
        return None
    start, end = min(starts), max(ends)
    try:
        return ElementTree.fromstring(body[:start] + body[end:]), body[start:end]  # noqa: S314
    except ElementTree.ParseError:
        return None


_ELEMENTS: Final = (b"Contents", b"Version", b"DeleteMarker")


def _by_patterns(elements: bytes, *, is_encoded: bool) -> _Told | None:
    """What elements tell; None where patterns cannot be sure of it."""
    markers, newest_markers = list[str](), list[str]()
    if b"<DeleteMarker>" in elements:
        of_markers = b"".join(_MARKER.findall(elements))
        elements = _MARKER.sub(b"", elements)
        count = of_markers.count(b"<DeleteMarker>")
        keys, latest = _keys(of_markers, count, is_encoded), _each(_LATEST, of_markers, count)
        if keys is None or latest is None:
            return None
        markers = keys
        newest_markers = list(compress(keys, map(_TRUE.__eq__, latest)))
    has_versions = bool(markers) or b"<Version>" in elements
    count = elements.count(b"<Version>" if has_versions else b"<Contents>")
    keys, sizes = _keys(elements, count, is_encoded), _each(_SIZE, elements, count)
    etags = _each(_ETAG, elements, count)
    if keys is None or sizes is None or etags is None:
        return None
    pins: list[str | None] = [None] * count
    are_current = [True] * count
    if has_versions:
        versions, latest = _each(_VERSION, elements, count), _each(_LATEST, elements, count)
        if versions is None or latest is None:
            return None
        pins = [None if version == NULL_VERSION else f"version:{version}" for version in versions]
        are_current = list(map(_TRUE.__eq__, latest))
    content_ids = [f"md5:{etag}" if len(etag) == _MD5_DIGITS else f"etag:{etag}" for etag in etags]
    return _Told(
        keys, list(map(int, sizes)), content_ids, pins, are_current, markers, newest_markers, has_versions
    )


_MARKER: Final = re.compile(rb"<DeleteMarker>.*?</DeleteMarker>", re.DOTALL)
_KEY: Final = re.compile(rb"<Key>([^<&]+)</Key>")
_SIZE: Final = re.compile(rb"<Size>([0-9]{1,18})</Size>")
_ETAG: Final = re.compile(
    rb"<ETag>(?:&quot;|&#34;|\")([0-9a-f]{32}(?:-[0-9]{1,5})?)(?:&quot;|&#34;|\")</ETag>"
)
_VERSION: Final = re.compile(rb"<VersionId>([^<&\s]+)</VersionId>")
_LATEST: Final = re.compile(rb"<IsLatest>(true|false)</IsLatest>")
_TRUE: Final = "true"
_MD5_DIGITS: Final = checksums.HEX_DIGITS["md5"]


def _each(pattern: re.Pattern[bytes], elements: bytes, count: int) -> list[str] | None:
    """What a pattern finds, where that is one text in each element."""
    found = pattern.findall(elements)
    if len(found) != count:
        return None
    return b"\n".join(found).decode().split("\n") if found else []


def _keys(elements: bytes, count: int, is_encoded: bool) -> list[str] | None:
    found = _KEY.findall(elements)
    if len(found) != count:
        return None
    if not found:
        return []
    joined = b"\n".join(found)
    if is_encoded and (b"%" in joined or b"+" in joined):
        if b"%0A" in joined or b"%0a" in joined:  # a line feed would end a key
            return [unquote_plus(key.decode(), errors="strict") for key in found]
        joined = unquote_to_bytes(joined.replace(b"+", b" "))
    elif not is_encoded and b"\r" in joined:
        return None
    keys = joined.decode().split("\n")
    return keys if len(keys) == count else None
