"""Load the backbone that an adapter was made for, from the weights that its training record names."""

from __future__ import annotations

from pathlib import Path

import torch

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.load import load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone


def backbone_of(manifest: Manifest, weights: str | Path | None = None, device: str | torch.device = "cpu") -> Backbone:
    """Load the manifest's backbone from `weights`, or from the recorded weights if None.

    Admission compares the fingerprints in either case. Raises BackboneError as `load_backbone` does.
    """
    recorded = manifest.training.get("weights")
    if weights is None and isinstance(recorded, str):
        weights = recorded
    return load_backbone(manifest.backbone.name, None if weights is None else weights_from(str(weights)), device)
