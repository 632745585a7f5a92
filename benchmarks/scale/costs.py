"""What a request costs one server: the lines of `lensmount calibrate`, and what happens outside the engine.

`machine.json` holds the costs of one machine, with its processor and the date. `measure.py` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from lensmount_adapters.runners.costs import Costs, Group, LinearCost, cost_alone, mixed_groups

LINES = ("trunk", "hot", "merged", "mixed", "whole", "batch")
MACHINE = Path(__file__).parent / "machine.json"


class BatchCosts(Protocol):
    """What the engine needs for a batch, and what a request needs outside of it, in seconds."""

    @property
    def request_s(self) -> float:
        """Python's work on one request: HTTP, decoding, answering. One request after the other."""

    @property
    def transfer_s(self) -> float:
        """Time of a request during which neither Python nor the engine works on it."""

    @property
    def contention(self) -> float:
        """How much slower the engine is next to Python at work: it takes 1 + contention times as long, if Python works
        all the time, and less in proportion if it works less.
        """

    def batch_s(self, groups: Sequence[Group], whole: bool) -> float:
        """One batch. `whole`: its only adapter has an end-to-end program."""


@dataclass(frozen=True, slots=True)
class MachineCosts:
    """The costs of one machine; `MachineCosts.read()` reads the committed ones.

    `batch` is Python's share of a batch: a fixed part and one for each adapter. Sizes are bytes of one adapter.
    """

    measured: dict[str, str]  # when, on which processor, with which executor and precision
    calibrated: dict[str, LinearCost]  # what `lensmount calibrate` prints, each way alone
    trunk: LinearCost
    hot: LinearCost
    merged: LinearCost
    mixed: LinearCost
    whole: LinearCost
    batch: LinearCost
    merge_s: float
    pack_s: float
    slots: int
    request_s: float
    transfer_s: float
    contention: float
    admit_s: float  # from a file to factors in memory
    fetch_s: float  # from the object store to a file
    bind_s: float  # from factors to a hot program, in the background
    factor_bytes: int
    hot_bytes: int
    whole_bytes: int

    @classmethod
    def read(cls, path: Path = MACHINE) -> MachineCosts:
        fields: dict[str, Any] = json.loads(path.read_text())
        lines = {name: LinearCost(**value) for name, value in fields.items() if name in LINES}
        calibrated = {name: LinearCost(**value) for name, value in fields["calibrated"].items()}
        return cls(**(fields | lines | {"calibrated": calibrated}))

    def write(self, path: Path = MACHINE) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @property
    def branch(self) -> Costs:
        return Costs(self.hot, self.merged, self.merge_s, self.mixed, self.pack_s, self.slots)

    def batch_s(self, groups: Sequence[Group], whole: bool) -> float:
        """The way that the server's runner would choose (runners/costs.py), with the time of its Python."""
        images = sum(group.images for group in groups)
        seconds = self.batch(len(groups))
        if len(groups) == 1:
            seconds += self.whole(images) if whole else self.trunk(images) + cost_alone(self.branch, groups[0])
            return seconds
        branch = self.branch
        runs = mixed_groups(branch, groups)
        mixed = {index for run in runs for index in run}
        seconds += self.trunk(images)
        for run in runs:
            seconds += self.mixed(sum(groups[index].images for index in run)) + self.pack_s * len(run)
        seconds += sum(cost_alone(branch, group) for index, group in enumerate(groups) if index not in mixed)
        return seconds

    def scaled(self, **changes: Any) -> MachineCosts:
        """The same with other fields."""
        return replace(self, **changes)
