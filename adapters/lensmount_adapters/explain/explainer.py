"""Explains an adapter's answer for one image: the question is checked, a method computes the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.explain.cam import Cam, activation_map
from lensmount_adapters.explain.layercam import LayerCam
from lensmount_adapters.explain.method import Method, carry_on
from lensmount_adapters.explain.network import AdaptedNetwork, Network
from lensmount_adapters.explain.occlusion import Occlusion
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_adapters.suggestion import did_you_mean

METHODS: Mapping[str, Method] = {"cam": Cam(), "layercam": LayerCam(), "occlusion": Occlusion()}
"""The default comes first."""


def passes_of(method: str) -> int:
    """What an explanation costs, in passes of one image. All but "cam" have one more, which finds the best label."""
    return METHODS[method].passes + (method != "cam")


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Which parts of an image speak for `label`, whose score is in [0, 1].

    `values` [rows, columns], float32, cover the network's input. Larger values speak for the label. With "cam" they
    are parts of the logit, with "occlusion" parts of the score; values below zero speak against the label.
    """

    label: str
    score: float
    method: str
    values: np.ndarray


class Explainer:
    """`Explainer(backbone).explain(adapter, image).values`. One thread at a time may use it.

    The merged weights of the last adapter are kept until another one is asked.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._last: AdaptedNetwork | None = None

    def explain(
        self,
        adapter: Adapter,
        image: Tensor,
        method: str = "cam",
        label: str | None = None,
        proceed: Callable[[], None] = carry_on,
    ) -> Explanation:
        """Explain the answer for one preprocessed image [3, height, width]; without `label`, that with the best score.

        `proceed` is called between two steps of long work and may raise an error to stop it. Raises ExplainError if
        the adapter gives masks or reads volumes, if it has no such label, or if the method cannot explain the network.
        """
        check_explainable(adapter.manifest, label)
        network = self._network_of(adapter)
        scores = network.scores(image[None])[0]
        number = int(scores.argmax()) if label is None else adapter.manifest.labels.index(label)
        proceed()
        values = METHODS[method].values(network, image, number, proceed)
        return Explanation(adapter.manifest.labels[number], float(scores[number]), method, values.float().numpy())

    def _network_of(self, adapter: Adapter) -> AdaptedNetwork:
        if self._last is None or self._last.adapter.digest != adapter.digest:
            self._last = self._network.with_adapter(adapter)
        return self._last

    @cached_property
    def _network(self) -> Network:
        return Network(self._backbone)


def cam_of(adapter: Adapter, maps: Tensor, scores: Tensor, label: str | None = None) -> Explanation:
    """The explanation "cam" from the last maps [orientations, feature_dim, rows, columns] that a runner computed.

    `scores` [classes] are those of the same image. The adapter and the label were checked (`check_explainable`).
    """
    number = int(scores.argmax()) if label is None else adapter.manifest.labels.index(label)
    values = activation_map(adapter, maps.to(next(adapter.head.parameters()).device), number)
    return Explanation(adapter.manifest.labels[number], float(scores[number]), "cam", values.numpy())


def check_explainable(manifest: Manifest, label: str | None = None) -> None:
    """Raises ExplainError if no method can explain the adapter, or if it has no such label."""
    if isinstance(manifest.head, SegmentationHead):
        raise ExplainError(
            f"found {manifest.name}, which gives masks, expected an adapter that gives labels. "
            "Fix: POST /predict, because the masks show where each label is"
        )
    if isinstance(manifest.preprocessing, VolumePreprocessing):
        raise ExplainError(
            f"found {manifest.name}, which reads volumes, expected an adapter for images. "
            "Fix: send single slices as images to an adapter for images"
        )
    if label is not None and label not in manifest.labels:
        meant = did_you_mean(label, manifest.labels)
        raise ExplainError(
            f"found the label {label[:80]!r}, expected one of {', '.join(manifest.labels[:10])}.{meant} "
            "Fix: choose one of the adapter's labels, or leave the label out to explain the best one",
            code="unknown_label",
        )
