"""Predictions on disk, one line each, so that a stopped run can go on where it was."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._resources.many import Outcome

COLUMNS = ("file", "adapter", "label", "score", "scores", "version", "digest", "fingerprint", "request_id")


class ResultsFile:
    """Append rows to a .csv or .jsonl file; `done` holds (file, adapter) of the rows already there.

        with ResultsFile(Path("results.csv")) as results:
            results.append(row_of(outcome))

    A line that a kill left unfinished is cut off when the file is opened again. Raises InvalidInput
    for a file of another kind, and CannotWrite.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise InvalidInput(f"{path}: expected a name that ends in .csv or .jsonl")
        self._format = FORMATS[suffix]()
        try:
            self._mend()
            self.done = self._read_done()
            # One write a line, so that a kill can tear only the last one.
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

    def _mend(self) -> None:
        """Cut the file after its last whole record."""
        if not self._path.exists():
            return
        with self._path.open("r+b") as file:
            whole = self._format.whole_bytes(file)
            file.truncate(whole)

    def _read_done(self) -> set[tuple[str, str]]:
        if not self._path.exists():
            return set()
        with self._path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            try:
                return {(row["file"], row["adapter"]) for row in self._format.rows(file)}
            except (ValueError, KeyError, TypeError, csv.Error) as error:
                raise InvalidInput(
                    f"{self._path}: not a results file of `lensmount predict` ({error}); choose another --out"
                ) from error


class Csv:
    """One header line, then records; a quoted file name may hold a line break."""

    head = ",".join(COLUMNS) + "\n"

    def line(self, row: dict[str, Any]) -> str:
        buffer = io.StringIO()
        cells = {**row, "scores": json.dumps(row["scores"])}
        csv.DictWriter(buffer, COLUMNS, lineterminator="\n").writerow(cells)
        return buffer.getvalue()

    def rows(self, file: Iterable[str]) -> Iterator[dict[str, str]]:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames and tuple(reader.fieldnames) != COLUMNS:
            raise ValueError(f"columns {', '.join(reader.fieldnames)}")
        yield from reader

    def whole_bytes(self, file: Iterable[bytes]) -> int:
        """A record ends at a line break with an even number of quotes before it."""
        position = whole = quotes = 0
        for line in file:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                whole = position
        return whole


class Jsonl:
    """One object a line."""

    head = ""

    def line(self, row: dict[str, Any]) -> str:
        return json.dumps(row) + "\n"

    def rows(self, file: Iterable[str]) -> Iterator[dict[str, str]]:
        return map(json.loads, file)

    def whole_bytes(self, file: Iterable[bytes]) -> int:
        return sum(len(line) for line in file if line.endswith(b"\n"))


FORMATS: dict[str, type[Csv] | type[Jsonl]] = {".csv": Csv, ".jsonl": Jsonl}


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The row of an outcome that has a prediction."""
    prediction = outcome.prediction
    assert prediction is not None, "an error has no row: a later run tries the image again"
    return {
        "file": str(outcome.input),
        "adapter": outcome.adapter,
        "label": prediction.top.label,
        "score": prediction.top.score,
        "scores": {score.label: score.score for score in prediction.predictions},
        "version": prediction.adapter.version,
        "digest": prediction.adapter.digest,
        "fingerprint": prediction.backbone.fingerprint,
        "request_id": prediction.request_id,
    }
