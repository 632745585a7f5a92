"""Adapters made by recipes are served like any other: uploaded, used, swapped, without leaving a trace."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw

from lensmount_adapters import Backbone, load_backbone, tensor_digest
from lensmount_adapters.recipe.carry_out import Plan, carry_out
from lensmount_adapters.recipe.helix import draw_helix, write_helices
from lensmount_adapters.recipe.masks import base_weights
from lensmount_adapters.recipe.recipe import load_recipe, recipe_names

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts

SMALL = {"size": 32, "epochs": 1, "batch_size": 8, "precision": "fp32", "cache_trunk": "off", "test_fraction": 0.25}
FEW = (("group_regex", None), ("shots", 4), ("validation_fraction", 0.2))
TISSUE = ("lung_aca", "lung_n", "lung_scc")


@dataclass(frozen=True)
class Case:
    """Two runs of a recipe on a few drawn inputs. `weights` "clip" means the small CLIP of the tests."""

    images: str
    labels: tuple[str, ...]
    runs: tuple[str, str]
    weights: str = "random:0"
    extra: str | None = None
    changes: tuple[tuple[str, Any], ...] = (("group_regex", None),)


CASES = {
    "malaria-vgg16": Case("malaria-nih", ("Parasitized", "Uninfected"), ("seed", "lean")),
    "smoking-resnet34": Case("smoking", ("notsmoking", "smoking"), ("seed", "head")),
    "histology-lite0": Case(
        "histology-lc25000-lung", TISSUE, ("norm", "lora-r4"), "pypi", changes=FEW
    ),
    "histology-plip": Case(
        "histology-lc25000-lung", TISSUE, ("zero-shot", "lora-r4"), "clip", "transformers",
        FEW,
    ),
    "nuclei-unet": Case(
        "nuclei-dsb2018", ("nucleus",), ("base", "lora"), extra="monai", changes=
        (("size", 64), ("epochs", 4), ("where", None), ("learning_rate", 0.01)),
    ),
    "helix-3d": Case("helix", ("left", "right"), ("volume", "head"), "pypi", changes=()),
}  # fmt: skip


@dataclass(frozen=True)
class Served:
    backbone: Backbone
    files: list[bytes]
    labels: tuple[str, ...]
    sent: bytes


@pytest.fixture(scope="module", params=CASES)
def carried_out(request: Any, tmp_path_factory: Any, make_images: Any, make_png: Any) -> Served:
    """A recipe's backbone, the files of two of its runs, their labels, and an input to post."""
    name, case = request.param, CASES[request.param]
    if case.extra:
        pytest.importorskip(case.extra, reason=f"needs the library {case.extra}")
    root: Path = tmp_path_factory.mktemp("recipe")
    sent = make_png()
    if case.images == "helix":
        write_helices(root / "helix", 8, (6, 32, 32))
        sent = as_npy(draw_helix(True, 99, (6, 32, 32)))
    elif case.images == "nuclei-dsb2018":
        write_blobs(root / case.images)
        sent = (root / case.images / "images" / "0.png").read_bytes()
    else:
        make_images(root / case.images, case.labels, 10)
    recipe = load_recipe(name)
    weights = str(request.getfixturevalue("make_clip")(root / "clip")) if case.weights == "clip" else case.weights
    plan = Plan(
        root, root / "out", weights, list(case.runs), [case.images], threads=1, changes=SMALL | dict(case.changes)
    )
    files = [root / "out" / outcome.file for outcome in carry_out(recipe, plan)]
    used = base_weights(files[0]) if case.runs[0] == "base" else weights
    backbone = load_backbone(recipe.backbone, used)
    small = {"depth": 16, "size": (32, 32)} if case.images == "helix" else {"size": (64, 64)}
    if case.weights != "clip":  # the size at which its programs are measured
        backbone.preprocessing = backbone.preprocessing.model_copy(update=small)
    return Served(backbone, [path.read_bytes() for path in files], case.labels, sent)


def as_npy(voxels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, voxels)
    return file.getvalue()


def write_blobs(folder: Path, count: int = 12) -> None:
    """Images of bright discs with masks and index.csv, in the layout of the nuclei data."""
    draw = np.random.default_rng(0)
    rows = ["file,modality"]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        picture, mask = Image.new("RGB", (64, 64), (20, 20, 20)), Image.new("L", (64, 64))
        for x, y in draw.integers(8, 56, (4, 2)).tolist():
            ImageDraw.Draw(picture).ellipse((x - 7, y - 7, x + 7, y + 7), fill=(220, 210, 230))
            ImageDraw.Draw(mask).ellipse((x - 7, y - 7, x + 7, y + 7), fill=255)
        picture.save(folder / "images" / f"{number}.png")
        mask.save(folder / "masks" / f"{number}.png")
        rows.append(f"{number}.png,fluorescence")
    (folder / "index.csv").write_text("\n".join(rows) + "\n")


def test_every_recipe_is_tried() -> None:
    assert set(CASES) == set(recipe_names())


@pytest.mark.parametrize("executor", ["eager", "merged"])
def test_a_recipes_adapters_predict_are_swapped_and_leave_the_backbone_unchanged(
    carried_out: Served, make_parts: MakeParts, executor: str
) -> None:
    backbone = carried_out.backbone
    before = {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()}
    with make_parts(backbone, executor=executor) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for name, data in zip(("one", "other"), carried_out.files, strict=True):
            assert client.put(f"/adapters/{name}", content=data).status_code == 201
            assert client.get(f"/adapters/{name}/file").content == data

        answers = [client.post(f"/predict?adapter={n}", content=carried_out.sent) for n in ("one", "other", "one")]

        found = [(answer.json()["predictions"], answer.json().get("segmentation")) for answer in answers]
        assert {row["label"] for row in found[0][0]} == set(carried_out.labels)
        assert found[0] == found[2] != found[1]
        assert client.get("/integrity").json()["ok"]
    assert {name: tensor_digest(tensor) for name, tensor in backbone.tensors.items()} == before
    assert backbone.changed() == []
