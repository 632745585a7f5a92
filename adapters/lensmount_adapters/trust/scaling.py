"""Make scores as often right as they say: one temperature, or a scale and a bias per class where that is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.adapter.manifest import HeadSpec, LinearHead, MlpHead

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

COOLEST, HOTTEST, STEPS = 0.2, 5.0, 201
PENALTY = 1.0  # L2, per image, on how far a vector's scales and biases are from the one temperature
ITERATIONS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """`softmax((scale * logits + bias) / temperature)`. A vector has temperature 1, the others scale 1 and bias 0."""

    kind: Literal["temperature", "vector"]
    temperature: float
    scale: Array  # [classes]
    bias: Array  # [classes]

    @classmethod
    def of(cls, temperature: float, classes: int) -> Scaling:
        return cls("temperature", temperature, np.ones(classes), np.zeros(classes))

    def scores(self, logits: Array) -> Array:
        """Logits [N, classes] to scores [N, classes]."""
        scaled = (self.scale * logits + self.bias) / self.temperature
        raised = np.exp(scaled - scaled.max(1, keepdims=True))
        scores: Array = raised / raised.sum(1, keepdims=True)
        return scores

    def folded(self, tensors: Mapping[str, Tensor], head: HeadSpec) -> dict[str, Tensor]:
        """The adapter's tensors, with a vector's scale and bias in the last linear layer, so that serving is as before.

        Logits that are the mean over orientations are scaled in the same way, because the layer is linear.
        """
        if self.kind == "temperature":
            return dict(tensors)
        weight, bias = _last_layer(head)
        scale, shift = (
            torch.from_numpy(each).to(tensors[weight].device, torch.float64) for each in (self.scale, self.bias)
        )
        changed = {
            weight: scale[:, None] * tensors[weight].double(),
            bias: scale * tensors[bias].double() + shift,
        }
        return {**tensors, **{name: tensor.float() for name, tensor in changed.items()}}


Fit = Callable[[Array, Indices], Scaling]


def can_fold(head: HeadSpec) -> bool:
    """Whether the head ends in a linear layer, which can hold a vector. A cosine head has one scale for all classes."""
    return isinstance(head, LinearHead | MlpHead)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in [0.2, 5] for which `softmax(logits / T)` has the lowest log loss (arXiv 1706.04599).

    The labels are smoothed as in Platt 1999 (one doubtful image in `n + 2` of a class), because twenty images that are
    all classified correctly do not prove certainty.
    """
    doubt = _doubt(len(labels), logits.shape[1])
    candidates = torch.logspace(math.log10(COOLEST), math.log10(HOTTEST), STEPS, dtype=torch.float64)
    losses = [float(F.cross_entropy(logits.double() / t, labels, label_smoothing=doubt)) for t in candidates]
    return round(float(candidates[losses.index(min(losses))]), 4)


def fit_vector(logits: Array, labels: Indices) -> Scaling:
    """A scale and a bias per class that minimise the log loss (Guo et al. 2017, vector scaling), with L2.

    The penalty pulls towards the one temperature that is best for all classes, so that few images change little.
    """
    x, y = torch.from_numpy(logits), torch.from_numpy(labels)
    classes = x.shape[1]
    start, doubt = 1 / fit_temperature(x, y), _doubt(len(y), classes)
    free = torch.zeros(2, classes, dtype=torch.float64, requires_grad=True)  # scale / start - 1, and bias
    optimizer = torch.optim.LBFGS([free], max_iter=ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss() -> Tensor:
        optimizer.zero_grad()
        scaled = start * (1 + free[0]) * x + free[1]
        total = F.cross_entropy(scaled, y, label_smoothing=doubt) + PENALTY * free.square().sum() / len(y)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return total

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    found = free.detach().numpy()
    return Scaling("vector", 1.0, start * (1 + found[0]), found[1].copy())


def fit_scaling(logits: Array, labels: Indices, folds: Indices, head: HeadSpec) -> tuple[Scaling, Array]:
    """The scaling for logits [N, classes], and scores [N, classes] in which each fold has the scaling of the others.

    `folds` [N] numbers the folds; images of one group share one. A vector is chosen only if the head can hold it and
    its log loss on the other folds is lower by more than one standard error of the difference.
    """
    classes = logits.shape[1]

    def temperature(x: Array, y: Indices) -> Scaling:
        return Scaling.of(fit_temperature(torch.from_numpy(x), torch.from_numpy(y)), classes)

    apart = _apart(temperature, logits, labels, folds)
    if can_fold(head) and classes > 1:
        vector = _apart(fit_vector, logits, labels, folds)
        rows = np.arange(len(labels))
        gain = np.log(np.maximum(vector[rows, labels], 1e-12)) - np.log(np.maximum(apart[rows, labels], 1e-12))
        scaling = fit_vector(logits, labels)
        if gain.mean() > gain.std() / math.sqrt(len(gain)) and (scaling.scale > 0).all():
            return scaling, vector
    return temperature(logits, labels), apart


def _apart(fit: Fit, logits: Array, labels: Indices, folds: Indices) -> Array:
    """Scores in which each fold has the scaling that was fitted on the other folds."""
    scores = np.empty_like(logits)
    for fold in np.unique(folds):
        inside = folds == fold
        rest = ~inside if not inside.all() else inside
        scores[inside] = fit(logits[rest], labels[rest]).scores(logits[inside])
    return scores


def _doubt(images: int, classes: int) -> float:
    return classes / ((classes - 1) * (images / classes + 2)) if classes > 1 else 0.0


def _last_layer(head: HeadSpec) -> tuple[str, str]:
    """The names of the weight and the bias of the head's last linear layer."""
    prefix = f"head.{len(head.layers) - 1}" if isinstance(head, MlpHead) else "head"
    return f"{prefix}.weight", f"{prefix}.bias"
