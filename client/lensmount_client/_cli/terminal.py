"""Output of the command line: tables and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from lensmount_client._advice import for_command_line
from lensmount_client._errors import LensmountError, LocalError
from lensmount_client._show.text import printable


def print_json(document: Any) -> None:
    """Print ASCII only, because file names may contain bytes that are not UTF-8."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_table(table: RenderableType) -> None:
    Console(file=sys.stdout).print(table, crop=False)  # table.py knows how long a line may be


def print_line(text: str) -> None:
    """One line on stdout."""
    Console(file=sys.stdout).print(Text(printable(text)), soft_wrap=True)


def print_note(text: str) -> None:
    """One line on stderr."""
    Console(file=sys.stderr).print(Text(printable(text)), soft_wrap=True)


def print_error(text: str) -> None:
    """One red line on stderr."""
    Console(file=sys.stderr).print(Text(printable(text), style="red"), soft_wrap=True)


def cell(text: str) -> Text:
    """Text for a table, without markup or control characters: names come from files and servers."""
    return Text(printable(text), overflow="fold")


def described(error: LensmountError) -> str:
    """The message; for errors of the server also its code and request id, to ask its operator about."""
    if isinstance(error, LocalError):
        return str(error)
    request = f", request {error.request_id}" if error.request_id else ""
    return f"{for_command_line(str(error))} ({error.code}{request})"


def age(moment: datetime, now: datetime | None = None) -> str:
    """How long ago that was: "40 s", "3 min", "5 h", "12 days"."""
    seconds = max(((now or datetime.now(UTC)) - moment).total_seconds(), 0.0)
    for unit, length_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= (2 if unit == "days" else 1) * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def plural(count: int, unit: str) -> str:
    """1 as "1 image", 2 as "2 images"."""
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def file_size(size_bytes: int) -> str:
    """1,234,567 bytes as "1.2 MB"."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
