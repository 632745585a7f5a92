"""What the tests of the runners share: one backbone, adapters of every kind, and scores computed by torch alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lensmount_adapters import Adapter, Backbone, Preprocessing, admit, load_backbone
from lensmount_adapters.adapter.adapter import ORIENTATIONS
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.graph.functional import FunctionalBranch, functional_branch
from lensmount_adapters.graph.pooling import KIND
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.mixed import Mixed, mixed
from lensmount_adapters.runners.mixed_layout import Layout

BOUNDS = {"float32": 2e-4, "bfloat16": 0.05}
AT = "layer3_0_act2"  # the last layer of the trunk of adapters of layer4


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


class GivenCosts(CostBook):
    """A cost book with the given lines; what is not given is measured."""

    def __init__(self, **given: LinearCost) -> None:
        super().__init__()
        self._given = given

    def line(self, name: str, measure: Callable[[], LinearCost]) -> LinearCost:
        way = name.rpartition(": ")[2].split()[0]  # "hot", "merged" or "mixed"
        return self._given[way] if way in self._given else super().line(name, measure)


class Mixing:
    """Mixed branches of a whole backbone, and what they answer."""

    @staticmethod
    def branch_of(backbone: Backbone) -> FunctionalBranch:
        """The backbone without a trunk."""
        return functional_branch(Segments(backbone.module).halves(set(backbone.targets)).branch, backbone)

    @staticmethod
    def images_for(backbone: Backbone, count: int) -> Tensor:
        return torch.randn(count, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))

    @staticmethod
    def branch_for(backbone: Backbone, adapters: Sequence[Any], slots: int = 4, rank: int = 4, **form: Any) -> Mixed:
        branch = Mixing.branch_of(backbone)
        return mixed(
            branch, Mixing.union(branch, [Mixing.deltas_of(backbone, parts) for parts in adapters]), slots, rank, **form
        )

    @staticmethod
    def union(branch: FunctionalBranch, adapters: Sequence[Sequence[Delta]]) -> Layout:
        layout = Layout()
        for deltas in adapters:
            added = Layout.of(branch, deltas)
            assert added is not None
            layout |= added
        return layout

    @staticmethod
    def deltas_of(backbone: Backbone, parts: Any) -> tuple[Delta, ...]:
        return admit(parts.dump(), backbone).deltas

    @staticmethod
    def answers(branch: Mixed, x: Tensor, rows: Sequence[int], factors: Sequence[Tensor]) -> Tensor:
        with torch.inference_mode():
            features: Tensor = branch.module(x, branch.mask(rows), *factors)
        return features

    @staticmethod
    def assert_close(features: Tensor, expected: Tensor, bound: float = 1e-5) -> None:
        """`bound` relative, in the largest norm."""
        assert torch.isfinite(expected).all()
        assert features.shape == expected.shape
        assert (features.double() - expected.double()).abs().max() <= bound * expected.double().abs().max()


@pytest.fixture(scope="session")
def mixing() -> type[Mixing]:
    """`mixing.branch_for(backbone, adapters)`: one branch for samples of all of these adapters."""
    return Mixing


@pytest.fixture(scope="session")
def seeded(randomised: Callable[[Backbone], Backbone]) -> Callable[[Callable[[], nn.Module]], Backbone]:
    """`seeded(Small)`: a module with random weights as the backbone of images of 16 x 16 pixels."""

    def make(module: Callable[[], nn.Module]) -> Backbone:
        rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return randomised(Backbone(module.__name__, module(), rule, torch.float32))

    return make


@pytest.fixture(scope="session")
def features64(merged64: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Features of the backbone in float64 with one adapter's tensors, each of them the base plus its delta."""

    copies: WeakKeyDictionary[Backbone, nn.Module] = WeakKeyDictionary()

    def compute(backbone: Backbone, parts: Any | None, images: Tensor) -> Tensor:
        if backbone not in copies:
            copies[backbone] = copy.deepcopy(backbone.module).double()
        names = [delta.target.name for delta in Mixing.deltas_of(backbone, parts)] if parts is not None else []
        live = {name: merged64(backbone, parts, name) for name in names}
        with torch.inference_mode():
            features: Tensor = functional_call(copies[backbone], live, (images.double(),))
        return features

    return compute


@pytest.fixture(scope="session")
def given_costs() -> Callable[..., CostBook]:
    """`given_costs(hot=LinearCost(1.0, 1.0))`: what a runner takes for the cost of a branch, by way of computing it."""
    return GivenCosts


