"""The classifier of an imported adapter and the names of its classes."""

from __future__ import annotations

import pytest
import torch
from tests.adapters.foreign.peft_networks import backbone_of, network

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.head import given_head, head_of, labels_of

BACKBONE = backbone_of(network())
OWN = {"weight": torch.ones(3, 8).double(), "bias": torch.zeros(3).double()}


def test_the_file_s_own_classifier_comes_before_one_next_to_it() -> None:
    notes: list[str] = []

    assert head_of(OWN, {"weight": torch.zeros(3, 8)}, BACKBONE, notes) == OWN
    assert notes == ["left out the head file: the adapter has a trained classifier of its own"]


@pytest.mark.parametrize("prefix", ["", "fc.", "classifier.", "module.fc.", "base_model.model.head."])
def test_a_classifier_next_to_the_adapter_is_found_under_any_usual_name(prefix: str) -> None:
    tensors = {f"{prefix}weight": torch.ones(3, 8), f"{prefix}bias": torch.ones(3), "up.weight": torch.ones(16, 12)}

    head = given_head(tensors, BACKBONE)

    assert head["weight"].shape == (3, 8)
    assert head["bias"].tolist() == [1, 1, 1]


def test_a_classifier_without_a_bias_has_a_bias_of_0() -> None:
    assert given_head({"weight": torch.ones(3, 8)}, BACKBONE)["bias"].tolist() == [0, 0, 0]


def test_no_classifier_and_one_of_another_width_are_refused() -> None:
    with pytest.raises(AdapterInvalid, match=r"found no classifier.*head.safetensors") as none:
        head_of({}, {}, BACKBONE, [])
    with pytest.raises(AdapterInvalid, match=r"expected \[classes, 8\]") as wide:
        head_of({"weight": torch.ones(3, 9).double(), "bias": torch.zeros(3).double()}, {}, BACKBONE, [])
    with pytest.raises(AdapterInvalid, match="expected weight and bias of a linear classifier"):
        given_head({"up.weight": torch.ones(16, 12)}, BACKBONE)
    assert (none.value.code, wide.value.code) == ("head_missing", "head_mismatch")


def test_classes_without_labels_are_called_by_their_numbers_and_this_is_said() -> None:
    notes: list[str] = []

    assert labels_of((), 3, notes) == ("0", "1", "2")
    assert notes == ["the file names no classes; they are called 0 to 2. Give labels to name them"]
    assert labels_of(["a", "b"], 2, []) == ("a", "b")
