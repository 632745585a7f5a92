"""The name of a backbone says whether it takes images or volumes."""

from __future__ import annotations

import pytest

from lensmount_adapters.backbone.names import OF_VOLUMES, architecture_of, is_of_volumes


@pytest.mark.parametrize("name", ["resnet34-3d", "resnet34-3d5", "tf_efficientnet_lite0-3d11"])
def test_a_name_that_ends_in_3d_is_of_volumes(name: str) -> None:
    assert is_of_volumes(name)


@pytest.mark.parametrize("name", ["resnet34", "clip", "resnet-3d-18", "-3d", "resnet34-3d0", "resnet34-3d123"])
def test_any_other_name_is_of_images(name: str) -> None:
    assert not is_of_volumes(name)


def test_the_depth_of_the_kernels_is_the_number_after_3d() -> None:
    found = OF_VOLUMES.fullmatch("resnet34-3d5")
    assert found is not None
    assert (found["flat"], found["depth"]) == ("resnet34", "5")


def test_the_architecture_is_the_name_without_the_tag_of_its_weights() -> None:
    names = ("resnet34", "resnet34.a1_in1k", "resnet34.a1_in1k-3d3", "vit_base_patch16_224.augreg_in21k@448")

    assert [architecture_of(name) for name in names] == [
        "resnet34",
        "resnet34",
        "resnet34-3d3",
        "vit_base_patch16_224@448",
    ]
