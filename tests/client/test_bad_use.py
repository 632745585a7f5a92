"""The client in wrong hands: each row has its error, before anything is sent."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tests.client.answers import PREDICTION, answering, good, mocked, said_no

from lensmount_client import (
    AdapterMismatch,
    AsyncClient,
    Client,
    InsecureTransport,
    InvalidInput,
    InvalidSettings,
    LensmountError,
    RetryPolicy,
)
from lensmount_client._http import settings

# CLI-01: files that cannot be sent


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def a_socket(folder: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s.png"))
    return folder / "s.png"


def a_loop(folder: Path) -> Path:
    (folder / "loop.png").symlink_to("loop.png")
    return folder / "loop.png"


def a_broken_link(folder: Path) -> Path:
    (folder / "link.png").symlink_to("nothing.png")
    return folder / "link.png"


def made(folder: Path, name: str, content: bytes = b"") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


PATHS: dict[str, Callable[[Path], str | Path]] = {
    "CLI-01 no such file": lambda folder: folder / "none.png",
    "CLI-01 in a file": lambda folder: made(folder, "a.png", b"x") / "b.png",
    "CLI-01 a folder": lambda folder: folder,
    "CLI-01 an empty file": lambda folder: made(folder, "empty.png"),
    "CLI-01 a pipe": a_pipe,
    "CLI-01 a socket": a_socket,
    "CLI-01 zeros without end": lambda folder: "/dev/zero",
    "CLI-01 the terminal": lambda folder: "/dev/tty",
    "CLI-01 a file of the kernel that is empty": lambda folder: "/proc/self/attr/exec",
    "CLI-01 memory": lambda folder: "/proc/self/mem",
    "CLI-01 a link to itself": a_loop,
    "CLI-01 a link to nothing": a_broken_link,
    "CLI-01 NUL": lambda folder: "a\0.png",
    "CLI-01 a name of 5,000 bytes": lambda folder: folder / ("n" * 5000),
    "CLI-01 nothing": lambda folder: "",
}


@pytest.mark.parametrize("row", PATHS)
def test_a_file_that_cannot_be_read_is_an_error_before_any_request(row: str, tmp_path: Path) -> None:
    path = PATHS[row](tmp_path)
    handle, seen = answering()

    with mocked(handle) as client:
        for send in (
            lambda: client.predict(path, adapter="malaria"),
            lambda: client.explain(path, adapter="malaria"),
            lambda: client.adapters.push(path, name="malaria"),
            lambda: client.adapters.import_(path, name="malaria"),
            lambda: client.datasets.push(path, name="cells"),
        ):
            with pytest.raises(InvalidInput):
                send()
    assert seen == []


def test_cli_01_a_file_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, "secret.png", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))  # the tests may run as root, who may read everything

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InvalidInput, match="Permission denied"):
        Client().predict(path, adapter="malaria")


# CLI-02: arrays in forms that could mean two things


ARRAYS: dict[str, Any] = {
    "CLI-02 0 to 1": np.random.default_rng(0).random((8, 8, 3)),
    "CLI-02 0 to 1 in float32": np.zeros((8, 8, 3), np.float32),
    "CLI-02 NaN": np.full((8, 8, 3), np.nan),
    "CLI-02 channels first": np.zeros((3, 8, 8), np.uint8),
    "CLI-02 five dimensions": np.zeros((1, 1, 8, 8, 3), np.uint8),
    "CLI-02 one dimension": np.zeros(64, np.uint8),
    "CLI-02 nothing": np.zeros((0, 8, 3), np.uint8),
    "CLI-02 two channels": np.zeros((8, 8, 2), np.uint8),
    "CLI-02 signed": np.zeros((8, 8, 3), np.int64),
    "CLI-02 objects": np.full((8, 8), None, object),
    "CLI-02 texts": np.full((8, 8), "a"),
    "CLI-02 complex": np.zeros((9, 9, 9), np.complex64),
    "CLI-02 a list": [[0, 1], [2, 3]],
    "CLI-02 a number": 7,
    "CLI-02 nothing at all": None,
}


@pytest.mark.parametrize("row", ARRAYS)
def test_an_array_that_could_mean_two_things_is_refused(row: str) -> None:
    handle, seen = answering()

    with mocked(handle) as client, pytest.raises(InvalidInput, match="expected"):
        client.predict(ARRAYS[row], adapter="malaria")
    assert seen == []


# CLI-03: clients that are used in the wrong place


def test_cli_03_a_closed_client_says_so_and_a_new_one_works() -> None:
    handle, seen = answering(good())
    client = mocked(handle)
    client.close()

    for use in (lambda: client.predict(b"x", "malaria"), client.limits, lambda: list(client.jobs.list())):
        with pytest.raises(InvalidInput, match=r"closed.*Fix: build a new client"):
            use()
    assert seen == []
    with mocked(handle) as client:
        assert client.predict(b"x", "malaria").top.label == "parasitized"


def test_cli_03_a_closed_async_client_says_so() -> None:
    async def run() -> None:
        client = AsyncClient(transport=httpx.MockTransport(answering()[0]))
        await client.aclose()
        with pytest.raises(InvalidInput, match="closed"):
            await client.predict(b"x", "malaria")

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_cli_03_a_client_that_was_used_before_a_fork_is_refused_after_it_and_another_one_works(server: Any) -> None:
    with Client(server.url) as client:
        assert client.limits()
        assert in_a_fork(lambda: client.limits()) == "InvalidInput"
        assert in_a_fork(lambda: Client(server.url).limits()) == "fine"
        assert client.limits()
    with Client(server.url) as fresh:
        assert in_a_fork(lambda: fresh.limits()) == "fine"  # it had no connection to share


def in_a_fork(act: Callable[[], object]) -> str:
    """`fine`, or the name of the error's class."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
            word = b"fine"
        except BaseException as error:
            word = type(error).__name__.encode()
        os.write(writing, word)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def test_cli_03_an_async_client_of_another_event_loop_is_refused_and_another_one_works() -> None:
    handle, _ = answering(*(httpx.Response(200, json={}) for _ in range(2)))
    client = AsyncClient(transport=httpx.MockTransport(handle))
    assert asyncio.run(client.limits()) == {}

    with pytest.raises(InvalidInput, match=r"another event loop.*Fix: build a client in each asyncio\.run"):
        asyncio.run(client.limits())
    assert asyncio.run(AsyncClient(transport=httpx.MockTransport(handle)).limits()) == {}


