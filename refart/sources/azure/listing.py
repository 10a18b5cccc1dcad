"""Blobs as Azure describes them, and listings parsed from their bytes (REST API, "List Blobs")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

from refart import checksums
from refart.errors import SourceError
from refart.sources.listed import Listed, Row, batch_of, listed, size_of

STUB_METADATA: Final = "hdi_isfolder"
"""Metadata of the empty blobs that stand for folders: every folder of an account with a hierarchical namespace has
one, and Hadoop's drivers write them elsewhere."""


def row_of(
    key: str,
    size: object,
    md5: bytes | bytearray | None,
    etag: str,
    version: str | None,
    blob_type: str | None,
) -> Row:
    """A blob as one row: identified by its MD5 where it has one, else by its ETag; pinned to its version. Raises
    `ValueError` for what is no size.

    Without versions the ETag pins. So it does where blobs grow in place (append and page blobs), since they keep their
    version id then (Azure Storage, "Blob versioning").
    """
    tag = etag.strip('"')
    content_id, size_bytes = content_id_of(md5, tag), size_of(size)
    if version and blob_type in (None, "BlockBlob"):
        return Row(key, size_bytes, content_id, f"version:{version}")
    return Row(key, size_bytes, content_id, f"etag:{tag}" if tag and content_id.startswith("md5:") else None)


def content_id_of(md5: bytes | bytearray | None, etag: str) -> str:
    """The content id of a blob. An MD5 is what its writer said; Azure itself looks only at that of a single Put Blob,
    so a comparison that fails may have that cause."""
    tag = etag.strip('"')
    if md5 is not None and len(md5) == 16:
        return f"md5:{md5.hex()}"
    return f"etag:{tag}" if tag and '"' not in tag else checksums.NONE


def is_folder(metadata: Mapping[str, str | None]) -> bool:
    """Whether a blob with this metadata stands for a folder."""
    return any(name.lower() == STUB_METADATA and value == "true" for name, value in metadata.items())


def parse(body: bytes, what: str, following: str | None) -> Listed:
    """Parse the answer to List Blobs, which `following` continues; `what` begins the message of an error.

    Raises `SourceError` for a body that is no such answer, is cut off, or holds names that are not UTF-8.
    """
    try:
        # From the endpoint that the user chose; expat bounds the expansion of entities by itself.
        return _listed(ElementTree.fromstring(body), following)  # noqa: S314
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        raise SourceError(
            f"{what}: the server's answer is not a listing ({type(error).__name__}: {str(error)[:100]})",
            transient=isinstance(error, ElementTree.ParseError),  # a body that was cut off
        ) from error


def _listed(root: ElementTree.Element, following: str | None) -> Listed:
    if root.tag != "EnumerationResults":
        raise ValueError(f"found <{root.tag[:40]}>")
    rows: list[Row] = []
    keys: list[str] = []
    for blob in root.iterfind("Blobs/Blob"):
        parts = {part.tag: part for part in blob}
        key = _name(parts["Name"])
        keys.append(key)
        if not _is_current(parts):
            continue
        properties = {field.tag: field.text or "" for field in parts["Properties"]}
        metadata = {field.tag: field.text for field in parts.get("Metadata", ())}
        if properties.get("ResourceType") == "directory" or is_folder(metadata):
            continue
        version = parts.get("VersionId")
        rows.append(
            row_of(
                key,
                properties["Content-Length"],
                _md5(properties.get("Content-MD5", "")),
                properties.get("Etag", ""),
                None if version is None else version.text,
                properties.get("BlobType"),
            )
        )
    return listed(
        batch_of(rows), keys, following
    )  # out of order where Azure's, UTF-16, is another than UTF-8


def _name(element: ElementTree.Element) -> str:
    text = element.text or ""
    # What XML cannot carry is percent-encoded, and only then.
    return unquote(text, errors="strict") if element.get("Encoded") == "true" else text


def _is_current(parts: Mapping[str, ElementTree.Element]) -> bool:
    """Whether this is the blob as it is: no old version, no snapshot, not deleted."""

    def text(tag: str) -> str:
        return (parts[tag].text or "") if tag in parts else ""

    if text("Snapshot") or text("Deleted") == "true":
        return False
    return not text("VersionId") or text("IsCurrentVersion") == "true"


def _md5(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if text else None
    except binascii.Error:
        return None
