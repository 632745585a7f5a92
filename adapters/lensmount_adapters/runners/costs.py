"""The measured cost of each way of computing a batch on this machine, and the cheapest way for a given batch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lensmount_adapters.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class LinearCost:
    """Seconds for `n` images: `fixed + per_image * n`."""

    fixed: float
    per_image: float

    def __call__(self, images: int) -> float:
        return self.fixed + self.per_image * images

    def towards(self, images: int, seconds: float, share: float) -> LinearCost:
        """The line, moved by `share` of the way towards the `seconds` that `images` took.

        One observation counts for at most twice what the line expects.
        """
        expected = self(images)
        factor = 1 + share * (min(seconds / expected, 2.0) - 1) if expected > 0 else 1.0
        return LinearCost(self.fixed * factor, self.per_image * factor)

    @classmethod
    def through(cls, one: float, many: float, n: int) -> LinearCost:
        """The line through the seconds for 1 image and for `n` images. Neither part is below zero."""
        per_image = max(0.0, (many - one) / (n - 1)) if n > 1 else 0.0
        return cls(max(0.0, one - per_image), per_image)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one branch: with merged weights as constants (`hot`), passed in at run time (`merged`), or `mixed`.

    `merge`: seconds to compute one adapter's merged weights. `pack`: seconds to lay out one adapter's factors for a
    mixed batch. `slots`: the most adapters that one mixed run can hold.
    """

    hot: LinearCost
    merged: LinearCost
    merge: float
    mixed: LinearCost | None
    pack: float
    slots: int


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one adapter in a batch: how many, whether the adapter is hot, and whether it can be mixed."""

    images: int
    hot: bool
    mixable: bool


def mixed_groups(costs: Costs, groups: Sequence[Group]) -> list[list[int]]:
    """The groups that are cheaper mixed, as runs of the mixed program with at most `slots` adapters each.

    Every other group is computed alone. A group saves its cost alone minus the cost of its images in the mixed program.
    A run is worth its fixed part if the savings of its groups add up to more.
    """
    if costs.mixed is None:
        return []
    savings = {
        index: cost_alone(costs, group) - costs.mixed.per_image * group.images - costs.pack
        for index, group in enumerate(groups)
        if group.mixable
    }
    best = sorted((index for index in savings if savings[index] > 0), key=lambda index: -savings[index])
    runs = [best[start : start + costs.slots] for start in range(0, len(best), costs.slots)]
    return [run for run in runs if sum(savings[index] for index in run) > costs.mixed.fixed]


def cost_alone(costs: Costs, group: Group) -> float:
    """Seconds of the group in a separate run: hot, or merged if the adapter is not hot."""
    return costs.hot(group.images) if group.hot else costs.merge + costs.merged(group.images)


class CostBook:
    """`book.line("branch hot", measure)` measures at the first call, then keeps the line in a file in `folder`.

    `of` names everything that the figures depend on: machine, executor, precision, threads, versions. Safe from any
    thread.
    """

    def __init__(self, folder: Path | None = None, of: str = "") -> None:
        self._file = folder / f"costs-{hashlib.sha256(of.encode()).hexdigest()[:16]}.json" if folder else None
        self._lines = _read(self._file)
        self._lock = threading.Lock()

    @property
    def lines(self) -> Mapping[str, LinearCost]:
        """A copy of all lines, by name."""
        with self._lock:
            return dict(self._lines)

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        """The line of this name. `measure` is called without the lock if there is none yet."""
        with self._lock:
            known = self._lines.get(name)
        if known is None:
            measured = measure()
            with self._lock:
                known = self._lines.setdefault(name, measured)
                self._write()
        return known

    def forget(self) -> None:
        """Delete all lines, so that everything is measured again."""
        with self._lock:
            self._lines = {}
            if self._file is not None:
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        """Lines that cannot be written are only measured again at the next start."""
        if self._file is None:
            return
        pairs = {name: [line.fixed, line.per_image] for name, line in sorted(self._lines.items())}
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, json.dumps(pairs, indent=1).encode())


def _read(file: Path | None) -> dict[str, LinearCost]:
    """The lines in the file; none if it is missing or damaged."""
    try:
        pairs = json.loads(file.read_bytes()) if file else {}
        lines = {str(name): LinearCost(float(fixed), float(per_image)) for name, (fixed, per_image) in pairs.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    sound = all(math.isfinite(x) and x >= 0 for line in lines.values() for x in (line.fixed, line.per_image))
    return lines if sound else {}


def seconds_of(
    work: Callable[[], object], rounds: int = 5, enough_s: float = 0.2, wait: Callable[[], object] = lambda: None
) -> float:
    """The fastest of several rounds, because other work on the machine can only make a round slower.

    One more round comes first and pays for allocations and kernels. There are at least two rounds, and no further one
    once they took `enough_s` in total. `wait` returns once the work is computed: on a GPU the call itself returns as
    soon as its kernels are launched.
    """
    work()
    wait()
    times: list[float] = []
    while len(times) < 2 or (len(times) < rounds and sum(times) < enough_s):
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)
