"""Rows of a batch run as Parquet, CSV or JSON lines, by the ending of the file's name, a bounded number at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.dialect import safe_cell
from lensmount_client._types.batch import BATCH_COLUMNS

if TYPE_CHECKING:
    import pyarrow

Row: TypeAlias = Mapping[str, Any]

ROWS_AT_ONCE = 4096  # of a Parquet file, as one row group
NAMES = ("file", "adapter", "label", "detail")  # a spreadsheet may take their first character for a formula's
JSON_CELLS = ("scores", "set")  # of a CSV file


def check_output(path: Path) -> None:
    """Raises InvalidInput for another ending, a file that is there, or a package that is missing."""
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise InvalidInput(f"{path}: expected a name that ends in {', '.join(WRITERS)}")
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InvalidInput(
            f'{path}: Parquet needs the package pyarrow. Fix: pip install "lensmount[parquet]", or name a .csv or '
            ".jsonl file"
        )
    if path.is_dir():
        raise InvalidInput(f"{path}: found a folder, expected the name of a file")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write the file under another name, then rename it. Returns the number of rows. Raises CannotWrite."""
    temporary = path.with_name(f".{path.name}.tmp")  # the same in each run, so that a kill leaves one at most
    counted = _Counted(rows)
    try:
        WRITERS[path.suffix.lower()](temporary, counted)
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return counted.rows


class _Counted:
    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.rows = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.rows += 1
            yield row


def _jsonl(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            file.write(json.dumps({column: row[column] for column in BATCH_COLUMNS}, allow_nan=False) + "\n")


def _csv(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, BATCH_COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {column: safe_cell(row[column] or "") for column in NAMES}
            lists = {column: "" if row[column] is None else json.dumps(row[column]) for column in JSON_CELLS}
            writer.writerow({**row, **cells, **lists})


def _parquet(path: Path, rows: Iterable[Row]) -> None:
    """`scores` is a map from label to score, and `set` a list of labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, remaining = _schema(pa), iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(remaining, ROWS_AT_ONCE)):
            table = [{**row, "scores": list((row["scores"] or {}).items())} for row in group]
            writer.write_table(pa.Table.from_pylist(table, schema))


def _schema(pa: Any) -> pyarrow.Schema:
    numbers = {"score": pa.float64(), "confidence": pa.float64(), "percentile": pa.float64(), "version": pa.int64()}
    kinds = {**numbers, "scores": pa.map_(pa.string(), pa.float64()), "set": pa.list_(pa.string())}
    return pa.schema([(column, kinds.get(column, pa.string())) for column in BATCH_COLUMNS])


WRITERS: dict[str, Callable[[Path, Iterable[Row]], None]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
