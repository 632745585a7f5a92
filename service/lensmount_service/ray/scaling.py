"""How many replicas there should be: as many as the images that wait need, and as the pixels that arrive need.

Ray's autoscaler calls `replicas_wanted` with the figures of `EngineReplica.record_autoscaling_stats`, averaged over
`look_back_period_s`, and applies its own bounds and delays. Ray copies this module to its controller, which has
nothing of Lensmount, so it imports nothing of it.

Both figures are needed. A queue grows only when a replica is busy, and says nothing about large images that are still
being decoded; pixels are known at once, and decoding them is most of the work for large images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

WAITING = "waiting_images"
PIXELS = "pixels_per_s"
WAITING_EACH = 16.0  # images that wait at a replica that is just busy enough: one batch
PIXELS_EACH = 40e6  # pixels that a replica decodes in a second on one core; set what `lensmount bench` shows for yours


class Context(Protocol):
    """What the policy reads of ray.serve.config.AutoscalingContext."""

    @property
    def current_num_replicas(self) -> int: ...

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None: ...


class Policy:
    """`Policy(waiting_each=16, pixels_each=40e6)(context)` gives the wanted number of replicas and an empty state."""

    def __init__(self, waiting_each: float = WAITING_EACH, pixels_each: float = PIXELS_EACH) -> None:
        self._each = {WAITING: waiting_each, PIXELS: pixels_each}

    def __call__(self, context: Context) -> tuple[float, dict[str, Any]]:
        return replicas_wanted(context, self._each), {}


def replicas_wanted(context: Context, each: Mapping[str, float]) -> float:
    """The larger need of all figures. Replicas that have not reported yet count as the mean of the others.

    Without any report, the present number stays.
    """
    reported = context.aggregated_metrics or {}
    needs = []
    for figure, one_replica in each.items():
        values = [value for value in reported.get(figure, {}).values() if value is not None]
        if values:
            needs.append(sum(values) / len(values) * context.current_num_replicas / one_replica)
    return max(needs) if needs else float(context.current_num_replicas)
