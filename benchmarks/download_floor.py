"""The floor of a verified download in Python: raw sockets, the hashes by which refart verifies, files.

    python -m benchmarks.download_floor --endpoint http://127.0.0.1:9000 --bucket lake --prefix warehouse/events/

Where there are as many objects as connections, or more, each thread reads one object after the other over a connection
of its own; fewer are read one after the other by ranges over several connections, each hash in a thread. Digests are
dropped: what remains to do is what any verified download has to do besides. It speaks to `benchmarks.simulated_s3`
alone. Prints JSON: rows, call_s, call_cpu_s (as `benchmarks.peers` does).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from benchmarks import floor

HASHES: Final = ("sha256", "md5")
"""refart compares the MD5 that an ETag of a single part is, and keeps the SHA-256."""

CHUNK_BYTES: Final = 1 << 20
RANGE_BYTES: Final = 1 << 23
RANGE_CONNECTIONS: Final = 3
"""By which one object is read."""

_LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n")


class Connection:
    """One connection that is kept, and whose bodies are read into a buffer that the caller has."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.close = self._socket.close

    def get(self, target: str, buffer: memoryview, extra: str = "") -> Iterator[memoryview]:
        """The body, piece by piece; each piece lies in `buffer` until the next."""
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: simulated\r\n{extra}\r\n".encode())
        head = b""
        while (end := head.find(b"\r\n\r\n")) < 0:
            head += self._socket.recv(1 << 12)
        length = _LENGTH.search(head)
        if not length or not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")):
            raise ConnectionError(f"the server answered {head[:200]!r}")
        left, have = int(length[1]), len(head) - end - 4
        buffer[:have] = head[end + 4 :]
        while left:
            wanted = min(len(buffer), left)
            while have < wanted:
                have += self._socket.recv_into(buffer[have:wanted])
            yield buffer[:wanted]
            left, have = left - wanted, 0


class Object(NamedTuple):
    target: str
    size: int
    path: Path


def objects(endpoint: str, bucket: str, prefix: str) -> list[Object]:
    """What there is to download, and where to; the folders are made."""
    root = f"/{bucket}?list-type=2&encoding-type=url&prefix={quote(prefix)}"
    with closing(floor.Connection(endpoint)) as connection:
        rows = [
            row
            for page in floor.pages(connection, root, "", versions=False)
            for row in floor.OBJECT.findall(page)
        ]
    found = []
    for name, _, size in rows:
        key = unquote(name.decode())
        found.append(Object(f"/{bucket}/{quote(key)}", int(size), Path("out", key.removeprefix(prefix))))
        found[-1].path.parent.mkdir(parents=True, exist_ok=True)
    return found


def read_whole(endpoint: str, wanted: list[Object]) -> None:
    """One object after the other."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with closing(Connection(endpoint)) as connection:
        for target, _, path in wanted:
            digests = [hashlib.new(name) for name in HASHES]
            with path.open("xb", buffering=0) as file:
                for piece in connection.get(target, buffer):
                    for digest in digests:
                        digest.update(piece)
                    file.write(piece)


def read_by_ranges(endpoint: str, wanted: Object) -> None:
    """One object over several connections, hashed and written while the next ranges come."""
    local = threading.local()

    def read(start: int) -> memoryview:
        if not hasattr(local, "connection"):
            local.connection = Connection(endpoint)
        buffer = memoryview(bytearray(min(RANGE_BYTES, wanted.size - start)))
        last = start + len(buffer) - 1
        return next(local.connection.get(wanted.target, buffer, f"Range: bytes={start}-{last}\r\n"))

    digests = [hashlib.new(name) for name in HASHES]
    running: list[Future[None]] = []
    with (
        ThreadPoolExecutor(RANGE_CONNECTIONS) as readers,
        ThreadPoolExecutor(len(digests)) as hashers,
        wanted.path.open("xb", buffering=0) as file,
    ):
        starts = range(0, wanted.size, RANGE_BYTES)
        coming = [readers.submit(read, start) for start in starts[:RANGE_CONNECTIONS]]
        for number in range(len(starts)):
            body = coming.pop(0).result()
            if number + RANGE_CONNECTIONS < len(starts):
                coming.append(readers.submit(read, starts[number + RANGE_CONNECTIONS]))
            for update in running:
                update.result()
            running = [hashers.submit(digest.update, body) for digest in digests]
            file.write(body)


def download(endpoint: str, bucket: str, prefix: str, connections: int) -> int:
    """Download all objects below `out`. Returns how many there are."""
    wanted = objects(endpoint, bucket, prefix)
    if len(wanted) < connections:
        for each in wanted:
            read_by_ranges(endpoint, each)
    else:
        with ThreadPoolExecutor(connections) as pool:
            shares = (wanted[share::connections] for share in range(connections))
            list(pool.map(partial(read_whole, endpoint), shares))
    return len(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.download_floor", description=__doc__.split("\n")[0]
    )
    for name in ("endpoint", "bucket", "prefix"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--connections", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    rows = download(options.endpoint, options.bucket, options.prefix, options.connections)
    cost = {"call_s": time.perf_counter() - wall_s, "call_cpu_s": time.process_time() - cpu_s}
    print(json.dumps({"rows": rows, **{name: round(value, 3) for name, value in cost.items()}}))


if __name__ == "__main__":
    main()
