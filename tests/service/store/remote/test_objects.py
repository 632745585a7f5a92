"""An object store as S3 has it: conditional writes, listings, and every way in which it can be away."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
import obstore.store
import pytest
from starlette.testclient import TestClient

from lensmount_service.errors import Unavailable
from lensmount_service.store.remote import objects as module
from lensmount_service.store.remote.objects import Objects

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

Operation = Callable[[Objects], object]
OPERATIONS: dict[str, Operation] = {
    "create": lambda objects: objects.create("key", b"abc"),
    "read": lambda objects: objects.read("key"),
    "pieces": lambda objects: list(objects.pieces("key")),
    "size": lambda objects: objects.size("key"),
    "list": lambda objects: objects.listed(),
    "list a prefix": lambda objects: objects.listed("datasets"),
    "delete": lambda objects: objects.delete(["key"]),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def test_a_second_create_leaves_the_first_object_as_it_is(s3: str) -> None:
    objects = Objects(s3)
    objects.create("key", b"abc")
    before = obstore.head(_store(s3), "key")
    objects.create("key", b"abc")
    assert obstore.head(_store(s3), "key")["last_modified"] == before["last_modified"]
    with pytest.raises(obstore.exceptions.AlreadyExistsError):  # moto does compare, and so does S3
        obstore.put(_store(s3), "key", b"other", mode="create", use_multipart=False)


def test_a_create_replaces_damaged_bytes(s3: str) -> None:
    obstore.put(_store(s3), "key", b"abd")
    Objects(s3).create("key", b"abc")
    assert Objects(s3).read("key") == b"abc"


def test_a_compare_and_set_with_an_old_tag_is_refused(s3: str) -> None:
    """Nothing here needs it today. The test says that the library and the server could do it."""
    tag = obstore.put(_store(s3), "key", b"one")["e_tag"]
    obstore.put(_store(s3), "key", b"two", mode={"e_tag": tag}, use_multipart=False)
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(_store(s3), "key", b"three", mode={"e_tag": tag}, use_multipart=False)
    assert Objects(s3).read("key") == b"two"


def test_a_listing_tells_kinds_apart(s3: str) -> None:
    objects = Objects(s3)
    objects.create("a" * 64, b"abc")
    for number in range(3):
        objects.create(f"datasets/{number:064x}.zip", b"x")
    assert [(file.key, file.size_bytes) for file in objects.listed()] == [("a" * 64, 3)]
    assert len(objects.listed("datasets")) == 3
    objects.delete([file.key for file in objects.listed("datasets")])
    assert objects.listed("datasets") == []


def test_a_large_file_goes_up_and_comes_back_in_parts(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(module.PART_BYTES * 2 + 5)
    (tmp_path / "up").write_bytes(data)
    objects = Objects(s3)
    objects.upload("key", tmp_path / "up")
    assert [len(part) for part in objects.pieces("key")] == [module.PART_BYTES, module.PART_BYTES, 5]
    objects.download("key", tmp_path / "down", f"sha256:{hashlib.sha256(data).hexdigest()}")
    assert (tmp_path / "down").read_bytes() == data
    with objects.open("key") as file:
        assert file.read() == data


def test_a_download_of_other_bytes_leaves_nothing(s3: str, tmp_path: Path) -> None:
    Objects(s3).create("key", b"abc")
    with pytest.raises(FileNotFoundError, match="do not match"):
        Objects(s3).download("key", tmp_path / "down", "sha256:" + "0" * 64)
    assert list(tmp_path.iterdir()) == []


@every_operation
def test_a_missing_bucket_is_a_store_that_cannot_be_used(s3: str, operation: Operation) -> None:
    with pytest.raises(Unavailable) as caught:
        operation(Objects("s3://no-such-bucket/lensmount"))
    assert (caught.value.code, caught.value.retry_after_s) == ("store_unavailable", 5)


@every_operation
def test_wrong_credentials_are_a_store_that_cannot_be_used(
    refusing: str, s3: str, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", refusing)
    with pytest.raises(Unavailable, match="check its credentials") as caught:
        operation(Objects(s3))
    assert caught.value.code == "store_unavailable"


@every_operation
def test_a_store_that_does_not_answer_is_given_up_in_time(
    silent: str, s3: str, operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "RETRIES", 1)
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        operation(Objects(s3))
    assert caught.value.code == "store_unavailable"
    assert time.monotonic() - started < 10  # a bound for a hang: two tries of 0.1 s and the wait between them


def test_uploads_without_the_store_are_refused_whole_and_predictions_go_on(
    s3: str,
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(module, "RETRIES", 0)
    with make_parts(blobs=s3) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    there = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")  # nobody listens there now

    with make_parts(blobs=s3) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        refused = client.put("/adapters/cells", content=make_adapter(2))
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert refused.headers["Retry-After"] == "5"
        image = client.post("/datasets/pool/unlabelled?who=reader", files=[("file", make_png())])
        assert (image.status_code, image.json()["code"]) == (503, "store_unavailable")
        assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200  # from this disk
        assert client.get("/adapters/cells").json()["versions"] == [1]
        assert client.get("/datasets/pool/unlabelled").status_code == 404
        purged = client.delete("/adapters/cells?purge=true")
        assert purged.status_code == 204  # the row is what counts; gc removes the file later
    monkeypatch.setenv("AWS_ENDPOINT_URL", there)
    assert len(Objects(s3).listed()) == 1
    assert len(list((tmp_path / "blobs").iterdir())) == 0


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that answers as S3 does to an unknown key; moto knows every one."""
    body = b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist</Message></Error>"
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: "
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    head = connection.recv(65536)
                    text = b"" if head.startswith(b"HEAD") else body
                    connection.sendall(answer + str(len(body)).encode() + b"\r\n\r\n" + text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def _store(url: str) -> obstore.store.ObjectStore:
    return obstore.store.from_url(url, client_options={"allow_http": True})
