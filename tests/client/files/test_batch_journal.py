"""The journal of a batch run: what a kill at any byte leaves of it is a shorter journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from lensmount_client import CannotWrite, InvalidInput
from lensmount_client._files.batch_journal import BatchJournal
from lensmount_client._types.results import AdapterId

VERSION = AdapterId("cells", 2, "sha256:" + "2" * 64)


def rows(name: str) -> list[dict[str, object]]:
    return [{"file": name, "error": None}, {"file": name, "error": "image_truncated"}]


def test_a_journal_that_is_cut_anywhere_has_whole_images_only(tmp_path: Path) -> None:
    whole = BatchJournal(tmp_path / "whole.csv", ["cells"])
    whole.begin([VERSION])
    for number in range(4):
        whole.add(f"{number}.png", rows(f"{number}.png"))
    whole.close()
    data = whole.path.read_bytes()
    seen = set()
    for end in range(len(data)):
        out = tmp_path / "cut.csv"
        (tmp_path / "cut.csv.partial").write_bytes(data[:end])
        journal = BatchJournal(out, ["cells"])
        done = [f"{number}.png" in journal for number in range(4)]
        assert done == sorted(done, reverse=True)
        complete = max(0, data[:end].count(b"\n") - 1)  # without the first line
        assert sum(done) == len(journal) == journal.resumed == journal.failed == complete
        assert journal.adapters in (None, (VERSION,))
        if journal.adapters is None:
            journal.begin([VERSION])
        journal.add("new.png", rows("new.png"))
        assert [row["file"] for row in journal.rows()] == [
            name for name in [*(f"{n}.png" for n in range(sum(done))), "new.png"] for _ in range(2)
        ]
        journal.close()
        seen.add(sum(done))
    assert seen == {0, 1, 2, 3}


def test_a_name_with_bytes_that_are_no_text_is_found_again(tmp_path: Path) -> None:
    journal = BatchJournal(tmp_path / "out.csv", ["cells"])
    journal.begin([VERSION])
    journal.add("odd\udce9.png", [])
    journal.close()
    again = BatchJournal(tmp_path / "out.csv", ["cells"])
    assert "odd\udce9.png" in again
    again.close()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite, match="No such file or directory"):
        BatchJournal(tmp_path / "none" / "out.csv", ["cells"])


def test_an_output_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(InvalidInput, match="found a file there"):
        BatchJournal(tmp_path / "out.csv", ["cells"])
    assert not (tmp_path / "out.csv.partial").exists()
