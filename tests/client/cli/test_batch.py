"""`lensmount batch`: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


class Answered:
    """What a run was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failed = 0
        self.error: BaseException | None = None

    def __call__(self, source: Any, adapter: Any, out: Any, *, progress: bool) -> Any:
        from lensmount_client._types.batch import BatchResult
        from lensmount_client._types.results import AdapterId

        self.calls.append((source, adapter, out, progress))
        if self.error is not None:
            raise self.error
        version = AdapterId("malaria", 3, "sha256:" + "1" * 64)
        return BatchResult(Path(out), 2000, 2000, self.failed, 120, (version,))


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> Answered:
    found = Answered()
    monkeypatch.setattr("lensmount_client._resources.batch.Batch.__call__", lambda self, *a, **k: found(*a, **k))
    return found


def test_it_says_what_was_written_and_what_an_earlier_run_had_done(lensmount: Any, answered: Answered) -> None:
    code, out, _ = lensmount("batch", "cells/", "more", "-a", "malaria, smoking", "-o", "results.parquet")
    assert code == 0
    assert out == "results.parquet: 2,000 rows, 120 images of an earlier run\n"
    assert answered.calls == [(["cells/", "more"], ["malaria", "smoking"], Path("results.parquet"), True)]


def test_failed_images_are_counted_and_told_by_the_exit_status(lensmount: Any, answered: Answered) -> None:
    answered.failed = 3
    code, out, _ = lensmount("batch", "cells/", "-a", "malaria", "-o", "results.csv", "--json")
    assert code == 1
    told = json.loads(out)
    assert (told["out"], told["images"], told["failed"]) == ("results.csv", 2000, 3)
    assert told["adapters"] == [{"name": "malaria", "version": 3, "digest": "sha256:" + "1" * 64}]


def test_ctrl_c_says_how_to_go_on(lensmount: Any, answered: Answered) -> None:
    answered.error = KeyboardInterrupt()
    code, _, err = lensmount("batch", "cells/", "-a", "malaria", "-o", "results.csv")
    assert code == 130
    assert "Repeat the command to resume; what is done is in results.csv.partial" in err


def test_wrong_usage_is_told_before_anything_is_sent(lensmount: Any, tmp_path: Path) -> None:
    code, _, err = lensmount("batch", str(tmp_path), "-a", "malaria", "-o", str(tmp_path / "results.xlsx"))
    assert code == 2
    assert "expected a name that ends in .parquet, .csv, .jsonl" in err
