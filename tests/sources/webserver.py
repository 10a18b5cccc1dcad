"""A web server in this process that does what no well-kept one does: a test says how it answers."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    target: str
    """Path and query."""
    headers: Message


@dataclass
class WebServer:
    """One object at any path; tests change the fields as they go. Close it, or use it as a context manager."""

    data: bytes = b"logged"
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer that carries the object."""
    head_headers: dict[str, str] | None = None
    """Of the answer to HEAD, in place of all others."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Method → the status that it is answered with, without the object."""
    status_headers: dict[str, str] = field(default_factory=dict)
    """Of those answers."""
    locations: dict[str, str] = field(default_factory=dict)
    """Path → where it is redirected to."""
    honours: frozenset[str] = frozenset({"if-match", "if-unmodified-since", "range"})
    """Headers of requests that are looked at."""
    sized: bool = True
    """False: the body comes in chunks, without a length."""
    cut_at: int | None = None
    """Hang up after so many bytes of each body."""
    then: Callable[[Seen], object] | None = None
    """Called when a request has come, before it is answered."""
    tls: ssl.SSLContext | None = None

    seen: list[Seen] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), name="web server", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self._server.server_port}"

    @property
    def methods(self) -> list[str]:
        return [seen.method for seen in self.seen]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up, and refuse certificates."""


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            seen = Seen(self.command, self.path, self.headers)
            server.seen.append(seen)
            if server.then is not None:
                server.then(seen)
            with suppress(ConnectionError):  # a client that was told enough may have hung up
                self._answer()

        def _answer(self) -> None:
            status, headers, body = _answer(server, self.command, self.path, self.headers)
            if self.command == "HEAD" and server.head_headers is not None and status == 200:
                headers = server.head_headers
            elif server.sized or status >= 300:
                headers = {"Content-Length": str(len(body)), **headers}
            else:
                headers = {"Transfer-Encoding": "chunked", **headers}
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: server.cut_at])
                self.close_connection = server.cut_at is not None

        do_GET = do_HEAD = _serve  # noqa: N815  # names of http.server

        def log_message(self, *args: object) -> None:
            pass

    return Handler


def _answer(server: WebServer, method: str, target: str, given: Message) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for a request."""
    asked = {name.lower(): value for name, value in given.items() if name.lower() in server.honours}
    if (location := server.locations.get(target)) is not None:
        return 302, {"Location": location}, b""
    if (status := server.statuses.get(method)) is not None:
        return status, server.status_headers, b""
    if asked.get("if-match") not in (None, server.headers.get("ETag")):
        return 412, {}, b""
    if asked.get("if-unmodified-since") not in (None, server.headers.get("Last-Modified")):
        return 412, {}, b""
    if (wanted := asked.get("range")) is None:
        return 200, server.headers, server.data
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    size = len(server.data)
    if int(first) >= size:
        return 416, {"Content-Range": f"bytes */{size}"}, b""
    stop = min(int(last) + 1, size) if last else size
    return (
        206,
        {"Content-Range": f"bytes {first}-{stop - 1}/{size}", **server.headers},
        server.data[int(first) : stop],
    )
