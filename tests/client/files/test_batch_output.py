"""Rows on disk, read back by libraries that know nothing of Lensmount."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lensmount_client import CannotWrite
from lensmount_client._files import batch_output
from lensmount_client._files.batch_output import write_rows
from lensmount_client._types.batch import BATCH_COLUMNS


def row(number: int, **values: Any) -> dict[str, Any]:
    return {**dict.fromkeys(BATCH_COLUMNS), "file": f"{number}.png", "adapter": "cells", **values}


def test_parquet_has_typed_columns_and_bounded_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_output, "ROWS_AT_ONCE", 4)
    rows = (row(n, scores={"a": 0.5, "=b": 0.25}, set=["a"], score=0.5, version=n) for n in range(10))
    assert write_rows(tmp_path / "out.parquet", rows) == 10
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups)] == [4, 4, 2]
    schema = file.schema_arrow
    assert schema.names == list(BATCH_COLUMNS)
    assert schema.field("scores").type == pa.map_(pa.string(), pa.float64())
    assert schema.field("set").type == pa.list_(pa.string())
    assert schema.field("version").type == pa.int64()
    assert file.read().column("scores").to_pylist()[9] == [("a", 0.5), ("=b", 0.25)]


def test_a_spreadsheet_runs_no_cell(tmp_path: Path) -> None:
    write_rows(tmp_path / "out.csv", [row(0, file="=cmd()", label="+1", detail="@x"), row(1, file='a,"b\nc.png')])
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["label"], first["detail"]) == ("'=cmd()", "'+1", "'@x")
    assert second["file"] == 'a,"b\nc.png'


def test_rows_that_fail_half_way_leave_the_old_file(tmp_path: Path) -> None:
    def rows() -> Any:
        yield row(0)
        raise OSError(28, "No space left on device")

    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(CannotWrite, match="No space left on device"):
        write_rows(tmp_path / "out.jsonl", rows())
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "old"
