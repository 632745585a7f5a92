"""Groups in names: patients and slides are found, and ordinary names are not taken for groups."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lensmount_adapters.groups.group_names import leak_between, propose_groups

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
    "sides of a patient": ("{c}/P{g:04d}_L_{n}.png", "P0003"),
    "slides with letters": ("{c}/slide-{G}.tile_3_{n}.png", "slide-D"),
    "patients with letters as folders": ("{c}/patient_{G}/{n}.png", "patient_D"),
    "TCGA slides": ("{c}/TCGA-BH-A0{g}-01Z-00-DX1_{i}_{n}.png", "TCGA-BH-A03"),
    "frames of numbered videos": ("{c}/video_{g:04d}_frame_{n:04d}.png", "video_0003"),
    "bursts of a phone": ("{c}/IMG_2024010{g}_15301{g}_BURST00{n}.jpg", "IMG_20240103_153013"),
    "bursts with the time behind": ("{c}/0000{n}IMG_0000{n}_BURST2024010{g}153010.jpg", "BURST20240103153010"),
    "wells of a plate": ("{c}/{G}01_s{n}_w1.tif", "D01"),
    "wells as folders": ("{c}/{G}01/s{n}_w1.tif", "D01"),
    "cells of a blood smear": ("{c}/C3{g}P1thinF_IMG_2015061{g}_1147{i}_cell_{n}.png", "C33P1thinF"),
    "subjects above the class": ("S0{g}/{c}/{n}.png", "S03"),
    "runs of BIDS in file names": ("{c}/sub-0{g}_ses-01_run-{n}.png", "sub-03"),
    "mammograms": ("{c}/Mass-Training_P_0000{g}_LEFT_{n}.png", "Mass-Training_P_00003"),
    "slides of a breast": ("{c}/SOB_B_A-14-2254{g}AB-40-00{n}.png", "SOB_B_A-14-22543AB"),
    "patients, studies and views": ("{c}/patient0000{g}/study1/view{n}_frontal.jpg", "patient00003"),
    "X-rays by patient": ("{c}/0000001{g}_00{n}.png", "00000013"),
    "OCT scans": ("{c}/CNV-101604{g}-{n}.jpeg", "CNV-1016043"),
    "persons": ("{c}/person{g}_bacteria_{i}.jpeg", "person3"),
    "patients without a separator": ("{c}/patient{g:02d}img{n}.png", "patient03"),
    "two codes in one": ("{c}/P{g}I{n}.png", "P3"),
    "both eyes": ("{c}/1{g}_{side}.jpeg", "13"),
    "days as folders": ("{c}/2024-01-0{g}/{n}.png", "2024-01-03"),
    "cameras as folders": ("{c}/cam0{g}/IMG_{i}.JPG", "cam03"),
    "augmented copies": ("{c}/{g}_aug{n}.png", "3"),
    "turned copies": ("{c}/img{g}_{turned}.png", "img3"),
    "Roboflow's copies": ("{c}/IMG_100{g}_jpg.rf.{h}.jpg", "IMG_1003"),
    "random names as folders": ("{c}/{hg}/{n}.png", "73200347"),
    "Russian": ("{c}/пациент_{g}/{n}.png", "пациент_3"),
    "Chinese": ("{c}/患者{g}_{n}.png", "患者3"),
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
    "numbers in parentheses": "{c}/Covid ({i}).png",
    "ISIC": "{c}/ISIC_00{k}.jpg",
    "ISIC, made smaller": "{c}/ISIC_00{k}_downsampled.jpg",
    "random names in folders of their first digit": "{c}/{h1}/{h}.png",
    "UUIDs": "{c}/{h}-{h4}-4a1c-8c99-{h}{h4}.png",
    "UUIDs of one machine": "{c}/{h}-1234-11ee-8c99-0242ac120002.png",
    "a phone's dates with a counter": "{c}/IMG-2024010{g}-WA{i:04d}.jpg",
    "messages": "{c}/WhatsApp Image 2024-01-0{g} at 1{n}.3{g}.{k}.jpeg",
    "ISO times": "{c}/2024-01-0{g}T10-1{n}-{k}.png",
    "seconds since 1970": "{c}/17000{k}.png",
    "validation images of ImageNet": "{c}/ILSVRC2012_val_000{k}.JPEG",
    "COCO": "{c}/COCO_train2014_0000000{k}.jpg",
    "photos of Flickr": "{c}/9{k}_{h}_m.jpg",
    "drones": "{c}/DJI_{i:04d}.JPG",
    "coordinates": "{c}/x{g}_y{n}.png",
    "rows and columns": "{c}/row{g}_col{n}.png",
    "batches as folders": "{c}/batch{g}/{i}.png",
    "versions": "{c}/img_v{g}_{i}.jpg",
    "one image of each patient": "{c}/patient_{i}.png",
    "words and a counter": "{c}/{word} thing {i}.png",
    "years and a counter": "{c}/201{g}_{i}.jpg",
    "the same names in numbered parts": "{c}/part_{g}/{n}.png",
}


def names(form: str) -> tuple[list[str], list[str]]:
    """Four images in each of six groups, in two classes: their paths and their labels."""
    paths, labels = [], []
    for c in ("x", "y"):
        for i in range(24):
            g, n, h = i // 4, i % 4, f"{hash_of(c, i):08x}"
            fields = {"c": c, "i": i, "g": g, "n": n, "G": "ABCDEF"[g], "k": 10_000 + hash_of(c, i) % 89_999}
            fields |= {"h": h, "h1": h[0], "h4": h[:4], "hg": f"{hash_of('x', g) % 10**8:08d}"}
            fields |= {"word": ("red", "green", "blue", "big", "small", "round")[g]}
            fields |= {"side": ("left", "right")[n % 2], "turned": ("rot0", "rot90", "rot180", "hflip")[n]}
            paths.append(form.format(**fields))
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
    found = [pattern.search(path.rpartition("/")[2]) or pattern.search(path) for path in paths]
    assert tuple(match and match[1] for match in found) == proposed.groups
    assert len({group for group, label in zip(proposed.groups, labels, strict=True) if label == "x"}) == 6


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
    assert proposed.groups == tuple(f"pat-{number // 8}" for number in range(48))


def test_a_class_that_is_one_patient_is_said_if_the_others_have_several() -> None:
    paths = [f"x/patient_7/{n}.png" for n in range(24)] + [f"y/patient_{n // 4}/{n}.png" for n in range(24)]

    proposed = propose_groups(paths, [path[0] for path in paths])

    assert proposed is not None
    assert proposed.few == ("x",)


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
