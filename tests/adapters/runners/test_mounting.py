"""Merged weights are written into buffers that all adapters share."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.mounting import BufferMounting
from lensmount_adapters.runners.segment_runner import SegmentRunner


def test_the_same_buffers_hold_each_adapter_in_turn(
    backbone: Backbone, same_cut: list[Adapter], executor_of: Callable[..., Executor]
) -> None:
    runner = SegmentRunner(backbone, executor_of(), max_batch=1, hot_bytes=0)
    split = runner._splits.of(same_cut[0])
    mounting = split._mounting
    assert isinstance(mounting, BufferMounting)
    x = torch.rand_like(split.example[:1])
    found = []
    for adapter in (same_cut[0], same_cut[1], same_cut[0]):
        mounting.mount(adapter)
        found.append((mounting.run(x), {name: buffer.data_ptr() for name, buffer in mounting._buffers.items()}))
    (first, before), (other, _), (again, after) = found

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert before.items() <= after.items()
    runner.close()
