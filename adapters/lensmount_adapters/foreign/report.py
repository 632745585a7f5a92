"""What became of an imported file: deltas by module, what was ignored and why, and how exact the result is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

UNPROVEN = (
    "The file does not name the weights that it was trained on. That this backbone has them is assumed from the names "
    "and shapes alone: compare the accuracy with the original before you rely on it"
)


@dataclass(frozen=True, slots=True)
class Matched:
    """One module of the backbone that the file changes.

    `form` is low-rank, tucker, scaled, full, head, or shared for what all modules use; `rank` is that of the factors.
    `tensors` are names in the file. `error` is the relative error of the merged weight as stored, in Frobenius norms,
    against a merge in float64.
    """

    module: str
    form: str
    rank: int | None
    error: float
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MatchReport:
    """The whole file: every tensor of it is in `matched` or in `ignored`.

    `share` is the part of the file's numbers that became deltas or the head, from 0 to 1. `error` is the largest of the
    modules' errors. `notes` say what was assumed, such as a stripped prefix; `unproven` what could not be checked.
    """

    tool: str
    method: str
    labels: tuple[str, ...]
    stored_as: str
    share: float
    error: float
    matched: tuple[Matched, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unproven: str = UNPROVEN

    def as_json(self) -> dict[str, Any]:
        """The report as plain values, as the server sends it and the manifest keeps it."""
        return asdict(self)

    def __str__(self) -> str:
        """The report as lines of text."""
        lines = [
            f"{self.tool} {self.method}: {len(self.matched)} modules, {self.share:.1%} of the file's numbers matched, "
            f"largest relative error of a merged weight {self.error:.1e}, stored as {self.stored_as}",
            f"labels: {', '.join(self.labels[:12])}{' and others' if len(self.labels) > 12 else ''}",
            *(f"ignored {name}: {reason}" for name, reason in self.ignored.items()),
            *self.notes,
            self.unproven,
        ]
        return "\n".join(lines)
