"""The backbone of an adapter is loaded from the weights that it was trained on."""

from __future__ import annotations

import pytest

from lensmount_adapters import Manifest, load_backbone
from lensmount_adapters.adapter.backbone_of import backbone_of
from lensmount_adapters.errors import BackboneError


def test_the_recorded_weights_are_loaded_unless_others_are_asked_for(draw_manifest: object) -> None:
    backbone = load_backbone("test_resnet", "random:3")
    assert callable(draw_manifest)
    manifest: Manifest = draw_manifest(["a", "b"], backbone=backbone.ref.model_dump(), training={"weights": "random:3"})

    assert backbone_of(manifest).fingerprint == backbone.fingerprint
    assert backbone_of(manifest, "random:4").fingerprint != backbone.fingerprint
    with pytest.raises(BackboneError, match=r"found no weights file none\.safetensors"):
        backbone_of(manifest, "none.safetensors")
