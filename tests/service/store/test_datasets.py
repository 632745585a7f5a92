"""The dataset store: versions, what jobs need, files left on disk, and kills."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_service.errors import DatasetInUse, NotFound, Unavailable, VersionDeleted
from lensmount_service.store.database import Database
from lensmount_service.store.datasets import DatasetStore

if TYPE_CHECKING:
    from tests.service.conftest import DrawImages, Zip


@pytest.fixture
def store(database: Database, tmp_path: Path) -> DatasetStore:
    return DatasetStore(database, tmp_path / "datasets")


def admit(store: DatasetStore, name: str, data: bytes, folder: Path) -> Any:
    path = folder / "sent.zip"
    path.write_bytes(data)
    return store.admit(name, path, digest_of(data))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_a_dataset_that_a_job_needs_is_not_deleted(
    database: Database, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    users: list[str] = []

    def in_use(connection: Any, name: str, version: int | None) -> list[str]:
        return users if (name, version) != ("cells", 2) else []

    store = DatasetStore(database, tmp_path / "datasets", in_use=in_use)
    admit(store, "cells", zipped(images(1, a=2, b=2)), tmp_path)
    admit(store, "cells", zipped(images(2, a=2, b=2)), tmp_path)
    users.append("0" * 32)

    for version in (None, 1):
        with pytest.raises(DatasetInUse, match="1 job"):
            store.delete("cells", version)
    store.delete("cells", 2)
    users.clear()
    store.delete("cells")

    with pytest.raises(NotFound):
        store.get("cells")


def test_a_version_is_required_within_another_transaction(
    database: Database, store: DatasetStore, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    admit(store, "cells", zipped(images(a=2, b=2)), tmp_path)

    with database.write() as connection:
        assert store.require(connection, "cells", 1) == store.get("cells")
        with pytest.raises(NotFound):
            store.require(connection, "cells", 2)
    store.delete("cells")
    with database.read() as connection, pytest.raises(VersionDeleted) as caught:
        store.require(connection, "cells", 1)
    assert caught.value.code == "dataset_gone"


def test_two_stores_on_one_database_see_the_same(
    reopen: Callable[[], Database], images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    one, other = (DatasetStore(reopen(), tmp_path / "datasets") for _ in range(2))

    admitted, created = admit(one, "cells", zipped(images(a=2, b=2)), tmp_path)

    assert created
    assert other.get("cells") == admitted
    with other.open(admitted) as file:
        assert digest_of(file.read()) == admitted.digest


def test_many_uploads_at_once_make_one_version_each(
    store: DatasetStore, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    sent = []
    for seed in range(4):
        (tmp_path / f"{seed}.zip").write_bytes(zipped(images(seed % 2, a=2, b=2)))
        sent.append(tmp_path / f"{seed}.zip")
    results: list[Any] = []

    def send(number: int) -> None:
        path = sent[number]
        results.append(store.admit(f"cells{number % 2}", path, digest_of(path.read_bytes())))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted((d.name, d.version, created) for d, created in results) == [
        ("cells0", 1, False), ("cells0", 1, True), ("cells1", 1, False), ("cells1", 1, True)
    ]  # fmt: skip
    assert store.orphans(0) == []


def test_orphans_are_files_that_no_version_needs_and_only_old_ones_are_removed(
    store: DatasetStore, images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    data = zipped(images(1, a=2, b=2))
    kept, _ = admit(store, "cells", data, tmp_path)
    folder = tmp_path / "datasets"
    left = [folder / f"{'0' * 64}.zip", folder / "abc.tmp", store.uploads.stage()]
    store.append("cells", f"sha256:{'3' * 64}", 0, b"x", 10)
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (time.time() - 100,) * 2)

    assert store.orphans(3600) == []
    assert set(store.orphans(60)) == set(left)
    assert set(store.remove_orphans(60)) == set(left)
    assert len(store.remove_orphans(0)) == 1  # the upload that has just begun

    assert store.orphans(0) == []
    with store.open(kept) as file:
        assert digest_of(file.read()) == kept.digest


def test_a_failing_disk_is_reported_and_leaves_nothing(
    store: DatasetStore, images: DrawImages, zipped: Zip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("lensmount_service.store.datasets.fsync_folder", broken)
    with pytest.raises(Unavailable):
        admit(store, "cells", zipped(images(a=2, b=2)), tmp_path)
    monkeypatch.undo()

    with pytest.raises(NotFound):
        store.get("cells")
    assert admit(store, "cells", zipped(images(a=2, b=2)), tmp_path)[1]


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from lensmount_service.store.database import Database
from lensmount_service.store.datasets import DatasetStore
from lensmount_service import logs
from lensmount_service.settings import Settings
logs.configure(Settings(log_level="error"))
state, zips, kills = Path(sys.argv[1]), sorted(Path(sys.argv[2]).glob("*.zip")), int(sys.argv[3])
draw = random.Random(0)
cycle = acknowledged = 0
while cycle < kills or acknowledged <= 5:  # a busy machine needs more cycles
    cycle += 1
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        store = DatasetStore(Database(state / "registry.sqlite3"), state / "datasets")
        os.write(writing, b"\\n")
        for number in range(10**6):
            path = zips[(cycle * 7 + number) % len(zips)]
            digest = "sha256:" + path.stem
            data = path.read_bytes()
            first = store.received("cells", digest)
            while store.append("cells", digest, first, data[first : first + 3000], len(data)) is not None:
                first = store.received("cells", digest)
            dataset, created = store.finish("cells", digest, len(data))
            os.write(writing, f"{dataset.version} {dataset.digest}\\n".encode())
            if number % 3 == 2:
                store.delete("cells", dataset.version, purge=True)
                os.write(writing, f"-{dataset.version} {dataset.digest}\\n".encode())
    os.close(writing)
    os.read(reading, 1)
    time.sleep(draw.uniform(0.01, 0.4))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    lines = os.fdopen(reading).read()
    acknowledged += lines.count("\\n")
    sys.stdout.write(lines)
"""


def test_after_kills_nothing_acknowledged_is_lost_and_nothing_partial_is_visible(
    images: DrawImages, zipped: Zip, tmp_path: Path
) -> None:
    (tmp_path / "zips").mkdir()
    for seed in range(5):
        data = zipped(images(seed, a=3, b=3))
        (tmp_path / "zips" / f"{hashlib.sha256(data).hexdigest()}.zip").write_bytes(data)
    arguments = [str(tmp_path / "state"), str(tmp_path / "zips"), "10"]

    run = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=True)

    database = Database(tmp_path / "state" / "registry.sqlite3")
    store = DatasetStore(database, tmp_path / "state" / "datasets")
    lines = [line.split() for line in run.stdout.splitlines()]
    assert len(lines) > 5
    deleted = {int(version) for version, _ in lines if int(version) < 0}
    for version, digest in lines:
        if int(version) > 0 and -int(version) not in deleted:
            try:
                assert store.get("cells", int(version)).digest == digest
            except VersionDeleted:
                continue  # deleted, but killed before it could report that
    for digest in store.digests():
        dataset = store.get("cells", digest=digest)
        with store.open(dataset) as file:
            assert digest_of(file.read()) == digest
    store.remove_orphans(0)
    left = {path.name for path in (tmp_path / "state" / "datasets").rglob("*") if path.is_file()}
    assert left == {f"{digest.removeprefix('sha256:')}.zip" for digest in store.digests()}
    json.dumps([dataset.report for dataset in store.entries()])
    database.close()
