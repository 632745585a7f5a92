"""Run a trained adapter on many samples, as a server does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter, ComputesFeatures
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample, read_pixels
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.programs.cast import channels_last
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.trust.assess import assess

# Milliseconds per image with EfficientNet-Lite0 in float32 on one core at 320 pixels: 122 in batches of 64, 42 in
# batches of 8 with channels_last, because these stay in the caches.
ANSWER_BATCH = 8


def predict_samples(
    folder: ImageFolder,
    samples: Sequence[Sample],
    rule: InputRule,
    logits: Callable[[Tensor], Tensor],
    batch_size: int = ANSWER_BATCH,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Decode the samples batch by batch; returns their logits [N, classes] on the CPU.

    `logits` maps a batch of preprocessed images to logits. `on_progress(done, total)` is called after every batch.
    """
    batches: list[Tensor] = []
    for start in range(0, len(samples), batch_size):
        pixels = read_pixels(folder, samples[start : start + batch_size], rule)
        images = channels_last(normalise(pixels, rule))
        batches.append(logits(images).cpu())
        if on_progress is not None:
            on_progress(min(start + batch_size, len(samples)), len(samples))
    return torch.cat(batches)


def served_logits(
    adapter: Adapter,
    backbone: Backbone,
    folder: ImageFolder,
    samples: Sequence[Sample],
    on_progress: Callable[[int, int], None] | None = None,
    network: ComputesFeatures | None = None,
) -> Tensor:
    """Logits [N, classes] of the samples, with the adapter's weights merged as on a server.

    `network` computes the features of the backbone, on which the adapter is mounted; None: the backbone itself.
    """
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    try:
        return predict_samples(
            folder,
            samples,
            adapter.manifest.preprocessing,
            lambda images: adapter.image_logits(network or backbone, images),
            on_progress=on_progress,
        )
    finally:
        swapper.unmount()


def scored_part(manifest: Manifest, samples: Sequence[Sample], logits: Tensor) -> ScoredPart:
    """The samples with the scores of their logits [N, classes], the figures, and how the promises were kept on them."""
    scores = probabilities(manifest.head, logits)
    truth = torch.tensor([sample.label for sample in samples])
    return ScoredPart(
        tuple(sample.path for sample in samples),
        truth,
        scores,
        measure(truth, scores, manifest.labels),
        assessed=assess(manifest.trust, manifest.labels, truth.numpy(), scores.double().numpy()),
    )
