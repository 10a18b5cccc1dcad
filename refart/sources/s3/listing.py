"""Listing responses of S3, parsed from their bytes.

botocore's own parser makes nested dictionaries, with a timestamp each, of a response: 60 times the CPU of taking four
texts a key by regular expressions, and it bounds every listing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from refart import checksums
from refart.entries import prefixed
from refart.errors import SourceError
from refart.sources.listed import OBJECTS, Listed, Row, batch_of, listed, size_of
from refart.sources.s3.elements import POOL, Elements

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
        if (told := _by_columns(body)) is not None:
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

    keys: pa.StringArray
    sizes: pa.Int64Array
    content_ids: pa.StringArray
    pins: pa.StringArray
    are_current: pa.BooleanArray | None
    """Which of these versions are the newest of their keys; None for all of them."""

    markers: list[str]
    """Keys of delete markers."""
    newest_markers: list[str]
    """Of these, where the marker is the newest."""

    has_versions: bool


def _listed(head: dict[str, str], told: _Told) -> Listed:
    columns = [told.keys, told.sizes, told.content_ids, told.pins]
    objects, all_keys = pa.RecordBatch.from_arrays(columns, schema=OBJECTS), told.keys.to_pylist()
    current_keys = all_keys
    if told.are_current is not None and told.are_current.false_count:
        objects = objects.filter(told.are_current)
        current_keys = objects.column("key").to_pylist()
    found = listed(objects, all_keys, following(head))
    if not told.has_versions:
        return found
    keys = sorted([*all_keys, *told.markers]) if told.markers else found.keys
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
    keys, sizes, content_ids, pins = batch_of(rows).columns
    current, has_versions = pa.array(are_current, pa.bool_()), root.tag.endswith(_VERSIONS)
    return head, _Told(keys, sizes, content_ids, pins, current, markers, newest_markers, has_versions)


# --- as Amazon S3 and most others write it: elements without attributes, comments or space between them


def _by_columns(body: bytes) -> tuple[dict[str, str], _Told] | None:
    """What a response says of itself, parsed as XML without its elements, and what these tell, taken together
    (`s3.elements`); None where it may be written in another way."""
    if b"!" in body and b"<!" in body:  # one character is found much faster
        return None
    has_versions = _VERSIONS.encode() in body[:_HEAD_BYTES]
    tag, of_markers = b"Version" if has_versions else b"Contents", None
    start, end = _bounds(body, tag)
    of_objects = Elements(body, tag, start, end)
    if has_versions and _MARKER_TAG in (body[:start] + body[end:] if of_objects.are_alike else body):
        start, end = _bounds(body, tag, b"DeleteMarker")
        elements = body[start:end]
        of_markers = Elements(b"".join(_MARKER.findall(elements)), b"DeleteMarker")
        of_objects = Elements(_MARKER.sub(b"", elements), tag)
    try:
        head = head_of(ElementTree.fromstring(body[:start] + body[end:]))  # noqa: S314
    except ElementTree.ParseError:
        return None
    if start == end or "IsTruncated" not in head:
        return None
    is_encoded = _is_encoded(head)
    markers, newest_markers = list[str](), list[str]()
    if of_markers is not None:
        found, latest = of_markers.keys(is_encoded=is_encoded), of_markers.are_latest()
        if found is None or latest is None:
            return None
        markers, newest_markers = found.to_pylist(), found.filter(latest).to_pylist()
    keys, sizes, etags = of_objects.keys(is_encoded=is_encoded), of_objects.sizes(), of_objects.etags()
    if keys is None or sizes is None or etags is None:
        return None
    are_current, pins = None, pa.nulls(len(keys), pa.string())
    if has_versions:
        versions, are_current = of_objects.texts("VersionId"), of_objects.are_latest()
        if versions is None or are_current is None:
            return None
        pins = prefixed("version:", versions, POOL)
        if (is_null := pc.equal(versions, NULL_VERSION)).true_count:
            pins = pc.if_else(is_null, None, pins)
    content_ids = prefixed("md5:", etags, POOL)
    if (is_md5 := pc.equal(pc.binary_length(etags), _MD5_DIGITS)).false_count:
        content_ids = pc.if_else(is_md5, content_ids, prefixed("etag:", etags, POOL))
    return head, _Told(keys, sizes, content_ids, pins, are_current, markers, newest_markers, has_versions)


def _bounds(body: bytes, *tags: bytes) -> tuple[int, int]:
    """Where the first element of these kinds begins, and the last one ends; at one place where there are none."""
    starts = [start for tag in tags if (start := body.find(b"<%b>" % tag)) >= 0]
    ends = [end + len(tag) + 3 for tag in tags if (end := body.rfind(b"</%b>" % tag)) >= 0]
    return (min(starts), max(ends)) if starts and ends else (0, 0)


_HEAD_BYTES: Final = 1024
"""Where the root element stands, if no comment of any length is before it."""

_MARKER_TAG: Final = b"<DeleteMarker>"
_MARKER: Final = re.compile(rb"<DeleteMarker>.*?</DeleteMarker>", re.DOTALL)
_MD5_DIGITS: Final = checksums.HEX_DIGITS["md5"]
