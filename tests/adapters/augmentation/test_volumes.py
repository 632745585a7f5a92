"""Augmentation presets for volumes."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.augmentation.volumes import VolumeAugmentation, augment_volumes
from lensmount_adapters.errors import TrainingError


def test_each_volume_is_flipped_or_not_and_the_same_generator_state_gives_the_same_volumes() -> None:
    x = torch.rand(16, 1, 3, 4, 4)
    rule = VolumeAugmentation(flip_width=0.5)

    found = augment_volumes(x, rule, torch.Generator().manual_seed(1))

    flipped = [torch.equal(one, before.flip(-1)) for one, before in zip(found, x, strict=True)]
    kept = [torch.equal(one, before) for one, before in zip(found, x, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 0 < sum(flipped) < 16
    assert torch.equal(found, augment_volumes(x, rule, torch.Generator().manual_seed(1)))
    every = VolumeAugmentation(flip_depth=1, flip_height=1, jitter=0.2, quarter_turns=True)
    changed = augment_volumes(x, every, torch.Generator().manual_seed(1))
    assert changed.shape == x.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    with pytest.raises(TrainingError, match="square"):
        augment_volumes(x[..., :3], VolumeAugmentation(quarter_turns=True), torch.Generator())
