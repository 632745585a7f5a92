"""Find the one file that a row of labels means: by its path, or by the end of it, with or without its suffix.

The client has a copy of this module (`make options` writes it), so that it and the server find the same files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from lensmount_adapters.data.labels import looks_like_part
from lensmount_adapters.data.refusal import refusal
from lensmount_adapters.data.walk import listed_names


class Finder:
    """`Finder(images, others).file_of("1.png", "labels.csv, row 2", "labels.csv")`."""

    def __init__(self, inputs: Iterable[str], others: Iterable[str]) -> None:
        self._inputs, self._others = frozenset(inputs), frozenset(others)
        self._by_name: dict[str, list[str]] | None = None

    def __contains__(self, path: str) -> bool:
        return path in self._inputs

    def file_of(self, wanted: str, where: str, next_to: str, part: str | None = None) -> str:
        """The path of the file. If several files match, it is the one below a folder named like the `part`."""
        if wanted in self._inputs:
            return wanted
        if wanted in self._others:
            raise refusal(
                f"{where}: found {wanted[:80]!r}, expected an image. Fix: convert it to PNG, or remove the row"
            )
        ends = _ends(wanted)
        by_name = self._names()
        same = by_name.get(ends[-1].rpartition("/")[2].casefold(), [])
        for end in ends:
            found = [path for path in same if _ends_with(path, end)]
            exact = [path for path in found if path.endswith(end) or path.rpartition(".")[0].endswith(end)]
            if len(exact or found) == 1:
                return (exact or found)[0]
            in_part = [p for p in exact or found if part and part in map(looks_like_part, p.split("/")[:-1])]
            if len(in_part) == 1:
                return in_part[0]
            if found:
                raise refusal(
                    f"{where}: found {wanted[:80]!r}, which could be each of {listed_names(found)}, expected one file. "
                    "Fix: write the whole path with its suffix"
                )
        if "%" in wanted and (plain := unquote(wanted)) != wanted:  # as in addresses: cat%20dog.png
            return self.file_of(plain, where, next_to)
        stem = ends[-1].rpartition("/")[2].rpartition(".")[0].casefold()
        near = same or by_name.get(stem, [])
        hint = f" (there is {near[0][:120]})" if near else ""
        raise refusal(
            f"{where}: found no file {wanted[:80]!r} next to {next_to}{hint}. "
            "Fix: correct the path, which begins at that file's folder, or remove the row"
        )

    def _names(self) -> dict[str, list[str]]:
        if self._by_name is None:
            self._by_name = {}
            for path in sorted(self._inputs):
                name = path.rpartition("/")[2].casefold()
                for key in {name, name.rpartition(".")[0] or name}:
                    self._by_name.setdefault(key, []).append(path)
        return self._by_name


def _ends(wanted: str) -> list[str]:
    """What a path may mean, the longest first. Only an absolute path may lose folders at its start."""
    bare = re.sub(r"^[A-Za-z]:", "", wanted)
    parts = [part for part in bare.split("/") if part]
    absolute = bare != wanted or bare.startswith("/")
    return ["/".join(parts[start:]) for start in range(len(parts) if absolute else 1)] or [wanted]


def _ends_with(path: str, end: str) -> bool:
    folded, end = path.casefold(), end.casefold()
    return any(p == end or p.endswith(f"/{end}") for p in (folded, folded.rpartition(".")[0]))
