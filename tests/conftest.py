"""Fixtures for all folders of tests: random adapter files, and what they must do to weights.

torch is imported inside the fixtures, because the client's tests run without it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

    from lensmount_adapters import Adapter, Backbone, Delta, ExactSwapper, Target


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("LENSMOUNT_INT8", "false")  # quantising takes seconds; tests of it ask for it
    for plugin in ("marks", "memory", "promises", "tiny_clip"):
        config.pluginmanager.register(_module_at(Path(__file__).with_name(f"{plugin}.py")), plugin)


def _module_at(path: Path) -> Any:
    """Tests are imported file by file and are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Random adapter files


@dataclass
class AdapterParts:
    """An adapter file before it is written: manifest and tensors. A test changes one of them, then dumps the file."""

    manifest: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def dump(self, dtype: torch.dtype | None = None) -> bytes:
        """The file's bytes, written by the safetensors library without any code of Lensmount."""
        import safetensors.torch

        tensors = {name: tensor if dtype is None else tensor.to(dtype) for name, tensor in self.tensors.items()}
        saved: bytes = safetensors.torch.save(tensors, metadata={"lensmount": json.dumps(self.manifest)})
        return saved


DrawAdapter = Callable[..., AdapterParts]


@pytest.fixture(scope="session")
def must_move_answer() -> Callable[..., Adapter]:
    """`must_move_answer(backbone, adapter, least=1e-3)`: the adapter, or AssertionError where it changes no score."""
    return _moves().must_move_answer  # type: ignore[no-any-return]  # a module found by its path


def _gentle(backbone: Backbone) -> float:
    key = _key_of(backbone)
    if key not in _GENTLE:
        _GENTLE[key] = _moves().gentle(backbone)
    return _GENTLE[key]


def _key_of(backbone: Backbone) -> tuple[object, ...]:
    """Equal for two backbones that were loaded alike, as many tests do."""
    return backbone.name, backbone.fingerprint, backbone.preprocessing, backbone.dtype, backbone.device


_GENTLE: dict[tuple[object, ...], float] = {}
_SHOWN: set[tuple[object, ...]] = set()  # what was drawn in this process and moved a score; equal draws have equal bits


@functools.cache
def _moves() -> Any:
    """benchmarks/shared/moves.py: benchmarks ask the same of what they draw, and are no package."""
    return _module_at(Path(__file__).parent.parent / "benchmarks" / "shared" / "moves.py")


@pytest.fixture(scope="session")
def draw_adapter() -> DrawAdapter:
    """`draw_adapter(backbone, method="lora", rank=4, seed=0, modules=".*", size=0.3, labels=("no", "yes")).dump()`.

    Methods: lora, lora-shared (grouped convolutions share one A), lora-tucker, bias, norm, statistics, head, and
    mixed: all of them in one file. Each, except those of the head alone, is shown to move a score by 1e-3.
    `modules` is a regular expression; `size` is a delta's norm / its weight's norm.
    """
    return _draw_adapter


