"""Say which files of a dataset cannot be read: how many, what each of them is, and their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_REASONS, _NAMES = 6, 5  # that one message lists


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One file that cannot be read as an image, and why."""

    path: str
    reason: str


def broken_files(title: str, total: int, broken: Sequence[Unreadable]) -> str:
    """Say how many of `total` images cannot be read, and name some for each reason, the most frequent reason first."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file in broken:
        by_reason[file.reason].append(file.path)
    lines = [f"{title}: {len(broken)} of {total} images cannot be read:"]
    for reason, paths in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:_REASONS]:
        names = ", ".join(path[:100] for path in paths[:_NAMES]) + (", ..." if len(paths) > _NAMES else "")
        lines.append(f"{names}: {reason}" if len(paths) == 1 else f"{len(paths)} files, {names}: {reason}")
    if len(by_reason) > _REASONS:
        lines.append(f"and files with {len(by_reason) - _REASONS} other reasons")
    return "\n  ".join(lines)
