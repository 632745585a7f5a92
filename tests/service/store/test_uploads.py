"""Uploads in chunks: they resume after any interruption."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from pathlib import Path

import pytest

from lensmount_service.errors import StorageFull, UploadOffsetMismatch
from lensmount_service.store import uploads as module
from lensmount_service.store.uploads import Uploads

DATA = random.Random(0).randbytes(10_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def test_chunks_make_up_the_file_and_the_last_one_returns_it(uploads: Uploads) -> None:
    assert uploads.received("cells", DIGEST) == 0
    assert uploads.append("cells", DIGEST, 0, DATA[:4000], 10_000) == (4000, None)
    assert uploads.received("cells", DIGEST) == 4000

    received, complete = uploads.append("cells", DIGEST, 4000, DATA[4000:], 10_000)

    assert complete is not None
    assert complete.read_bytes() == DATA
    assert received == uploads.received("cells", DIGEST) == 9999  # the last byte is sent again
    assert uploads.append("cells", DIGEST, 9999, DATA[9999:], 10_000) == (9999, complete)
    assert complete.read_bytes() == DATA
    assert uploads.complete("cells", DIGEST, 10_000) == complete
    uploads.drop("cells", DIGEST)
    assert uploads.received("cells", DIGEST) == 0


@pytest.mark.parametrize("first", [0, 3999, 4001, 9999])
def test_a_chunk_that_begins_elsewhere_is_refused_and_changes_nothing(uploads: Uploads, first: int) -> None:
    uploads.append("cells", DIGEST, 0, DATA[:4000], 10_000)

    with pytest.raises(UploadOffsetMismatch) as caught:
        uploads.append("cells", DIGEST, first, b"x", 10_000)

    assert caught.value.received == uploads.received("cells", DIGEST) == 4000


def test_a_chunk_of_an_unknown_upload_leaves_no_file(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(UploadOffsetMismatch) as caught:
        uploads.append("cells", DIGEST, 5, b"x", 10_000)

    assert caught.value.received == 0
    assert list((tmp_path / "uploads").iterdir()) == []


def test_names_and_digests_keep_their_uploads_apart(uploads: Uploads) -> None:
    other = f"sha256:{'0' * 64}"
    uploads.append("cells", DIGEST, 0, DATA[:4000], 10_000)
    uploads.append("tiles", DIGEST, 0, DATA[:100], 10_000)
    uploads.append("cells", other, 0, DATA[:7], 10_000)

    assert [uploads.received(*key) for key in (("cells", DIGEST), ("tiles", DIGEST), ("cells", other))] == [
        4000,
        100,
        7,
    ]


def test_on_a_full_disk_the_whole_chunk_is_undone(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads.append("cells", DIGEST, 0, DATA[:4000], 10_000)

    def full(file: object, data: memoryview) -> None:
        os.write(file.fileno(), data[:10])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_all", full)
    with pytest.raises(StorageFull):
        uploads.append("cells", DIGEST, 4000, DATA[4000:], 10_000)
    monkeypatch.undo()

    assert uploads.received("cells", DIGEST) == 4000
    _, complete = uploads.append("cells", DIGEST, 4000, DATA[4000:], 10_000)
    assert complete is not None
    assert complete.read_bytes() == DATA


def test_an_upload_resumes_after_a_kill_within_a_chunk(uploads: Uploads, tmp_path: Path) -> None:
    uploads.append("cells", DIGEST, 0, DATA[:4000], 10_000)
    part = next((tmp_path / "uploads").iterdir())
    with part.open("ab") as file:
        file.write(DATA[4000:4321])

    assert Uploads(tmp_path / "uploads").received("cells", DIGEST) == 4321
    _, complete = uploads.append("cells", DIGEST, 4321, DATA[4321:], 10_000)

    assert complete is not None
    assert complete.read_bytes() == DATA


def test_the_same_chunk_sent_many_times_at_once_counts_once(uploads: Uploads) -> None:
    taken: list[int] = []
    refused: list[int] = []
    start = threading.Barrier(8)

    def send() -> None:
        start.wait()
        for first in range(0, 10_000, 500):
            try:
                received, _ = uploads.append("cells", DIGEST, first, DATA[first : first + 500], 10_000)
                taken.append(received)
            except UploadOffsetMismatch as error:
                refused.append(error.received)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while (first := uploads.received("cells", DIGEST)) < 9999:
        uploads.append("cells", DIGEST, first, DATA[first : first + 500], 10_000)

    assert uploads.complete("cells", DIGEST, 10_000).read_bytes() == DATA


def test_old_files_are_selected_by_their_age(uploads: Uploads, tmp_path: Path) -> None:
    uploads.append("cells", DIGEST, 0, b"x", 10)
    staged = uploads.stage()
    os.utime(staged, (1, 1))

    assert uploads.old_files(3600) == [staged]
    assert len(uploads.old_files(0)) == 2
