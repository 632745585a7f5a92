"""What is counted of a rollout: sums that can be added, so that those of several servers are those of one.

Requests are counted in stages: as long as percentage and key stay the same. Only then has each request the same
probability to be the canary's, which is what the rules rest on.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lensmount_service.rollout_spec import Canary, Side

STEPS = 4  # bounds of the histogram in a factor of two
BOUNDS_S = tuple(0.0005 * 2 ** (step / STEPS) for step in range(69))  # 0.5 ms to 66 s
MOST_NAMES = 100  # of labels or of codes that are counted by name
MOST_PAIRS = 400  # of two labels that are counted
MOST_KEYS = 500  # lasting keys whose first requests are counted, the earliest ones
OTHER = "other"

OF_VERSION = frozenset(
    {
        *("adapter_corrupt", "adapter_quarantined", "adapter_untrusted", "backbone_mismatch", "version_deleted"),
        *("deadline_exceeded", "forward_failed", "internal_error", "out_of_memory", "output_not_finite", "swap_failed"),
    }
)
"""The codes of failures that may be the version's fault: not those of a bad request, a full queue or a lost device."""


@dataclass(slots=True)
class Tally:
    """What one side did: each request once, by its code if it failed; `times` counts those answered, by duration.

    `parts` sums over requests which part of its images was accepted, uncertain or unfamiliar, so a request with many
    similar images weighs as much as any other.
    """

    requests: int = 0
    images: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    parts: dict[str, float] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))

    def request(self, images: int, seconds: float, code: str | None) -> None:
        self.requests += 1
        self.images += images
        if code is None:
            self.times[bisect.bisect_left(BOUNDS_S, seconds)] += 1
        else:
            named(self.errors, code)

    def image(self, label: str | None, decision: str | None, part: float) -> None:
        if label is not None:
            named(self.labels, label)
        if decision is not None:
            self.decisions[decision] += 1
            self.parts[decision] = self.parts.get(decision, 0.0) + part

    def add(self, other: Tally) -> None:
        self.requests += other.requests
        self.images += other.images
        for mine, theirs in ((self.errors, other.errors), (self.labels, other.labels)):
            for name, count in theirs.items():
                named(mine, name, count)
        self.decisions.update(other.decisions)
        for decision, part in other.parts.items():
            self.parts[decision] = self.parts.get(decision, 0.0) + part
        self.times = [mine + theirs for mine, theirs in zip(self.times, other.times, strict=True)]

    @property
    def failed(self) -> int:
        """Requests that failed in a way that may be the version's fault."""
        return sum(count for code, count in self.errors.items() if code in OF_VERSION)

    def slower_than(self, bound: int) -> int:
        """Answered requests above a bound, given by its place in BOUNDS_S."""
        return sum(self.times[bound + 1 :])

    def quantile_s(self, part: float) -> float | None:
        """The bound below which at least this part of the answered requests lies; None if there are none."""
        wanted, seen = part * sum(self.times), 0
        if not wanted:
            return None
        for count, bound in zip(self.times, (*BOUNDS_S, math.inf), strict=True):
            seen += count
            if seen >= wanted:
                return min(bound, 2 * BOUNDS_S[-1])
        return None

    def to_json(self) -> dict[str, Any]:
        first = next((place for place, count in enumerate(self.times) if count), len(self.times))
        return {
            "requests": self.requests,
            "images": self.images,
            "errors": dict(self.errors),
            "decisions": dict(self.decisions),
            "parts": self.parts,
            "labels": dict(self.labels),
            "times": [first, *_without_zeros_at_the_end(self.times[first:])],
        }

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Tally:
        first, *counts = stored["times"]
        times = [0] * first + counts
        return cls(
            stored["requests"],
            stored["images"],
            Counter(stored["errors"]),
            Counter(stored["decisions"]),
            dict(stored["parts"]),
            Counter(stored["labels"]),
            times + [0] * (len(BOUNDS_S) + 1 - len(times)),
        )


@dataclass(slots=True)
class Compared:
    """The answers of stable version and shadow to the same images; `pairs` counts (stable's label, shadow's label)."""

    images: int = 0
    agreed: int = 0
    change: float = 0.0  # the sum of the mean absolute differences of the scores of each image
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    shed: int = 0

    def add(self, other: Compared) -> None:
        self.images += other.images
        self.agreed += other.agreed
        self.change += other.change
        self.shed += other.shed
        for pair, count in other.pairs.items():
            self.pair(pair, count)
        for why, count in other.failed.items():
            named(self.failed, why, count)

    def pair(self, pair: tuple[str, str], count: int = 1) -> None:
        self.pairs[pair if pair in self.pairs or len(self.pairs) < MOST_PAIRS else (OTHER, OTHER)] += count

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "agreed": self.agreed,
            "change": self.change,
            "pairs": [[*pair, count] for pair, count in self.pairs.items()],
            "failed": dict(self.failed),
            "shed": self.shed,
        }

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Compared:
        pairs = Counter({(stable, shadow): count for stable, shadow, count in stored["pairs"]})
        same = stored["images"], stored["agreed"], stored["change"]
        return cls(*same, pairs, Counter(stored["failed"]), stored["shed"])