@pytest.fixture(scope="session")
def executor_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Executor]:
    """`executor_of("openvino bfloat16")`; skips the test on machines that do not have it. Conversions are made once."""
    cache = tmp_path_factory.mktemp("programs")

    def choose(name: str = "eager float32") -> Executor:
        kind, precision = name.split()
        if kind == "openvino":
            pytest.importorskip("openvino")
        try:
            return choose_executor(kind, precision, "cpu", 1, cache)
        except ExecutorUnavailable as error:
            pytest.skip(str(error))

    return choose


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """Its rule has 64 instead of 176 pixels, because a runner measures its programs at this size."""
    backbone = load_backbone("resnet10t", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (64, 64)})
    return backbone


@pytest.fixture(scope="session")
def adapters(backbone: Backbone, draw_adapter: Callable[..., Any]) -> list[Adapter]:
    """Different methods, layers, ranks and class counts; the last layer only, half of the network, all of it."""
    wishes: list[dict[str, Any]] = [
        {"method": "lora", "modules": r"layer4.*", "rank": 4},
        {"method": "lora", "modules": r"layer4.*", "rank": 3, "labels": ("x", "y", "z")},
        {"method": "lora-tucker", "modules": r"layer4.*", "rank": 2},
        {"method": "norm", "modules": r"layer4.*"},
        {"method": "mixed", "modules": r"layer[34].*", "rank": 4},
        {"method": "lora", "modules": r"layer3.*", "rank": 8},
        {"method": "head"},
        {"method": "statistics", "modules": r"layer4.*"},
    ]
    return [
        admit(draw_adapter(backbone, seed=seed, size=0.2, **wish).dump(), backbone) for seed, wish in enumerate(wishes)
    ]


@pytest.fixture(scope="session")
def same_cut(adapters: list[Adapter]) -> list[Adapter]:
    """The adapters of the last layer alone: they share one trunk."""
    return [adapters[n] for n in (0, 1, 2, 3, 7)]


@pytest.fixture(scope="session")
def questions() -> Callable[..., list[Question]]:
    """`questions(adapters, count, size=64)`: images of noise, for each adapter in turn."""

    def ask(adapters: Sequence[Adapter], count: int, size: int = 64) -> list[Question]:
        draw = torch.Generator().manual_seed(count)
        return [Question(adapters[n % len(adapters)], torch.randn(3, size, size, generator=draw)) for n in range(count)]

    return ask


@pytest.fixture(scope="session")
def question() -> type[Question]:
    """`question(adapter, image)`: one item of a batch."""
    return Question


@pytest.fixture(scope="session")
def check(backbone: Backbone) -> Callable[..., None]:
    """`check(asked, scores, "float32")`: each score is close to that of torch alone, in float64."""
    module = load_backbone(backbone.name, "random:0").module.double()
    base = {name: tensor.double() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}

    def expected(adapter: Adapter, image: Tensor) -> Tensor:
        """Merged weights, lent to a module that nothing else uses."""
        merged = {delta.target.name: delta.merged(base[delta.target.name]).double() for delta in adapter.deltas}
        weights = base | merged
        head = {name: tensor.double() for name, tensor in adapter.head.state_dict().items()}
        turns = ORIENTATIONS[adapter.manifest.preprocessing.orientations]
        with torch.no_grad():
            features = [functional_call(module, weights, (orient(image.double(), t)[None],)) for t in turns]
            logits = torch.stack([functional_call(adapter.head, head, (each,)) for each in features]).mean(0)
        return probabilities(adapter.manifest.head, logits)[0]

    def compare(asked: Sequence[Question], scores: Sequence[Tensor], precision: str = "float32") -> None:
        for each, score in zip(asked, scores, strict=True):
            right = expected(each.adapter, each.image)
            assert score.shape == right.shape
            assert (score.double() - right).abs().max() < BOUNDS[precision]

    return compare


@pytest.fixture(scope="session")
def with_statistics(backbone: Backbone, draw_adapter: Callable[..., Any], draw_trust: Callable[..., Any]) -> Any:
    """`with_statistics(seed=1)`: an adapter of layer4 whose file has statistics of the layer before it."""

    def make(seed: int, at: str = AT, orientations: int = 1, **wishes: Any) -> Adapter:
        parts = draw_adapter(backbone, seed=seed, **{"modules": r"layer4.*", "size": 0.2, "rank": 4} | wishes)
        parts.manifest["preprocessing"]["orientations"] = orientations
        manifest, tensors = draw_trust(backbone, parts)
        space = {"space": f"{backbone.fingerprint}|{at}|{KIND}"}
        familiarity = manifest.trust.familiarity.model_copy(update=space)
        trust = manifest.trust.model_copy(update={"familiarity": familiarity})
        return admit(dump_adapter(manifest.model_copy(update={"trust": trust}), tensors), backbone)

    return make
