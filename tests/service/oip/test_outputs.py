from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lensmount_adapters import Backbone, Manifest
from lensmount_adapters.adapter.manifest import LinearHead, SegmentationHead
from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.outputs import Scored, outputs_of, require_outputs, tensors_of
from lensmount_service.oip.requests import AskedOutput

LABELS = ("x", "y", "z")


@pytest.fixture(scope="module")
def manifest(backbone: Backbone) -> Manifest:
    return Manifest(
        name="tiles",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=LABELS,
        head=LinearHead(),
    )


def test_an_adapter_has_scores_and_labels_and_one_for_masks_has_masks(manifest: Manifest) -> None:
    masks = manifest.model_copy(update={"head": SegmentationHead()})
    assert [(each.name, each.datatype, each.shape) for each in outputs_of(manifest)] == [
        ("scores", "FP32", (-1, 3)),
        ("label", "BYTES", (-1,)),
    ]
    assert [each.name for each in outputs_of(masks)] == ["scores", "label", "masks"]


def test_a_request_that_names_no_output_gets_all_and_an_unknown_one_is_refused(manifest: Manifest) -> None:
    every = require_outputs((), manifest, all_binary=True)
    assert every == [AskedOutput("scores", is_binary=True), AskedOutput("label", is_binary=True)]
    for asked in (AskedOutput("logits"), AskedOutput("masks"), AskedOutput("label", classes=1)):
        with pytest.raises(RequestInvalid):
            require_outputs((asked,), manifest, all_binary=False)


def test_the_best_label_of_equal_scores_is_the_first_as_in_predict(manifest: Manifest) -> None:
    scored = [Scored([0.25, 0.5, 0.5]), Scored([1.0, 0.0, 0.0])]
    asked = [AskedOutput("label"), AskedOutput("scores", classes=9), AskedOutput("scores")]
    label, classes, scores = tensors_of(asked, manifest, scored)
    assert list(label.values) == [b"y", b"x"]
    assert classes.shape == (2, 3)
    assert list(classes.values) == [b"0.5:1:y", b"0.5:2:z", b"0.25:0:x", b"1.0:0:x", b"0.0:1:y", b"0.0:2:z"]
    values: Any = scores.values
    assert np.array_equal(values, np.array([[0.25, 0.5, 0.5], [1, 0, 0]], np.float32))
