"""A mild copy differs from its image, and by little."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.augmentation.mild import MILD

KINDS = ("JPEG", "darker", "brighter", "softer")


def drawn(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    wave = 127 + 100 * np.sin(x / 9) * np.cos(y / 7)
    return Image.fromarray(np.stack([wave, wave.T.reshape(wave.shape), 255 - wave], 2).astype(np.uint8))


@pytest.mark.parametrize(("kind", "change"), list(zip(KINDS, MILD, strict=True)), ids=KINDS)
@pytest.mark.parametrize("size", [(224, 224), (400, 150), (1, 1)])
def test_a_copy_differs_by_little_and_keeps_size_and_mode(kind: str, change: object, size: tuple[int, int]) -> None:
    image = drawn(*size)

    copy = change(image)  # type: ignore[operator]  # a function

    assert (copy.size, copy.mode) == (size, "RGB")
    before, after = (np.asarray(each, float) for each in (image, copy))
    assert np.abs(after - before).mean() < 30
    if kind in ("darker", "brighter"):
        assert after.mean() / before.mean() == pytest.approx(0.9 if kind == "darker" else 1.1, abs=0.04)
    elif size[0] > 1:
        assert (after != before).any()
