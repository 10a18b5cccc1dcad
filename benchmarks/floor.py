"""The floor of a listing in Python: raw sockets, key ranges known beforehand, one regular expression a page.

    python -m benchmarks.floor --endpoint http://127.0.0.1:9000 --bucket lake --prefix warehouse/events/ --versions on

Key, ETag, size and version id of each current object are cut out, counted and dropped: what remains to do is what any
listing has to do besides. It speaks to `benchmarks.simulated_s3` alone, which tells where to cut into ranges of whole
pages, and knows in which order it writes elements. Prints JSON: rows, bytes (the sum of the sizes), pages.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urlsplit

CONNECTIONS: Final = 32
BUFFER_BYTES: Final = 1 << 20

_KNOWN: Final = (
    rb"<LastModified>[^<]*</LastModified><ETag>&quot;([^&]*)&quot;</ETag>"
    rb"<ChecksumAlgorithm>[^<]*</ChecksumAlgorithm><ChecksumType>[^<]*</ChecksumType><Size>(\d+)</Size>"
)
OBJECT: Final = re.compile(rb"<Key>([^<]*)</Key>" + _KNOWN)
VERSION: Final = re.compile(
    rb"<Key>([^<]*)</Key><VersionId>([^<]*)</VersionId><IsLatest>true</IsLatest>" + _KNOWN
)
"""The latest versions; delete markers have no ETag."""
_NEXT_TOKEN: Final = re.compile(rb"<NextContinuationToken>([^<]*)<")
_NEXT_MARKERS: Final = re.compile(
    rb"<NextKeyMarker>([^<]*)</NextKeyMarker><NextVersionIdMarker>([^<]*)</NextVersionIdMarker>"
)
_LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Connection:
    """One connection that is kept; its answers lie in one buffer, each until the next."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname
        assert parts.port
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    def get(self, target: str) -> memoryview:
        """The body of the answer to one GET; nothing but 200 is expected."""
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: simulated\r\n\r\n".encode())
        have, start = 0, -1
        while start < 0:
            got = self._socket.recv_into(self._buffer[have:])
            have += got
            head = bytes(self._buffer[: min(have, 1_000)])
            start = head.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in head else -1
            if not got or not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"the server answered {head[:200]!r}")
        length = _LENGTH.search(head)
        assert length
        end = start + int(length[1])
        if end > len(self._buffer):
            larger = memoryview(bytearray(end))
            larger[:have] = self._buffer[:have]
            self._buffer = larger
        while have < end:
            got = self._socket.recv_into(self._buffer[have:end], end - have, socket.MSG_WAITALL)
            if not got:
                raise ConnectionError("the server hung up")
            have += got
        return self._buffer[start:end]

    def close(self) -> None:
        self._socket.close()


class Counted(NamedTuple):
    rows: int
    bytes: int
    pages: int


def pages(connection: Connection, root: str, after: str, *, versions: bool) -> Iterator[memoryview]:
    """The answers of a listing behind a key."""
    marker = "key-marker" if versions else "start-after"
    following = f"&{marker}={quote(after)}" if after else ""
    while True:
        body = connection.get(root + following)
        yield body
        if versions:
            if not (markers := _NEXT_MARKERS.search(body, 0, 2_000)):
                return
            key, version = (marker.decode() for marker in markers.groups())  # the key is encoded as it is
            following = f"&key-marker={key}&version-id-marker={version}"
        else:
            if not (token := _NEXT_TOKEN.search(body, 0, 2_000)):
                return
            following = f"&continuation-token={quote(token[1])}"


def count_range(endpoint: str, root: str, after: str, last: str, *, versions: bool) -> Counted:
    """List the keys behind `after` up to `last`."""
    connection, end = Connection(endpoint), last.encode()
    expression, size = (VERSION, 3) if versions else (OBJECT, 2)
    rows = total_bytes = answers = 0
    for page in pages(connection, root, after, versions=versions):
        answers += 1
        found = expression.findall(page)
        is_last = bool(found) and unquote_to_bytes(found[-1][0]) >= end
        while found and unquote_to_bytes(found[-1][0]) > end:
            found.pop()
        rows += len(found)
        total_bytes += sum([int(row[size]) for row in found])
        if is_last:
            break
    connection.close()
    return Counted(rows, total_bytes, answers)


def count(
    endpoint: str, bucket: str, prefix: str, *, versions: bool, connections: int = CONNECTIONS
) -> Counted:
    """List a whole prefix, which must be the whole lake, over several connections."""
    connection = Connection(endpoint)
    flag = "&versions" if versions else ""
    lasts = json.loads(bytes(connection.get(f"/_seams?ranges={connections}{flag}")))
    connection.close()
    kind = "versions" if versions else "list-type=2"
    root = f"/{bucket}?{kind}&encoding-type=url&prefix={quote(prefix)}"
    with ThreadPoolExecutor(len(lasts)) as pool:
        ranges = [
            pool.submit(count_range, endpoint, root, after, last, versions=versions)
            for after, last in zip(["", *lasts], lasts, strict=False)
        ]
        counted = [one.result() for one in ranges]
    return Counted(*map(sum, zip(*counted, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__.split("\n")[0])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--versions", choices=("off", "on"), default="off")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    options = parser.parse_args()
    counted = count(
        options.endpoint,
        options.bucket,
        options.prefix,
        versions=options.versions == "on",
        connections=options.connections,
    )
    print(json.dumps(counted._asdict()))


if __name__ == "__main__":
    main()
