"""Listing responses of S3, parsed from their bytes.

botocore's own parser makes nested dictionaries, with a timestamp each, of a response: six times the CPU of taking
four texts a key from the parsed tree (64 ms and 11 ms for 1,000 keys with versions), and it bounds every listing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from refart import checksums
from refart.errors import SourceError
from refart.sources.objects import Listed, Row, size_of

NULL_VERSION: Final = "null"
"""The version id of writes made while versioning was off or suspended. It selects no write of its own: the
next such write takes its place, so the ETag pins instead."""


@dataclass(frozen=True, slots=True)
class Response(Listed):
    """One response, and how to go on."""

    following: dict[str, str] | None
    """The request parameters that continue the listing; None on its last response."""


def content_id_of(etag: str) -> str:
    """The content id of an ETag; `none` where the server gives none, or one that does not speak of bytes
    (`W/"…"`)."""
    bare = etag.strip('"')
    return checksums.from_etag(bare) if bare and '"' not in bare else checksums.NONE


def row_of(key: str, size: object, etag: str, version_id: str | None) -> Row:
    """An object as S3 describes it; `null` is no version id. Raises `ValueError` for what is no size."""
    pin = None if version_id in (None, NULL_VERSION) else f"version:{version_id}"
    return Row(key, size_of(size), content_id_of(etag), pin)


def parse(body: bytes, what: str) -> Response:
    """Parse the answer to ListObjectsV2 or ListObjectVersions; `what` begins the message of an error.

    Raises `SourceError` for a body that is no such answer, is cut off, holds keys that are not UTF-8 or
    cannot be told from others, or goes on without saying where.
    """
    try:
        # From the endpoint that the user chose; expat bounds the expansion of entities by itself.
        return _listed(ElementTree.fromstring(body), raw_returns=b"\r" in body)  # noqa: S314
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise SourceError(
            f"{what}: the server's answer is not a listing ({type(error).__name__}: {str(error)[:100]})",
            transient=isinstance(error, ElementTree.ParseError),  # a body that was cut off
        ) from error


def _listed(root: ElementTree.Element, *, raw_returns: bool) -> Response:
    namespace, brace, kind = root.tag.rpartition("}")
    namespace += brace
    cut = len(namespace)
    if kind not in ("ListBucketResult", "ListVersionsResult"):
        raise ValueError(f"found <{kind}>")
    head = {child.tag[cut:]: child.text or "" for child in root}
    encoded = head.get("EncodingType") == "url"

    def key_of(text: str) -> str:
        if encoded:
            # S3 writes a space as `+` and a plus as `%2B`, as forms do; others write `%20`.
            return unquote_plus(text, errors="strict")
        if raw_returns and "\n" in text:
            # XML turns a bare carriage return into a line feed. `EncodingType=url` was asked for, and
            # ignored.
            raise ValueError("a key holds line breaks, and the server does not encode keys")
        return text

    rows: list[Row] = []
    keys: list[str] = []
    marked = [
        key_of(marker.text or "") for marker in root.iterfind(f"{namespace}DeleteMarker/{namespace}Key")
    ]
    for element in root:
        if element.tag[cut:] not in ("Contents", "Version"):
            continue
        texts = {child.tag[cut:]: child.text or "" for child in element}
        key = key_of(texts["Key"])
        keys.append(key)
        if texts.get("IsLatest", "true") == "true":
            rows.append(row_of(key, texts["Size"], texts.get("ETag", ""), texts.get("VersionId")))
    following = None
    if head.get("IsTruncated") == "true":
        if token := head.get("NextContinuationToken"):
            following = {"ContinuationToken": token}
        elif marker := head.get("NextKeyMarker"):
            following = {"KeyMarker": key_of(marker)}
            if version_marker := head.get("NextVersionIdMarker"):
                following["VersionIdMarker"] = version_marker
        else:
            raise ValueError("it is truncated, and has no token to continue with")
    return Response(
        rows,
        last_key=max(keys + marked, default=""),
        in_order=keys == sorted(keys),  # by code point, which is the order of UTF-8
        is_last=following is None,
        following=following,
    )