def _draw_adapter(
    backbone: Backbone,
    method: str = "lora",
    rank: int = 4,
    seed: int = 0,
    modules: str = ".*",
    size: float = 0.3,
    labels: Sequence[str] = ("no", "yes"),
) -> AdapterParts:
    import torch

    import lensmount_adapters

    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "head.weight": torch.randn(len(labels), backbone.feature_dim, generator=draw) * _gentle(backbone),
        "head.bias": torch.randn(len(labels), generator=draw),
    }
    factors = {}
    for number, target in enumerate(backbone.targets.values(), start=seed):
        if not re.fullmatch(modules, target.module) or (method == "mixed" and number % 3 == 0):
            continue
        if target.layer == "parameter":
            continue  # draw_wide_adapter has those
        if len(target.shape) > 1 and method.startswith(("lora", "mixed")):
            way = LOW_RANK[number // 3 % 3] if method == "mixed" else method
            drawn = _draw_factors(target, rank, way, draw)
            drawn["lora_B"] *= (
                size * float(backbone.base([target.name])[target.name].float().norm()) / _norm(target, drawn)
            )
            tensors |= {f"{target.module}.{part}.weight": tensor for part, tensor in drawn.items()}
            factors[target.module] = {"rank": rank, "alpha": 2.0 * rank}
        elif len(target.shape) == 1 and method in ("mixed", *_methods(target)):
            tensors[f"{target.name}.delta"] = size * torch.rand(target.shape, generator=draw)  # variances stay positive
    manifest = {
        "name": f"{method}-{seed}",
        "method": method,
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "preprocessing": backbone.preprocessing.model_dump(mode="json"),
        "labels": list(labels),
        "head": {"kind": "linear"},
        "modules": factors,
    }
    parts = AdapterParts(manifest, tensors)
    made_of = (*_key_of(backbone), method, rank, seed, modules, size, *labels)
    if len(tensors) > 2 and made_of not in _SHOWN:  # more than the head
        _moves().must_move_answer(backbone, lensmount_adapters.admit(parts.dump(), backbone))
        _SHOWN.add(made_of)
    return parts


LOW_RANK = ("lora", "lora-tucker", "lora-shared")


def _methods(target: Target) -> set[str]:
    attribute = target.name.rpartition(".")[2]
    if attribute.startswith("running_"):
        return {"statistics"}
    return ({"bias"} if attribute == "bias" else set()) | ({"norm"} if "norm" in target.layer else set())


def _draw_factors(target: Target, rank: int, way: str, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Normally distributed factors for a weight [out, in/g, *k], or [in, out/g, *k] of a transposed convolution."""
    import torch

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    first, second, *kernel = target.shape
    ones = [1] * len(kernel)
    if target.layer == "conv_transposed":
        return {"lora_A": normal(first, rank, *kernel), "lora_B": normal(second * target.groups, rank, *ones)}
    B = normal(first, rank, *ones)
    if way == "lora-tucker" and kernel:
        return {"lora_A": normal(rank, second, *ones), "lora_mid": normal(rank, rank, *kernel), "lora_B": B}
    rows = rank if way == "lora-shared" else rank * target.groups
    return {"lora_A": normal(rows, second, *kernel), "lora_B": B}


def _norm(target: Target, drawn: Mapping[str, torch.Tensor]) -> float:
    """Roughly the norm of twice the factors' product: each element is a sum of rank, or rank², unit normals."""
    import math

    rank = drawn["lora_B"].shape[1]
    return float(2 * math.sqrt(math.prod(target.shape)) * (rank if "lora_mid" in drawn else math.sqrt(rank)))


# The expected effect of an adapter on the weights, computed independently in float64 from the file's tensors


@pytest.fixture(scope="session")
def merged64() -> Callable[[Backbone, AdapterParts, str], torch.Tensor]:
    """`merged64(backbone, parts, name)`: base plus delta of one tensor in float64, by einsum, group by group."""
    return _merged64


def _merged64(backbone: Backbone, parts: AdapterParts, name: str) -> torch.Tensor:
    target, base = backbone.targets[name], backbone.base([name])[name].cpu().double()
    if f"{name}.delta" in parts.tensors:
        return base + parts.tensors[f"{name}.delta"].double()
    factors = parts.manifest["modules"][target.module]
    found = {part: parts.tensors.get(f"{target.module}.{part}.weight") for part in ("lora_A", "lora_mid", "lora_B")}
    scale = float(factors["alpha"] / factors["rank"])
    return base + scale * _product64(target, found)


def _product64(target: Target, factors: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
    import torch

    double = {part: tensor.double() for part, tensor in factors.items() if tensor is not None}
    A, B = double["lora_A"], double["lora_B"].flatten(1)  # B: [out, r]
    groups, rank = target.groups, B.shape[1]
    blocks = []
    for g, B_g in enumerate(B.chunk(groups)):
        if target.layer == "conv_transposed":
            blocks.append(torch.einsum("ir...,or->io...", A.chunk(groups)[g], B_g))
        elif "lora_mid" in double:
            blocks.append(torch.einsum("op,pq...,qi->oi...", B_g, double["lora_mid"], A.flatten(1)))
        else:
            A_g = A if A.shape[0] == rank else A.chunk(groups)[g]  # one A for all groups, or one for each
            blocks.append(torch.einsum("or,ri...->oi...", B_g, A_g))
    return torch.cat(blocks).reshape(target.shape)


# A backbone with every kind of layer, and a random walk of operations on it


@pytest.fixture(scope="session")
def every_layer() -> Callable[..., Backbone]:
    """`every_layer(device, dtype)`: a small backbone with every kind of layer that an adapter may change."""
    return _every_layer


def _every_layer(device: str = "cpu", dtype: torch.dtype | None = None) -> Backbone:
    import torch
    from torch import nn

    from lensmount_adapters import Backbone, Preprocessing

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            OrderedDict(
                conv2d=nn.Conv2d(3, 8, 3, stride=2, padding=1),  # [N, 8, 8, 8]
                batch_norm2d=nn.BatchNorm2d(8),
                relu=nn.ReLU(),
                depthwise=nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=8),
                group_norm=nn.GroupNorm(4, 16),
                grouped=nn.Conv2d(16, 12, (3, 1), padding=(1, 0), groups=4, bias=False),
                transposed2d=nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1, groups=2),  # [N, 8, 16, 16]
                flat=nn.Flatten(2),  # [N, 8, 256]
                conv1d=nn.Conv1d(8, 8, 5, stride=4, groups=2),  # [N, 8, 63]
                batch_norm1d=nn.BatchNorm1d(8),
                transposed1d=nn.ConvTranspose1d(8, 8, 4, stride=2),  # [N, 8, 128]
                layer_norm=nn.LayerNorm(128),
                volume=nn.Unflatten(2, (8, 4, 4)),
                conv3d=nn.Conv3d(8, 8, 3, padding=1),  # [N, 8, 8, 4, 4]
                batch_norm3d=nn.BatchNorm3d(8),
                transposed3d=nn.ConvTranspose3d(8, 4, 2, stride=2, groups=2),
                pool=nn.AdaptiveAvgPool3d(2),
                features=nn.Flatten(),  # [N, 32]
                linear=nn.Linear(32, 16),
            )
        )
    module.pretrained_cfg = {}  # type: ignore[assignment]  # timm's models carry one
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Backbone("every_layer", module.to(device), rule, dtype or torch.float32)


