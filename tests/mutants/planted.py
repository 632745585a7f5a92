"""The list of planted bugs: each changes one place of one file and must be caught by the tests that it names.

The list is in the TOML files of this folder. `before` must occur exactly once in its file, so that a bug whose place
has changed is an error and not silently something else.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent


class OutOfDate(Exception):
    """The list does not fit the source."""


@dataclass(frozen=True, slots=True)
class Bug:
    """`fails_with` is the exception that a named test ends with: its own assertion unless the exception is the bug."""

    name: str
    why: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    listed_in: str
    fails_with: str = "AssertionError"

    def planted_in(self, source: str) -> str:
        """The text of the file with the bug. Raises OutOfDate."""
        count = source.count(self.before)
        if count != 1:
            raise OutOfDate(
                f"{self.name}: found its text before {count} times in {self.file}, expected it once. "
                f"Fix: write the present text into tests/mutants/{self.listed_in}"
            )
        return source.replace(self.before, self.after)


def bugs(folder: Path = FOLDER) -> list[Bug]:
    """Every bug of the list, file by file."""
    return [
        Bug(**{**fields, "tests": tuple(fields["tests"])}, listed_in=path.name)
        for path in sorted(folder.glob("*.toml"))
        for fields in tomllib.loads(path.read_text(encoding="utf-8"))["bug"]
    ]