@dataclass(frozen=True, slots=True)
class Stage:
    """The part of a rollout with one percentage and one kind of key."""

    percent: float
    key: str

    @property
    def share(self) -> float:
        return self.percent / 100

    @property
    def every_request_by_itself(self) -> bool:
        """Whether each request is given to a side independently of the others."""
        return self.key == "request"

    @classmethod
    def of(cls, canary: Canary | None) -> Stage:
        return cls(0.0, "request") if canary is None else cls(float(canary.percent), canary.key)


@dataclass(slots=True)
class FirstRequest:
    """The first request with a lasting key: later ones may be of the same kind and prove nothing more."""

    stage: Stage
    side: Side
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """All that is counted of one rollout. `total` adds counts; the first one to count a key has it."""

    stages: dict[Stage, dict[Side, Tally]] = field(default_factory=dict)
    shadow: Tally = field(default_factory=Tally)
    compared: Compared = field(default_factory=Compared)
    keys: dict[str, FirstRequest] = field(default_factory=dict)
    without_key: int = 0
    labels_dropped: int = 0  # labels for which there was no time to compute both versions

    @classmethod
    def total(cls, every: Iterable[Counts]) -> Counts:
        total = cls()
        for each in every:
            for stage, sides in each.stages.items():
                for side, tally in sides.items():
                    total.tally(stage, side).add(tally)
            total.shadow.add(each.shadow)
            total.compared.add(each.compared)
            for key, first in each.keys.items():
                if key not in total.keys and len(total.keys) < MOST_KEYS:
                    total.keys[key] = FirstRequest(first.stage, first.side, dict(first.parts))
            total.without_key += each.without_key
            total.labels_dropped += each.labels_dropped
        return total

    def tally(self, stage: Stage, side: Side) -> Tally:
        """The counts to add to."""
        return self.shadow if side == "shadow" else self.stages.setdefault(stage, {}).setdefault(side, Tally())

    def side(self, side: Side) -> Tally:
        """The counts of one side in all stages together."""
        total = Tally()
        for tally in [self.shadow] if side == "shadow" else [s[side] for s in self.stages.values() if side in s]:
            total.add(tally)
        return total

    def part(self, stage: Stage, side: Side, decision: str) -> float:
        """How many independent requests had this decision. One with half of its images counts as a half."""
        if stage.every_request_by_itself:
            tally = self.stages.get(stage, {}).get(side)
            return 0.0 if tally is None else tally.parts.get(decision, 0.0)
        first = [each for each in self.keys.values() if each.stage == stage and each.side == side]
        return sum(each.parts.get(decision, 0.0) for each in first)

    def to_json(self) -> dict[str, Any]:
        return {
            "stages": [
                {"percent": stage.percent, "key": stage.key, **{side: tally.to_json() for side, tally in sides.items()}}
                for stage, sides in self.stages.items()
            ],
            "shadow": self.shadow.to_json(),
            "compared": self.compared.to_json(),
            "keys": {
                key: [first.stage.percent, first.stage.key, first.side, first.parts] for key, first in self.keys.items()
            },
            "without_key": self.without_key,
            "labels_dropped": self.labels_dropped,
        }

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Counts:
        """Raises KeyError, TypeError or ValueError for anything that `to_json` does not give."""
        return cls(
            {
                Stage(each["percent"], each["key"]): {
                    side: Tally.of_json(each[side]) for side in ("stable", "canary") if side in each
                }
                for each in stored["stages"]
            },
            Tally.of_json(stored["shadow"]),
            Compared.of_json(stored["compared"]),
            {
                key: FirstRequest(Stage(percent, kind), side, dict(parts))
                for key, (percent, kind, side, parts) in stored["keys"].items()
            },
            stored["without_key"],
            stored["labels_dropped"],
        )


def named(counts: Counter[str], name: str, count: int = 1) -> None:
    """Count a name, or OTHER if there are too many already."""
    counts[name if name in counts or len(counts) < MOST_NAMES else OTHER] += count


def _without_zeros_at_the_end(counts: list[int]) -> list[int]:
    while counts and not counts[-1]:
        counts = counts[:-1]
    return counts
