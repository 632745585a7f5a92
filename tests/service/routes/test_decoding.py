from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from lensmount_adapters.errors import ImageError
from lensmount_adapters.inputs.prepare import InputLimits, prepare
from lensmount_adapters.inputs.rules import Preprocessing, VolumePreprocessing
from lensmount_service.engine.fair_pool import LARGE, SMALL, FairPool
from lensmount_service.errors import BodyTooLarge
from lensmount_service.routes.decoding import Decoding
from lensmount_service.web.bodies import Part

RULE = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Watched(FairPool):
    """Remembers the pixels by which each item was queued."""

    def __init__(self) -> None:
        super().__init__("decode", 2)
        self.queued: list[float] = []

    def submit_for(self, of, pixels, work):  # type: ignore[no-untyped-def]  # as FairPool
        self.queued.append(pixels)
        return super().submit_for(of, pixels, work)


@pytest.fixture
def pool() -> Iterator[Watched]:
    pool = Watched()
    yield pool
    pool.shutdown()


def png(width: int, height: int) -> bytes:
    Image.new("RGB", (width, height), (10, 200, 90)).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def decoded(pool: Watched, *images: bytes, most: int = 640_000_000, rule: object = RULE) -> list[torch.Tensor]:
    parts = [Part(data, None) for data in images]
    found = asyncio.run(Decoding(pool, InputLimits(), most).decode(("caller",), parts, [rule]))  # type: ignore[list-item]
    return [each.prepared.inputs[rule] for each in found]  # type: ignore[index]


def test_a_small_image_alone_is_decoded_by_the_look_at_its_size(pool: Watched) -> None:
    (found,) = decoded(pool, png(100, 100))

    assert torch.equal(found, prepare(png(100, 100), [RULE]).inputs[RULE])
    assert pool.queued == [SMALL]


def test_a_larger_image_waits_again_by_its_pixels(pool: Watched) -> None:
    (found,) = decoded(pool, png(400, 300))

    assert torch.equal(found, prepare(png(400, 300), [RULE]).inputs[RULE])
    assert pool.queued == [SMALL, 120_000]


def test_several_images_are_looked_at_together_before_the_first_is_decoded(pool: Watched) -> None:
    assert len(decoded(pool, png(100, 100), png(400, 300))) == 2
    assert pool.queued == [0, 10_000, 120_000]


@pytest.mark.parametrize("images", [[png(60, 60)], [png(400, 400)], [png(50, 50), png(50, 50)]])
def test_too_many_pixels_are_refused_before_they_are_decoded(pool: Watched, images: list[bytes]) -> None:
    cut = [data[:60] for data in images]  # the headers are complete, and nothing can be decoded

    with pytest.raises(BodyTooLarge, match="expected at most 3000"):
        decoded(pool, *cut, most=3000)


def test_a_damaged_image_is_refused_as_by_prepare(pool: Watched) -> None:
    with pytest.raises(ImageError, match="send the whole file"):
        decoded(pool, png(100, 100)[:60])


def test_volumes_count_as_large_and_not_by_pixels(pool: Watched) -> None:
    np.save(buffer := io.BytesIO(), np.zeros((5, 6, 7), dtype=np.uint8))
    rule = VolumePreprocessing(depth=4, size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    assert len(decoded(pool, buffer.getvalue(), buffer.getvalue(), most=10, rule=rule)) == 2
    assert pool.queued == [LARGE, LARGE]
