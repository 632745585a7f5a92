"""Augmentation presets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import scipy.special
import torch

from lensmount_adapters.augmentation.images import PRESETS, Augmentation, augment, cut_mix, mix, preset
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.images import orient


def pixels(n: int = 8, side: int = 24) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_augmentation_images_of_the_right_size_are_unchanged() -> None:
    x = pixels()

    out = augment(x, preset("none"), (24, 24), seeded(0))

    torch.testing.assert_close(out, x / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_gives_floats_in_range_and_the_same_images_for_the_same_seed(name: str) -> None:
    x = pixels()

    out = augment(x, preset(name), (16, 16), seeded(1))

    assert out.shape == (8, 3, 16, 16)
    assert out.dtype is torch.float32
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, augment(x, preset(name), (16, 16), seeded(1)))
    if name != "none":
        assert (out - augment(x, preset(name), (16, 16), seeded(2))).abs().max() > 1 / 255


@pytest.mark.parametrize("name", ["photo", "microscopy", "tissue"])
def test_every_image_of_a_batch_is_varied_independently(name: str) -> None:
    same = pixels(1).expand(6, -1, -1, -1)

    out = augment(same, preset(name), (24, 24), seeded(0))

    assert all((out[0] - other).abs().max() > 1 / 255 for other in out[1:])


def test_the_eight_orientations_are_all_different_and_all_drawn() -> None:
    image = pixels(1)[0]
    expected = {orient(image, k).numpy().tobytes() for k in range(8)}
    assert len(expected) == 8

    out = augment(image.expand(200, -1, -1, -1), Augmentation(orientations=8), (24, 24), seeded(0))

    drawn = {(each * 255).round().to(torch.uint8).numpy().tobytes() for each in out}
    assert drawn == expected


def test_orientations_move_the_pixels_as_computed_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]])

    assert orient(image, 1).tolist() == [[2, 4], [1, 3]]
    assert orient(image, 4).tolist() == [[2, 1], [4, 3]]


def test_two_orientations_are_the_image_and_its_mirror_image() -> None:
    image = pixels(1)[0]

    out = augment(image.expand(50, -1, -1, -1), Augmentation(orientations=2), (24, 24), seeded(0))

    drawn = {(each * 255).round().to(torch.uint8).numpy().tobytes() for each in out}
    assert drawn == {image.numpy().tobytes(), image.flip(-1).contiguous().numpy().tobytes()}


def test_a_crop_stays_inside_the_image() -> None:
    ramp = torch.arange(24, dtype=torch.uint8).mul(10).expand(64, 3, 24, 24).contiguous()

    out = augment(ramp, Augmentation(area=0.25), (24, 24), seeded(0))

    widths = (out[:, 0, 12].amax(1) - out[:, 0, 12].amin(1)) * 255 / 230  # visible share of the ramp
    assert widths.min() >= 0.45
    assert widths.max() <= 1.0
    assert (out[:, 0].diff(dim=-1) >= -1e-4).all()  # nothing mirrored, no border


def test_erasing_covers_between_2_and_20_percent_with_grey() -> None:
    white = torch.full((40, 3, 50, 50), 255, dtype=torch.uint8)

    out = augment(white, Augmentation(erase=1.0), (50, 50), seeded(0))

    covered = (out == 0.5).all(dim=1).float().mean(dim=(1, 2))
    assert covered.min() > 0.01
    assert covered.max() < 0.21


def test_mixup_blends_images_and_targets_by_the_same_share() -> None:
    x = torch.eye(4).view(4, 1, 2, 2)
    targets = torch.eye(4)

    mixed, soft = mix(x, targets, 0.4, seeded(0))

    assert torch.allclose(mixed.view(4, 4), soft)
    assert torch.allclose(soft.sum(1), torch.ones(4))
    assert torch.equal(mix(x, targets, 0.0, seeded(0))[0], x)


@pytest.mark.parametrize("alpha", [1e-37, 1e-9, 0.05, 0.4, 1.0, 1.5, 10.0])
def test_shares_are_of_the_beta_distribution_however_small_or_large_its_parameter_is(alpha: float) -> None:
    """The smaller of x and 1 - x has the mean I(1/2; a + 1, a) if x is of Beta(a, a). Half of the shuffles swap two."""
    generator, two = seeded(1), torch.tensor([[0.0], [1.0]])

    smaller = torch.stack([mix(two, two, alpha, generator)[1].min() for _ in range(2000)])

    assert float(smaller.mean()) == pytest.approx(scipy.special.betainc(alpha + 1, alpha, 0.5) / 2, abs=0.02)


def test_eight_orientations_of_an_image_that_is_not_square_are_refused() -> None:
    with pytest.raises(TrainingError, match="square"):
        augment(torch.zeros(2, 3, 20, 30, dtype=torch.uint8), preset("microscopy"), (20, 30), seeded(0))


def hue_angle(colour: torch.Tensor) -> float:
    """The angle of a colour in the plane of its chroma, in degrees (Hanbury 2008)."""
    red, green, blue = colour.tolist()
    return math.degrees(math.atan2(math.sqrt(3) / 2 * (green - blue), red - (green + blue) / 2))


def test_each_image_s_hue_turns_by_its_own_angle_up_to_the_largest_and_grey_stays_grey() -> None:
    colour, grey = torch.tensor([160, 100, 120], dtype=torch.uint8), torch.full((3,), 77, dtype=torch.uint8)
    x = torch.stack([colour] * 50 + [grey] * 2)[:, :, None, None].expand(-1, 3, 8, 8)

    turned = augment(x, Augmentation(hue=20), (8, 8), seeded(0))[:, :, 4, 4]

    angles = [hue_angle(each) - hue_angle(colour) for each in turned[:50]]
    assert -20 < min(angles) < -15
    assert 15 < max(angles) < 20
    torch.testing.assert_close(turned.mean(1), x[:, :, 0, 0].float().mean(1) / 255, atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[50:], torch.full((2, 3), 77 / 255), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["photo", "microscopy", "tissue"])
def test_a_robust_preset_moves_images_as_the_plain_one_does(name: str) -> None:
    plain, robust = preset(name), preset(f"{name}-robust")
    assert replace(robust, jitter=plain.jitter, hue=0, degrade=0) == plain
    assert robust.degrade > 0
    assert robust.jitter > 0.3, "a brightness of 0.7 is among them"


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TrainingError, match="none, photo, microscopy, tissue"):
        preset("satellite")


def test_cutmix_pastes_one_rectangle_and_mixes_the_targets_by_its_area() -> None:
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 10, 12).contiguous()
    targets = torch.eye(6)

    mixed, soft = cut_mix(x, targets, 1.0, seeded(3))

    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    for index in range(6):
        pasted = (mixed[index, 0] != index).double().mean()
        torch.testing.assert_close(1 - soft[index, index].double(), pasted, atol=1e-6, rtol=0)
    assert (mixed - x).abs().max() >= 1


def test_cutmix_of_zero_changes_nothing_and_of_tokens_is_refused() -> None:
    x, targets = torch.rand(4, 5, 8), torch.eye(4)

    assert cut_mix(x, targets, 0.0, seeded(0))[0] is x
    with pytest.raises(TrainingError, match="--mixup"):
        cut_mix(x, targets, 1.0, seeded(0))
