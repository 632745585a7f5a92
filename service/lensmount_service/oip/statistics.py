"""What the statistics extension tells of each model: how many requests, and how long each part of them took."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lensmount_service.engine.engine import Answer

MAX_MODELS = 4096  # the one that was asked least recently is forgotten first

Key = tuple[str, str, int]
"""The tenant that asks, the adapter's name as it asks, and the version."""


SPANS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@dataclass(slots=True)
class _Duration:
    """How often something happened, and how long it took together."""

    count: float = 0.0
    seconds: float = 0.0

    def add(self, seconds: float, count: float = 1.0) -> None:
        self.count += count
        self.seconds += seconds

    def shown(self) -> dict[str, int]:
        return {"count": round(self.count), "ns": round(self.seconds * 1e9)}


@dataclass(slots=True)
class _Model:
    last_s: float = 0.0
    images: int = 0
    batches: float = 0.0
    spans: dict[str, _Duration] = field(default_factory=lambda: {name: _Duration() for name in SPANS})
    by_size: dict[int, _Duration] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """The seconds of one request: all of it, reading its images, and making its answer."""

    total_s: float
    input_s: float
    output_s: float


class Statistics:
    """Counts since the start of the server, of requests through this protocol. The event loop's thread owns it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._models: OrderedDict[Key, _Model] = OrderedDict()
        self._clock = clock

    def succeeded(self, key: Key, answers: Sequence[Answer], spent: Spent) -> None:
        """Note a request. A batch that several images share counts once, in parts."""
        model = self._of(key)
        model.last_s = self._clock()
        model.images += len(answers)
        model.spans["success"].add(spent.total_s)
        model.spans["compute_input"].add(spent.input_s)
        model.spans["compute_output"].add(spent.output_s)
        model.spans["queue"].add(max(answer.queue_s for answer in answers))
        model.spans["compute_infer"].add(max(answer.forward_s for answer in answers))
        for answer in answers:
            share = 1 / answer.batch_size
            model.batches += share
            model.by_size.setdefault(answer.batch_size, _Duration()).add(answer.forward_s * share, share)

    def failed(self, key: Key, seconds: float) -> None:
        self._of(key).spans["fail"].add(seconds)

    def shown(self, key: Key) -> dict[str, Any]:
        """One entry of `model_stats`. A model that nobody asked has zeros."""
        _, name, version = key
        model = self._models.get(key) or _Model()
        nothing = _Duration().shown()
        return {
            "name": name,
            "version": str(version),
            "last_inference": round(model.last_s * 1000),
            "inference_count": model.images,
            "execution_count": round(model.batches),
            "inference_stats": {name: span.shown() for name, span in model.spans.items()},
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": nothing,
                    "compute_infer": duration.shown(),
                    "compute_output": nothing,
                }
                for size, duration in sorted(model.by_size.items())
            ],
        }

    def _of(self, key: Key) -> _Model:
        model = self._models.pop(key, None) or _Model()
        self._models[key] = model
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)
        return model
