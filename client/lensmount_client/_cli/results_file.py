"""Predictions on disk, one line each, so that a stopped run can resume."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.dialect import cell_text, safe_cell
from lensmount_client._resources.many import Outcome

FIRST_COLUMNS = ("file", "adapter", "label", "score", "scores", "version", "digest", "fingerprint", "request_id")
COLUMNS = (*FIRST_COLUMNS, "decision", "set", "percentile", "abstained")  # files of before have only the first
NAMES = ("file", "adapter", "label", "abstained")  # a spreadsheet may take their first character for a formula's


class ResultsFile:
    """Append rows to a .csv or .jsonl file; `done` holds (file, adapter) of the rows already there.

        with ResultsFile(Path("results.csv")) as results:
            results.append(row_of(outcome))

    An incomplete last line, which a killed run leaves, is removed when the file is opened again. Raises InvalidInput
    if the file is not a results file, and CannotWrite.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise InvalidInput(f"{path}: expected a name that ends in .csv or .jsonl")
        self._format = FORMATS[suffix]()
        try:
            self._remove_incomplete_record()
            self.done = self._read_done()
            # Each line is one write, so a kill can leave only the last one incomplete.
            self._file = path.open("a", encoding="utf-8", errors="surrogateescape", newline="")
            if self._file.tell() == 0:
                self._write(self._format.head)
        except OSError as error:
            raise CannotWrite(f"{path}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, row: dict[str, Any]) -> None:
        try:
            self._write(self._format.line(row))
        except OSError as error:
            raise CannotWrite(f"{self._path}: cannot be written ({error.strerror})") from error
        self.done.add((row["file"], row["adapter"]))

    def _write(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()

    def _remove_incomplete_record(self) -> None:
        """Truncate the file after its last complete record."""
        if not self._path.exists():
            return
        with self._path.open("r+b") as file:
            file.truncate(self._format.complete_bytes(file))

    def _read_done(self) -> set[tuple[str, str]]:
        if not self._path.exists():
            return set()
        with self._path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            try:
                return {(row["file"], row["adapter"]) for row in self._format.rows(file)}
            except (ValueError, KeyError, TypeError, csv.Error) as error:
                raise InvalidInput(
                    f"{self._path}: not a results file of `lensmount predict` ({error}). Fix: choose another --out"
                ) from error


class Csv:
    """One header line, then records. A quoted file name may contain a line break.

    Names that begin with =, +, - or @ have an apostrophe before them, as docs/data.md says.
    """

    head = ",".join(COLUMNS) + "\n"

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = COLUMNS  # those of the file, if it has some already

    def line(self, row: dict[str, Any]) -> str:
        buffer = io.StringIO()
        named = {column: safe_cell(row[column] or "") for column in NAMES}
        labels = "" if row["set"] is None else json.dumps(row["set"])
        cells = {**row, **named, "scores": json.dumps(row["scores"]), "set": labels}
        csv.DictWriter(buffer, self.columns, extrasaction="ignore", lineterminator="\n").writerow(cells)
        return buffer.getvalue()

    def rows(self, file: Iterable[str]) -> Iterator[dict[str, str]]:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames:
            self.columns = tuple(reader.fieldnames)
            if self.columns not in (COLUMNS, FIRST_COLUMNS):
                raise ValueError(f"columns {', '.join(reader.fieldnames)}")
        for row in reader:
            yield row | {column: cell_text(row[column]) for column in NAMES if column in row}

    def complete_bytes(self, file: Iterable[bytes]) -> int:
        """The size up to the last complete record, which ends at a line break after an even number of quotes."""
        position = complete = quotes = 0
        for line in file:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                complete = position
        return complete


class Jsonl:
    """One object per line."""

    head = ""

    def line(self, row: dict[str, Any]) -> str:
        return json.dumps(row) + "\n"

    def rows(self, file: Iterable[str]) -> Iterator[dict[str, str]]:
        return map(json.loads, file)

    def complete_bytes(self, file: Iterable[bytes]) -> int:
        return sum(len(line) for line in file if line.endswith(b"\n"))


FORMATS: dict[str, type[Csv] | type[Jsonl]] = {".csv": Csv, ".jsonl": Jsonl}


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The row for an outcome with a prediction."""
    prediction = outcome.prediction
    assert prediction is not None, "an error has no row, so that a later run retries the image"
    record = prediction.to_record()
    del record["error"]
    return {"file": str(outcome.input), **record, "adapter": outcome.adapter}
