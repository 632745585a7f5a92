"""What goes up to a GPU comes from pinned memory and is not waited for; a CPU gets the tensor itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lensmount_adapters.inputs.upload import download, upload


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


def test_what_is_on_the_host_already_is_returned_as_it_is() -> None:
    given = [torch.ones(2), torch.zeros(3, 1)]

    assert all(found is tensor for found, tensor in zip(download(given), given, strict=True))


class OnGpu(torch.Tensor):
    """Says that it is on a GPU."""

    is_cuda = True


def test_all_tensors_of_a_gpu_come_with_one_copy_and_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[None] = []
    stream = SimpleNamespace(synchronize=lambda: waits.append(None))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: empty(shape, dtype=dtype))
    given = [torch.arange(n, dtype=torch.float32).view(1, n).as_subclass(OnGpu) for n in (3, 2)]
    found = download([given[0], torch.ones(4), given[1]])

    assert [tensor.tolist() for tensor in found] == [[[0, 1, 2]], [1] * 4, [[0, 1]]]
    assert len(waits) == 1


@pytest.mark.gpu
def test_what_comes_from_a_gpu_is_what_was_there() -> None:
    given = [torch.full((n, 2), float(n), device="cuda") for n in range(1, 20)]

    assert all(torch.equal(found, tensor.cpu()) for found, tensor in zip(download(given), given, strict=True))
