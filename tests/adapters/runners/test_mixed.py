"""In a mixed batch every sample gets the answer of its own adapter, whatever the other adapters are."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from timm.layers import create_conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.runners.mixed import mixed
from lensmount_adapters.runners.mixed_layout import Layout

if TYPE_CHECKING:
    from tests.adapters.runners.conftest import Mixing

MIXABLE = r"(?!head\.|transposed).*"
SMALL = ("test_efficientnet", "test_resnet", "test_vit", "test_convnext", "every_layer", "geometries")
METHODS = ("lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "mixed")
DrawAdapter = Callable[..., Any]
per_sample = pytest.mark.parametrize("per_sample", [False, True], ids=["concatenated", "per sample"])


class Geometries(nn.Module):
    """Strides, paddings and dilations that a look-up per sample has to get right, and a linear layer on channels."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 1, stride=(2, 1))
        self.same = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.tensorflow = create_conv2d(8, 12, 3, stride=2, padding="same")
        self.tensorflow_pointwise = create_conv2d(12, 8, 1, stride=2, padding="same")
        self.tensorflow_depthwise = create_conv2d(8, 8, 5, stride=2, padding="same", depthwise=True)
        self.padded_pointwise = nn.Conv2d(8, 8, 1, padding=1)
        self.last = nn.Linear(8, 6, bias=False)
        self.pointwise1d = nn.Conv1d(6, 6, 1, stride=2)
        self.conv3d = nn.Conv3d(6, 4, (1, 2, 1))
        self.bare_norm = nn.LayerNorm(2, bias=False)
        self.before = nn.BatchNorm1d(8)
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.tensorflow(self.same(self.strided(x)).relu())
        x = self.padded_pointwise(self.tensorflow_depthwise(self.tensorflow_pointwise(x).relu()))
        x = self.pointwise1d(self.last(x.permute(0, 2, 3, 1)).relu().flatten(1, 2).transpose(1, 2))  # [N, 6, L]
        x = self.conv3d(x.unflatten(2, (1, 2, -1)))  # [N, 4, 1, 1, L]
        answer: Tensor = self.before(self.bare_norm(x.mean((2, 3))[:, :, :2]).flatten(1))
        return answer


@pytest.fixture(scope="module")
def backbones(
    every_layer: Callable[..., Backbone],
    seeded: Callable[[Callable[[], nn.Module]], Backbone],
    randomised: Callable[[Backbone], Backbone],
) -> Callable[[str], Backbone]:
    made = {"every_layer": lambda: randomised(every_layer()), "geometries": lambda: seeded(Geometries)}
    kept: dict[str, Backbone] = {}

    def get(name: str) -> Backbone:
        if name not in kept:
            kept[name] = made[name]() if name in made else randomised(load_backbone(name, "random:0"))
        return kept[name]

    return get


@dataclass(frozen=True)
class Right:
    """Three drawn adapters and what merging gives in float64 for five images, each with one of them or the base."""

    backbone: Backbone
    drawn: list[Any]
    rows: tuple[int, ...]
    images: Tensor
    expected: Tensor
    base: Tensor


@pytest.fixture(scope="module")
def right(
    backbones: Callable[[str], Backbone],
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
) -> Callable[[str, str], Right]:
    """`right("test_vit", "lora")`, computed once for both forms of a branch."""

    @functools.cache
    def compute(name: str, method: str) -> Right:
        backbone = backbones(name)
        size = 0.2 if name == "every_layer" else 0.1  # there, a smaller one moves a score by less than 1e-3
        drawn = [draw_adapter(backbone, method, seed=seed, modules=MIXABLE, size=size) for seed in (1, 2, 3)]
        images, rows, adapters = mixing.images_for(backbone, 5), (2, 0, 3, 1, 0), [*drawn, None]
        expected = [features64(backbone, adapters[row], images[i : i + 1]) for i, row in enumerate(rows)]
        return Right(backbone, drawn, rows, images, torch.cat(expected), features64(backbone, None, images))

    return compute


@per_sample
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_delta_gives_each_sample_what_merging_gives_in_float64(
    name: str,
    method: str,
    per_sample: bool,
    backbones: Callable[[str], Backbone],
    right: Callable[[str, str], Right],
    digest_of_state: Callable[[Backbone], str],
    mixing: type[Mixing],
) -> None:
    if method == "statistics" and not any("running" in target for target in backbones(name).targets):
        pytest.skip("without BatchNorm there are no statistics")
    case = right(name, method)
    backbone, drawn, before = case.backbone, case.drawn, digest_of_state(case.backbone)
    branch = mixing.branch_for(backbone, drawn, per_sample=per_sample)  # 4 slots: the last one holds the base
    factors = branch.pack([mixing.deltas_of(backbone, parts) for parts in drawn])

    branch.module.double()
    features = mixing.answers(branch, case.images.double(), case.rows, [factor.double() for factor in factors])

    mixing.assert_close(features, case.expected, 1e-6)  # factors and folded weights are rounded to float32
    mixing.assert_close(features[2], case.base[2], 1e-6)
    for sample in (0, 1, 3, 4):
        assert (features[sample] - case.base[sample]).abs().max() > 1e-4 * case.base.abs().max()  # it has an effect
    assert {factor.dtype for factor in factors} == {torch.float32}
    assert digest_of_state(backbone) == before


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.linear1, self.linear2 = nn.Linear(8, 16), nn.Linear(16, 5, bias=False)
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pointwise(F.relu(self.conv1(x)))).flatten(2).transpose(1, 2)  # [N, L, 8]
        x = self.linear2(F.relu(self.linear1(x)))
        return x.mean(1)


