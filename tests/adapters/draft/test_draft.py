from __future__ import annotations

import numpy as np
import torch

from lensmount_adapters import admit, load_backbone
from lensmount_adapters.draft.choice import Known
from lensmount_adapters.draft.draft import Basis, groups_of, is_draft, make_draft
from lensmount_adapters.draft.features import rule_of
from lensmount_adapters.draft.solve import solve


def test_a_draft_is_admitted_and_has_the_logits_of_its_head() -> None:
    backbone = load_backbone("test_resnet", "random:0")
    rule = rule_of(backbone)
    pixels = torch.rand(12, 3, *rule.size, generator=torch.Generator().manual_seed(0))
    features = backbone.features(pixels)
    images = [Known(str(row), row % 2, str(row), str(row)) for row in range(12)]
    labels = np.arange(12) % 2

    draft = make_draft("first", ("a", "b"), images, features.double().numpy(), Basis(backbone, None, rule))

    adapter = admit(draft.data, backbone)
    assert is_draft(adapter.manifest)
    assert (adapter.deltas, draft.counts) == ((), {"a": 6, "b": 6})
    expected = solve(features.double().numpy(), labels, 2).logits(features.double().numpy())
    assert np.allclose(adapter.image_logits(backbone, pixels).numpy(), expected, atol=1e-4)


def test_images_with_the_same_bytes_are_of_one_group() -> None:
    images = [Known("1", 0, "p", "x"), Known("2", 0, "q", "x"), Known("3", 1, "q", "y")]
    first, second, third = groups_of(images)
    assert first == second != third
