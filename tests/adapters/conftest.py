"""What the tests of the adapters share: small backbones, one thread, and a tiny image folder drawn on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from lensmount_adapters import Backbone, load_backbone

DrawFolder = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """tests/gpu runs the checks that take it on "cuda"."""
    return str(request.param)


@pytest.fixture(scope="session")
def small_backbone() -> Backbone:
    """A real timm model of 0.4 MB: convolutions, depthwise ones, BatchNorm, squeeze and excitation with biases."""
    return load_backbone("test_efficientnet", "random:0")


@pytest.fixture(scope="session")
def draw_folder() -> DrawFolder:
    """`draw_folder(root, discs=24, bars=24)`: red discs and blue bars on noise, 40 x 40, each picture different.

    File names are `<class>_s<slide>_<index>.png`, two pictures a slide.
    """

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
