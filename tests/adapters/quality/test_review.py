"""A review names what was planted: wrong labels, an odd image, a copy in another part, a telling file."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.adapters.conftest import DrawFolder

from lensmount_adapters import Backbone
from lensmount_adapters.data.dataset import ImageFolder, read_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.quality import review
from lensmount_adapters.quality.review import check_size, review_features, review_folder
from lensmount_adapters.quality.surface import surfaces_of


def features_of(folder: ImageFolder, truth: list[int]) -> np.ndarray:
    """Features in which the classes of `truth` are far apart, without a network."""
    draw = np.random.default_rng(0)
    return (np.eye(64)[truth] * 12 + draw.normal(size=(len(folder), 64))).astype(np.float32)


def test_wrong_labels_come_first_and_are_flagged_with_the_right_class(tmp_path: Path, draw_folder: DrawFolder) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=30, bars=30))
    truth = [sample.label for sample in folder.samples]
    wrong = (3, 17, 44)
    for index in wrong:
        truth[index] = 1 - truth[index]

    review = review_features(folder, features_of(folder, truth), surfaces_of(folder))

    assert {doubt.path for doubt in review.labels if doubt.flagged} == {folder.samples[i].path for i in wrong}
    assert review.flagged == 3
    assert all(doubt.suggested != doubt.label and doubt.quality < 0.5 for doubt in review.labels)
    assert "3 label(s) are likely wrong" in review.notes[0]


def test_a_mirrored_copy_in_another_part_is_a_leak_and_one_of_another_class_a_conflict(
    tmp_path: Path, draw_folder: DrawFolder
) -> None:
    draw_folder(tmp_path / "train", discs=8, bars=8)
    first = sorted((tmp_path / "train" / "discs").iterdir())[0]
    for part, label in (("test", "discs"), ("train", "bars")):
        target = tmp_path / part / label
        target.mkdir(parents=True, exist_ok=True)
        ImageOps.mirror(Image.open(first)).save(target / f"{part}_copy.png", compress_level=1 if part == "test" else 9)
    shutil.copytree(tmp_path / "train" / "bars", tmp_path / "test" / "bars", ignore=lambda *_: ["train_copy.png"])
    folder = read_folder(tmp_path)

    review = review_features(folder, features_of(folder, [s.label for s in folder.samples]), surfaces_of(folder))

    assert review.leak_count == 2  # the copy in test with its original, and the two copies with each other
    assert review.conflict_count == 2
    assert review.look_alikes[0].leak
    assert any("two parts" in note for note in review.notes)
    assert any("two labels" in note for note in review.notes)


def test_a_class_that_was_saved_in_another_format_is_a_shortcut(tmp_path: Path, draw_folder: DrawFolder) -> None:
    draw_folder(tmp_path, discs=20, bars=20)
    for path in (tmp_path / "bars").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=50)
        path.unlink()
    folder = read_folder(tmp_path)

    review = review_features(folder, features_of(folder, [s.label for s in folder.samples]), surfaces_of(folder))

    assert "file" in {shortcut.kind for shortcut in review.shortcuts}
    assert any("The file alone" in note for note in review.notes)


def test_the_head_that_knows_little_is_said(tmp_path: Path, draw_folder: DrawFolder) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=40, bars=40))
    truth = [int(bit) for bit in np.random.default_rng(1).integers(0, 2, 80)]

    review = review_features(folder, features_of(folder, truth), surfaces_of(folder))

    assert review.accuracy is not None
    assert review.accuracy < 0.9
    assert review.flagged == 0 or any("Fix: look before you change a label" in note for note in review.notes)


def test_a_class_of_one_group_is_said_not_to_be_judged(tmp_path: Path, draw_folder: DrawFolder) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=20, bars=20))
    one = [dataclasses.replace(s, group="one") if s.label == 0 else s for s in folder.samples]
    folder = dataclasses.replace(folder, samples=tuple(one))

    review = review_features(folder, features_of(folder, [s.label for s in folder.samples]), surfaces_of(folder))

    assert review.checked == 16  # the fold that asks about the only group of bars also asks about four discs
    assert "24 image(s) cannot be checked" in review.notes[0]


def test_a_folder_is_reviewed_with_a_real_network_and_the_answer_is_json(
    tmp_path: Path, small_backbone: Backbone, draw_folder: DrawFolder
) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=12, bars=12))
    phases: list[str] = []

    review = review_folder(folder, small_backbone, lambda phase, done, total: phases.append(phase))

    document = json.loads(json.dumps(review.to_json(), allow_nan=False))
    assert document["images"] == document["checked"] == 24
    assert document["flagged"] == review.flagged
    assert list(dict.fromkeys(phases)) == ["reading", "features"]


def test_too_many_images_are_refused_with_a_way_out() -> None:
    with pytest.raises(DatasetError, match="Fix: review a part of them"):
        check_size(50_001)
    check_size(50_000)


@pytest.mark.parametrize(("most", "said"), [(2, True), (3, False)])
def test_a_count_of_pairs_that_is_not_complete_says_so(
    tmp_path: Path, draw_folder: DrawFolder, monkeypatch: pytest.MonkeyPatch, most: int, said: bool
) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=10, bars=10))
    blocks = [np.array([[0, 1, 0], [0, 2, 0], [1, 2, 0]]), np.array([[3, 4, 0]])]
    monkeypatch.setattr(review, "alike", lambda images: iter(blocks))
    monkeypatch.setattr(review, "MAX_PAIRS", most)

    found = review_features(folder, np.eye(20, 64, dtype=np.float32), surfaces_of(folder))

    assert found.look_alike_count == (3 if said else 4)
    assert any("more pairs of images" in note for note in found.notes) == said


def test_groups_that_the_names_suggest_are_proposed_and_the_way_that_is_named_works(
    tmp_path: Path, draw_folder: DrawFolder
) -> None:
    draw_folder(tmp_path, discs=20, bars=20)
    for label in ("discs", "bars"):
        for number, path in enumerate(sorted((tmp_path / label).iterdir())):
            path.rename(path.with_name(f"patient{number % 10}_{number}.png"))

    notes = reviewed(tmp_path, None)
    proposed = next(note for note in notes if "--group-regex" in note)
    assert "10 groups in 40 images" in proposed
    regex = proposed.rpartition("--group-regex '")[2].removesuffix("')")

    assert not any("--group-regex" in note for note in reviewed(tmp_path, regex))


def reviewed(data: Path, group_regex: str | None) -> tuple[str, ...]:
    """The notes of a review of this folder."""
    folder = read_folder(data, group_regex)
    return review_features(folder, features_of(folder, [s.label for s in folder.samples]), surfaces_of(folder)).notes
