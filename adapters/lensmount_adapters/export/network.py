"""Backbone, head, average over orientations, temperature and activation as one network, for formats of graphs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.adapter.merged import merged_module
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.inputs.images import orient

INPUT, OUTPUTS = "images", ("logits", "scores")


class Network(nn.Module):
    """Preprocessed inputs [N, 3, height, width] to logits and scores, both [N, classes].

    A volume adapter's input is [N, 3, depth, height, width], a segmentation's outputs are [N, labels, height, width].
    The logits are divided by the temperature; the scores are those of the server.
    """

    def __init__(self, adapter: Adapter, backbone: Backbone) -> None:
        super().__init__()
        self.features = merged_module(adapter, backbone)
        self.head = copy.deepcopy(adapter.head).cpu()
        self._turns = ORIENTATIONS[adapter.manifest.preprocessing.orientations]
        self._averaged = adapter.averaged
        self._temperature = adapter.manifest.head.temperature
        self._softmax = adapter.manifest.head.activation == "softmax"
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        turned = torch.cat([orient(images, turn) for turn in self._turns])
        logits = self._averaged(self.head(self.features(turned))) / self._temperature
        return logits, logits.softmax(1) if self._softmax else logits.sigmoid()
