"""Recipe files: their content, what they train, and which mistakes are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lensmount_adapters.adapter.head_text import head_of
from lensmount_adapters.adapter.manifest import HeadSpec
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError, WeightsMismatch
from lensmount_adapters.recipe.recipe import Recipe, load_recipe, read_recipe, recipe_names, recipes_folder
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.fine_tune import TrainableModules, select_modules
from lensmount_adapters.training.trainable import FactorInit, TrainableAdapter

VGG16_WEIGHTS = Path(__file__).parents[4] / "shared" / "weights" / "vgg16-imagenet-features.safetensors"


@pytest.fixture(scope="module")
def vgg16() -> Backbone:
    return load_backbone("vgg16", "random:0")


@pytest.fixture(scope="module")
def resnet34() -> Backbone:
    return load_backbone("resnet34", "random:0")


def adapter_of(recipe: Recipe, run: str, backbone: Backbone) -> TrainableAdapter:
    """The adapter that the run trains, for two classes."""
    chosen = next(one for one in recipe.runs if one.name == run)
    config = recipe.config(chosen, recipe.images[0], Path(), Path("x"))
    head = head_text(config, backbone)
    if chosen.modules is not None:
        selection = select_modules(backbone, chosen.modules)
        return TrainableModules(backbone, selection, rank=1, alpha=1.0, head=head, classes=2, seed=0)
    selection = select_targets(backbone.name, backbone.targets, config.method, config.targets)
    alpha = 2.0 * config.rank if config.alpha is None else config.alpha
    return TrainableAdapter(
        backbone,
        selection,
        rank=config.rank,
        alpha=alpha,
        head=head,
        classes=2,
        seed=0,
        init=FactorInit(config.init_std),
    )


def head_text(config: TrainingConfig, backbone: Backbone) -> HeadSpec:
    return head_of(config.head, backbone.feature_dim, 2) if isinstance(config.head, str) else config.head


def test_every_recipe_is_read_and_has_its_page() -> None:
    assert {"malaria-vgg16", "smoking-resnet34"} <= set(recipe_names())
    for name in recipe_names():
        assert load_recipe(name).name == name
        assert (recipes_folder() / f"{name}.md").is_file()


def test_smoking_trains_as_many_parameters_as_its_source(resnet34: Backbone) -> None:
    recipe = load_recipe("smoking-resnet34")

    adapter = adapter_of(recipe, "seed", resnet34)

    layer3 = (8 * 128 * 9 + 256 * 8) + 11 * (8 * 256 * 9 + 256 * 8)
    layer4 = (8 * 256 * 9 + 512 * 8) + 5 * (8 * 512 * 9 + 512 * 8)
    assert adapter.count() == layer3 + layer4 + 2 * 512 + 2 == 464_898 == recipe.reported[0].trained_parameters
    backbone = sum(p.numel() for p in resnet34.module.parameters())
    assert backbone == 21_284_672
    assert round(adapter.count() / (backbone + adapter.count()), 4) == 0.0214 == recipe.reported[0].share


def test_smoking_draws_a_like_its_source_and_starts_at_the_backbone(resnet34: Backbone) -> None:
    tensors = adapter_of(load_recipe("smoking-resnet34"), "seed", resnet34).tensors()

    drawn = [tensor for name, tensor in tensors.items() if name.endswith("lora_A.weight")]
    assert len(drawn) == 18
    assert all(abs(float(A.std()) - 0.01) < 0.0005 for A in drawn)
    assert not any(tensor.any() for name, tensor in tensors.items() if name.endswith("lora_B.weight"))


def test_malaria_gives_rank_5_to_the_three_convolutions_of_block_5(vgg16: Backbone) -> None:
    adapter = adapter_of(load_recipe("malaria-vgg16"), "lean", vgg16)

    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.tensors().items()}
    factors = {
        f"features.{conv}.lora_{factor}.weight": shape
        for conv in (24, 26, 28)
        for factor, shape in (("A", (5, 512, 3, 3)), ("B", (512, 5, 1, 1)))
    }
    assert shapes == factors | {"head.weight": (2, 512), "head.bias": (2,)}
    assert adapter.count() == 3 * (5 * 512 * 9 + 512 * 5) + 1026 == 77_826


def test_malaria_has_the_head_of_its_source(vgg16: Backbone) -> None:
    adapter = adapter_of(load_recipe("malaria-vgg16"), "seed", vgg16)

    head = {name: tuple(tensor.shape) for name, tensor in adapter.tensors().items() if name.startswith("head.")}
    norm = dict.fromkeys(("head.1.weight", "head.1.bias", "head.1.running_mean", "head.1.running_var"), (256,))
    assert head == norm | {
        "head.0.weight": (256, 512), "head.0.bias": (256,), "head.4.weight": (2, 256), "head.4.bias": (2,),
    }  # fmt: skip
    trained = sum(p.numel() for p in adapter.head.parameters())
    assert trained == (512 * 256 + 256) + 2 * 256 + (256 * 2 + 2) == 132_354
    assert adapter.count() == 76_800 + trained


def test_malaria_is_compared_with_two_convolutions_and_two_dense_layers_in_full(vgg16: Backbone) -> None:
    adapter = adapter_of(load_recipe("malaria-vgg16"), "full", vgg16)

    assert {delta.target.module for delta in adapter.deltas} == {"features.26", "features.28"}
    assert adapter.count() == 2 * (512 * 512 * 9 + 512) + 132_354


@pytest.mark.skipif(not VGG16_WEIGHTS.is_file(), reason="needs shared/weights next to the checkout")
def test_the_weights_of_vgg16_next_to_the_checkout_fit() -> None:
    backbone = load_backbone("vgg16", VGG16_WEIGHTS)

    assert backbone.feature_dim == 512
    with pytest.raises(WeightsMismatch):
        load_backbone("resnet34", VGG16_WEIGHTS)


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "not TOML": (lambda text: f"{text}\n= 3", "found a file that is not TOML"),
    "an unknown key": (lambda text: f"colour = 3\n{text}", "colour: Extra inputs"),
    "a missing key": (lambda text: text.replace("title =", "#"), "title: Field required"),
    "a wrong type": (lambda text: text.replace('weights = ["hub"]', "weights = 3"), "weights"),
    "an unknown setting": (lambda text: text.replace("epochs = 12", "epoch = 12"), "found setting 'epoch'"),
    "a place among the settings": (lambda text: text.replace("epochs = 12", 'out = "/x"'), "found setting 'out'"),
    "a setting out of range": (lambda text: text.replace("epochs = 12", "epochs = 0"), "found 0 epochs"),
    "a setting of a wrong type": (lambda text: text.replace("epochs = 12", 'epochs = "12"'), "run 'seed' on smoking"),
    "two runs of the same name": (lambda text: text.replace('name = "head"', 'name = "seed"'), "found two runs"),
    "modules without full": (lambda text: f"{text}modules = 'conv'\n", "found modules without"),
    "a full tuning of nothing": (lambda text: text.replace('name = "head"', 'name = "full"\nkind = "full"'), "modules"),
    "a path as a folder": (lambda text: text.replace('"smoking"', '"../smoking"'), "images.0.folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_refused_with_the_first_wrong_key(case: str, tmp_path: Path) -> None:
    change, message = WRONG[case]
    text = (recipes_folder() / "smoking-resnet34.toml").read_text()
    text = text.replace('settings = { method = "head" }', 'settings = { method = "head" }\n')
    (tmp_path / "own.toml").write_text(change(text))

    with pytest.raises(TrainingError, match=message):
        read_recipe(tmp_path / "own.toml")


def test_a_recipe_outside_the_shipped_ones_is_loaded_by_its_path(tmp_path: Path) -> None:
    text = (recipes_folder() / "smoking-resnet34.toml").read_text()
    (tmp_path / "own.toml").write_text(text)

    assert load_recipe(str(tmp_path / "own.toml")).name == "own"


def test_the_recipe_printed_in_the_docs_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
    (tmp_path / "own.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])

    recipe = read_recipe(tmp_path / "own.toml")

    assert [run.kind for run in recipe.runs] == ["adapter", "full"]


@pytest.mark.parametrize("name", ["nothing", "nothing.toml", "../recipes/malaria-vgg16"])
def test_an_unknown_recipe_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(TrainingError, match=r"expected .*malaria-vgg16.*Fix: see `lensmount recipe --list`"):
        load_recipe(name)
