"""Many samples are answered batch by batch, in their order, as a server would answer each."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lensmount_adapters import Preprocessing, decode_image, preprocess
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.training.answer import predict_samples

RULE = Preprocessing(size=(16, 16), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


def test_samples_are_answered_in_their_order_whatever_the_batch_size(shapes: Path) -> None:
    folder = read_folder(shapes)
    samples = [folder.samples[index] for index in (30, 2, 17, 5, 41)]
    inputs = [preprocess(decode_image(folder.read(sample.path)), RULE) for sample in samples]
    expected = torch.stack([x.mean((1, 2)) for x in inputs])

    for batch_size in (1, 2, 5, 8):
        found = predict_samples(folder, samples, RULE, lambda images: images.mean((2, 3)), batch_size)
        torch.testing.assert_close(found, expected)


def test_progress_is_reported_after_every_batch(shapes: Path) -> None:
    folder = read_folder(shapes)
    seen: list[tuple[int, int]] = []
    sizes: list[int] = []

    def logits(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return images[:, :, 0, 0]

    predict_samples(folder, folder.samples[:5], RULE, logits, 2, lambda done, total: seen.append((done, total)))

    assert sizes == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
