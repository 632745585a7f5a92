"""The Prometheus metrics, with one registry per app. The number of adapter names in labels is bounded."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

MAX_ADAPTER_LABELS = 256  # any further name is counted as "other", so that the cardinality is bounded
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """`metrics.requests.labels(metrics.label("malaria"), "200").inc()`; `metrics.render()` is the response."""

    def __init__(self, version: str, backbone: str, fingerprint: str) -> None:
        self.registry = CollectorRegistry()
        self._labels: set[str] = set()
        self._lock = threading.Lock()
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
        self.adapter_load_seconds = Histogram(
            "lensmount_adapter_load_seconds", "Time to load an adapter from a tier.", ("tier",), registry=self.registry
        )
        self.adapter_resident = Gauge(
            "lensmount_adapter_resident",
            "1 if the adapter is resident in the tier.",
            ("adapter", "tier", "pinned"),
            registry=self.registry,
        )
        self.adapter_evictions = self._counter("adapter_evictions", "Adapters dropped from memory.", ("reason",))
        self.cache_bytes = Gauge("lensmount_cache_bytes", "Bytes in use, by tier.", ("tier",), registry=self.registry)
        self.inflight = Gauge(
            "lensmount_inflight", "Images accepted but not answered yet.", ("adapter",), registry=self.registry
        )
        self.out_of_memory = self._counter("out_of_memory", "Batches for which memory was too short.")
        self.quarantined = Gauge(
            "lensmount_quarantined_adapters", "Adapters that failed too often.", registry=self.registry
        )
        self.stored_files = Gauge(
            "lensmount_stored_files",
            "Files that are not as they should be, by state.",
            ("state",),
            registry=self.registry,
        )
        self.scrubbed = self._counter("scrubbed_bytes", "Bytes of stored files that were read again.")
        self.scrubbed_at = Gauge(
            "lensmount_scrubbed_timestamp_seconds", "When all files were last read again.", registry=self.registry
        )
        self.restore_mismatch = self._counter("restore_mismatch", "Tensors that differed in an integrity check.")

    def label(self, adapter: str) -> str:
        """The adapter's name as a label value, or "other" once the bound is reached."""
        with self._lock:
            if adapter in self._labels or len(self._labels) < MAX_ADAPTER_LABELS:
                self._labels.add(adapter)
                return adapter
        return "other"

    def show_resident(self, tiers: Mapping[str, str], pinned: Collection[str] = ()) -> None:
        """Set one series per adapter and tier that it can be resident in."""
        self.adapter_resident.clear()
        for adapter, tier in tiers.items():
            for resident_in in ("hot", "merged", "memory"):
                is_pinned = str(adapter in pinned).lower()
                self.adapter_resident.labels(self.label(adapter), resident_in, is_pinned).set(tier == resident_in)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"lensmount_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"lensmount_{name}", text, buckets=buckets, registry=self.registry)
