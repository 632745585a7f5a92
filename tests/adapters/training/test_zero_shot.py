"""Zero-shot adapters: CLIP's own scores, from a file that is admitted like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image

from lensmount_adapters import Preprocessing, load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.inputs.images import preprocess
from lensmount_adapters.recipe.carry_out import Plan, carry_out
from lensmount_adapters.recipe.recipe import load_recipe
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.training.zero_shot import write_zero_shot

SINGLE = Prompts(templates=("a photo of {}.",), classes={"disc": ("a disc",), "bar": ("a bar",)})


@pytest.fixture(scope="module")
def folder(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def shapes(draw_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


def test_with_one_text_per_class_scores_equal_logits_per_image_of_transformers(folder: Path, tmp_path: Path) -> None:
    backbone = load_backbone("clip", folder)
    write_zero_shot(tmp_path / "a.safetensors", "shapes", SINGLE, backbone, str(folder))
    pixels = torch.rand((36, 36, 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray((pixels * 255).byte().numpy())

    adapter = admit((tmp_path / "a.safetensors").read_bytes(), backbone)
    rule = adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    found = adapter.image_logits(backbone, preprocess(image, rule)[None])

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessor.from_pretrained(folder), transformers.CLIPTokenizer.from_pretrained(folder)
    )
    inputs = processor(
        text=["a photo of a disc.", "a photo of a bar."], images=image, return_tensors="pt", padding=True
    )
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
    assert torch.allclose(found, expected, atol=1e-3)
    assert adapter.manifest.labels == ("disc", "bar")
    assert adapter.manifest.method == "head"


def test_zero_shot_uses_no_label(folder: Path, draw_folder: Callable[..., Path], tmp_path: Path) -> None:
    """The same images with swapped labels give the same tensors and scores."""
    files = []
    for number, names in enumerate((("lung_aca", "lung_n", "lung_scc"), ("lung_n", "lung_aca", "lung_scc"))):
        root = tmp_path / str(number)
        data = draw_folder(root / "histology-lc25000-lung", **dict.fromkeys(names, 12)).parent
        plan = Plan(data, root / "out", str(folder), ["zero-shot"], threads=1, changes={"group_regex": None})
        (outcome,) = carry_out(load_recipe("histology-plip"), plan)
        files.append(parse_adapter((root / "out" / outcome.file).read_bytes()))
    assert all(torch.equal(files[0].tensors[name], tensor) for name, tensor in files[1].tensors.items())
    assert files[0].manifest.head == files[1].manifest.head
    assert files[0].manifest.head.temperature == 1.0
