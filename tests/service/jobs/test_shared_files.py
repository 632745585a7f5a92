"""The files of jobs in an object store: of each name the newest one of the last attempt counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_service.jobs.shared_files import SharedFile, SharedJobFiles
from lensmount_service.store.remote.objects import Objects


@pytest.fixture
def shared(tmp_path: Path) -> SharedJobFiles:
    return SharedJobFiles(Objects(f"file://{tmp_path}/bucket"))


def read(shared: SharedJobFiles, name: str) -> bytes | None:
    file = shared.open("job", name)
    if file is None:
        return None
    with file:
        return file.read()


Add = Callable[..., SharedFile]


@pytest.fixture
def add(shared: SharedJobFiles, tmp_path: Path) -> Add:
    def stored(attempt: int, data: bytes, name: str = "checkpoint") -> SharedFile:
        (tmp_path / "file").write_bytes(data)
        return shared.add("job", name, attempt, tmp_path / "file")

    return stored


def test_the_newest_file_of_the_last_attempt_counts(shared: SharedJobFiles, add: Add) -> None:
    assert read(shared, "checkpoint") is None
    for attempt, data, counts in ((1, b"one", b"one"), (1, b"two", b"two"), (3, b"new", b"new"), (2, b"late", b"new")):
        add(attempt, data)
        assert read(shared, "checkpoint") == counts
    file = shared.latest("job")["checkpoint"]
    assert (file.size_bytes, file.digest) == (3, f"sha256:{hashlib.sha256(b'new').hexdigest()}")
    assert b"".join(shared.pieces(file)) == b"new"


def test_a_refused_file_leaves_the_older_one_and_a_kept_one_removes_it(shared: SharedJobFiles, add: Add) -> None:
    first = add(1, b"first")
    other = add(1, b"other", "card.md")
    shared.remove([add(1, b"refused")])
    assert read(shared, "checkpoint") == b"first"
    kept = add(1, b"kept")
    shared.drop_before(kept)
    assert {file.key for file in shared.all("job")} == {other.key, kept.key}
    assert first.key not in {other.key, kept.key}
