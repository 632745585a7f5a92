"""Segmentation adapters on the networks of MONAI: every convolution adapted, admission, and exact masks."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from lensmount_adapters import Backbone

if find_spec("monai") is None:  # to import it takes seconds, in every process that collects this file
    pytest.skip('needs MONAI: pip install "lensmount[monai]"', allow_module_level=True)

from lensmount_adapters import Adapter, Preprocessing, load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
from lensmount_adapters.adapter.manifest import Factors, LinearHead, Manifest, SegmentationHead
from lensmount_adapters.backbone.fingerprint import BackboneRef
from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.inputs.images import inner_box
from lensmount_adapters.metrics.masks import dice, measure_masks
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.trainable import TrainableAdapter

NETWORKS = ("monai_unet", "monai_basic_unet")
RULE = Preprocessing(size=(64, 64), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module", params=NETWORKS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone(request.param, load_backbone(request.param, "random:0").module, RULE, torch.float32)


@dataclass
class Asked:
    adapter: Adapter
    image: torch.Tensor


def adapter_file(
    backbone: Backbone, method: str, rule: Preprocessing = RULE, labels: tuple[str, ...] = ("nucleus",)
) -> bytes:
    """Adapt every convolution as training would, but with random B, because a delta of zero would show nothing."""
    chosen = select_targets(backbone.name, backbone.targets, method)
    made = TrainableAdapter(backbone, chosen, rank=2, alpha=2.0, head=SegmentationHead(), classes=len(labels), seed=1)
    drawn = torch.Generator().manual_seed(2)
    tensors = {
        name: torch.randn(tensor.shape, generator=drawn) * 0.1 if "lora_B" in name else tensor
        for name, tensor in made.tensors().items()
    }
    manifest = Manifest(
        name="masks", method=method, backbone=backbone.ref, preprocessing=rule, labels=labels,
        head=SegmentationHead(), modules=made.modules,
    )  # fmt: skip
    return dump_adapter(manifest, tensors, torch.float32)


@pytest.mark.parametrize("method", ["lora", "lora-tucker"])
def test_every_convolution_is_adapted_by_the_formula_and_restored_bit_for_bit(backbone: Backbone, method: str) -> None:
    convolutions = {n for n, t in backbone.targets.items() if t.layer.startswith("conv") and n.endswith(".weight")}
    adapter = admit(adapter_file(backbone, method), backbone)
    assert {delta.target.name for delta in adapter.deltas} == convolutions
    assert sum(delta.target.layer is Layer.CONV_TRANSPOSED for delta in adapter.deltas) == 4
    tensors = parse_adapter(adapter_file(backbone, method)).tensors
    before = {name: tensor.clone() for name, tensor in backbone.tensors.items()}
    images = torch.rand(2, 3, 64, 96)
    plain = backbone.features(images)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    for name in convolutions:
        module = name.removesuffix(".weight")
        A, B = (tensors[f"{module}.lora_{part}.weight"].double() for part in "AB")
        target, factors = backbone.targets[name], adapter.manifest.modules[module]
        if f"{module}.lora_mid.weight" in tensors:
            mid = tensors[f"{module}.lora_mid.weight"].double()
            delta = torch.einsum("or,rqhw,qi->oihw", B[..., 0, 0], mid, A[..., 0, 0])
        elif target.layer is Layer.CONV_TRANSPOSED:
            delta = torch.einsum("irhw,or->iohw", A, B[..., 0, 0])  # transposed to r channels, then pointwise
        else:
            delta = torch.einsum("or,rihw->oihw", B[..., 0, 0], A)
        expected = before[name].double() + factors.alpha / factors.rank * delta
        assert torch.allclose(backbone.tensors[name].double(), expected, atol=1e-6)
    assert not torch.allclose(backbone.features(images), plain, atol=1e-3)
    swapper.unmount()
    assert all(torch.equal(backbone.tensors[name], tensor) for name, tensor in before.items())
    assert torch.equal(backbone.features(images), plain)


def test_admission_refuses_heads_and_sizes_that_do_not_fit(backbone: Backbone, small_backbone: Backbone) -> None:
    odd = RULE.model_copy(update={"size": (64, 72)})
    with pytest.raises(AdapterInvalid, match="multiples of 32"):
        admit(adapter_file(backbone, "head", odd), backbone)
    manifest = Manifest(
        name="m", method="head", backbone=backbone.ref, preprocessing=RULE, labels=("a", "b"), head=LinearHead()
    )
    tensors = {"head.weight": torch.zeros(2, 16), "head.bias": torch.zeros(2)}
    with pytest.raises(AdapterInvalid, match="expected a segmentation head"):
        admit(dump_adapter(manifest, tensors, torch.float32), backbone)
    elsewhere = manifest.model_copy(update={"backbone": small_backbone.ref, "head": SegmentationHead()})
    with pytest.raises(AdapterInvalid, match="one vector per image"):
        admit(dump_adapter(elsewhere, tensors, torch.float32), small_backbone)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"preprocessing": RULE.model_copy(update={"resize": "crop"})}, "resize crop for masks"),
        ({"labels": tuple(f"l{i}" for i in range(33))}, "at most 32"),
        ({"modules": {"x": Factors(rank=1, alpha=1.0)}}, ""),
    ],
)
def test_a_manifest_for_masks_must_cover_the_whole_image(changes: dict[str, Any], match: str) -> None:
    ref = BackboneRef(name="monai_unet", fingerprint="sha256:" + "ab" * 32)
    document = Manifest(
        name="m", method="head", backbone=ref, preprocessing=RULE, labels=("a",), head=SegmentationHead()
    )
    changed = document.model_copy(update=changes).dump()
    if match:
        with pytest.raises(AdapterInvalid, match=match):
            Manifest.parse(changed)
    else:
        assert Manifest.parse(changed).dump() == changed


def test_maps_of_rotated_images_are_rotated_back_before_they_are_averaged(backbone: Backbone) -> None:
    rule = RULE.model_copy(update={"orientations": 8})
    adapter = admit(adapter_file(backbone, "lora", rule), backbone)
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    logits = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = np.rot90(image.numpy(), turns, (1, 2))
            seen = seen[:, :, ::-1] if mirrored else seen
            maps = adapter.logits(backbone.features(torch.from_numpy(seen.copy())[None]))[0].numpy()
            logits.append(np.rot90(maps[:, :, ::-1] if mirrored else maps, -turns, (1, 2)))
    swapper.unmount()
    expected = torch.from_numpy(np.mean(logits, 0)).sigmoid()

    for runner in (
        MergedRunner(backbone, ExactSwapper(backbone)),
        SegmentRunner(backbone.twin(), choose_executor("eager", "float32", backbone.device, 1, None)),
    ):
        (scores,) = runner.scores([Asked(adapter, image)]).scores
        runner.close()
        assert torch.allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(75, 60), (60, 75), (64, 64), (301, 20)])
def test_the_inner_box_is_where_pillow_puts_a_padded_image(size: tuple[int, int]) -> None:
    rule = RULE.model_copy(update={"resize": "pad"})
    padded = np.array(ImageOps.pad(Image.new("L", size, 255), (64, 64), Image.Resampling.NEAREST, color=0))
    rows, columns = np.nonzero(padded)
    assert inner_box(size, rule) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_dice_of_two_masks_and_of_two_empty_masks() -> None:
    truth = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]]], bool)
    answer = np.array([[[0, 1, 1, 0]], [[0, 0, 0, 0]]], bool)
    assert dice(truth, answer).tolist() == [0.5, 1.0]
    found = measure_masks([(truth, answer)], ("a", "b"))
    assert (found.dice, found.labels) == (0.75, {"a": 0.5, "b": 1.0})
    assert found.iou == pytest.approx((1 / 3 + 1) / 2)
