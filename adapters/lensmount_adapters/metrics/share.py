"""A share of images with its interval: how far a figure from few images can be from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lensmount_adapters.metrics.classification import wilson


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `of` images; `of` is at least 1. `low` and `high` are the ends of Wilson's 95 % interval."""

    count: int
    of: int

    @classmethod
    def among(cls, count: int, of: int) -> Share | None:
        """The share, or None of no images."""
        return cls(int(count), int(of)) if of else None

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def low(self) -> float:
        return wilson(self.count, self.of)[0] if self.count else 0.0

    @property
    def high(self) -> float:
        return wilson(self.count, self.of)[1] if self.count < self.of else 1.0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.count:,} of {self.of:,}; 95 % interval {self.low:.3f} to {self.high:.3f})"

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count, "of": self.of}
