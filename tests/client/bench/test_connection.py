"""The small HTTP client of the load tool."""

from __future__ import annotations

import email
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from lensmount_client import LensmountError, ServerUnreachable, TimedOut, UnexpectedResponse
from lensmount_client._bench.connection import IDLE_S, Body, Connection, Origin
from lensmount_client._http.response import Response

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}"
IMAGE = Body.raw(b"image")


class Poster:
    """Posts an image over one connection, each call one request."""

    def __init__(self, url: str) -> None:
        self.now_s = 0.0
        self._origin = Origin.of(url, token="secret")
        self._connection = Connection(self._origin, timeout_s=0.5, clock=lambda: self.now_s)

    def __call__(self, body: Body = IMAGE) -> Response:
        return self._connection.post(self._origin.head("/predict?adapter=malaria"), body)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def post(scripted: Any) -> Iterator[Poster]:
    with closing(Poster(scripted.url)) as poster:
        yield poster


def test_a_connection_is_kept_and_sends_host_and_token(scripted: Any, post: Poster) -> None:
    assert [post().status for _ in range(3)] == [200, 200, 200]
    assert len(scripted.connections) == 1
    line, *headers = scripted.requests[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert line == "POST /predict?adapter=malaria HTTP/1.1"
    assert {"Authorization: Bearer secret", f"Host: {scripted.url[7:]}"} <= set(headers)
    assert scripted.requests[0].endswith(b"\r\n\r\nimage")


def test_a_base_path_and_the_ports_of_the_schemes() -> None:
    assert Origin.of("http://[::1]/models/", None).head("/x").startswith(b"POST /models/x HTTP/1.1\r\nHost: [::1]\r\n")
    assert [Origin.of(f"{scheme}://host", None).port for scheme in ("http", "https")] == [80, 443]


def test_a_multipart_body_is_a_form_with_one_file(scripted: Any, post: Poster) -> None:
    image = b"\x00\r\n--\xff" * 9
    post(Body.multipart(image, 'a"b\r\n.jpg'))
    message = email.message_from_bytes(scripted.requests[0].partition(b"\r\n")[2])
    parts = message.get_payload()
    assert isinstance(parts, list)  # of a multipart message
    (part,) = parts
    assert message.get_content_type() == "multipart/form-data"
    assert (part.get_param("name", header="content-disposition"), part.get_filename()) == ("file", "a_b__.jpg")  # type: ignore[union-attr]
    assert part.get_payload(decode=True) == image  # type: ignore[union-attr]


def test_responses_in_chunks_and_pieces_are_read_completely(scripted: Any, post: Poster) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\nX-Request-Id: A1\r\n\r\n"
    chunked = head + b"5\r\n{'a':\r\n2;x=y\r\n1}\r\n0\r\n\r\n"

    def in_pieces(number: int) -> bytes:
        for byte in chunked[:-1]:
            scripted.connections[0].send(bytes([byte]))
        return chunked[-1:]

    scripted.answer = in_pieces
    for _ in range(2):
        answer = post()
        assert (answer.status, answer.body, answer.request_id) == (404, b"{'a':1}", "A1")
    assert len(scripted.connections) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, ServerUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", TimedOut),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", UnexpectedResponse),
        (b"SSH-2.0-OpenSSH\r\n\r\n", UnexpectedResponse),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n", UnexpectedResponse),
    ],
)
def test_failures_are_errors_of_the_client_and_the_next_request_opens_a_new_connection(
    scripted: Any, post: Poster, answer: bytes | None, error: type[LensmountError]
) -> None:
    scripted.answer = lambda number: OK if number else answer
    with pytest.raises(error):
        post()
    assert post().status == 200
    assert len(scripted.connections) == 2


def test_after_the_server_closes_a_connection_a_new_one_is_opened(scripted: Any, post: Poster) -> None:
    scripted.answer = lambda number: OK if number else OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert post().status == 200
    assert post().status == 200
    scripted.connections[-1].shutdown(socket.SHUT_RDWR)  # as after its keep-alive time
    post.now_s += 2 * IDLE_S
    assert post().status == 200
    assert len(scripted.connections) == 3
