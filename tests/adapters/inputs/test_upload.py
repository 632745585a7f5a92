"""What goes up to a GPU comes from pinned memory and is not waited for; a CPU gets the tensor itself."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.inputs.upload import upload


def test_a_cpu_gets_the_tensor_itself() -> None:
    tensor = torch.ones(2)

    assert upload(tensor, torch.device("cpu")) is tensor


def test_a_gpu_gets_it_from_pinned_memory_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pinned") or self)
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, device, non_blocking=False: calls.append((device.type, non_blocking)) or self
    )
    upload(torch.ones(2), torch.device("cuda"))

    assert calls == ["pinned", ("cuda", True)]


@pytest.mark.gpu
def test_what_arrives_is_what_was_sent_although_its_memory_is_used_again() -> None:
    arrived = [upload(torch.full((100_000,), float(value)), torch.device("cuda")) for value in range(20)]

    assert [float(tensor.mean()) for tensor in arrived] == list(range(20))
