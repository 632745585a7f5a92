"""Ignored pixels carry no gradient and count in no figure: against plain torch and scikit-learn on the other pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, jaccard_score
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters import Preprocessing
from lensmount_adapters.augmentation.images import Augmentation
from lensmount_adapters.masks.file import Frame, read_mask
from lensmount_adapters.metrics.masks import measure_masks
from lensmount_adapters.training.segmentation import IGNORED, LOSSES, SMOOTH, MaskedTrainingImages

RULE = Preprocessing(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def drawn(share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, masks of 0 and 1 [3, 2, 7, 9] in float64, and whether each pixel counts [3, 7, 9]."""
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(3, 2, 7, 9, generator=generator, dtype=torch.float64) * 3
    masks = (torch.rand(3, 2, 7, 9, generator=generator) < 0.4).double()
    return logits, masks, torch.rand(3, 7, 9, generator=generator) >= share


def plain(loss: str, logits: Tensor, masks: Tensor, counts: Tensor) -> Tensor:
    """The loss as its formula on lists of the pixels that count."""
    chosen = counts[:, None].expand_as(masks)
    if loss == "mse":
        return ((logits[chosen].sigmoid() - masks[chosen]) ** 2).mean()
    dices = []
    for image in range(len(masks)):
        for label in range(masks.shape[1]):
            score, truth = logits[image, label][counts[image]].sigmoid(), masks[image, label][counts[image]]
            dices.append((2 * (score * truth).sum() + SMOOTH) / (score.sum() + truth.sum() + SMOOTH))
    return 1 - torch.stack(dices).mean() + F.binary_cross_entropy_with_logits(logits[chosen], masks[chosen])


@pytest.mark.parametrize("loss", ["dice-bce", "mse"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
def test_loss_and_gradient_are_those_of_the_pixels_that_count(loss: str, share: float) -> None:
    logits, masks, counts = drawn(share)
    marked = torch.where(counts[:, None], masks, IGNORED)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    found, expected = LOSSES[loss](ours, marked), plain(loss, theirs, masks, counts)
    found.backward()
    expected.backward()

    assert ours.grad is not None
    assert theirs.grad is not None
    assert abs((found - expected).item()) < 1e-12
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-12)
    assert not ours.grad[~counts[:, None].expand_as(masks)].any()
    other = torch.where(counts[:, None], logits, 50.0)
    assert LOSSES[loss](other, marked).item() == found.item()


@pytest.mark.parametrize("loss", ["dice-bce", "mse"])
def test_a_batch_of_ignored_pixels_alone_has_a_finite_loss_without_gradient(loss: str) -> None:
    logits = drawn(0.0)[0].requires_grad_()

    value = LOSSES[loss](logits, torch.full_like(logits, IGNORED))
    value.backward()

    assert torch.isfinite(value)
    assert logits.grad is not None
    assert not logits.grad.any()


def test_dice_and_iou_are_those_of_scikit_learn_on_the_pixels_that_count(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    pairs, dices, ious = [], [], []
    for number in range(4):
        values = np.kron(random.integers(0, 3, (6, 8)), np.ones((4, 4))).astype(np.uint8)
        marked = np.where(np.kron(random.random((6, 8)) < 0.3, np.ones((4, 4))) > 0, 255, values).astype(np.uint8)
        Image.fromarray(marked).save(tmp_path / f"{number}.png")
        mask = read_mask((tmp_path / f"{number}.png").read_bytes(), Frame((32, 24), 1), 2)
        predicted = random.random((2, 24, 32)) < 0.5
        pairs.append((mask.labels, mask.counted(predicted)))
        chosen = marked != 255
        for label in range(2):
            truth, answer = values[chosen] == label + 1, predicted[label][chosen]
            dices.append(f1_score(truth, answer))
            ious.append(jaccard_score(truth, answer))

    found = measure_masks(pairs, ("a", "b"))

    assert found.dice == pytest.approx(np.mean(dices), abs=1e-12)
    assert found.iou == pytest.approx(np.mean(ious), abs=1e-12)


def test_ignored_pixels_move_with_their_image() -> None:
    pixels = torch.zeros(1, 5, 16, 16, dtype=torch.uint8)
    pixels[0, 0, 2:6, 3:9] = 255  # the image is red where its pixels are ignored
    pixels[0, 4, 2:6, 3:9] = 255
    pixels[0, 3, 8:12] = 255
    plain_images = MaskedTrainingImages(pixels, Augmentation(), RULE)
    images, masks = plain_images.draw(torch.tensor([0]), torch.Generator(), torch.device("cpu"))
    assert masks.shape == (1, 1, 16, 16)
    assert torch.equal(masks[0, 0] == IGNORED, images[0, 0] == 1)
    assert torch.equal(masks[0, 0] == 1, pixels[0, 3] == 255)

    turned = MaskedTrainingImages(pixels, Augmentation(orientations=8), RULE)
    seen = set()
    for seed in range(20):
        images, masks = turned.draw(torch.tensor([0]), torch.Generator().manual_seed(seed), torch.device("cpu"))
        assert torch.equal(masks[0, 0] == IGNORED, images[0, 0] >= 0.5)
        seen.add(masks.numpy().tobytes())
    assert len(seen) > 4
