"""Whether a split is possible is known before a run, and the advice makes it possible."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.test_layouts import draw

from lensmount_adapters.data.dataset import list_folder, read_folder
from lensmount_adapters.data.dataset_archive import write_dataset_archive
from lensmount_adapters.data.split import split_samples
from lensmount_adapters.data.split_advice import (
    SplitOptions,
    StatedImage,
    advised_split,
    folder_of,
    fractions_that_work,
    split_with,
    stated_images,
    why_no_split,
    why_refused,
)
from lensmount_adapters.errors import DatasetError


def images(*counts: int, group: int = 0, split: str | None = None) -> list[StatedImage]:
    """As many images of class "a", "b", ... as `counts` say; `group` images share one group."""
    return [
        StatedImage(
            f"{label}/{n}.png", label, f"{label}{n // group}" if group else None, split, f"digest of {label}/{n}"
        )
        for label, count in zip("abcdefgh", counts, strict=False)
        for n in range(count)
    ]


def splits(counts: Sequence[int], validation: float, test: float) -> bool:
    """Whether the split itself succeeds, asked directly."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    try:
        split_samples(labels, range(len(labels)), 0, validation, test)
    except DatasetError:
        return False
    return True


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (2, 40), (4, 4), (6, 6), (8, 8), (3, 90), (20, 30), (5, 5, 5, 2)])
def test_the_reason_is_there_exactly_if_the_split_fails(counts: tuple[int, ...]) -> None:
    reason = why_no_split(folder_of(images(*counts)))

    assert (reason is None) == splits(counts, 0.15, 0.15)


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (2, 40), (5, 5, 5, 2)])
def test_the_advised_fractions_and_the_advised_number_of_images_work(counts: tuple[int, ...]) -> None:
    reason = why_no_split(folder_of(images(*counts)))

    assert reason is not None
    advice = re.search(r"--val-fraction (\S+) --test-fraction (\S+)\)", reason)
    assert advice is not None
    assert splits(counts, float(advice[1]), float(advice[2]))
    enough = re.search(rf"Found {min(counts)} image\(s\) of '[a-h]', expected at least (\d+) of each class", reason)
    assert enough is not None
    assert splits([int(enough[1])] * len(counts), 0.15, 0.15)


def test_copies_and_groups_count_once() -> None:
    copies = [StatedImage(f"a/{n}.png", "a", None, None, "same") for n in range(30)]

    for few in (copies + images(0, 30), images(30, group=15) + images(0, 30)):
        reason = why_no_split(folder_of(few))
        assert reason is not None
        assert re.search(
            r"Found 30 image\(s\) in [12] group\(s\) of 'a', expected at least \d+ of each class, all", reason
        )


def test_the_options_of_a_run_decide() -> None:
    folder = folder_of(images(3, 3))

    assert why_no_split(folder) is not None
    assert why_no_split(folder, SplitOptions(0, 0, 0)) is None
    assert why_no_split(folder_of(images(30, 30)), SplitOptions(shots=5)) is None
    shots = why_no_split(folder_of(images(30, 30)), SplitOptions(shots=500))
    assert shots is not None
    few = re.search(r"found (\d+) training images .*, expected 500 for --shots\. Fix: choose fewer shots", shots)
    assert few is not None
    assert why_no_split(folder_of(images(30, 30)), SplitOptions(shots=int(few[1]))) is None
    both = why_no_split(folder, SplitOptions(shots=5))
    assert both is not None
    assert "no shots" in both


def test_a_stated_split_is_taken() -> None:
    stated = images(4, 4, split="train") + [
        StatedImage(f"{label}/{part}.png", label, None, part, f"{label}{part}")
        for label in "ab"
        for part in ("validation", "test")
    ]

    assert why_no_split(folder_of(stated)) is None
    split = split_with(folder_of(stated), SplitOptions())
    assert (len(split.train), len(split.validation), len(split.test)) == (8, 2, 2)


def test_nothing_works_if_a_class_has_one_group_only_and_is_held_out() -> None:
    assert fractions_that_work(folder_of(images(2, 2, split="test"))) is None
    reason = why_no_split(folder_of(images(2, 2, split="test")))
    assert reason is not None
    assert "Found 0 image(s) of 'a' that are not stated for validation or test" in reason
    assert "Fix: state train for images of each class" in reason


@pytest.mark.parametrize("stated", [("test",), ("validation",), ("validation", "test")])
@pytest.mark.parametrize("few", [0, 1, 2])
def test_next_to_stated_parts_the_advised_number_of_images_for_training_works(stated: Sequence[str], few: int) -> None:
    def with_train(count: int) -> list[StatedImage]:
        held_out = [
            StatedImage(f"{label}/{part}{n}.png", label, None, part, f"{label}{part}{n}")
            for label in "ab"
            for part in stated
            for n in range(9)
        ]
        return held_out + images(count, count, split="train")

    reason = why_no_split(folder_of(with_train(few)))

    if reason is None:
        assert stated == ("validation", "test")
        assert few > 0
        return
    enough = re.search(r"Found (\d) image\(s\) of 'a' that are not stated .*, expected at least (\d+) of each", reason)
    assert enough is not None
    assert int(enough[1]) == few
    assert why_no_split(folder_of(with_train(int(enough[2])))) is None


def test_the_rows_of_a_manifest_are_read() -> None:
    row = '{"path": "a/é.png", "label": "a", "group": null, "split": "test", "sha256": "00", "width": 1, "height": 1}\n'

    assert stated_images(row.encode() * 2) == [StatedImage("a/é.png", "a", None, "test", "00")] * 2


def test_an_expression_is_refused_if_it_does_not_match_or_leaves_too_few_groups_and_not_otherwise() -> None:
    few, none = (why_refused(images(30, 30), SplitOptions(), regex, 100) for regex in (r"^([^/]+)/", r"patient_\d"))

    assert few is not None
    assert (few.code, none is not None and none.code) == ("dataset_too_small", "dataset_invalid")
    assert why_refused(images(30, 30), SplitOptions(), r"(\d+)\.png$", 100) is None
    assert why_refused(images(30, 30), SplitOptions(), r"^([^/]+)/", 59) is None  # too many to be split
    assert why_refused(images(30, 30, group=3), SplitOptions(), r"patient_\d", 100) is None  # stated groups come first


def test_a_class_of_one_image_is_refused_in_the_same_words_by_push_training_and_a_job(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", {f"{name}.png": None for name in ("cat/0", "cat/1", "dog/0")})
    with pytest.raises(DatasetError, match=r"found 1 image\(s\) of 'dog', .* Fix: add images or leave") as of_push:
        write_dataset_archive(list_folder(root), io.BytesIO())
    for options in (SplitOptions(), SplitOptions(0, 0.0, 0.0), SplitOptions(0, 0.0, 0.0, 1)):
        with pytest.raises(DatasetError) as of_training:
            advised_split(read_folder(root), options)
        assert str(of_training.value) == str(of_push.value) == why_no_split(read_folder(root), options)
        assert of_training.value.code == of_push.value.code == "dataset_too_small"

    draw(root, {"dog/1.png": None})
    with (tmp_path / "packed.zip").open("wb") as file:
        write_dataset_archive(list_folder(root), file)
    for accepted in (root, tmp_path / "packed.zip"):
        assert len(advised_split(read_folder(accepted), SplitOptions(0, 0.0, 0.0)).train) == 4
