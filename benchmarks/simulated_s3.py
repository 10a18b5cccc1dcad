"""A simulated S3 endpoint for benchmarks: listings at the speed of the socket, with a latency if wanted.

    python -m benchmarks.simulated_s3 --objects 1000000 --layout dates --versions on --latency-ms 50

prints one line of JSON (endpoint, bucket, prefix, objects, bytes) when it is ready, and serves until it is killed.
Every page of a listing is a slice of a file rendered beforehand (`benchmarks.lake`), so the server costs a small part
of what the fastest client does; `--rate` measures it. Requests may be signed or not, signatures are not looked at.
Path style only, and reading only: listings of all three kinds, HEAD and GET of objects (GET with `--size-bytes`),
GetBucketVersioning, GetBucketLocation, HeadBucket.

`GET /_stats` tells requests by operation, bytes, connections and the CPU seconds of the server since it was ready.
`GET /_seams?ranges=N` tells where to cut the listing into at most N ranges of whole pages: the last key of each range,
of the list of versions if the bucket has some and `&versions` is asked.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from benchmarks.bucket import BUCKET, PAGE_KEYS, Answer, Bucket
from benchmarks.floor import Connection
from benchmarks.lake import LAYOUTS, render

ROOT: Final = Path(__file__).parents[1]
MAX_HEAD_BYTES: Final = 1 << 16


class Server:
    """A thread for each connection: waiting, for a request or a latency, costs no CPU."""

    def __init__(self, bucket: Bucket, *, latency_s: float = 0.0, port: int = 0) -> None:
        self._bucket, self._latency_s = bucket, latency_s
        self._socket = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.port: int = self._socket.getsockname()[1]
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._bytes = self._connections = 0
        self._cpu_s = time.process_time()

    def serve_forever(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self._connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    more = connection.recv(MAX_HEAD_BYTES)
                    if not more or len(received) > MAX_HEAD_BYTES:
                        return
                    received += more
                head, received = received[:end], received[end + 4 :]
                if not self._respond(connection, head.decode("latin-1")):
                    return

    def _respond(self, connection: socket.socket, head: str) -> bool:
        """Answer one request; whether the connection goes on. Bodies of requests are not read: it ends with them."""
        request, *lines = head.split("\r\n")
        method, target, _ = request.split(" ")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        if target.startswith("/_"):
            answer = Answer("", [json.dumps(self._told(target)).encode()], content_type="application/json")
        else:
            if self._latency_s:
                time.sleep(self._latency_s)
            answer = self._bucket.answer(method, target, headers)
        goes_on = (
            headers.get("connection", "").lower() != "close" and headers.get("content-length", "0") == "0"
        )
        length = sum(map(len, answer.body))
        known = {
            "Date": formatdate(usegmt=True),
            "Server": "simulated",
            "x-amz-request-id": "0000000000000000",
            "Content-Type": answer.content_type,
            "Content-Length": str(length),
            **answer.headers,
        }
        if not goes_on:
            known["Connection"] = "close"
        told = "".join(f"{name}: {text}\r\n" for name, text in known.items())
        status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n{told}\r\n".encode()
        _send(connection, [status, *(() if method == "HEAD" else answer.body)])
        if answer.operation:
            with self._lock:
                self._requests[answer.operation] += 1
                self._bytes += length
        return goes_on

    def _told(self, target: str) -> Any:
        path, _, query = target.partition("?")
        if path == "/_seams":
            wanted = parse_qs(query, keep_blank_values=True)
            return self._seams(int(wanted["ranges"][0]), versions="versions" in wanted)
        return {
            "requests": dict(self._requests),
            "bytes": self._bytes,
            "connections": self._connections,
            "cpu_s": round(time.process_time() - self._cpu_s, 3),
        }

    def _seams(self, ranges: int, *, versions: bool) -> list[str]:
        lake = self._bucket.lake
        records = lake.versions if versions and lake.versions else lake.objects
        pages = -(-len(records) // PAGE_KEYS)
        ends = {min(len(records), pages * (n + 1) // ranges * PAGE_KEYS) for n in range(ranges)} - {0}
        return [records[end - 1].decode() for end in sorted(ends)]


def _send(connection: socket.socket, parts: Sequence[bytes | memoryview]) -> None:
    waiting = [memoryview(part) for part in parts if len(part)]
    while waiting:
        sent = connection.sendmsg(waiting)
        while waiting and sent >= len(waiting[0]):
            sent -= len(waiting.pop(0))
        if sent:
            waiting[0] = waiting[0][sent:]


@contextmanager
def simulated_s3(**options: object) -> Iterator[dict[str, Any]]:
    """A server in a process of its own: `simulated_s3(objects=1000, versions="on")` gives what it tells when ready."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "benchmarks.simulated_s3", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line:
                raise RuntimeError(f"the simulated S3 did not start: {' '.join(command)}")
            yield json.loads(line)
        finally:
            server.kill()


