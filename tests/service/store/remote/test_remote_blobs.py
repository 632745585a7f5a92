"""Adapter files in an object store: here a folder replaces S3, through the same library."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from lensmount_service.build import Parts
from lensmount_service.errors import Unavailable
from lensmount_service.store.blobs import BlobStore
from lensmount_service.store.remote.objects import Objects
from lensmount_service.store.remote.remote_blobs import RemoteBlobs

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def open_blobs(tmp_path: Path, bucket: Path) -> Callable[..., RemoteBlobs]:
    """Another server's view of the same store."""

    def opened(server: str = "a", max_local_bytes: int = 10**6) -> RemoteBlobs:
        return RemoteBlobs(Objects(f"file://{bucket}"), BlobStore(tmp_path / server), max_local_bytes)

    return opened


def test_a_file_put_by_one_server_is_read_by_another(open_blobs: Callable[..., RemoteBlobs], tmp_path: Path) -> None:
    first, second = open_blobs("a"), open_blobs("b")
    assert first.put(b"abc") == ABC
    assert (first.tier(ABC), second.tier(ABC)) == ("file", "remote")

    assert second.get(ABC) == b"abc"
    assert second.tier(ABC) == "file"
    assert BlobStore(tmp_path / "b").get(ABC) == b"abc"


def test_files_beyond_the_limit_leave_the_disk_the_least_recently_read_first(
    open_blobs: Callable[..., RemoteBlobs], tmp_path: Path
) -> None:
    def pass_a_second() -> None:
        for path in (tmp_path / "a").iterdir():
            moment = path.stat().st_mtime - 1
            os.utime(path, (moment, moment))

    blobs = open_blobs("a", max_local_bytes=250)
    digests = []
    for letter in b"abc":
        digests.append(blobs.put(bytes([letter]) * 100))
        pass_a_second()
    assert [blobs.tier(digest) for digest in digests] == ["remote", "file", "file"]

    assert blobs.get(digests[1]) == b"b" * 100  # so c is the older one
    pass_a_second()
    assert blobs.get(digests[0]) == b"a" * 100
    assert [blobs.tier(digest) for digest in digests] == ["file", "file", "remote"]


def test_a_file_damaged_on_disk_is_read_again_from_the_store(
    open_blobs: Callable[..., RemoteBlobs], tmp_path: Path
) -> None:
    blobs = open_blobs()
    blobs.put(b"abc")
    (tmp_path / "a" / ABC.removeprefix("sha256:")).write_bytes(b"abd")

    assert blobs.get(ABC) == b"abc"
    assert BlobStore(tmp_path / "a").get(ABC) == b"abc"


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"abd"), lambda path: path.unlink()])
def test_a_lost_or_damaged_file_of_the_store_is_never_returned(
    open_blobs: Callable[..., RemoteBlobs], bucket: Path, damage: Any
) -> None:
    open_blobs("a").put(b"abc")
    damage(bucket / ABC.removeprefix("sha256:"))

    with pytest.raises(Unavailable) as caught:
        open_blobs("b").get(ABC)
    assert caught.value.code == "adapter_corrupt"


def test_a_delete_reaches_folder_and_store_and_may_be_repeated(
    open_blobs: Callable[..., RemoteBlobs], bucket: Path
) -> None:
    blobs = open_blobs()
    blobs.put(b"abc")
    blobs.delete(ABC)
    blobs.delete(ABC)
    assert list(bucket.iterdir()) == []
    assert blobs.tier(ABC) == "remote"


def test_orphans_are_removed_from_the_store_too_but_not_with_a_foreign_database(
    open_blobs: Callable[..., RemoteBlobs], bucket: Path
) -> None:
    blobs = open_blobs()
    other = blobs.put(b"other")
    blobs.put(b"abc")
    assert blobs.remove_orphans(lambda: nullcontext({other}), before=0) == 0  # both are young
    with pytest.raises(Unavailable, match="no adapter in the database"):
        blobs.remove_orphans(lambda: nullcontext(set()), before=time.time() + 1)
    assert (
        blobs.remove_orphans(lambda: nullcontext({other}), before=time.time() + 1) == 2
    )  # in the store and on the disk
    assert [path.name for path in bucket.iterdir()] == [other.removeprefix("sha256:")]
    assert blobs.holds(other)
    assert not blobs.holds(ABC)


def test_an_unreachable_store_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensmount_service.store.remote.objects.RETRIES", 0)
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    blobs = RemoteBlobs(Objects("s3://bucket/adapters"), BlobStore(tmp_path), 10**6)

    for ask in (lambda: blobs.put(b"abc"), lambda: blobs.get(ABC)):
        with pytest.raises(Unavailable) as caught:
            ask()
        assert (caught.value.code, caught.value.retry_after_s) == ("store_unavailable", 5)
    assert blobs.tier(ABC) == "remote"  # nothing was kept


@pytest.mark.parametrize("url", ["nonsense", "nonsense://host", ""])
def test_another_kind_of_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Unavailable, match="expected s3://"):
        Objects(url)


def test_a_server_whose_disk_is_empty_serves_from_the_store(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, bucket: Path, tmp_path: Path
) -> None:
    def ask(parts: Parts) -> tuple[Any, Any]:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            if not parts.catalog.entries():
                client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
            answer = client.post("/predict?adapter=cells", content=make_png()).json()
            assert client.get("/adapters/cells/file").content == make_adapter(1)
            return answer["predictions"], client.get("/adapters").json()["adapters"][0]

    with make_parts(blobs=f"file://{bucket}") as parts:
        labels, listed = ask(parts)
    (path,) = bucket.iterdir()
    assert path.read_bytes() == make_adapter(1)
    (tmp_path / "blobs" / path.name).unlink()

    with make_parts(blobs=f"file://{bucket}") as parts:
        version = parts.catalog.entries()[0].latest
        assert parts.catalog.tier(version) == "remote"
        again, still = ask(parts)
    assert again == labels
    assert still["digest"] == listed["digest"] == f"sha256:{path.name}"


def test_an_upload_that_the_store_rejects_is_not_published(
    make_parts: MakeParts, make_adapter: MakeAdapter, bucket: Path
) -> None:
    with (
        make_parts(blobs=f"file://{bucket}") as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        bucket.rmdir()
        bucket.write_bytes(b"in the way")
        answer = client.put("/adapters/cells", content=make_adapter(1))
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert client.get("/adapters").json() == {"adapters": []}
        bucket.unlink()
        assert client.put("/adapters/cells", content=make_adapter(1)).status_code == 201
