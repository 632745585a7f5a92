"""Adapters of every kind, mounted in any order: answers are those of a float64 merge and their bits have no history."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, Manifest, Target, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.graph.functional import functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.mixed_layout import Layout
from lensmount_adapters.runners.segment_runner import SegmentRunner

NETWORKS = ("resnet10t", "tf_efficientnet_lite0", "test_vit")
KINDS = (
    "low rank", "full rank, subtracted", "tucker", "shared factors", "vectors", "full", "scales with low rank",
    "parameters", "dora", "head only",
)  # fmt: skip
SIDE = 32


@dataclass
class Drawn:
    """An adapter, and its merged weights in float64, computed from what was drawn and not from the file."""

    adapter: Adapter
    merged: dict[str, Tensor]


class Draw:
    """`Draw(backbone, "dora", seed=1).finished()`."""

    def __init__(self, backbone: Backbone, kind: str, seed: int) -> None:
        self.backbone, self.kind = backbone, kind
        self.generator = torch.Generator().manual_seed(seed)
        self.tensors: dict[str, Tensor] = {}
        self.modules: dict[str, Any] = {}
        self.merged: dict[str, Tensor] = {}

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def near_one(self, count: int) -> Tensor:
        return 1 + 0.2 * self.normal(count)

    def base(self, target: Target) -> Tensor:
        return self.backbone.base([target.name])[target.name].double()

    def add(self, target: Target) -> None:
        """Draw what this kind changes of the target, if it changes anything."""
        weight = target.layer in ("linear", "conv") and target.name.endswith(".weight")
        plain = weight and target.groups == 1
        kernel = weight and target.layer == "conv" and max(target.shape[2:]) > 1
        match self.kind:
            case "low rank" if plain:
                self.factors(target, 4, 8.0)
            case "full rank, subtracted" if plain and target.shape[0] <= 512:
                self.factors(target, 10**9, -3.0)
            case "tucker" if kernel:
                self.factors(target, 3, 6.0, tucker=True)
            case "shared factors" if weight and (target.groups > 1 or not self.grouped):
                self.factors(target, 2, 2.0)
            case "vectors" if len(target.shape) == 1:
                self.full(target, 0.1 * torch.rand(target.shape, generator=self.generator))
            case "full" if weight:
                self.full(target, self.like(target, self.normal(*target.shape)))
            case "scales with low rank" if weight:
                product = self.factors(target, 2, 4.0)
                self.scale(target, self.base(target) + product, self.near_one(target.shape[0]), True)
            case "parameters" if target.layer == "parameter":
                self.full(target, 0.3 * self.normal(*target.shape))
            case "parameters" if weight and not self.has_parameters:
                self.scale(target, self.base(target), None, True)
            case "dora" if plain:
                live = self.base(target) + self.factors(target, 4, 8.0)
                magnitude = self.base(target).flatten(1).norm(dim=1) * self.near_one(target.shape[0])
                self.scale(target, live, (magnitude / live.flatten(1).norm(dim=1)).float(), False)

    @property
    def grouped(self) -> bool:
        return any(target.groups > 1 for target in self.backbone.targets.values())

    @property
    def has_parameters(self) -> bool:
        return any(target.layer == "parameter" for target in self.backbone.targets.values())

    def like(self, target: Target, delta: Tensor) -> Tensor:
        """A tenth of the weight's size."""
        return delta * float(0.1 * self.base(target).norm() / delta.norm())

    def factors(self, target: Target, rank: int, alpha: float, tucker: bool = False) -> Tensor:
        """Draw factors; returns the float64 product, which is added to the merged weight."""
        out, inputs, *k = target.shape
        rank = min(rank, out, inputs * torch.Size(k).numel())
        ones = [1] * len(k)
        A, mid = self.normal(rank, inputs, *(ones if tucker else k)), self.normal(rank, rank, *k) if tucker else None
        B = self.normal(out, rank, *ones)
        if mid is None:
            formula, tensors = "or,r...->o...", [A]
        else:
            formula, tensors = "op,pq...,qi->oi...", [mid, A.flatten(1)]
        product = torch.einsum(formula, B.flatten(1).double(), *(each.double() for each in tensors))
        size = float(0.1 * self.base(target).norm() / product.norm() * rank / abs(alpha))
        B *= size
        module = target.name.removesuffix(".weight")
        found = {"lora_A": A, "lora_B": B} | ({} if mid is None else {"lora_mid": mid})
        self.tensors |= {f"{module}.{part}.weight": tensor for part, tensor in found.items()}
        self.modules[module] = {"rank": rank, "alpha": alpha}
        product = alpha / rank * torch.einsum(formula, B.flatten(1).double(), *(each.double() for each in tensors))
        self.merged[target.name] = self.base(target) + product
        return product

    def full(self, target: Target, delta: Tensor) -> None:
        self.tensors[f"{target.name}.delta"] = delta
        self.merged[target.name] = self.base(target) + delta.double()

    def scale(self, target: Target, live: Tensor, rows: Tensor | None, columns: bool) -> None:
        if rows is not None:
            self.tensors[f"{target.name}.row_scale"] = rows
            live = torch.einsum("o...,o->o...", live, rows.double())
        if columns:
            drawn = self.near_one(target.shape[1])
            self.tensors[f"{target.name}.column_scale"] = drawn
            live = torch.einsum("oi...,i->oi...", live, drawn.double())
        self.merged[target.name] = live

    def finished(self) -> Drawn:
        for target in self.backbone.targets.values():
            if not target.name.startswith("head."):  # such a delta would be taken for the adapter's head
                self.add(target)
        assert self.tensors or self.kind in ("head only", "tucker")
        self.tensors["head.weight"] = self.normal(3, self.backbone.feature_dim) / self.backbone.feature_dim**0.5
        self.tensors["head.bias"] = self.normal(3)
        manifest = Manifest(
            name=self.kind.replace(" ", "-").replace(",", ""),
            method="head" if len(self.tensors) == 2 else self.kind,
            backbone=self.backbone.ref,
            preprocessing=self.backbone.preprocessing,
            labels=("a", "b", "c"),
            head=LinearHead(),
            modules=self.modules,
        )
        return Drawn(admit(dump_adapter(manifest, self.tensors, torch.float32), self.backbone), self.merged)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest, randomised: Callable[[Backbone], Backbone]) -> Any:
    """A backbone, one adapter of each kind, images, and the logits of a float64 copy with the merged weights."""
    backbone = randomised(load_backbone(request.param, "random:0"))
    if not backbone.fixed_size:  # a runner measures its programs at the size of the backbone's rule
        backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (SIDE, SIDE)})
    drawn = [Draw(backbone, kind, seed).finished() for seed, kind in enumerate(KINDS)]
    images = torch.randn(2, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))
    module = copy.deepcopy(backbone.module).double()
    expected = []
    for each in drawn:
        with torch.no_grad():
            features = torch.func.functional_call(module, each.merged, (images.double(),))
            expected.append(copy.deepcopy(each.adapter.head).double()(features))
    return SimpleNamespace(backbone=backbone, drawn=drawn, images=images, expected=expected)


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_hundred_mounts_in_random_order_leave_no_trace(case: Any) -> None:
    rng, swapper = random.Random(0), ExactSwapper(case.backbone)
    first: dict[int, Tensor] = {}
    for _ in range(100):
        number = rng.randrange(len(KINDS))
        swapper.mount(case.drawn[number].adapter)
        logits = case.drawn[number].adapter.image_logits(case.backbone, case.images)
        assert torch.equal(logits, first.setdefault(number, logits)), KINDS[number]
        if rng.random() < 0.1:
            swapper.unmount()
    swapper.unmount()
    assert case.backbone.changed() == []
    assert len(first) == len(KINDS)
    for number, logits in first.items():
        assert_close(logits, case.expected[number])


