"""A small Azure Blob Storage that keeps versions, and has what else Azurite has not: folders as blobs, append blobs.

It follows the REST API's pages "List Blobs", "Get Blob" and "Get Blob Properties" as far as a reader can tell. It looks
at no signature: whoever is let in is tested on Azurite.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

NAME = "devstoreaccount1"
KEY = "c2VjcmV0"
CONTAINER = "kept"


@dataclass
class Blob:
    """One version of a blob."""

    data: bytes
    etag: str
    version: str | None = None
    """None while the account keeps no versions."""
    has_md5: bool = True
    """Blobs of several blocks have none but what their writer says."""
    metadata: dict[str, str] = field(default_factory=dict)
    blob_type: str = "BlockBlob"
    resource_type: str | None = None
    """Told by listings of accounts with a hierarchical namespace."""
    content_encoding: str | None = None

    @property
    def md5(self) -> str:
        return base64.b64encode(hashlib.md5(self.data).digest()).decode() if self.has_md5 else ""


class Blobs:
    """The blobs of one container.

    Set `keeps_versions` for what the next `put` and `delete` do, and `page_blobs` for the length of listings.
    """

    def __init__(self) -> None:
        self.keeps_versions = True
        self.page_blobs = 5000
        self._blobs: dict[str, list[Blob]] = {}
        """Old versions first; the last is current, unless the name is in `_deleted`."""
        self._deleted: set[str] = set()
        self._number = count(1)

    def put(self, key: str, data: bytes, **fields: Any) -> Blob:
        number = next(self._number)
        version = f"2026-11-24T00:00:00.{number:07d}Z" if self.keeps_versions else None
        blob = Blob(data, f"0x8D{number:013X}", version, **fields)
        kept = [old for old in self._blobs.get(key, ()) if old.version]
        self._blobs[key] = [*kept, blob]
        self._deleted.discard(key)
        return blob

    def append(self, key: str, data: bytes) -> None:
        """Let an append blob grow: its ETag changes, its version id does not."""
        blob = self._blobs[key][-1]
        blob.data += data
        blob.etag = f"0x8D{next(self._number):013X}"

    def delete(self, key: str) -> None:
        self._blobs[key] = [old for old in self._blobs[key] if old.version]
        self._deleted.add(key)

    def purge(self, key: str, version: str) -> None:
        self._blobs[key] = [old for old in self._blobs[key] if old.version != version]

    def find(self, key: str, version: str | None) -> tuple[Blob | None, bool]:
        """A version, and whether it is the current one."""
        blobs = self._blobs.get(key, [])
        current = blobs[-1] if blobs and key not in self._deleted else None
        if version is None:
            return current, True
        found = next((blob for blob in blobs if blob.version == version), None)
        return found, found is current

    def listing(self, asked: dict[str, str]) -> bytes:
        """One page of List Blobs: names in the order of UTF-16, old versions first."""
        rows = [
            (key, blob, is_current)
            for key in sorted(self._blobs, key=lambda key: key.encode("utf-16-be"))
            if key.startswith(asked.get("prefix", ""))
            for blob in self._blobs[key]
            if (is_current := blob is self.find(key, None)[0]) or "versions" in asked.get("include", "")
        ]
        start = int(asked.get("marker", "0"))
        stop = start + min(self.page_blobs, int(asked.get("maxresults", "5000")))
        marker = str(stop) if stop < len(rows) else ""
        blobs = "".join(_as_xml(*row, asked) for row in rows[start:stop])
        return (
            f'\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{CONTAINER}">'
            f"<Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"
        ).encode()


class Account(Blobs):
    """The container `kept`, on a server of its own; a `Place` of the suite.

    Set `refuses_versions` to play an account where they cannot be listed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses_versions = False
        self.requests: list[str] = []
        """`List`, `HEAD` or `GET`, one for each request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        serve = partial(self._server.serve_forever, poll_interval=0.01)
        self._thread = threading.Thread(target=serve, name="azure", daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        return f"az://{CONTAINER}"

    @property
    def storage_options(self) -> dict[str, Any]:
        endpoint = f"http://127.0.0.1:{self._server.server_port}/{NAME}"
        return {"connection_string": f"AccountName={NAME};AccountKey={KEY};BlobEndpoint={endpoint}"}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _as_xml(key: str, blob: Blob, is_current: bool, asked: dict[str, str]) -> str:
    version = current = metadata = ""
    if blob.version and "versions" in asked.get("include", ""):
        version = f"<VersionId>{blob.version}</VersionId>"
        current = "<IsCurrentVersion>true</IsCurrentVersion>" if is_current else ""
    if "metadata" in asked.get("include", ""):
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in blob.metadata.items())
        metadata = f"<Metadata>{inner}</Metadata>"
    kind = f"<ResourceType>{blob.resource_type}</ResourceType>" if blob.resource_type else ""
    return (
        f"<Blob>{_name(key)}{version}{current}<Properties><Etag>{blob.etag}</Etag>{kind}"
        f"<Content-Length>{len(blob.data)}</Content-Length><Content-MD5>{blob.md5}</Content-MD5>"
        f"<BlobType>{blob.blob_type}</BlobType></Properties>{metadata}</Blob>"
    )


def _name(key: str) -> str:
    if re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", key):
        return f'<Name Encoded="true">{quote(key)}</Name>'
    return f"<Name>{escape(key, {chr(13): '&#xD;'})}</Name>"


def _handler(account: Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked = {name: values[0] for name, values in parse_qs(query).items()}
            key = unquote(path.removeprefix(f"/{NAME}/{CONTAINER}")).removeprefix("/")
            account.requests.append("List" if "comp" in asked else self.command)
            if not path.startswith(f"/{NAME}/{CONTAINER}"):
                self._refuse(404, "ContainerNotFound")
            elif "comp" in asked and account.refuses_versions and "versions" in asked.get("include", ""):
                self._refuse(400, "InvalidQueryParameterValue")
            elif "comp" in asked:
                self._answer(200, {"Content-Type": "application/xml"}, account.listing(asked))
            else:
                self._give(key, asked.get("versionid"))

        do_HEAD = do_GET  # noqa: N815  # a name of http.server

        def _give(self, key: str, version: str | None) -> None:
            blob, is_current = account.find(key, version)
            if blob is None:
                self._refuse(404, "BlobNotFound")
                return
            if self.headers.get("If-Match") not in (None, f'"{blob.etag}"'):
                self._refuse(412, "ConditionNotMet")
                return
            headers = {"ETag": f'"{blob.etag}"', "x-ms-blob-type": blob.blob_type}
            if blob.version:
                headers["x-ms-version-id"] = blob.version
                headers["x-ms-is-current-version"] = str(is_current).lower()
            if blob.content_encoding:
                headers["Content-Encoding"] = blob.content_encoding
            headers |= {f"x-ms-meta-{name}": value for name, value in blob.metadata.items()}
            whole = "x-ms-blob-content-md5"
            if match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("x-ms-range", "")):
                start, stop = int(match[1]), min(int(match[2] or len(blob.data)) + 1, len(blob.data))
                if start >= len(blob.data):
                    self._refuse(416, "InvalidRange")
                    return
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(blob.data)}"
                body, status = blob.data[start:stop], 206
            else:
                body, status, whole = blob.data, 200, "Content-MD5"
            if blob.md5:
                headers[whole] = blob.md5
            self._answer(status, headers, body)

        def _refuse(self, status: int, code: str) -> None:
            headers = {"x-ms-error-code": code, "Content-Type": "application/xml"}
            self._answer(
                status, headers, f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
            )

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                with suppress(ConnectionError):  # a client that was told enough may have hung up
                    self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    return Handler
