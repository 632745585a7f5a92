"""Reports with the version before and heat maps, from training, from evaluation and for every file that fits."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import parse_adapter, write_adapter
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.explain.heat_maps import heat_maps
from lensmount_adapters.report.write import write_run_report
from lensmount_adapters.training.before import version_before
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.run_report import context_of
from lensmount_adapters.training.train_adapter import train

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

Trained = Callable[..., TrainingResult]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("test_efficientnet", "random:0")  # averages its last map, as CAM needs it


@pytest.fixture(scope="module")
def shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


@pytest.fixture(scope="module")
def trained(shapes: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, known = tmp_path_factory.mktemp("out"), dict[str, TrainingResult]()

    def make(name: str, **changes: Any) -> TrainingResult:
        if name not in known:
            config = TrainingConfig(
                data=shapes,
                name=name,
                out=folder / f"{name}.safetensors",
                backbone="test_efficientnet",
                weights="random:0",
                batch_size=8,
                size=32,
                precision="fp32",
                threads=1,
                test_fraction=0.3,
            )
            known[name] = train(replace(config, **changes), backbone=backbone)
        return known[name]

    return make


@pytest.fixture(scope="module")
def old(trained: Trained) -> TrainingResult:
    return trained("old", epochs=1, method="head", learning_rate=1e-5)


@pytest.fixture(scope="module")
def new(trained: Trained) -> TrainingResult:
    return trained("new", epochs=8, positive="disc", prevalence=0.02, author="Ada", intended_use="Shapes.")


def test_two_versions_are_compared_on_the_same_test_images(
    old: TrainingResult, new: TrainingResult, backbone: Backbone
) -> None:
    before = context_of(new, backbone, old.path).before

    assert before is not None
    answers = [part.scores.argmax(1).numpy() for part in (old.scored["test"], new.scored["test"])]
    truth = new.scored["test"].truth.numpy()
    right = [found == truth for found in answers]
    gained, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    assert (before.name, before.digest, before.note) == ("old", old.digest, "")
    assert (before.paired.gained, before.paired.lost) == (gained, lost)
    assert len(before.paired.changed) == (answers[0] != answers[1]).sum()
    assert gained > 3
    assert before.paired.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert backbone.changed() == []


def test_a_version_of_another_split_may_have_seen_the_images_and_the_report_says_so(
    trained: Trained, new: TrainingResult, backbone: Backbone
) -> None:
    before = context_of(new, backbone, trained("other", epochs=1, method="head", seed=3).path).before

    assert before is not None
    assert before.note.startswith("other (other.safetensors) was trained with another split")


def test_labels_in_another_order_are_compared_by_name(
    old: TrainingResult, new: TrainingResult, backbone: Backbone, tmp_path: Path
) -> None:
    file = parse_adapter(old.path.read_bytes())
    turned = file.manifest.model_copy(update={"labels": file.manifest.labels[::-1], "trust": None})
    tensors = {
        name: tensor.flip(0) if name.startswith("head.") else tensor
        for name, tensor in file.tensors.items()
        if not name.startswith("trust.")
    }
    write_adapter(tmp_path / "turned.safetensors", turned, tensors)

    found, same = (context_of(new, backbone, path).before for path in (tmp_path / "turned.safetensors", old.path))

    assert found is not None
    assert same is not None
    assert found.paired.changed == same.paired.changed


def test_other_labels_are_refused_and_the_report_of_a_run_says_why_instead(
    old: TrainingResult, new: TrainingResult, backbone: Backbone, tmp_path: Path
) -> None:
    file = parse_adapter(old.path.read_bytes())
    named = file.manifest.model_copy(update={"labels": ("oak", "elm"), "trust": None})
    write_adapter(tmp_path / "trees.safetensors", named, dict(file.tensors))

    with pytest.raises(DatasetError, match=r"found the labels oak, elm, expected those of new, bar, disc\. Fix: "):
        version_before(tmp_path / "trees.safetensors", "test", new.scored["test"], new.manifest, new.folder, backbone)
    context = context_of(new, backbone, tmp_path / "trees.safetensors")

    assert context.before is None
    assert context.notes[-1].startswith("Not compared with trees.safetensors: ")


def test_a_version_of_another_backbone_is_asked_with_its_own(
    new: TrainingResult, shapes: Path, tmp_path: Path, backbone: Backbone
) -> None:
    out = tmp_path / "first.safetensors"
    config = TrainingConfig(
        shapes, "first", out, backbone="test_efficientnet", weights="random:1", epochs=1, size=32, method="head",
        precision="fp32", threads=1, test_fraction=0.3,
    )  # fmt: skip
    first = train(config)

    before = context_of(new, backbone, out).before

    assert before is not None
    assert before.paired.before == first.test


def test_the_report_of_a_run_has_heat_maps_of_its_own_images(
    new: TrainingResult, backbone: Backbone, tmp_path: Path
) -> None:
    context = context_of(new, backbone)

    write_run_report(tmp_path, new.manifest, new.digest, new.size_bytes, new.scored, new.folder.read, context)

    page = (tmp_path / "report.html").read_text()
    assert page.count('alt="What speaks for ') >= 2
    assert "disc</bdi> as the positive result" in page
    assert "Author: <bdi>Ada</bdi>" in page
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["diagnostic"]["at_prevalence"]["prevalence"] == 0.02
    assert document["trust"]["images"] == len(new.scored["test"].paths)


def test_a_heat_map_is_the_image_with_colours_where_the_evidence_is(new: TrainingResult, backbone: Backbone) -> None:
    path = new.scored["test"].paths[0]
    drawn = heat_maps(admit(new.path.read_bytes(), backbone), backbone, new.folder.read)

    png = drawn(path)

    assert png is not None
    with Image.open(io.BytesIO(png)) as heated, Image.open(io.BytesIO(new.folder.read(path))) as image:
        assert heated.size == image.size
        assert (np.asarray(heated) != np.asarray(image.convert("RGB"))).any()
    assert drawn("nothing/there.png") is None


def test_a_network_that_no_map_explains_has_a_report_without_maps(shapes: Path, tmp_path: Path) -> None:
    vit = load_backbone("test_vit", "random:0")
    config = TrainingConfig(
        shapes, "vit", tmp_path / "vit.safetensors", backbone="test_vit", weights="random:0", epochs=1, method="head",
        precision="fp32", threads=1,
    )  # fmt: skip
    result = train(config, backbone=vit)

    drawn = context_of(result, vit).heat_map

    assert drawn is not None
    assert drawn(result.scored["test"].paths[0]) is None


def test_an_evaluation_asks_for_a_label_a_prevalence_and_a_version_before(
    old: TrainingResult, new: TrainingResult, shapes: Path, backbone: Backbone, tmp_path: Path
) -> None:
    found = evaluate(
        new.path,
        shapes,
        out=tmp_path,
        backbone=backbone,
        compare=old.path,
        positive="bar",
        prevalence=0.3,
        author="Eve",
    )

    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document == json.loads(json.dumps(found.metrics_json))
    assert document["diagnostic"]["positive"] == "bar"
    assert document["diagnostic"]["sensitivity"]["of"] == int((found.truth == 0).sum())
    assert document["before"]["adapter"]["digest"] == old.digest
    page = (tmp_path / "report.html").read_text()
    assert "Author: <bdi>Eve</bdi>" in page
    assert "Compared with the version before" in page
    again = evaluate(new.path, read_folder(shapes).root, backbone=backbone)
    assert again.metrics_json["diagnostic"]["positive"] == "disc"  # as it was trained
    assert "before" not in again.metrics_json


def test_an_unknown_positive_label_is_refused_before_any_image_is_scored(
    new: TrainingResult, shapes: Path, backbone: Backbone
) -> None:
    seen: list[int] = []
    with pytest.raises(DatasetError, match=r"found positive 'oak', expected one of bar, disc\. Fix: --positive disc"):
        evaluate(new.path, shapes, backbone=backbone, positive="oak", on_progress=lambda done, _: seen.append(done))
    assert seen == []
    assert evaluate(new.path, shapes, backbone=backbone, positive="disc").metrics_json["diagnostic"]
