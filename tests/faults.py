"""A proxy before a storage server that misbehaves on request; none of them ever sends any of this."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from refart.testing import S3Requests, operation_of


@dataclass
class Fault:
    """What happens to the next `times` requests for `operation` (any number of them by default).

    Operations are those of S3, or what the proxy's `operation_of` makes of a request; `*` is any.
    """

    operation: str
    times: int = 1_000_000
    status: int | None = None
    """Answer with this status, `headers` and `body`, without asking the server."""
    body: bytes | Callable[[dict[str, str]], bytes] = b""
    """As it is, or made from the request's query and headers (by lower-case name)."""
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    """Hang up after so many bytes of the body."""
    garble: bool = False
    """Flip a bit of the body's last byte."""
    garble_sent: bytes = b""
    """Flip a bit of these bytes where the body of the request has them, before the server sees it."""
    ignored: tuple[str, ...] = ()
    """Parts of the request that never reach the server: lower-case headers, and query parameters."""
    edit: Callable[[dict[str, str], bytes], bytes] | None = None
    """Changes the headers of the answer (by lower-case name) in place, and gives its new body."""
    lost: bool = False
    """Hang up without an answer, once the server has given one."""
    then: Callable[[], object] | None = None
    """Called once the (spoilt) answer is ready, before it is sent."""


def s3_error(status: int, code: str, message: str = "") -> dict[str, Any]:
    """The fields of a `Fault` that answers with an error in S3's form."""
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return {"status": status, "body": xml.encode(), "headers": {"Content-Type": "application/xml"}}


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    operation: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """By lower-case name."""


class FaultProxy:
    """Forwards to `upstream`, but for the faults that were added; counts what it was asked for."""

    def __init__(self, upstream: str, operation_of: Callable[[str, str, str], str] = operation_of) -> None:
        """`operation_of(method, path, query)` names requests."""
        self.requests = S3Requests()
        self.seen: list[Seen] = []
        self._operation_of = operation_of
        self._upstream = urlsplit(upstream).netloc
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        serve = partial(self._server.serve_forever, poll_interval=0.01)  # `close` waits for the next poll
        self._thread = threading.Thread(target=serve, name="faults", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, operation: str, **fields: Any) -> None:
        self._faults.append(Fault(operation, **fields))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, operation: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.operation in (operation, "*") and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805  # `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # which answers `Expect: 100-continue`

            def _serve(self) -> None:
                path, _, query = self.path.partition("?")
                operation = proxy._operation_of(self.command, path, query)
                given = {name.lower(): value for name, value in self.headers.items()}
                proxy.requests.record(operation)
                proxy.seen.append(
                    Seen(operation, path, dict(parse_qsl(query, keep_blank_values=True)), given)
                )
                fault = proxy._take(operation) or Fault("")
                status, headers, body = proxy._answer(self, fault, path, query)
                if fault.edit is not None:
                    body = fault.edit(headers, body)
                if fault.garble:
                    body = body[:-1] + bytes([body[-1] ^ 1])
                if fault.then is not None:
                    fault.then()
                self.close_connection = True
                if fault.lost:
                    return
                self.send_response(status)
                if self.command == "HEAD":
                    headers.setdefault("content-length", "0")
                else:
                    headers["content-length"] = str(len(body))
                for name, value in {**headers, "connection": "close"}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    with suppress(ConnectionError):  # a client that was told enough may have hung up
                        self.wfile.write(body[: fault.cut_at])

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  # names of http.server
            do_OPTIONS = do_PROPFIND = _serve  # noqa: N815

            def log_message(self, *args: object) -> None:
                pass

        return Handler

    def _answer(
        self, request: BaseHTTPRequestHandler, fault: Fault, path: str, query: str
    ) -> tuple[int, dict[str, str], bytes]:
        given = {name.lower(): value for name, value in request.headers.items()}
        asked = dict(parse_qsl(query, keep_blank_values=True))
        sent = request.rfile.read(int(given.get("content-length", 0)))
        if fault.garble_sent:
            wrong = bytes([fault.garble_sent[0] ^ 1]) + fault.garble_sent[1:]
            sent = sent.replace(fault.garble_sent, wrong)
        if fault.status is not None:
            body = fault.body(asked | given) if callable(fault.body) else fault.body
            return fault.status, dict(fault.headers), body
        headers = {name: value for name, value in given.items() if name not in (*fault.ignored, "expect")}
        if fault.ignored:
            query = urlencode({name: value for name, value in asked.items() if name not in fault.ignored})
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request(request.command, f"{path}?{query}" if query else path, sent, headers)
            response = connection.getresponse()
            dropped = ("transfer-encoding", "connection", "server", "date")
            kept = {name.lower(): value for name, value in response.getheaders()}
            if "location" in kept:  # of an upload that goes on
                kept["location"] = kept["location"].replace(self._upstream, urlsplit(self.url).netloc)
            return response.status, {k: v for k, v in kept.items() if k not in dropped}, response.read()
        finally:
            connection.close()
