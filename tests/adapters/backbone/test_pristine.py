"""Sources of the original values: clones in memory, the live tensors, and weights that are read again."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters import Backbone, ExactSwapper, load_backbone
from lensmount_adapters.backbone.pristine import Reread
from lensmount_adapters.errors import IntegrityError

NAME = "test_efficientnet"


@pytest.fixture
def backbone(device: str) -> Backbone:
    return load_backbone(NAME, "random:0", device)


def flip_a_bit(tensor: torch.Tensor) -> None:
    tensor.view(-1)[:1].view(torch.uint8)[0] ^= 1


def test_a_flipped_bit_in_a_pristine_clone_is_found(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    flip_a_bit(backbone.base(["conv_head.weight"])["conv_head.weight"])
    assert backbone.changed() == ["conv_head.weight (pristine clone)"]


def test_a_pristine_clone_is_never_the_live_tensor(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    live, pristine = backbone.tensors["conv_head.weight"], backbone.base(["conv_head.weight"])["conv_head.weight"]
    assert live.data_ptr() != pristine.data_ptr()
    live.zero_()
    assert torch.count_nonzero(pristine) > 0


def test_asking_twice_keeps_the_first_clone(backbone: Backbone) -> None:
    backbone.base(["conv_head.weight"])
    pristine = backbone.base(["conv_head.weight"])["conv_head.weight"]
    backbone.tensors["conv_head.weight"].zero_()
    backbone.base(["conv_head.weight", "conv_stem.weight"])
    assert backbone.base(["conv_head.weight"])["conv_head.weight"] is pristine


def test_a_tensor_that_changed_is_not_cloned(backbone: Backbone) -> None:
    flip_a_bit(backbone.tensors["conv_head.weight"])
    with pytest.raises(IntegrityError, match=r"conv_head\.weight: the resident weights changed") as caught:
        backbone.base(["conv_head.weight"])
    assert caught.value.code == "integrity_violated"


def test_a_backbone_that_nobody_writes_keeps_no_clones_and_takes_no_swapper(backbone: Backbone) -> None:
    backbone.keep_nothing()
    assert backbone.base(["conv_head.weight"])["conv_head.weight"] is backbone.tensors["conv_head.weight"]
    assert backbone.bytes_resident()[1] == 0
    with pytest.raises(IntegrityError, match="keep_clones"):
        ExactSwapper(backbone)
    flip_a_bit(backbone.tensors["conv_stem.weight"])
    with pytest.raises(IntegrityError, match=r"conv_stem\.weight: the resident weights changed"):
        backbone.base(["conv_stem.weight"])


def test_reread_weights_are_read_at_every_request_and_none_are_kept() -> None:
    reads: list[dict[str, torch.Tensor]] = []

    def read() -> dict[str, torch.Tensor]:
        reads.append({"a": torch.ones(3), "b": torch.zeros(2)})
        return reads[-1]

    source = Reread(read)

    for number in (1, 2):
        values = source.values(["a"])
        assert list(values) == ["a"]
        assert values["a"] is reads[-1]["a"]
        assert len(reads) == number
    assert source.kept() == {}
