"""An adapter that a recipe made is served like any other: uploaded, answering, swapped, and no trace left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, load_backbone, tensor_digest
from lensmount_adapters.recipe import load_recipe
from lensmount_adapters.recipe_run import Plan, carry_out
from lensmount_service.server import Parts

SMALL = {"size": 32, "epochs": 1, "batch_size": 8, "precision": "fp32", "cache_trunk": "off", "test_fraction": 0.25}
SETS = {
    "malaria-vgg16": ("malaria-nih", ("Parasitized", "Uninfected"), ["seed", "lean"]),
    "smoking-resnet34": ("smoking", ("notsmoking", "smoking"), ["seed", "head"]),
}


@pytest.fixture(scope="module", params=SETS)
def carried_out(request, tmp_path_factory, make_pictures) -> tuple[Backbone, list[bytes], tuple[str, ...]]:
    """The backbone of a recipe, the files of two of its runs, and the labels."""
    folder, labels, runs = SETS[request.param]
    root: Path = tmp_path_factory.mktemp("recipe")
    make_pictures(root / folder, labels, 10)
    recipe = load_recipe(request.param)
    weights = _weights(recipe.backbone, root / "weights.safetensors")
    changes = SMALL | {"group_regex": None}
    plan = Plan(root, root / "out", str(weights), runs, [folder], threads=1, changes=changes)
    files = [(root / "out" / outcome.file).read_bytes() for outcome in carry_out(recipe, plan)]
    return load_backbone(recipe.backbone, weights), files, labels


def _weights(backbone: str, path: Path) -> Path:
    """Drawn weights whose residual branches are open: timm starts their last norm at zero, which stops gradients."""
    tensors = dict(load_backbone(backbone, "random:0").tensors)
    opened = {name: torch.ones_like(tensor) for name, tensor in tensors.items() if name.endswith("bn2.weight")}
    safetensors.torch.save_file(tensors | opened, path)
    return path


@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_a_recipes_adapters_answer_are_swapped_and_leave_the_backbone_as_it_was(
    carried_out: tuple[Backbone, list[bytes], tuple[str, ...]],
    make_parts: Callable[..., Parts],
    make_png: Callable[..., bytes],
    executor: str,
) -> None:
    backbone, files, labels = carried_out
    before = {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()}
    with make_parts(backbone, executor=executor) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for name, data in zip(("one", "other"), files, strict=True):
            assert client.put(f"/adapters/{name}", content=data).status_code == 201
            assert client.get(f"/adapters/{name}/file").content == data

        answers = [client.post(f"/predict?adapter={name}", content=make_png()) for name in ("one", "other", "one")]

        found = [answer.json()["predictions"] for answer in answers]
        assert {row["label"] for row in found[0]} == set(labels)
        assert found[0] == found[2] != found[1]
        assert client.get("/integrity").json()["ok"]
    assert {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()} == before
    assert backbone.changed() == []
