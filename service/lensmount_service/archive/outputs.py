"""Where an answer starts: at what the trunk gave for the same image before, if it is still kept.

Requests look in memory, archives on disk. Neither looks for another tenant's images.
"""

from __future__ import annotations

from dataclasses import dataclass

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.runners.runner import Runner, TrunkOutputs
from lensmount_service.archive.disk import DiskOutputs
from lensmount_service.archive.entry import KeptOutput, key_of
from lensmount_service.archive.memory import MemoryOutputs
from lensmount_service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class KeptOutputs:
    """`outputs.find(key, disk=True)`, `outputs.keep(key, output, disk=True)`; safe from any thread, and may block."""

    runner: Runner
    memory: MemoryOutputs
    disk: DiskOutputs
    metrics: Metrics

    def key(self, tenant: str, image: str, adapter: Adapter) -> str | None:
        """The key of what this adapter's branch starts from, for the image with this SHA-256; None if nothing is kept.

        The adapter was prepared.
        """
        trunk = self.runner.trunk_of(adapter) if isinstance(self.runner, TrunkOutputs) else None
        return None if trunk is None else key_of(tenant, image, adapter.manifest.preprocessing, trunk)

    def find(self, key: str, *, disk: bool) -> KeptOutput | None:
        found, tier = self.memory.get(key) if self.memory.max_bytes else None, "memory"
        if found is None and disk:
            found, tier = self.disk.get(key), "disk"
        self.metrics.trunk_outputs.labels(tier, "miss" if found is None else "hit").inc()
        return found

    def keep(self, key: str, output: KeptOutput, *, disk: bool) -> None:
        if disk:
            self.disk.put(key, output)
            self.metrics.cache_bytes.labels("trunk_disk").set(self.disk.nbytes)
        else:
            self.memory.put(key, output)
            self.metrics.cache_bytes.labels("trunk_memory").set(self.memory.nbytes)
