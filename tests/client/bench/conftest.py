"""A server that sends scripted bytes."""

from __future__ import annotations

import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class ScriptedServer:
    """Answers each request with what `answer(its number)` gives, byte for byte; None hangs up."""

    def __init__(self) -> None:
        self.answer: Callable[[int], bytes | None] = lambda number: OK
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while lines := list(itertools.takewhile(bytes.strip, stream)):
                head = b"".join(lines)
                length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]  # a test would fail
                self.requests.append(head + b"\r\n" + stream.read(length))
                answer = self.answer(len(self.requests) - 1)
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """Clients must be closed before the test ends."""
    server = ScriptedServer()
    yield server
    server.close()
