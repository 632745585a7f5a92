"""Images that were scaled down and compressed."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from lensmount_adapters.augmentation.degrade import degrade


def noise(n: int = 40, side: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def detail(images: torch.Tensor) -> torch.Tensor:
    """Mean difference between neighbours in each image, which scaling and compression take away."""
    return images.float().diff(dim=-1).abs().mean(dim=(1, 2, 3))


def test_the_probability_is_the_share_of_images_that_change_and_the_others_keep_every_bit() -> None:
    x = noise(200)
    changed = (degrade(x, 0.5, seeded(1)) != x).flatten(1).any(1)
    assert 70 < int(changed.sum()) < 130
    assert torch.equal(degrade(x, 0.0, seeded(1)), x)


def test_a_changed_image_has_less_detail_the_same_shape_and_about_the_same_mean() -> None:
    x = noise()
    out = degrade(x, 1.0, seeded(2))
    assert (out.shape, out.dtype) == (x.shape, torch.uint8)
    assert (detail(out) < 0.9 * detail(x)).all()
    assert detail(out).min() < 0.3 * detail(x).max()
    assert (out.float().mean(dim=(2, 3)) - x.float().mean(dim=(2, 3))).abs().max() < 12


def test_a_seed_gives_the_same_images_whatever_else_is_in_the_input() -> None:
    x = noise()
    assert torch.equal(degrade(x, 0.7, seeded(3)), degrade(x.clone(), 0.7, seeded(3)))
    assert not torch.equal(degrade(x, 0.7, seeded(3)), degrade(x, 0.7, seeded(4)))


def test_masks_behind_the_colours_stay_as_they_are_and_the_input_is_not_written_to() -> None:
    x = torch.cat([noise(), noise()[:, :1]], dim=1)
    before = x.clone()
    out = degrade(x, 1.0, seeded(5))
    assert torch.equal(out[:, 3], x[:, 3])
    assert torch.equal(x, before)


def test_images_that_are_not_square_or_one_pixel_wide_keep_their_shape() -> None:
    for height, width in ((20, 48), (1, 30), (1, 1)):
        x = torch.full((4, 3, height, width), 128, dtype=torch.uint8)
        out = degrade(x, 1.0, seeded(6))
        assert out.shape == x.shape
        assert (out.int() - 128).abs().max() <= 3


def test_a_smooth_image_stays_close_to_itself() -> None:
    """A ramp survives scaling by 0.3; what is left is JPEG's quantisation at quality 10."""
    ramp = np.linspace(0, 255, 48).round().astype(np.uint8)
    image = Image.fromarray(np.broadcast_to(ramp, (48, 48)).copy()).convert("RGB")
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1).expand(30, -1, -1, -1).contiguous()
    out = degrade(x, 1.0, seeded(7))
    assert (out.int() - x.int()).abs().float().mean() < 8
