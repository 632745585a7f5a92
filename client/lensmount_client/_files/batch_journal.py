"""The journal of a batch run: one line for each image that is done, from which a killed run resumes.

It lies next to the output until that is written. The first line says which versions of which adapters answer. Each line
is one write, so a kill leaves at most the last one incomplete; then that image is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._types.results import AdapterId

FORMAT = 1


class BatchJournal:
    """`journal = BatchJournal(out, ["malaria"])`, `journal.begin(versions)`, `journal.add("a.png", rows)`.

    `adapters` are the versions that answer, None until `begin`. Raises InvalidInput if a journal of another run is
    there, and CannotWrite.
    """

    def __init__(self, out: Path, asked: Sequence[str]) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        self._out, self._asked = out, list(asked)
        self.adapters: tuple[AdapterId, ...] | None = None
        self.failed = 0
        self.resumed = 0
        self._done: set[int] = set()  # hashes of names: a million take 60 MB
        try:
            if self.path.exists():
                self._resume()
            elif out.exists():
                raise InvalidInput(f"{out}: found a file there. Fix: choose another name, or remove the file")
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise CannotWrite(f"{self.path}: cannot be written ({error.strerror})") from error

    def __contains__(self, name: str) -> bool:
        return hash(name) in self._done

    def __len__(self) -> int:
        return len(self._done)

    def begin(self, adapters: Sequence[AdapterId]) -> None:
        """Note which versions answer, once."""
        self.adapters = tuple(adapters)
        versions = [{"name": each.name, "version": each.version, "digest": each.digest} for each in adapters]
        self._write({"format": FORMAT, "asked": self._asked, "adapters": versions})

    def add(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """One image is done. Its rows are there completely or not at all after a kill."""
        self._write({"file": name, "rows": list(rows)})
        self._note(name, rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in the order in which they were added."""
        with self.path.open("rb") as file:
            next(file, None)
            for line in file:
                yield from json.loads(line)["rows"]

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def _resume(self) -> None:
        try:
            with self.path.open("r+b") as file:
                file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
                file.seek(0)
                head = file.readline()
                if not head:
                    return
                told = json.loads(head)
                self.adapters = tuple(AdapterId(**each) for each in told["adapters"])
                for line in file:
                    done = json.loads(line)
                    self._note(done["file"], done["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self.path}: not the journal of a batch run ({error}). Fix: remove it, or choose another output"
            ) from error
        if told["asked"] != self._asked:
            raise InvalidInput(
                f"{self.path}: found a run with {', '.join(told['asked'])} that was not finished, expected "
                f"{', '.join(self._asked)}. Fix: finish it with these adapters, or remove this file"
            )
        self.resumed = len(self._done)

    def _note(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        self._done.add(hash(name))
        self.failed += any(row["error"] for row in rows)

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise CannotWrite(f"{self.path}: cannot be written ({error.strerror})") from error