def test_every_adapter_of_a_batch_gets_its_own_answer_by_every_way_of_computing(case: Any) -> None:
    """Merged one by one, mixed where the layout allows it, and hot: nothing of one adapter reaches another."""
    executor = choose_executor("eager", "float32", "cpu", 1, None)
    runner = SegmentRunner(case.backbone, executor, max_batch=16)
    rng = random.Random(1)
    try:
        modes = set[str]()
        for _ in range(4):
            asked = [rng.randrange(len(KINDS)) for _ in range(5)]
            items: list[Any] = [SimpleNamespace(adapter=case.drawn[n].adapter, image=case.images[0]) for n in asked]
            outcome = runner.scores(items)
            modes |= outcome.modes.keys()
            for number, scores in zip(asked, outcome.scores, strict=True):
                assert_close(scores, case.expected[number][0].softmax(0))
            runner.settle()
        assert "merged" in modes
        assert runner.changed() == []
    finally:
        runner.close()


def test_only_factors_and_vectors_can_be_mixed(case: Any) -> None:
    branch = functional_branch(Segments(case.backbone.module).halves(set(case.backbone.targets)).branch, case.backbone)
    mixable = {
        kind: Layout.of(branch, drawn.adapter.deltas) is not None
        for kind, drawn in zip(KINDS, case.drawn, strict=True)
        if drawn.adapter.deltas
    }
    assert mixable["low rank"]
    assert not mixable["full"]
    assert not mixable["dora"]
    assert not mixable["scales with low rank"]
    assert not mixable["parameters"]


def test_the_kinds_need_the_versions_that_they_should(case: Any) -> None:
    versions = {kind: drawn.adapter.manifest.schema_version for kind, drawn in zip(KINDS, case.drawn, strict=True)}
    old = {kind for kind, version in versions.items() if version == 1}
    assert {"low rank", "tucker", "shared factors", "head only"} <= old
    assert {"full rank, subtracted", "full", "scales with low rank", "parameters", "dora"}.isdisjoint(old)
