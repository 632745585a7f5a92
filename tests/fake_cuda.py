"""A `torch.cuda` that records what is asked of it, and computes on the CPU: graphs read and write fixed memory.

A capture notes each operation with the very tensors that it read and wrote. A replay computes them again into the same
memory, as a GPU does. So a test sees whether an answer comes from the right buffers, how many operations are launched
outside of graphs, what is copied, and who waits for what. Times and kernels need a GPU (`pytest -m gpu`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lensmount_adapters.programs.cudagraphs import CudaGraphs


@dataclass
class FakeCuda:
    """`cuda = FakeCuda.installed(monkeypatch)`; `cuda.executor()` makes programs whose graphs are recorded."""

    captures: list[int] = field(default_factory=list)  # operations in each
    calls: Counter[str] = field(default_factory=Counter)  # of functions of torch.cuda and of streams
    faults: list[Exception] = field(default_factory=list)  # raised by the next captures, one each
    _under_way: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def installed(cls, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        fake = cls()
        replaced: dict[str, Any] = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "is_bf16_supported": lambda **_: True,
            "current_stream": lambda *_: FakeStream(fake),
            "Stream": lambda *_: FakeStream(fake),
            "stream": lambda stream: Entered(),
            "device": lambda device: Entered(),
            "graph_pool_handle": object,
            "CUDAGraph": lambda: FakeGraph(fake),
            "synchronize": lambda *_: fake.disturb("synchronize"),
            "empty_cache": lambda: fake.disturb("empty_cache"),
        }
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)
        return fake

    def executor(self, dtype: torch.dtype = torch.float32, max_batch: int = 4, of: Any = CudaGraphs) -> Any:
        before = torch.backends.cudnn.benchmark
        made = of("cuda", dtype, max_batch=max_batch)
        torch.backends.cudnn.benchmark = before
        made._device = torch.device("cpu")  # the tensors
        return made

    def disturb(self, call: str) -> None:
        """What ends a capture of another thread on a GPU."""
        self.calls[call] += 1
        if self._under_way.locked():
            raise RuntimeError(f"{call} during a capture: operation failed due to a previous error during capture")

    @contextmanager
    def launches(self) -> Iterator[Counter[str]]:
        """Operations that are computed outside of graphs, by name; views are none."""
        with Launches() as mode:
            yield mode.counted


class Entered:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@dataclass
class FakeStream:
    fake: FakeCuda

    def wait_stream(self, other: object) -> None:
        self.fake.calls["wait_stream"] += 1

    def synchronize(self) -> None:
        self.fake.calls["stream.synchronize"] += 1


class FakeGraph:
    """The operations between `capture_begin` and `capture_end`."""

    def __init__(self, fake: FakeCuda) -> None:
        self._fake = fake
        self._mode = Recording()
        self._began = False

    def capture_begin(self, pool: object = None, capture_error_mode: str = "global") -> None:
        assert capture_error_mode == "thread_local"
        if not self._fake._under_way.acquire(blocking=False):
            raise RuntimeError("only one capture may be underway at a time in the process")
        self._mode.__enter__()
        self._began = True
        if self._fake.faults:
            raise self._end_with(self._fake.faults.pop(0))

    def _end_with(self, error: Exception) -> Exception:
        self.capture_end()
        return error

    def capture_end(self) -> None:
        if self._began:
            self._began = False
            self._mode.__exit__(None, None, None)
            self._fake._under_way.release()
            self._fake.captures.append(len(self._mode.operations))

    def replay(self) -> None:
        assert self._mode.operations, "The CUDA Graph is empty"
        self._fake.calls["replay"] += 1
        with torch.inference_mode(), torch._C._DisableTorchDispatch():
            for function, args, kwargs, outputs in self._mode.operations:
                computed = function(*args, **kwargs)
                if not function._schema.is_mutable:
                    write(computed, outputs)


class Recording(TorchDispatchMode):
    """Notes operations with the tensors themselves. A view needs no replay: it shows memory that is written again."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = function(*args, **kwargs)
        if not is_view(function, args, kwargs, outputs):
            self.operations.append((function, args, kwargs, outputs))
        return outputs


class Launches(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = function(*args, **kwargs)
        if not is_view(function, args, kwargs, outputs):
            self.counted[function._schema.name.removeprefix("aten::")] += 1
        return outputs


def is_view(function: Any, args: Any, kwargs: Any, outputs: Any) -> bool:
    """Whether nothing was computed. `reshape` and `to` may or may not copy, so the memory decides."""
    if function._schema.is_mutable:
        return False
    read = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs))}
    made = tensors_in(outputs)
    return bool(made) and all(tensor.untyped_storage().data_ptr() in read for tensor in made)


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def write(computed: Any, outputs: Any) -> None:
    for new, old in zip(tensors_in(computed), tensors_in(outputs), strict=True):
        old.copy_(new)
