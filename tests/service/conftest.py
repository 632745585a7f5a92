"""A real app in memory, on a small backbone and adapters whose answers differ by far more than rounding."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from lensmount_adapters import Backbone, Manifest, Preprocessing, dump_adapter, load_backbone
from lensmount_adapters.delta import fresh_low_rank
from lensmount_adapters.manifest import Factors, LinearHead
from lensmount_service import logs
from lensmount_service.server import Parts, open_parts
from lensmount_service.settings import Settings

RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ADAPTED = ("layer3.0.conv1", "layer3.0.conv2", "layer4.0.conv1", "layer4.0.conv2")

MakeAdapter = Callable[..., bytes]


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    logs.configure(Settings(log_level="error"))


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    return load_backbone("resnet10t", "random:0")


@pytest.fixture
def fresh_backbone() -> Backbone:
    """For tests that damage it."""
    return load_backbone("resnet10t", "random:0")


@pytest.fixture(scope="session")
def make_adapter(backbone: Backbone) -> MakeAdapter:
    """`make_adapter(seed=1, labels=("a", "b"))` gives the bytes of a valid adapter file."""

    def make(
        seed: int = 1, labels: tuple[str, ...] = ("a", "b"), name: str = "task", rule: Preprocessing = RULE
    ) -> bytes:
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[str, torch.Tensor] = {}
        for module in ADAPTED:
            delta = fresh_low_rank(backbone.targets[f"{module}.weight"], 4, 1.0, generator)
            for key, tensor in delta.tensors().items():
                tensors[key] = tensor if "lora_A" in key else torch.randn(tensor.shape, generator=generator) * 0.2
        tensors["head.weight"] = torch.randn(len(labels), backbone.feature_dim, generator=generator)
        tensors["head.bias"] = torch.randn(len(labels), generator=generator)
        manifest = Manifest(
            name=name,
            method="lora",
            backbone=backbone.ref,
            preprocessing=rule,
            labels=labels,
            head=LinearHead(),
            modules={module: Factors(rank=4, alpha=4.0) for module in ADAPTED},
        )
        return dump_adapter(manifest, tensors, torch.float32)

    return make


@pytest.fixture
def make_parts(backbone: Backbone, tmp_path: Path) -> Callable[..., Parts]:
    """`with make_parts(max_queue=4) as parts:` opens a server's parts on `tmp_path`."""

    def make(own: Backbone | None = None, **settings: object) -> object:
        return open_parts(Settings(state=tmp_path, zoo=False, threads=1, **settings), own or backbone)

    return make  # type: ignore[return-value]


@pytest.fixture
def client(make_parts: Callable[..., Parts], make_adapter: MakeAdapter) -> Iterator[TestClient]:
    """The app with the adapters `cells` (a, b) and `tiles` (x, y, z) uploaded."""
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert client.put("/adapters/cells", content=make_adapter(1, ("a", "b"))).status_code == 201
        assert client.put("/adapters/tiles", content=make_adapter(2, ("x", "y", "z"))).status_code == 201
        yield client


def png(seed: int = 0, size: tuple[int, int] = (48, 40)) -> bytes:
    """A PNG of soft random colours."""
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    return png
