"""Groups in names: patients and slides are found, and ordinary names are not taken for groups."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lensmount_adapters.data.group_names import leak_between, propose_groups

DATA = Path(__file__).parents[4] / "shared" / "data"

GROUPED = {
    "patients as folders": ("{c}/patient_{g:02d}/{n:03d}.png", "patient_03"),
    "subjects of BIDS as folders": ("{c}/sub-{g:02d}/anat/{n}.png", "sub-03"),
    "numbers of three digits as folders": ("{c}/{g:03d}/{n}.png", "003"),
    "patients below a folder of scans": ("{c}/scans/p{g}/{n}.png", "p3"),
    "slides in file names": ("{c}/slide{g}_tile{n}.png", "slide3"),
    "slides with a space": ("{c}/slide {g} {n}.png", "slide 3"),
    "codes with a hyphen": ("{c}/P{g:03d}-{n}.png", "P003"),
    "TCGA barcodes": ("{c}/TCGA-A{g}-B{g}77_{n}.png", "TCGA-A3"),
    "source tiles behind the class": ("{c}/{c}_g{g:03d}_{n}.png", "x_g003"),
    "frames of videos": ("{c}/video{g}_frame{n:04d}.png", "video3"),
    "donors with a dot": ("{c}/donor.{g}.{n}.png", "donor.3"),
}
ORDINARY = {
    "counters": "{c}/{i:03d}.png",
    "the class and a counter": "{c}/{c}_{i:04d}.jpg",
    "the class, a dot and a counter": "{c}/{c}.{i}.jpg",
    "the class in front, as in ImageNet": "{c}/n0144{c}_{i}.JPEG",
    "a phone's dates": "{c}/IMG_2024010{g}_15{i:04d}.jpg",
    "a camera's counter": "{c}/DSC{i:05d}.jpg",
    "copies": "{c}/{i} (1).png",
    "columns and rows of tiles": "{c}/{g}_{n}.png",
    "years as folders": "{c}/201{g}/{n}.png",
    "random names": "{c}/{h}.png",
}


def names(form: str) -> tuple[list[str], list[str]]:
    """Four images in each of six groups, in two classes: their paths and their labels."""
    paths, labels = [], []
    for c in ("x", "y"):
        for i in range(24):
            h = f"{hash_of(c, i):08x}"
            paths.append(form.format(c=c, i=i, g=i // 4, n=i % 4, h=h))
            labels.append(c)
    return paths, labels


def hash_of(label: str, number: int) -> int:
    return (number * 2654435761 + ord(label) * 40503) % 2**32


@pytest.mark.parametrize("case", GROUPED)
def test_groups_are_found_and_the_expression_finds_them_too(case: str) -> None:
    form, third = GROUPED[case]
    paths, labels = names(form)

    proposed = propose_groups(paths, labels)

    assert proposed is not None
    assert proposed.groups[12] == third
    pattern = re.compile(proposed.regex)
    found = [pattern.search(path if "/" in proposed.regex else path.rpartition("/")[2]) for path in paths]
    assert tuple(match and match[1] for match in found) == proposed.groups
    together = {(path, group) for path, group in zip(paths, proposed.groups, strict=True)}
    assert len({group for path, group in together if path.startswith("x/")}) == 6


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_names_are_no_groups(case: str) -> None:
    assert propose_groups(*names(ORDINARY[case])) is None


def test_one_group_for_each_class_is_the_class_and_no_group() -> None:
    paths = [f"{c}/patient_{c}/{n}.png" for c in "123" for n in range(8)]

    assert propose_groups(paths, [path[0] for path in paths]) is None


def test_labels_from_a_file_may_divide_a_patient_between_classes() -> None:
    paths = [f"images/pat-{patient}/{number}.png" for patient in range(6) for number in range(8)]

    proposed = propose_groups(paths, ["ab"[number % 2] for number in range(48)])

    assert proposed is not None
    assert (proposed.regex, proposed.count) == ("^[^/]+/([^/]+)/", 6)


def test_a_leak_counts_the_tested_groups_that_are_trained_on() -> None:
    groups = ["p1", "p1", "p2", "p2", "p3", "p4"]

    assert leak_between(groups, ["train", "test", "test", "test", "train", "validation"]) == (1, 2)
    assert leak_between(groups, ["train", "validation", "validation", "train", "train", "train"]) == (2, 2)
    assert leak_between(groups, [None] * 6) == (0, 0)


@pytest.mark.parametrize(
    ("data", "expression"),
    [
        ("malaria-nih", r"^(.*?)_?[tT]hin"),
        ("malaria-nih-gray50", r"^(.*?)_?[tT]hin"),
        ("histology-lc25000-lung", r"^(.*_g\d+)_"),
        ("smoking", None),
    ],
)
def test_the_groups_of_the_shared_data_are_found(data: str, expression: str | None) -> None:
    root = DATA / data
    if not root.is_dir():
        pytest.skip("the shared data are not here")
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*"))

    proposed = propose_groups(paths, [path.split("/")[0] for path in paths])

    if expression is None:
        assert proposed is None
        return
    assert proposed is not None
    stated = [re.findall(expression, path.rpartition("/")[2])[0] for path in paths]
    assert len(set(zip(stated, proposed.groups, strict=True))) <= 1.1 * len(set(stated))