# CLI-04: many threads


def test_cli_04_many_threads_share_the_connections_of_a_client_and_leave_none(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_CONNECTIONS", 8)  # of 256
    inside, most, lock, full = 0, 0, threading.Lock(), threading.Event()
    answers: list[str] = []

    def hold(image: bytes) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 8:
                full.set()
        full.wait(20)
        with lock:
            inside -= 1

    server.gate = hold
    with Client(server.url) as client:
        threads = [
            threading.Thread(target=lambda: answers.append(client.predict(b"cell", "malaria").top.label))
            for _ in range(200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["cell"] * 200
    assert most == 8


# CLI-06: waits that a server asks for


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("3600", 20, 25), *((wrong, 0.125, 0.25) for wrong in ("-1", "soon", "1e9", "nan", "0"))],
    ids=["CLI-06 an hour", "CLI-06 -1", "CLI-06 soon", "CLI-06 1e9", "CLI-06 nan", "CLI-06 0"],
)
def test_a_wait_that_a_server_asks_for_is_capped_and_partly_random(asked: str, least: float, most: float) -> None:
    waits = []
    for draw in (0.0, 1.0):
        naps: list[float] = []
        handle, _ = answering(said_no(503, "draining", retry_after=asked), good())
        policy = RetryPolicy(random=lambda draw=draw: draw)  # type: ignore[misc]  # bound now
        with mocked(handle, retries=policy, sleep=naps.append) as client:
            client.predict(b"x", "malaria")
        waits += naps

    assert waits == [least, most]


# CLI-07: tokens


SETTINGS: dict[str, tuple[dict[str, Any], type[LensmountError]]] = {
    "CLI-07 to another machine": ({"base_url": "http://gpu-box:8000", "token": "t"}, InsecureTransport),
    "CLI-07 to an address": ({"base_url": "http://10.0.0.1:8000", "token": "t"}, InsecureTransport),
    "CLI-07 to a name that looks local": ({"base_url": "http://localhost.example", "token": "t"}, InsecureTransport),
    "CLI-07 to all addresses": ({"base_url": "http://0.0.0.0:8000", "token": "t"}, InsecureTransport),
    "CLI-07 with a space": ({"token": "a b"}, InvalidSettings),
    "CLI-07 with a space at its end": ({"token": "abc "}, InvalidSettings),
    "CLI-07 with a line feed": ({"token": "abc\n"}, InvalidSettings),
    "CLI-07 with CR LF and a header": ({"token": "abc\r\nX-Evil: 1"}, InvalidSettings),
    "CLI-07 with NUL": ({"token": "a\0b"}, InvalidSettings),
    "CLI-07 not ASCII": ({"token": "t\u00f6ken"}, InvalidSettings),
    "CLI-07 only spaces": ({"token": "  "}, InvalidSettings),
    "CLI-07 in the address": ({"base_url": "https://user:secret@gpu-box"}, InvalidSettings),
}


@pytest.mark.parametrize("row", SETTINGS)
def test_a_token_is_never_sent_in_the_open_nor_shown(row: str) -> None:
    given, error = SETTINGS[row]

    with pytest.raises(error) as caught:
        Client(**given)
    secret = given.get("token", "secret")
    assert len(secret) < 3 or secret not in str(caught.value)


# CLI-08: answers about something else


def test_cli_08_an_answer_about_another_adapter_is_an_error() -> None:
    other = {**PREDICTION, "adapter": {"name": "smoking", "version": 1, "digest": PREDICTION["adapter"]["digest"]}}
    pinned = f"malaria@sha256:{'1b' * 32}"
    for wanted, answer in (("malaria", other), (pinned, PREDICTION), ("malaria@2", PREDICTION)):
        handle, _ = answering(httpx.Response(200, json=answer))
        with mocked(handle) as client, pytest.raises(AdapterMismatch):
            client.predict(b"x", wanted)
