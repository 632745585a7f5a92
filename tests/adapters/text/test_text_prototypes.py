"""Text prototypes, and heads that are initialised with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
import typer
from torch.nn import functional as F
from typer.testing import CliRunner

from lensmount_adapters import load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.cli.zero_shot import zero_shot
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.recipe.carry_out import Plan, carry_out
from lensmount_adapters.recipe.recipe import load_recipe
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.text.text_prototypes import text_head
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.train_adapter import train

PROMPTS = Prompts(
    templates=("a photo of {}.", "{}, stained"), classes={"disc": ("a red disc",), "bar": ("a bar", "a blue bar")}
)

app = typer.Typer()
app.command("zero-shot")(zero_shot)
run = CliRunner()


@pytest.fixture(scope="module")
def folder(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def shapes(draw_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


def test_an_ensemble_is_the_normalised_mean_of_normalised_texts(folder: Path) -> None:
    head = text_head(folder, PROMPTS, ("bar", "disc"))

    model = transformers.CLIPModel.from_pretrained(folder).double().eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    for row, words in enumerate((["a bar", "a blue bar"], ["a red disc"])):
        directions = []
        for text in [text for word in words for text in (f"a photo of {word}.", f"{word}, stained")]:
            with torch.no_grad():  # one at a time: no padding
                one = model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output[0]
            directions.append(one / one.norm())
        mean = torch.stack(directions).mean(0)
        assert torch.allclose(head.prototypes[row].double(), mean / mean.norm(), atol=1e-5)
    assert torch.equal(head.projection, model.visual_projection.weight.float())
    assert torch.equal(head.logit_scale, model.logit_scale.float())
    assert torch.allclose(head.prototypes.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("method", ["head", "norm", "bias", "lora"])
def test_training_starts_from_the_texts_and_does_not_change_the_projection(
    folder: Path, shapes: Path, tmp_path: Path, method: str
) -> None:
    config = TrainingConfig(
        shapes, "shapes", tmp_path / "a.safetensors", backbone="clip", weights=str(folder), method=method, rank=2,
        head="text", prompts=PROMPTS, shots=4, epochs=2, learning_rate=1e-3, precision="fp32", file_dtype="fp32",
        batch_size=8, threads=1,
    )  # fmt: skip

    result = train(config)

    start, tensors = text_head(folder, PROMPTS, ("bar", "disc")), parse_adapter(result.path.read_bytes()).tensors
    assert torch.equal(tensors["head.projection"], start.projection)
    for name, first in (("head.prototypes", start.prototypes), ("head.logit_scale", start.logit_scale)):
        assert (tensors[name] - first).abs().max() > 1e-4  # ten steps of float32 at the scale's 100
    moved = F.cosine_similarity(tensors["head.prototypes"], start.prototypes)
    assert (moved > 0.99).all(), "the prototypes moved only a little"
    assert result.record["hyper_parameters"]["prompts"]["templates"] == list(PROMPTS.templates)
    learned = sum(t.numel() for n, t in tensors.items() if n != "head.projection")
    assert result.record["trainable_parameters"] == learned
    backbone = load_backbone("clip", folder)
    again = evaluate(result.path, shapes, backbone=backbone)
    assert result.test is not None
    assert again.metrics.accuracy == result.test.accuracy
    assert backbone.changed() == []


def test_the_plip_recipe_runs_completely_and_evaluates_each_of_its_files_on_the_same_images(
    folder: Path, draw_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = draw_folder(tmp_path / "data" / "histology-lc25000-lung", lung_aca=12, lung_n=12, lung_scc=12).parent
    changes = {"shots": 2, "epochs": 1, "precision": "fp32", "group_regex": r"^(.+_s\d+)_", "validation_fraction": 0.2}
    plan = Plan(data, tmp_path / "out", weights=str(folder), threads=1, changes=changes)

    outcomes = carry_out(load_recipe("histology-plip"), plan)

    assert [o.run for o in outcomes] == ["zero-shot", "probe", "prototypes", "norm", "bias", "lora-r4"]
    assert len({o.metrics["count"] for o in outcomes}) == 1
    trained = {o.run: o.trained_parameters for o in outcomes}
    factors = 3 * 3 * (4 * 48 + 48 * 4)  # layers, then q, k and v
    assert trained["zero-shot"] == 0
    assert trained["probe"] == 3 * 48 + 3
    assert trained["prototypes"] == 3 * 24 + 1
    assert trained["lora-r4"] == factors + trained["prototypes"]
    backbone = load_backbone("clip", folder)
    for outcome in outcomes:
        admit((tmp_path / "out" / outcome.file).read_bytes(), backbone)
        assert (tmp_path / "out" / f"{Path(outcome.file).stem}-report" / "metrics.png").is_file()
    assert carry_out(load_recipe("histology-plip"), plan) == outcomes, "a second call runs nothing again"


def test_texts_that_cannot_be_encoded_are_refused_with_a_message_that_says_what_to_do(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"found no description of the class 'oak'.*Described are bar, disc. Fix"):
        text_head(folder, PROMPTS, ("oak",))
    long = Prompts(templates=("{}",), classes={"a": ("word " * 60,)})
    with pytest.raises(TrainingError, match=r"found a prompt of \d+ tokens .*expected at most 77"):
        text_head(folder, long, ("a",))
    with pytest.raises(TrainingError, match="expected a CLIP with a text encoder"):
        text_head("random:0", PROMPTS, ("bar",))
    result = run.invoke(app, ["--prompts", str(tmp_path / "no.toml"), "--name", "a", "--out", str(tmp_path / "a")])
    assert result.exit_code == 1
    assert "found no prompts" in result.stderr
    assert not (tmp_path / "a").exists()