def state_digest(backbone: Backbone) -> str:
    """SHA-256 over the bytes of every live tensor."""
    import torch

    hasher = hashlib.sha256()
    for tensor in backbone.tensors.values():
        hasher.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


@pytest.fixture(scope="session")
def digest_of_state() -> Callable[[Backbone], str]:
    return state_digest


@dataclass
class Breaking:
    """A delta whose write fails halfway."""

    delta: Delta
    error: BaseException

    @property
    def target(self) -> Target:
        return self.delta.target

    @property
    def rank(self) -> int | None:
        return self.delta.rank

    def write(self, base: torch.Tensor, live: torch.Tensor) -> None:
        self.delta.write(base, live)
        live.flatten()[: live.numel() // 2] = float("nan")
        raise self.error


@pytest.fixture(scope="session")
def breaking() -> Callable[[Adapter, int, BaseException], Adapter]:
    """`breaking(adapter, position, error)`: the delta at `position` raises halfway through its write."""
    return _breaking


def _breaking(adapter: Adapter, position: int, error: BaseException) -> Adapter:
    deltas: list[Any] = list(adapter.deltas)
    deltas[position] = Breaking(deltas[position], error)
    return dataclasses.replace(adapter, digest=f"{adapter.digest} breaking", deltas=tuple(deltas))


@pytest.fixture(scope="session")
def random_walk() -> Callable[..., dict[str, int]]:
    """`random_walk(swapper, backbone, adapters, operations, seed)`: counts of the operations and of mismatches.

    Mounts, switches, removals, refused uploads and merges that fail at a random delta come in random order. After each
    mount and at each return to the base, every live tensor is hashed and compared with the expected hash.
    """
    return _random_walk


def _random_walk(
    swapper: ExactSwapper, backbone: Backbone, adapters: Sequence[bytes], operations: int, seed: int
) -> dict[str, int]:
    from lensmount_adapters import admit
    from lensmount_adapters.errors import AdapterError, SwapError

    rng = random.Random(seed)
    base = state_digest(backbone)
    admitted = [admit(data, backbone) for data in adapters]
    expected = {}
    for adapter in admitted:
        swapper.mount(adapter)
        expected[adapter.digest] = state_digest(backbone)
        swapper.unmount()
    assert len({base, *expected.values()}) == len(adapters) + 1, (
        "the adapters must differ, otherwise this test shows nothing"
    )
    count = {"mounted": 0, "removed": 0, "refused": 0, "failed": 0, "mismatches": 0}
    for _ in range(operations):
        operation = rng.choices(("mount", "remove", "refuse", "break"), (5, 2, 1, 2))[0]
        mounted = swapper.mounted
        if operation == "mount":
            swapper.mount(rng.choice(admitted))
            count["mounted"] += 1
        elif operation == "remove":
            swapper.unmount()
            count["removed"] += 1
        elif operation == "refuse":
            data = rng.choice(adapters)
            with pytest.raises(AdapterError):
                admit(data[: rng.randrange(len(data))], backbone)
            assert swapper.mounted is mounted
            count["refused"] += 1
        else:
            adapter = rng.choice(admitted)
            error = rng.choice((RuntimeError("injected"), MemoryError(), KeyboardInterrupt()))
            with pytest.raises((SwapError, KeyboardInterrupt)):
                swapper.mount(_breaking(adapter, rng.randrange(len(adapter.deltas)), error))
            assert swapper.mounted is None
            count["failed"] += 1
        must_be = expected[swapper.mounted.digest] if swapper.mounted else base
        count["mismatches"] += state_digest(backbone) != must_be
    swapper.unmount()
    count["mismatches"] += len(backbone.changed()) + (state_digest(backbone) != base)
    return count
