"""What each way of computing a batch costs on this machine, measured; and the cheapest way for a given batch."""

from __future__ import annotations

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
        """Nearer to what `images` took, by `share` of the way; one observation counts for at most twice the line's."""
        expected = self(images)
        factor = 1 + share * (min(seconds / expected, 2.0) - 1) if expected > 0 else 1.0
        return LinearCost(self.fixed * factor, self.per_image * factor)

    @classmethod
    def through(cls, one: float, many: float, n: int) -> LinearCost:
        """The line through the seconds for 1 image and for `n`; neither part below zero."""
        per_image = max(0.0, (many - one) / (n - 1)) if n > 1 else 0.0
        return cls(max(0.0, one - per_image), per_image)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one branch: merged weights made constant (`hot`), handed in at run time (`merged`), or `mixed`.

    `merge`: computing one adapter's merged weights. `pack`: laying out one adapter's factors for a mixed batch.
    `together`: mixed, with the factors of a steady company of adapters made constant.
    """

    hot: LinearCost
    merged: LinearCost
    merge: float
    mixed: LinearCost | None
    pack: float
    slots: int
    together: LinearCost | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The images of one adapter in a batch: how many, whether its weights are hot, whether it can be mixed."""

    images: int
    hot: bool
    mixable: bool


def mixed_groups(costs: Costs, groups: Sequence[Group]) -> list[list[int]]:
    """The groups that are cheaper together, as runs of the mixed program of at most `slots` adapters each.

    Every other group is computed alone. A group saves what it costs alone less its images in the mixed program; a run
    is worth its fixed part where its groups save more together.
    """
    if costs.mixed is None:
        return []
    savings = {
        index: _alone(costs, group) - costs.mixed.per_image * group.images - costs.pack
        for index, group in enumerate(groups)
        if group.mixable
    }
    best = sorted((index for index in savings if savings[index] > 0), key=lambda index: -savings[index])
    runs = [best[start : start + costs.slots] for start in range(0, len(best), costs.slots)]
    return [run for run in runs if sum(savings[index] for index in run) > costs.mixed.fixed]


def company_pays(costs: Costs, groups: Sequence[Group]) -> bool:
    """Whether groups of one company are cheaper together than each alone; tried while that cost is not known."""
    if len(groups) < 2:
        return False
    alone, images = sum(_alone(costs, group) for group in groups), sum(group.images for group in groups)
    return costs.together is None or costs.together(images) < alone


class CostBook:
    """`book.line("branch hot", measure)`: measured when first asked for, then kept beside the programs.

    `of` names all that the figures depend on: machine, executor, precision, threads, versions. Safe from any thread.
    """

    def __init__(self, folder: Path | None = None, of: str = "") -> None:
        self._file = folder / f"costs-{hashlib.sha256(of.encode()).hexdigest()[:16]}.json" if folder else None
        self._lines = _read(self._file)
        self._lock = threading.Lock()

    @property
    def lines(self) -> Mapping[str, LinearCost]:
        """A copy."""
        with self._lock:
            return dict(self._lines)

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        with self._lock:
            known = self._lines.get(name)
        if known is None:
            found = measure()
            with self._lock:
                known = self._lines.setdefault(name, found)
                self._write()
        return known

    def forget(self) -> None:
        """Measure everything anew."""
        with self._lock:
            self._lines = {}
            if self._file is not None:
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            document = {name: [line.fixed, line.per_image] for name, line in sorted(self._lines.items())}
            write_atomic(self._file, json.dumps(document, indent=1).encode())


def _read(file: Path | None) -> dict[str, LinearCost]:
    """Nothing where the file is not there, or not what was written."""
    try:
        document = json.loads(file.read_bytes()) if file else {}
        lines = {str(name): LinearCost(float(fixed), float(per_image)) for name, (fixed, per_image) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    sound = all(math.isfinite(x) and x >= 0 for line in lines.values() for x in (line.fixed, line.per_image))
    return lines if sound else {}


def seconds_of(
    work: Callable[[], object], rounds: int = 5, enough_s: float = 0.2, wait: Callable[[], object] = lambda: None
) -> float:
    """The fastest of some rounds, after one that pays for allocations and kernels: other work on the machine only adds.

    At least two, and no further one once they took `enough_s` together. `wait` returns once the work is computed: on a
    GPU the call itself returns as soon as its kernels are launched.
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


def _alone(costs: Costs, group: Group) -> float:
    return costs.hot(group.images) if group.hot else costs.merge + costs.merged(group.images)