@per_sample
def test_peft_gives_a_mixed_batch_the_same_answers(
    per_sample: bool, mixing: type[Mixing], seeded: Callable[[Callable[[], nn.Module]], Backbone]
) -> None:
    import peft

    backbone = seeded(Small)
    layers = ["conv1", "pointwise", "linear1", "linear2"]
    model: Any = None
    for name, rank in (("malaria", 3), ("smoking", 5), ("leaves", 1)):
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank + 1, target_modules=layers, init_lora_weights=False)
        if model is None:
            model = peft.get_peft_model(copy.deepcopy(backbone.module), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    names = ("malaria", "smoking", "leaves")
    adapters = []
    for name in names:
        stored = peft.get_peft_model_state_dict(model, adapter_name=name)
        tensors = {key.removeprefix("base_model.model."): tensor.clone() for key, tensor in stored.items()}
        scale = model.peft_config[name].lora_alpha / model.peft_config[name].r
        adapters.append(read_deltas(backbone.targets, tensors, dict.fromkeys(layers, scale)))
    images, rows = mixing.images_for(backbone, 6), (1, 0, 2, 3, 0, 1)
    with torch.inference_mode():
        expected = model.eval()(images, adapter_names=[[*names, "__base__"][row] for row in rows])
    branch = mixing.branch_of(backbone)
    branch_of_all = mixed(branch, mixing.union(branch, adapters), slots=4, rank=8, per_sample=per_sample)

    features = mixing.answers(branch_of_all, images, rows, branch_of_all.pack(adapters))

    mixing.assert_close(features, expected)
    assert (features[3] - features[0]).abs().max() > 1e-2 * features.abs().max()


@per_sample
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_hostile_neighbour_changes_no_other_answer(
    per_sample: bool, dtype: torch.dtype, mixing: type[Mixing], seeded: Callable[[Callable[[], nn.Module]], Backbone]
) -> None:
    """Its weights are finite, but a product of its factors is infinite; in half precision even the factors are."""
    backbone = seeded(Small)
    branch = mixing.branch_of(backbone)
    layers = ("conv1", "pointwise", "linear1")

    def adapter(down: float, up: float, bias: float) -> tuple[Delta, ...]:
        tensors = {"conv1.bias.delta": torch.full((8,), bias)}
        for layer in layers:
            out, inputs, *kernel = backbone.targets[f"{layer}.weight"].shape
            tensors[f"{layer}.lora_A.weight"] = torch.full((2, inputs, *kernel), down)
            tensors[f"{layer}.lora_B.weight"] = torch.full((out, 2, *[1] * len(kernel)), up)
        return read_deltas(backbone.targets, tensors, dict.fromkeys(layers, 1.0))

    quiet = adapter(0.1, 0.1, 0.5)
    hostile = [adapter(3e38, 1e-38, 0.0), adapter(1e-38, 3e38, 3e38), adapter(1e30, 1e8, -3e38)]
    layout = mixing.union(branch, [quiet])
    alone, together = (mixed(branch, layout, slots=4, rank=2, per_sample=per_sample) for _ in range(2))
    images, rows = mixing.images_for(backbone, 2), (0, 0)
    results = []
    for one, adapters in ((alone, [quiet]), (together, [quiet, *hostile])):
        module = copy.deepcopy(one.module).to(dtype)
        factors = [factor.to(dtype) for factor in one.pack(adapters)]
        with torch.inference_mode():
            results.append(module(images.to(dtype), one.mask(rows).to(dtype), *factors))

    assert torch.isfinite(results[0]).all()
    assert torch.equal(results[0], results[1])


@per_sample
def test_factors_of_unequal_size_survive_half_precision(
    per_sample: bool,
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
    seeded: Callable[[Callable[[], nn.Module]], Backbone],
) -> None:
    """B starts at 0 in training, so it is small compared with A: as stored, this one would be zero in float16."""
    backbone = seeded(Small)
    parts = draw_adapter(backbone, size=1.0)
    for name, tensor in parts.tensors.items():
        if "lora" in name:
            tensor *= 1e8 if "lora_A" in name else 1e-8
    branch, images = mixing.branch_for(backbone, [parts], per_sample=per_sample), mixing.images_for(backbone, 2)
    factors = branch.pack([mixing.deltas_of(backbone, parts)])

    with torch.inference_mode():
        half = [tensor.half() for tensor in (images, branch.mask((0, 0)), *factors)]
        features = branch.module.half()(*half)

    mixing.assert_close(features, features64(backbone, parts, images), 1e-2)


def test_prepared_adapters_pack_to_the_same_factors_as_their_deltas(
    backbones: Callable[[str], Backbone], draw_adapter: DrawAdapter, mixing: type[Mixing]
) -> None:
    backbone = backbones("test_efficientnet")
    drawn = [draw_adapter(backbone, "mixed", seed=seed, modules=MIXABLE) for seed in (1, 2)]
    adapters = [mixing.deltas_of(backbone, parts) for parts in drawn]
    wide, narrow = (mixing.branch_for(backbone, drawn, slots=slots, per_sample=slots == 2) for slots in (4, 2))

    prepared = [wide.prepare(deltas) for deltas in adapters]

    for branch in (wide, narrow):  # of the same layout and rank
        for packed, expected in zip(branch.pack(prepared), branch.pack(adapters), strict=True):
            assert torch.equal(packed, expected)
    assert [factor.shape for factor in wide.pack([])] == [factor.shape for factor in wide.pack(adapters)]
    assert prepared[0].nbytes <= sum(factor.nbytes for factor in prepared[0].factors)
    assert wide.prepare(()).nbytes == 0


def test_adapters_without_room_are_refused_with_the_reason(
    backbones: Callable[[str], Backbone], draw_adapter: DrawAdapter, mixing: type[Mixing]
) -> None:
    backbone = backbones("test_efficientnet")
    lora, bias, high = (
        mixing.deltas_of(backbone, draw_adapter(backbone, method, rank=rank, modules=r"blocks\.2.*"))
        for method, rank in (("lora", 4), ("bias", 4), ("lora", 6))
    )
    branch = mixing.branch_of(backbone)
    narrow = mixed(branch, mixing.union(branch, [lora]), slots=2, rank=4)
    other = mixed(branch, mixing.union(branch, [lora, bias]), slots=2, rank=4)

    with pytest.raises(ValueError, match="deltas that this layout has no room for"):
        narrow.pack([bias])
    with pytest.raises(ValueError, match="found rank 6, expected at most 4"):
        narrow.prepare(high)
    with pytest.raises(ValueError, match="found 3 adapters, expected at most 2"):
        narrow.pack([lora, lora, lora])
    with pytest.raises(ValueError, match="prepared for another layout or rank"):
        narrow.pack([other.prepare(lora)])
    with pytest.raises(ValueError, match=r"found rows \[0, 2\], expected numbers from 0 to 1"):
        narrow.mask([0, 2])
    with pytest.raises(ValueError, match=r"expected one that Layout\.of returned for this branch"):
        mixed(branch, Layout(), slots=2, rank=4)
    with pytest.raises(ValueError, match=r"expected one that Layout\.of returned for this branch"):
        mixed(branch, Layout(weights=("elsewhere",)), slots=2, rank=4)


def test_a_mask_is_one_in_the_columns_of_the_samples_slot(
    backbones: Callable[[str], Backbone], draw_adapter: DrawAdapter, mixing: type[Mixing]
) -> None:
    backbone = backbones("test_efficientnet")
    branch = mixing.branch_for(backbone, [draw_adapter(backbone, modules="conv_stem", rank=2)], slots=3, rank=2)

    assert branch.mask((2, 0)).tolist() == [[0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "geometries"])
def test_openvino_runs_a_mixed_branch_with_any_batch_and_image_size(
    name: str,
    backbones: Callable[[str], Backbone],
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
) -> None:
    pytest.importorskip("openvino")
    if name == "geometries" and "ONEDNN_MAX_CPU_ISA" in os.environ:
        pytest.skip("OpenVINO 2026.4 crashes on this network if AVX-512 is masked on a processor that has it")
    from lensmount_adapters.programs.openvino import OpenVino

    backbone = backbones(name)
    drawn = [draw_adapter(backbone, "mixed", seed=seed, modules=MIXABLE, size=0.1) for seed in (1, 2, 3)]
    branch = mixing.branch_for(backbone, drawn)
    example, factors = (
        mixing.images_for(backbone, 2),
        branch.pack([mixing.deltas_of(backbone, parts) for parts in drawn]),
    )
    compiled = OpenVino("cpu", torch.float32, threads=1).compile(
        branch.module, (example, branch.mask((0, 0))), branch.pack([]), key=""
    )

    for rows in ((1,), (2, 0, 1, 1, 3)):
        images = mixing.images_for(backbone, len(rows))
        features = compiled.run((images, branch.mask(rows)), factors)
        adapters = [*drawn, None]
        expected = [features64(backbone, adapters[row], images[i : i + 1]) for i, row in enumerate(rows)]
        mixing.assert_close(features, torch.cat(expected), 1e-4)
