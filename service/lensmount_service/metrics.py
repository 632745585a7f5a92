"""The Prometheus metrics, with one registry per app. The number of adapter names in labels is bounded."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

MAX_ADAPTER_LABELS = 64  # names with series of their own; any further one is counted as OTHER
OTHER = "other"
IDLE_S = 3600.0  # a name that nobody asked for this long gives its label to another one
MOST_KEPT = 4096  # names that had a label and whose counts are kept; the oldest are forgotten first
DRIFT_IMAGES = 500  # over about this many images the top score is averaged
MIN_DRIFT_IMAGES = 100  # before this many answers the mean says nothing
RESIDENT = ("hot", "merged", "memory")
NEVER = float("-inf")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Counts = list[tuple[Counter, tuple[str, ...], float]]


@dataclass(slots=True)
class _Drift:
    """The running mean of the top score minus what was promised, over `images` answers."""

    images: int = 0
    mean: float = 0.0

    def add(self, difference: float) -> None:
        self.images += 1
        self.mean += (difference - self.mean) / min(self.images, DRIFT_IMAGES)


class Metrics:
    """`metrics.requests.labels(metrics.label("malaria"), "200").inc()`; `metrics.render()` is the response."""

    def __init__(
        self, version: str, backbone: str, fingerprint: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._labels: OrderedDict[str, float] = OrderedDict()  # when each was asked last, the longest ago first
        self._kept: OrderedDict[str, Counts] = OrderedDict()  # of names that lost their label
        self._drifts: dict[str, _Drift] = {}
        self._lock = threading.Lock()
        self._serve_metrics(version, backbone, fingerprint)
        self._store_metrics()
        self._work_metrics()

    def _serve_metrics(self, version: str, backbone: str, fingerprint: str) -> None:
        """Requests and answers."""
        info = Info("lensmount_build", "Version and backbone.", registry=self.registry)
        info.info({"version": version, "backbone": backbone, "fingerprint": fingerprint})
        self.requests = self._counter("requests", "Prediction requests, by adapter and status.", ("adapter", "code"))
        self.explanations = self._counter(
            "explanations", "Explanation requests, by method and status.", ("method", "code")
        )
        self.decisions = self._counter(
            "decisions", "Answers of adapters that measured their trust, by decision.", ("adapter", "decision")
        )
        self.request_seconds = self._histogram("request_seconds", "Time from the first byte to the response.", _SECONDS)
        self.queue_seconds = self._histogram("queue_seconds", "Time spent waiting for the engine.", _SECONDS)
        self.batch_size = self._histogram("batch_size", "Images in one forward pass.", (1, 2, 4, 8, 16, 32, 64, 128))
        self.images = self._counter("images", "Images computed, by how their branch was computed.", ("mode",))
        self.switches = self._counter("switches", "Adapter switches.", ("from_tier", "mode"))
        self.switch_seconds = self._histogram("switch_seconds", "Time of one adapter switch in place.", _SECONDS)
        self.inflight = self._gauge("inflight", "Images accepted but not answered yet.", ("adapter",))
        self.out_of_memory = self._counter("out_of_memory", "Batches for which memory was too short.")
        self.refusals = self._counter("refusals", "Answers that are a problem document, by code.", ("code", "status"))
        self.calibration_drift = self._gauge(
            "calibration_drift", "Mean top score minus the accuracy that the adapter states.", ("adapter",)
        )

    def _store_metrics(self) -> None:
        """Adapters in memory and files on disk."""
        self.adapter_load_seconds = Histogram(
            "lensmount_adapter_load_seconds", "Time to load an adapter from a tier.", ("tier",), registry=self.registry
        )
        self.adapter_resident = self._gauge(
            "adapter_resident", "1 if the adapter is resident in the tier.", ("adapter", "tier", "pinned")
        )
        self.adapter_evictions = self._counter("adapter_evictions", "Adapters dropped from memory.", ("reason",))
        self.cache_bytes = self._gauge("cache_bytes", "Bytes in use, by tier.", ("tier",))
        self.trunk_outputs = self._counter(
            "trunk_outputs", "Looks for what the trunk gave before, by tier and outcome.", ("tier", "outcome")
        )
        self.quarantined = self._gauge("quarantined_adapters", "Adapters that failed too often.")
        self.rollouts = self._gauge("rollouts", "Rollouts of aliases that have not ended.")
        self.rollbacks = self._counter("rollbacks", "Rollouts that a rule ended, by rule.", ("rule",))
        self.rollout_requests = self._counter(
            "rollout_requests", "Requests that rollouts gave to a version.", ("side", "outcome")
        )
        self.shadow_images = self._counter("shadow_images", "Images for the shadows of rollouts.", ("outcome",))
        self.stored_files = self._gauge("stored_files", "Files that are not as they should be, by state.", ("state",))
        self.scrubbed = self._counter("scrubbed_bytes", "Bytes of stored files that were read again.")
        self.scrubbed_at = self._gauge("scrubbed_timestamp_seconds", "When all files were last read again.")
        self.restore_mismatch = self._counter("restore_mismatch", "Tensors that differed in an integrity check.")
        self.store_readable = self._gauge("store_readable", "1 if the database can be read.")
        self.store_degraded = self._gauge("store_degraded", "1 if the store works in part: see GET /health/ready.")
        self.disk_free_bytes = self._gauge("disk_free_bytes", "Free bytes of the disk with the state folder.")
        self.disk_size_bytes = self._gauge("disk_size_bytes", "Size of the disk with the state folder.")

    def _work_metrics(self) -> None:
        """What waits, and who works."""
        self.queue_length = self._gauge("queue_length", "Images that wait for the engine.")
        self.jobs = self._gauge("jobs", "Jobs by state.", ("state",))
        self.workers = self._gauge("workers", "Workers that ask for jobs of this backbone, or train one.")

    def label(self, adapter: str) -> str:
        """The label value of an adapter that is asked: its name, or OTHER.

        The first MAX_ADAPTER_LABELS names have a label. A name that nobody asked for IDLE_S gives its label to one that
        is asked. Its series end then, and resume where they stopped when it has a label again.
        """
        with self._lock:
            now = self._clock()
            if adapter not in self._labels and not self._has_room(now):
                return OTHER
            if adapter not in self._labels:
                self._restore(adapter)
            self._labels[adapter] = now
            self._labels.move_to_end(adapter)
        return adapter

    def refused(self, code: str, status: int) -> None:
        """Count a problem document. Every code is one of the service's table, so their number is bounded."""
        self.refusals.labels(code, str(status)).inc()

    def judged(self, adapter: str, decision: str, top_score: float, promised: float | None) -> None:
        """Count an answer of an adapter, by its label value, that measured its trust.

        `promised` is the accuracy that its file states. The top scores of a calibrated adapter are on average as high
        as its accuracy, so a difference says that the images are unlike those that it was measured with.
        """
        self.decisions.labels(adapter, decision).inc()
        if promised is None or adapter == OTHER:
            return
        with self._lock:
            drift = self._drifts.setdefault(adapter, _Drift())
            drift.add(top_score - promised)
            if drift.images >= MIN_DRIFT_IMAGES:
                self.calibration_drift.labels(adapter).set(drift.mean)

    def show_resident(self, stored: Collection[str], tiers: Mapping[str, str], pinned: Collection[str] = ()) -> None:
        """Set one series per adapter and tier that it can be resident in; OTHER has the sums of all without a label.

        `tiers` has those in memory. The others of `stored` are not looked at one by one, because they may be many.
        """
        labels = self._labels_of(chain(tiers, stored))
        shown = [label for label in labels if label in stored]
        hidden = [adapter for adapter in pinned if adapter in stored and adapter not in labels]
        counts = {(label, label in pinned): dict.fromkeys(RESIDENT, 0) for label in shown}
        if hidden:
            counts[OTHER, True] = dict.fromkeys(RESIDENT, 0)
        if len(stored) > len(shown) + len(hidden):
            counts[OTHER, False] = dict.fromkeys(RESIDENT, 0)
        for adapter, tier in tiers.items():
            counts[adapter if adapter in labels else OTHER, adapter in pinned][tier] += 1
        self.adapter_resident.clear()
        for (label, is_pinned), of_label in counts.items():
            for tier, count in of_label.items():
                self.adapter_resident.labels(label, tier, str(is_pinned).lower()).set(count)

    def _labels_of(self, adapters: Iterable[str]) -> frozenset[str]:
        """All label values. Adapters that nobody asks get one while there is room, and give way at once."""
        with self._lock:
            for adapter in adapters:
                if len(self._labels) >= MAX_ADAPTER_LABELS:
                    break
                if adapter not in self._labels:
                    self._restore(adapter)
                    self._labels[adapter] = NEVER
                    self._labels.move_to_end(adapter, last=False)
            return frozenset(self._labels)

    def _has_room(self, now: float) -> bool:
        """Whether another name can have a label; the one that was asked longest ago may give way."""
        if len(self._labels) < MAX_ADAPTER_LABELS:
            return True
        oldest, asked_at = next(iter(self._labels.items()))
        if now - asked_at < IDLE_S:
            return False
        self._end(oldest)
        return True

    def _end(self, adapter: str) -> None:
        """End the series of an adapter, and keep its counts."""
        del self._labels[adapter]
        self._drifts.pop(adapter, None)
        kept: Counts = []
        for counter in (self.requests, self.decisions):
            (metric,) = counter.collect()
            for sample in metric.samples:
                values = tuple(sample.labels.values())
                if values[0] == adapter and sample.name.endswith("_total"):
                    kept.append((counter, values, sample.value))
                    counter.remove(*values)
        if kept:
            self._kept[adapter] = kept
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        self.inflight.remove(adapter)
        self.calibration_drift.remove(adapter)

    def _restore(self, adapter: str) -> None:
        for counter, labels, value in self._kept.pop(adapter, ()):
            counter.labels(*labels).inc(value)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"lensmount_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"lensmount_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"lensmount_{name}", text, buckets=buckets, registry=self.registry)
