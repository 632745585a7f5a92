"""Evaluate an adapter file on a folder of images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from lensmount_adapters import Preprocessing
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import write_adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.data.split import split_samples
from lensmount_adapters.errors import BackboneMismatch, DatasetError
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import train

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder, DrawManifest

SLIDES = r"^(.+_s\d+)_"


@pytest.fixture(scope="module")
def shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=20, bar=20)


@pytest.fixture(scope="module")
def trained(shapes: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(
        TrainingConfig(
            data=shapes,
            name="shapes",
            out=tmp_path_factory.mktemp("out") / "shapes.safetensors",
            backbone="mobilenetv3_small_050",
            weights="random:0",
            epochs=3,
            batch_size=8,
            size=32,
            group_regex=SLIDES,
            seed=5,
            precision="fp32",
            threads=1,
        ),
        backbone=backbone,
    )


def test_the_test_part_is_the_recorded_one(trained: TrainingResult, shapes: Path, backbone: Backbone) -> None:
    folder = read_folder(shapes, SLIDES)
    expected = split_samples([s.label for s in folder.samples], [s.group for s in folder.samples], 5).test

    found = evaluate(trained.path, shapes, backbone=backbone)

    assert found.paths == tuple(folder.samples[i].path for i in expected)
    assert found.metrics == trained.test


def test_scores_are_those_of_the_mounted_adapter_one_image_at_a_time(
    trained: TrainingResult, shapes: Path, backbone: Backbone
) -> None:
    found = evaluate(trained.path, shapes, split="all", backbone=backbone)

    adapter = admit(trained.path.read_bytes(), backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    rule = adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    images = [preprocess(decode_image((shapes / path).read_bytes()), rule)[None] for path in found.paths]
    expected = torch.cat([adapter.scores(backbone.features(image)) for image in images])
    swapper.unmount()
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-5)


def test_split_all_evaluates_every_image_and_the_backbone_is_restored(
    trained: TrainingResult, shapes: Path, backbone: Backbone
) -> None:
    seen: list[tuple[int, int]] = []

    found = evaluate(trained.path, shapes, split="all", backbone=backbone, on_progress=lambda *done: seen.append(done))

    assert found.metrics.count == 40
    assert seen[-1] == (40, 40)
    assert backbone.changed() == []


def test_changed_data_are_not_accepted_as_the_recorded_test_part(
    trained: TrainingResult, shapes: Path, backbone: Backbone, tmp_path: Path
) -> None:
    shutil.copytree(shapes, tmp_path / "shapes")
    tested = evaluate(trained.path, shapes, backbone=backbone).paths
    (tmp_path / "shapes" / tested[0]).unlink()

    with pytest.raises(DatasetError, match=r"does not reproduce.*--split all"):
        evaluate(trained.path, tmp_path / "shapes", backbone=backbone)

    assert evaluate(trained.path, tmp_path / "shapes", split="all", backbone=backbone).metrics.count == 39


def test_the_limits_of_images_are_those_of_the_training(shapes: Path, backbone: Backbone, tmp_path: Path) -> None:
    data = shutil.copytree(shapes, tmp_path / "shapes")
    first = sorted((data / "bar").iterdir())[0]
    with Image.open(first) as image:
        width, height = image.size
    config = TrainingConfig(
        data=data,
        name="small",
        out=tmp_path / "small.safetensors",
        backbone="mobilenetv3_small_050",
        weights="random:0",
        method="head",
        epochs=1,
        size=32,
        max_pixels=width * height,
        threads=1,
    )
    result = train(config, backbone=backbone)
    assert evaluate(result.path, data, split="all", backbone=backbone).metrics.count == 40

    Image.new("L", (width, height + 1)).save(first)
    with pytest.raises(DatasetError, match=f"{width} x {height + 1}, expected at most {width * height} pixels"):
        evaluate(result.path, data, split="all", backbone=backbone)


def test_a_zip_of_the_folder_gives_the_recorded_test_part_and_the_same_figures(
    trained: TrainingResult, shapes: Path, backbone: Backbone, tmp_path: Path
) -> None:
    zipped = shutil.make_archive(str(tmp_path / "shapes"), "zip", shapes.parent, shapes.name)

    found = evaluate(trained.path, Path(zipped), backbone=backbone)

    assert found.metrics == trained.test


def test_a_folder_with_other_classes_is_refused(
    trained: TrainingResult, draw_folder: DrawFolder, backbone: Backbone, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", disc=2, cross=2)

    with pytest.raises(DatasetError, match="cross"):
        evaluate(trained.path, root, split="all", backbone=backbone)


def test_the_recorded_weights_are_loaded_and_others_are_refused(trained: TrainingResult, shapes: Path) -> None:
    assert evaluate(trained.path, shapes).metrics.count == trained.record["split"]["parts"]["test"]["images"]
    with pytest.raises(BackboneMismatch):
        evaluate(trained.path, shapes, weights="random:1")


def test_the_report_is_written_to_the_folder_asked_for(
    trained: TrainingResult, shapes: Path, backbone: Backbone, tmp_path: Path
) -> None:
    found = evaluate(trained.path, shapes, out=tmp_path / "report", backbone=backbone)

    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert document == json.loads(json.dumps(found.metrics_json))
    assert document["adapter"]["digest"] == trained.digest
    assert (tmp_path / "report" / "metrics.png").is_file()
    assert found.written[-1] == tmp_path / "report" / "report.html"
    assert trained.digest in found.written[-1].read_text()


def test_a_version_that_cannot_be_compared_is_refused_before_any_image_is_answered(
    trained: TrainingResult, shapes: Path, backbone: Backbone, draw_manifest: DrawManifest, tmp_path: Path
) -> None:
    trees = tmp_path / "trees.safetensors"
    head = {"head.weight": torch.zeros(2, 4), "head.bias": torch.zeros(2)}
    write_adapter(trees, draw_manifest(["oak", "elm"], modules={}, method="head"), head)
    answered: list[int] = []

    with pytest.raises(DatasetError, match=r"found the labels oak, elm, expected .*leave --compare out"):
        evaluate(
            trained.path,
            shapes,
            backbone=backbone,
            compare=trees,
            on_progress=lambda done, total: answered.append(done),
        )
    assert answered == []
    evaluate(trained.path, shapes, backbone=backbone, compare=trained.path)
