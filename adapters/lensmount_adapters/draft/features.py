"""An adapter whose answer is the features themselves, so that a server computes them as it computes predictions."""

from __future__ import annotations

import hashlib

from torch import nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import HEAD_ONLY
from lensmount_adapters.adapter.manifest import FeaturesHead, LinearHead, Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing


def feature_adapter(backbone: Backbone, rule: InputRule) -> Adapter:
    """An adapter without deltas or a head: `runner.scores` returns the features [feature_dim] of each image.

    It exists in memory only: no file has such a head. An adapter with a head alone gets these features too, in the
    same precision and by the same programs.
    """
    manifest = Manifest(
        name="features",
        method=HEAD_ONLY,
        backbone=backbone.ref,
        preprocessing=rule,
        labels=("features",),
        head=LinearHead(),
    ).model_copy(update={"head": FeaturesHead()})
    key = hashlib.sha256(f"features {backbone.fingerprint} {rule!r}".encode()).hexdigest()
    return Adapter(f"sha256:{key}", 0, manifest, (), nn.Identity())


def rule_of(backbone: Backbone) -> InputRule:
    """The preprocessing of a draft: the whole image at the backbone's own size, as in training by default."""
    rule = backbone.preprocessing
    if isinstance(rule, VolumePreprocessing):
        return rule
    return rule.model_copy(update={"resize": "squash", "crop_fraction": 1.0})
