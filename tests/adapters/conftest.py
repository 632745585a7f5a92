"""Shared by the tests of the adapters: small backbones, one thread, and a tiny generated image folder.

torch is imported inside the fixtures: the process that only hands out tests to others loads this file as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lensmount_adapters import Backbone, Manifest
    from lensmount_adapters.metrics.scored import ScoredPart

DrawFolder = Callable[..., Path]
DrawManifest = Callable[..., "Manifest"]
DrawJudged = Callable[..., "ScoredPart"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: small tensors gain nothing from more, and the machine is shared."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """tests/gpu runs the tests that use this fixture on "cuda"."""
    return str(request.param)


@pytest.fixture(scope="session")
def small_backbone() -> Backbone:
    """A real timm model of 0.4 MB: plain and depthwise convolutions, BatchNorm, squeeze and excitation with biases."""
    from lensmount_adapters import load_backbone

    return load_backbone("test_efficientnet", "random:0")


@pytest.fixture(scope="session")
def randomised() -> Callable[[Backbone], Backbone]:
    """The backbone with BatchNorm statistics and scales that change every result if they are left out."""
    import torch
    from torch import nn

    from lensmount_adapters import Backbone

    def draw_norms(backbone: Backbone) -> Backbone:
        draw = torch.Generator().manual_seed(1)
        for norm in (m for m in backbone.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(std=0.1, generator=draw)
            norm.running_var.uniform_(0.5, 2, generator=draw)
            norm.weight.data.uniform_(0.5, 1.5, generator=draw)
            norm.bias.data.normal_(std=0.1, generator=draw)
        for name, tensor in backbone.module.named_parameters():
            if name.endswith(".gamma"):  # a layer scale starts at a millionth
                tensor.data.uniform_(0.5, 1.5, generator=draw)
        return Backbone(backbone.name, backbone.module, backbone.preprocessing, backbone.dtype)

    return draw_norms


@pytest.fixture(scope="session")
def draw_folder() -> DrawFolder:
    """`draw_folder(root, discs=24, bars=24)`: red discs and blue bars on noise, 40 x 40, each image different.

    File names are `<class>_s<slide>_<index>.png`, two images per slide.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    def draw(root: Path, **counts: int) -> Path:
        for seed, (name, count) in enumerate(counts.items()):
            folder = root / name
            folder.mkdir(parents=True)
            random = np.random.default_rng(seed)
            for index in range(count):
                image = Image.fromarray(random.integers(90, 160, (40, 40, 3), dtype=np.uint8))
                x, y = (int(v) for v in random.integers(4, 16, 2))
                pen = ImageDraw.Draw(image)
                if seed == 0:
                    pen.ellipse((x, y, x + 18, y + 18), fill=(210, 40, 40))
                else:
                    pen.rectangle((x, y, x + 20, y + 6), fill=(40, 40 * seed, 210))
                image.save(folder / f"{name}_s{index // 2:02d}_{index:02d}.png")
        return root

    return draw


@pytest.fixture(scope="session")
def draw_manifest() -> DrawManifest:
    """`draw_manifest(["oak", "elm"], training=...)`: the manifest of a finished run; keywords replace fields."""
    from lensmount_adapters import Manifest

    def draw(labels: Sequence[str], epochs: int = 5, **fields: Any) -> Manifest:
        classes = dict.fromkeys(labels, 10)
        document = {
            "name": "trees",
            "method": "lora",
            "backbone": {"name": "test_efficientnet", "fingerprint": "sha256:" + "ab" * 32},
            "preprocessing": {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
            "labels": list(labels),
            "head": {"kind": "linear", "temperature": 1.25},
            "modules": {"blocks.0.conv": {"rank": 4, "alpha": 8.0}},
            "license": "CC0",
            "description": "Which tree?",
            "training": {
                "data": {"name": "wood", "digest": "sha256:" + "cd" * 32, "images": 20, "classes": classes},
                "split": {
                    "seed": 7,
                    "group_regex": r"^(.+?)_",
                    "shots": None,
                    "parts": {
                        name: {"images": 10 * len(labels), "groups": 9, "classes": classes, "digest": ""}
                        for name in ("test", "train", "validation")
                    },
                },
                "hyper_parameters": {"rank": 4, "alpha": None, "augmentation": {"zoom": [0.8, 1.2]}},
                "epochs": {"asked": epochs, "run": epochs, "best": epochs},
                "history": [
                    {
                        "epoch": epoch,
                        "loss": 1 / epoch,
                        "accuracy": 1 - 0.5 / epoch,
                        "validation_loss": 1.2 / epoch,
                        "validation_balanced_accuracy": 1 - 0.6 / epoch,
                    }
                    for epoch in range(1, epochs + 1)
                ],
                "precision": "bf16",
                "threads": 2,
                "seconds": 83.2,
                "trainable_parameters": 1_000,
                "backbone_parameters": 99_000,
                "head_parameters": 1_000,
                "versions": {"torch": "2.99"},
            },
        }
        return Manifest.parse(json.dumps(document | fields))

    return draw


@pytest.fixture(scope="session")
def draw_judged() -> DrawJudged:
    """`draw_judged(["oak", "elm"], images=100, wrong=7)`: random scores; the first `wrong` images are misclassified."""
    import numpy as np
    import torch

    from lensmount_adapters.metrics.classification import measure
    from lensmount_adapters.metrics.scored import ScoredPart

    def draw(labels: Sequence[str], images: int = 40, wrong: int = 4, paths: Sequence[str] | None = None) -> ScoredPart:
        random = np.random.default_rng(len(labels) * 1000 + images)
        truth = np.arange(images) % len(labels)
        answers = np.where(np.arange(images) < wrong, (truth + 1) % len(labels), truth)
        scores = random.dirichlet(np.ones(len(labels)), images)
        scores[np.arange(images), answers] += 1  # now the highest by far
        scores /= scores.sum(axis=1, keepdims=True)
        named = paths or [f"{labels[int(index)]}/{number:03d}.png" for number, index in enumerate(truth)]
        y, s = torch.from_numpy(truth), torch.from_numpy(scores).float()
        return ScoredPart(tuple(named), y, s, measure(y, s, labels))

    return draw
