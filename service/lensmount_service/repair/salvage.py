"""Copies the rows of a damaged SQLite file that can still be read into a new one.

Tables are read by ranges of row numbers, without indexes. A range that fails is halved until the rows that cannot be
read are single, as SQLite's own `.recover` gets around damaged pages. A row is copied only if its values have the types
of its columns. If the pages with the list of tables are lost, nothing can be read this way.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lensmount_service.store.database import metadata

STEP = 4096  # row numbers that are read at once
UNKNOWN_ROWS = 1_000_000  # how many are tried if the table does not say how many it has
MOST_FAILURES = 50_000  # of ranges of one table; then the rest of it counts as lost

BROKEN = (sqlite3.Error, UnicodeDecodeError)  # the second if the message about damage has damaged bytes
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass
class Salvaged:
    """How many rows of each table were copied, and how many could not be read or were not what a table holds.

    A lost page does not say how many rows it had, so `lost` counts numbers of rows.
    """

    copied: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)


def salvage(damaged: Path, fresh: Path) -> Salvaged:
    """Copy rows from one SQLite file into another that has all tables and no rows. Commits once, at the end."""
    salvaged = Salvaged()
    source, target = sqlite3.connect(damaged), sqlite3.connect(fresh)
    try:
        source.text_factory = bytes  # a text that is damaged costs its row, not the query
        source.execute("PRAGMA writable_schema = ON")  # one table that cannot be parsed hides no other
        for table in metadata.sorted_tables:
            if table.name != "lensmount_schema":
                _copy_table(source, target, table, salvaged)
        target.commit()
    finally:
        source.close()
        target.close()
    return salvaged


def _copy_table(source: sqlite3.Connection, target: sqlite3.Connection, table: sa.Table, salvaged: Salvaged) -> None:
    try:
        present = {row[1].decode() for row in source.execute(f'PRAGMA table_info("{table.name}")')}
    except BROKEN:  # the list of tables is lost
        present = set()
    columns = [column for column in table.columns if column.name in present]
    if not columns:
        return
    names = ", ".join(f'"{column.name}"' for column in columns)
    places = ", ".join("?" * len(columns))
    reader = _Reader(source, table.name, names)
    copied = 0
    for stored in reader.rows():
        try:
            row = [_text_of(column, value) for column, value in zip(columns, stored, strict=True)]
            if not _fits(columns, row):
                raise sqlite3.IntegrityError("of another type")
            target.execute(f'INSERT INTO "{table.name}" ({names}) VALUES ({places})', row)
            copied += 1
        except sqlite3.IntegrityError:  # also a row that was read twice
            reader.lost += 1
    salvaged.copied[table.name] = copied
    if reader.lost:
        salvaged.lost[table.name] = reader.lost


class _Reader:
    """The rows of one table; `lost` counts the numbers at which no row could be read."""

    def __init__(self, source: sqlite3.Connection, table: str, names: str) -> None:
        self._source = source
        self._table = table
        self._select = f'SELECT {names} FROM "{table}" NOT INDEXED WHERE rowid BETWEEN ? AND ?'
        self._failures = 0
        self.lost = 0

    def rows(self) -> Iterator[Sequence[Any]]:
        last = self._last()
        for first in range(1, last + 1, STEP):
            yield from self._between(first, min(last, first + STEP - 1))

    def _last(self) -> int:
        try:
            (last,) = self._source.execute(f'SELECT max(rowid) FROM "{self._table}" NOT INDEXED').fetchone()
        except BROKEN:
            return UNKNOWN_ROWS
        return min(int(last or 0), 2**31)

    def _between(self, first: int, last: int) -> Iterator[Sequence[Any]]:
        waiting = [(first, last)]
        while waiting:
            low, high = waiting.pop()
            if self._failures >= MOST_FAILURES:
                self.lost += high - low + 1
                continue
            try:
                found = self._source.execute(self._select, (low, high)).fetchall()
            except BROKEN:
                self._failures += 1
                if low == high:
                    self.lost += 1
                else:
                    middle = (low + high) // 2
                    waiting += [(middle + 1, high), (low, middle)]
                continue
            yield from found


def _text_of(column: sa.Column[Any], value: Any) -> Any:
    """A text as Python reads it. A damaged manifest becomes "", because the adapter's file has it too.

    So does a damaged rollout, which then counts as none. Any other damaged text stays as bytes, which fit no column.
    """
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "" if column.name in ("manifest", "rollout") else value


def _fits(columns: Sequence[sa.Column[Any]], row: Sequence[Any]) -> bool:
    return all(_value_fits(column, value) for column, value in zip(columns, row, strict=True))


def _value_fits(column: sa.Column[Any], value: Any) -> bool:
    if value is None:
        return bool(column.nullable)
    kind = column.type
    if isinstance(kind, sa.JSON):
        return isinstance(value, str) and _is_json(value)
    if isinstance(kind, sa.Boolean):
        return value in (0, 1)
    if isinstance(kind, sa.Integer):
        return isinstance(value, int)
    if isinstance(kind, sa.Float):
        return isinstance(value, int | float)
    if not isinstance(value, str):
        return False
    return column.name != "digest" or bool(_DIGEST.fullmatch(value))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
