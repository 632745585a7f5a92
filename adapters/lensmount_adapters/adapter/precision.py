"""Recognise a backbone's weights in another precision: the fingerprint of one is that of the other, rounded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone

RECORD = "backbone_rounded"  # of the training record: {"float16": fingerprint, "bfloat16": fingerprint}


@dataclass(frozen=True, slots=True)
class Rounding:
    """The weights of one side are those of the other rounded to `dtype`; `here` if those of the backbone are."""

    dtype: str
    here: bool

    @property
    def torch_dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found


def record_of(backbone: Backbone) -> dict[str, dict[str, str]]:
    """What the training record of every adapter for the backbone holds, so that rounded weights can recognise it.

    Empty if the backbone's weights are resident in a smaller format, which does not tell what they were.
    """
    rounded = dict(backbone.rounded_fingerprints)
    return {RECORD: rounded} if rounded else {}


def rounding_between(manifest: Manifest, backbone: Backbone) -> Rounding | None:
    """How the weights that the adapter was made for differ from the backbone's, if by rounding alone.

    An adapter of rounded weights is always recognised on the precise ones. The other way round, the file must have the
    fingerprints of the rounded weights in its record, as training writes them. None for weights that are not known to
    be the same.
    """
    made_for = manifest.backbone.fingerprint
    for dtype, fingerprint in backbone.rounded_fingerprints.items():
        if fingerprint == made_for and made_for != backbone.fingerprint:
            return Rounding(dtype, here=False)
    recorded = manifest.training.get(RECORD)
    for dtype in backbone.rounded_fingerprints:
        if isinstance(recorded, dict) and recorded.get(dtype) == backbone.fingerprint != made_for:
            return Rounding(dtype, here=True)
    return None
