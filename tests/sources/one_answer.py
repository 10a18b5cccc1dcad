"""A server that answers what no server should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class OneAnswer:
    """A server that has one answer for whoever asks for anything, and hangs up."""

    def __init__(self) -> None:
        self.answer: bytes | Callable[[bytes], bytes] = b""
        """As it is sent; or made of the request, without a body that it may have."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="one answer")
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                self._reply(self._socket.accept()[0])

    def _reply(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            request = b""
            while b"\r\n\r\n" not in request:
                if not (more := connection.recv(1 << 16)):
                    return
                request += more
            answer = self.answer(request) if callable(self.answer) else self.answer
            head = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            connection.sendall(head if request.startswith(b"HEAD ") else answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
