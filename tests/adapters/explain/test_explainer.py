"""An explanation names the label and its score; what cannot be explained is refused with advice that works."""

from __future__ import annotations

import doctest
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit, explain, load_backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.explain.explainer import METHODS, Explainer, cam_of, passes_of
from lensmount_adapters.explain.network import AdaptedNetwork

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained, PlainNetwork


def test_without_a_label_it_explains_the_one_with_the_best_score(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet)
    with torch.no_grad():
        scores = plain_network(resnet, adapter)(image[None]).softmax(1)[0]
    best = adapter.manifest.labels[int(scores.argmax())]

    found = Explainer(resnet).explain(adapter, image)

    assert (found.label, found.method) == (best, "cam")
    assert found.score == pytest.approx(float(scores.max()), abs=1e-5)


def test_each_adapter_gets_its_own_explanation_in_turn(
    resnet: Backbone, draw_explained: DrawExplained, image: Tensor
) -> None:
    adapters = [draw_explained(resnet), draw_explained(resnet, "mlp")]
    explainer = Explainer(resnet)

    first, second, again = (explainer.explain(adapter, image, label="elm") for adapter in (*adapters, adapters[0]))

    assert not (first.values == second.values).all()
    assert (first.values == again.values).all()


def test_an_unknown_label_is_refused_with_those_that_exist(
    resnet: Backbone, draw_explained: DrawExplained, image: Tensor
) -> None:
    with pytest.raises(ExplainError, match=r"found the label 'oakk', expected one of ash, elm, oak\.") as caught:
        Explainer(resnet).explain(draw_explained(resnet), image, label="oakk")

    assert caught.value.code == "unknown_label"
    assert "Did you mean 'oak'?" in str(caught.value)


def test_masks_and_volumes_are_refused(draw_adapter: Callable[..., Any]) -> None:
    unet = load_backbone("monai_unet", "random:0")
    parts = draw_adapter(unet, method="head", labels=("nucleus",))
    parts.manifest["head"] = {"kind": "segmentation", "activation": "sigmoid"}
    parts.manifest["preprocessing"] |= {"resize": "squash"}
    parts.tensors = {"head.weight": torch.randn(1, unet.feature_dim, 1, 1), "head.bias": torch.randn(1)}
    masks = admit(parts.dump(), unet)

    with pytest.raises(ExplainError, match=r"gives masks.*Fix: POST /predict"):
        Explainer(unet).explain(masks, torch.zeros(masks.manifest.preprocessing.input_shape), "occlusion")

    volumes = load_backbone("resnet10t-3d", "random:0")
    adapter = admit(draw_adapter(volumes, method="head").dump(), volumes)
    with pytest.raises(ExplainError, match=r"reads volumes.*Fix: "):
        Explainer(volumes).explain(adapter, torch.zeros(adapter.manifest.preprocessing.input_shape), "occlusion")


def test_the_example_in_the_docstring_of_the_package_works(draw_adapter: Callable[..., Any]) -> None:
    def draw_adapters(backbone: Backbone, count: int) -> list[Adapter]:
        return [admit(draw_adapter(backbone, seed=seed, modules=r"layer4.*").dump(), backbone) for seed in range(count)]

    assert explain.__doc__ is not None
    example = doctest.DocTestParser().get_doctest(
        explain.__doc__, {"draw_adapters": draw_adapters}, "explain", None, None
    )

    assert len(example.examples) >= 8
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_maps_of_a_runner_give_the_same_explanation(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    adapter = draw_explained(resnet)
    module = plain_network(resnet, adapter)
    with torch.inference_mode():
        maps = module.get_submodule("0").forward_features(image[None])  # type: ignore[operator]  # timm's method
        scores = module(image[None]).softmax(1)[0]

    found, expected = cam_of(adapter, maps, scores), Explainer(resnet).explain(adapter, image)

    assert (found.label, found.method) == (expected.label, expected.method)
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert abs(found.values - expected.values).max() <= 1e-4 * abs(expected.values).max()


def test_explanations_keep_no_tensor(resnet: Backbone, draw_explained: DrawExplained, image: Tensor) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    adapters = [draw_explained(resnet), draw_explained(resnet, "mlp")]
    explainer = Explainer(resnet)
    for adapter in adapters:
        explainer.explain(adapter, image, "layercam")
    before = tensors()

    for turn in range(20):
        explainer.explain(adapters[turn % 2], image, ("cam", "layercam")[turn // 2 % 2])

    assert tensors() == before


def test_a_method_states_how_often_the_network_computes_the_image(
    resnet: Backbone, draw_explained: DrawExplained, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    scores = AdaptedNetwork.scores

    def count(network: AdaptedNetwork, images: Tensor) -> Tensor:
        counted.append(len(images))
        return scores(network, images)

    monkeypatch.setattr(AdaptedNetwork, "scores", count)
    Explainer(resnet).explain(draw_explained(resnet), image, "occlusion")

    assert passes_of("occlusion") == sum(counted)
    assert {method: passes_of(method) for method in METHODS if method != "occlusion"} == {"cam": 1, "layercam": 3}
