"""Changes of a whole network, stored whole or in ranks, and what is lost."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.changes.changes import Changes


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("test_vit", "random:0")


def changes_of(backbone: Backbone, *names: str) -> Changes:
    torch.manual_seed(0)
    return Changes.of(backbone, {name: torch.randn(backbone.tensors[name].shape).double() for name in names})


def test_matrices_have_spectra_and_everything_else_is_stored_whole(backbone: Backbone) -> None:
    names = ("pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.norm1.weight")
    changes = changes_of(backbone, *names)

    tensors, modules = changes.stored(dict.fromkeys(changes.spectra, 2))

    assert changes.spectra.keys() == {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    assert {name for name in tensors if name.endswith(".delta")} == {"pos_embed.delta", "blocks.0.norm1.weight.delta"}
    assert {path: (factors.rank, factors.alpha) for path, factors in modules.items()} == {
        "patch_embed.proj": (2, 2),
        "blocks.0.attn.qkv": (2, 2),
    }


def test_the_report_says_what_each_tensor_loses_and_the_error_is_that_of_all_matrices(
    backbone: Backbone,
) -> None:
    small, large = "blocks.0.attn.proj.weight", "blocks.1.attn.proj.weight"
    changes = changes_of(backbone, small, large, "norm.bias")
    changes.changed[large].mul_(10)

    layers = changes.layers(changes.stored({small: 0, large: 3})[0])

    by_name = {layer.name: layer for layer in layers}
    values = torch.linalg.svdvals(changes.changed[large])
    assert (by_name[small].rank, by_name[small].error) == (0, 1)
    assert by_name[large].rank == 3
    assert by_name[large].error == pytest.approx(float(values[3:].norm() / values.norm()))
    assert (by_name["norm.bias"].rank, by_name["norm.bias"].error, by_name["norm.bias"].change) == (None, 0, None)
    lost = changes.changed[small].square().sum() + values[3:].square().sum()
    whole = changes.changed[small].square().sum() + changes.changed[large].square().sum()
    assert changes.error(layers) == pytest.approx(float((lost / whole).sqrt()))


def test_nothing_changed_is_no_error(backbone: Backbone) -> None:
    assert Changes.of(backbone, {}).error(()) == 0