def stats(endpoint: str) -> dict[str, Any]:
    """What a server counted so far."""
    connection = Connection(endpoint)
    told: dict[str, Any] = json.loads(bytes(connection.get("/_stats")))
    connection.close()
    return told


def rate(objects: int = 100_000, pages: int = 4_000) -> None:
    """Print how fast pages come, to a client that only drops them."""
    print(f"{'listing':20}{'connections':>12}{'pages/s':>9}{'MB/s':>7}{'server CPU, ms a page':>23}")
    with simulated_s3(objects=objects, versions="on") as ready:
        for operation, kind in (("ListObjectsV2", "list-type=2"), ("ListObjectVersions", "versions")):
            target = f"/{BUCKET}?{kind}&encoding-type=url&prefix={ready['prefix']}"
            for connections in (1, 2, 4, 32):
                before, start_s = stats(ready["endpoint"]), time.perf_counter()
                with ThreadPoolExecutor(connections) as pool:
                    for _ in range(connections):
                        pool.submit(_drop, ready["endpoint"], target, pages // connections)
                wall_s, after = time.perf_counter() - start_s, stats(ready["endpoint"])
                count = after["requests"][operation] - before["requests"].get(operation, 0)
                megabytes = (after["bytes"] - before["bytes"]) / 1e6
                cpu_ms = (after["cpu_s"] - before["cpu_s"]) * 1e3
                print(
                    f"{operation:20}{connections:12}{count / wall_s:9,.0f}{megabytes / wall_s:7,.0f}"
                    f"{cpu_ms / count:23.3f}"
                )


def _drop(endpoint: str, target: str, pages: int) -> None:
    connection = Connection(endpoint)
    for _ in range(pages):
        connection.get(target)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulated_s3", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--layout", choices=LAYOUTS, default="flat")
    parser.add_argument("--versions", choices=("off", "on"), default="off")
    parser.add_argument("--noncurrent", type=int, default=0, help="old versions behind each object")
    parser.add_argument("--deleted", type=int, default=0, help="further keys, with a delete marker")
    parser.add_argument("--size-bytes", type=int, help="of every object; without it they cannot be read")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every request")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", action="store_true", help="measure the server itself, and end")
    options = parser.parse_args()
    if options.rate:
        rate()
        return
    lake = render(
        options.objects,
        layout=options.layout,
        versioned=options.versions == "on",
        noncurrent=options.noncurrent,
        deleted=options.deleted,
        size_bytes=options.size_bytes,
    )
    server = Server(Bucket(lake), latency_s=options.latency_ms / 1000, port=options.port)
    ready = {
        "endpoint": f"http://127.0.0.1:{server.port}",
        "bucket": BUCKET,
        "prefix": lake.prefix,
        "objects": len(lake.objects),
        "bytes": lake.total_bytes,
    }
    print(json.dumps(ready), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
