"""Where an answer starts: memory for requests, the disk for archives, and what is counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lensmount_adapters import Preprocessing
from lensmount_service.archive.disk import DiskOutputs
from lensmount_service.archive.entry import KeptOutput
from lensmount_service.archive.memory import MemoryOutputs
from lensmount_service.archive.outputs import KeptOutputs
from lensmount_service.metrics import Metrics

RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
OUTPUT = KeptOutput(torch.ones(1, 8), (1, 2))


class Trunk:
    """A runner whose trunk has an identity for some adapters."""

    def trunk_of(self, adapter: Any) -> str | None:
        found: str | None = adapter.trunk
        return found


def opened(folder: Path, runner: Any, memory: int = 2**20) -> KeptOutputs:
    return KeptOutputs(runner, MemoryOutputs(memory), DiskOutputs(folder, 2**20), Metrics("1", "b", "f"))


def adapter(trunk: str | None, rule: Preprocessing = RULE) -> Any:
    return SimpleNamespace(trunk=trunk, manifest=SimpleNamespace(preprocessing=rule))


def test_adapters_with_one_trunk_and_one_rule_share_a_key(tmp_path: Path) -> None:
    outputs = opened(tmp_path, Trunk())
    key = outputs.key("default", "a" * 64, adapter("t"))
    assert key == outputs.key("default", "a" * 64, adapter("t"))
    other = RULE.model_copy(update={"size": (32, 32)})
    keys = {key, outputs.key("default", "a" * 64, adapter("u")), outputs.key("default", "a" * 64, adapter("t", other))}
    assert len(keys) == 3
    assert outputs.key("default", "a" * 64, adapter(None)) is None
    assert opened(tmp_path, object()).key("default", "a" * 64, adapter("t")) is None


def test_archives_are_kept_on_disk_and_requests_in_memory(tmp_path: Path) -> None:
    outputs = opened(tmp_path, Trunk())
    outputs.keep("a" * 64, OUTPUT, disk=True)
    outputs.keep("b" * 64, OUTPUT, disk=False)
    assert outputs.find("a" * 64, disk=False) is None
    assert outputs.find("a" * 64, disk=True) is not None
    assert outputs.find("b" * 64, disk=True) is not None
    assert opened(tmp_path, Trunk()).find("b" * 64, disk=True) is None


def test_hits_misses_and_bytes_are_counted(tmp_path: Path) -> None:
    outputs = opened(tmp_path, Trunk())
    outputs.find("a" * 64, disk=True)
    outputs.keep("a" * 64, OUTPUT, disk=True)
    outputs.find("a" * 64, disk=True)
    outputs.keep("b" * 64, OUTPUT, disk=False)
    outputs.find("b" * 64, disk=False)
    text = outputs.metrics.render().decode()
    for line in (
        'lensmount_trunk_outputs_total{outcome="miss",tier="disk"} 1.0',
        'lensmount_trunk_outputs_total{outcome="hit",tier="disk"} 1.0',
        'lensmount_trunk_outputs_total{outcome="hit",tier="memory"} 1.0',
        'lensmount_cache_bytes{tier="trunk_memory"} 32.0',
        f'lensmount_cache_bytes{{tier="trunk_disk"}} {float(outputs.disk.nbytes)}',
    ):
        assert line in text
