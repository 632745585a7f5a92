"""Layouts of datasets, drawn small, and by hand what each is read as. test_layouts.py tries them everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Files = dict[str, Any]  # path: bytes or text as content, None for an image of its own


def images(*names: str, each: int = 2) -> Files:
    """`images("cat", "dog/a")`: two images in each of the folders."""
    return {f"{name}/{number}.png": None for name in names for number in range(each)}


Labels = dict[str, Any]  # path: (label, part or None)


def expected(files: Files, label_of: Callable[[str], tuple[str, str | None]], below: str = "") -> Labels:
    names = [name for name in files if name.endswith(".png")]
    return {name.removeprefix(below): label_of(name.removeprefix(below)) for name in names}


def first(path: str) -> tuple[str, None]:
    return path.split("/")[0], None


@dataclass(frozen=True)
class Good:
    """Files, what they are read as, what is left out, and the depth that is asked for."""

    files: Files
    labels: Labels
    left_out: dict[str, int] | None = None
    depth: int | None = None


def same(files: Files, more: Files | None = None, left_out: dict[str, int] | None = None, below: str = "") -> Good:
    """Class folders, and other files next to them that change nothing."""
    return Good(files | (more or {}), expected(files, first, below), left_out)


CATS = images("cat", "dog")
JUNK: Files = {
    ".DS_Store": "x",
    "cat/.DS_Store": "x",
    "cat/._0.png": "x",
    "__MACOSX/cat/._0.png": "x",
    "cat/Thumbs.db": "x",
    "cat/desktop.ini": "x",
    "$RECYCLE.BIN/S-1/1.png": None,
    "System Volume Information/x.png": None,
    "@eaDir/0.png": None,
    "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg": "x",
    "#recycle/cat/9.png": None,
    "lost+found/": None,
    ".AppleDouble/0.png": None,
    "@Recycle/dog/1.png": None,
    "Catalog.lrdata/previews/1.png": None,
    "cat/.picasa.ini": "x",
    "cat/0.xmp": "x",
}
CSV = "path,label\n"


def split_of(path: str) -> tuple[str, str]:
    part = {"val": "validation", "valid": "validation", "testing": "test", "training": "train"}
    top = path.split("/")[0].lower()
    return path.split("/")[1], part.get(top, top)


def coco(*rows: tuple[str, str]) -> str:
    """A COCO file with one annotation for each (file name, category)."""
    categories = sorted({category for _, category in rows})
    names = list(dict.fromkeys(name for name, _ in rows))
    annotations = [
        {"id": n, "image_id": names.index(name), "category_id": categories.index(category)}
        for n, (name, category) in enumerate(rows)
    ]
    return json.dumps(
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
        }
    )


FLAT: Files = {f"images/{number}.png": None for number in range(4)}
PETS = {f"images/{number}.png": ("cat" if number < 2 else "dog", None) for number in range(4)}


def table(rows: str, name: str = "labels.csv", encoding: str = "utf-8") -> Good:
    return Good(FLAT | {name: rows.encode(encoding)}, PETS)


def rows_of(head: str, line: str, end: str = "\n") -> str:
    """A table in which each line is `line` with {n} and {label}."""
    lines = [line.format(n=number, label="cat" if number < 2 else "dog") for number in range(4)]
    return end.join([head, *lines, ""])


SPLITS = images("train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog")
CLASS_FIRST = images("cat/train", "cat/test", "dog/train", "dog/test")
VOC = "<annotation><filename>{0}.png</filename>{1}</annotation>"
TASK = {"data": {"image": ""}, "annotations": [{"result": [{"value": {"choices": ["cat"]}}]}]}


def voc(number: int, *names: str) -> str:
    return VOC.format(number, "".join(f"<object><name>{name}</name></object>" for name in names))


def cvat(*tags: str) -> str:
    return (
        "<annotations>"
        + "".join(f'<image name="images/{n}.png">{tag}</image>' for n, tag in enumerate(tags))
        + "</annotations>"
    )


def tasks(*choices: list[str]) -> str:
    return json.dumps(
        [
            TASK
            | {
                "data": {"image": f"/data/upload/1/0123abcd-{n}.png"},
                "annotations": [{"result": [{"value": {"choices": c}}]}],
            }
            for n, c in enumerate(choices)
        ]
    )


GOOD = {
    "class folders": same(CATS),
    "more folders in a class": same(CATS | images("cat/deep/deeper")),
    "patients in a class": same(images("cat/patient_00", "cat/patient_01", "dog/patient_02", "dog/patient_03")),
    "paths of 269 bytes": same(images(*(f"{label}/{'x' * 130}/{'y' * 129}" for label in ("cat", "dog")))),
    "slides in a class": same(images("cat/S01", "cat/S02", "dog/S03", "dog/S04")),
    "one folder in each class": same(images("cat/images", "dog/images")),
    "names that begin a formula": same(images("+ve", "-ve", "=pos")),
    "names in other letters": same(images("é è", "猫", "<b>x</b>", "007")),
    "numbered classes": same(images("class_1", "class_2", "class_3")),
    "numbered grades": same(images("grade1", "grade2")),
    "patients as classes, as asked": Good(
        images("patient_1", "patient_2"), expected(images("patient_1", "patient_2"), first), None, 1
    ),
    "other files": same(CATS, {"notes.txt": "x", "cat/a.txt": "x", "x": "x"}, {".txt": 2, "without a suffix": 1}),
    "an image next to the folders": Good(CATS | {"9.png": None}, expected(CATS, first), {"outside class folders": 1}),
    "what systems leave": same(CATS, JUNK),
    "hidden files and folders": same(CATS, {".a.png": None, ".git/b.png": None}, {"hidden": 1, "hidden folders": 1}),
    "a vehicle called train": same(images("train", "car", "bus")),
    "one folder around": same({f"data/{k}": v for k, v in CATS.items()}, {"README.md": "x"}, {".md": 1}, "data/"),
    "two folders around": same({f"archive/data set/{k}": v for k, v in CATS.items()}, below="archive/data set/"),
    "digits in a folder": same({f"mnist/{k}": v for k, v in images("0", "1", "2").items()}, below="mnist/"),
    "train, val, test": Good(SPLITS, expected(SPLITS, split_of)),
    "Training, Valid, Testing": Good(
        images("Training/cat", "Training/dog", "Valid/cat", "Valid/dog", "Testing/cat", "Testing/dog"),
        expected(
            images("Training/cat", "Training/dog", "Valid/cat", "Valid/dog", "Testing/cat", "Testing/dog"), split_of
        ),
    ),
    "parts in a folder": Good(
        {f"chest_xray/{k}": v for k, v in SPLITS.items()},
        expected(SPLITS, split_of),
    ),
    "training_set and test_set": Good(
        images("training_set/cat", "training_set/dog", "test_set/cat", "test_set/dog"),
        {
            f"{top}/{label}/{n}.png": (label, part)
            for top, part in (("training_set", "train"), ("test_set", "test"))
            for label in ("cat", "dog")
            for n in range(2)
        },
    ),
    "a folder in each part": Good(
        images("train/images/cat", "train/images/dog", "test/images/cat", "test/images/dog"),
        {
            f"{part}/images/{label}/{n}.png": (label, part)
            for part in ("train", "test")
            for label in ("cat", "dog")
            for n in range(2)
        },
    ),
    "parts in each class": Good(CLASS_FIRST, {name: tuple(name.split("/")[:2]) for name in CLASS_FIRST}),
    "one class in the test part": Good(
        images("train/cat", "train/dog", "test/cat"), expected(images("train/cat", "train/dog", "test/cat"), split_of)
    ),
    "two levels, as asked": Good(
        images("lung/aca", "lung/scc", "colon/aca"),
        {f"{name}/{n}.png": (name, None) for name in ("lung/aca", "lung/scc", "colon/aca") for n in range(2)},
        None,
        2,
    ),
    "one level, as asked": Good(
        images("lung/aca", "lung/scc", "colon/aca"),
        expected(images("lung/aca", "lung/scc", "colon/aca"), first),
        None,
        1,
    ),
    "two levels below the parts": Good(
        images("train/lung/aca", "train/lung/scc", "test/lung/aca", "test/lung/scc"),
        {
            f"{part}/{name}/{n}.png": (name, part)
            for part in ("train", "test")
            for name in ("lung/aca", "lung/scc")
            for n in range(2)
        },
        None,
        2,
    ),
    "classes called images and masks, as asked": Good(
        images("images", "masks"), expected(images("images", "masks"), first), None, 1
    ),
    "a file of labels": table(rows_of("path,label", "images/{n}.png,{label}")),
    "semicolons": table(rows_of("path;label", "images/{n}.png;{label}")),
    "semicolons and sep=": table("sep=;\n" + rows_of("path;label", "images/{n}.png;{label}")),
    "tabs": table(rows_of("path\tlabel", "images/{n}.png\t{label}")),
    "tabs in a .tsv": table(rows_of("path\tlabel", "images/{n}.png\t{label}"), "labels.tsv"),
    "a byte-order mark": table(rows_of("path,label", "images/{n}.png,{label}"), encoding="utf-8-sig"),
    "UTF-16": table(rows_of("path\tlabel", "images/{n}.png\t{label}", "\r\n"), encoding="utf-16"),
    "UTF-16 without a mark": table(rows_of("path,label", "images/{n}.png,{label}"), encoding="utf-16-le"),
    "line ends of old Macs": table(rows_of("path,label", "images/{n}.png,{label}", "\r")),
    "Windows paths": table(rows_of("path,label", ".\\images\\{n}.png,{label}")),
    "paths of another machine": table(rows_of("path,label", "C:\\Users\\me\\pets\\images\\{n}.png,{label}")),
    "paths of another server": table(rows_of("path,label", "/home/me/pets/images/{n}.png,{label}")),
    "names without folder and suffix": table(rows_of("image_id,dx", "{n},{label}")),
    "names in upper case": table(rows_of("Filename,Class", "{n}.PNG,{label}")),
    "quoted cells": table(rows_of('"File Name";"Diagnosis";"age"', '"images/{n}.png";"{label}";"3"')),
    "JSON lines with other keys": table(
        rows_of("", '{{"file_name": "images/{n}.png", "category": "{label}"}}'), "manifest.jsonl"
    ),
    "a body part is no part of a split": table(rows_of("path,label,part", "images/{n}.png,{label},hand")),
    "images without a row": Good(
        FLAT | {"8.png": None, "labels.csv": rows_of("path,label", "images/{n}.png,{label}")},
        PETS,
        {"not in labels.csv": 1},
    ),
    "labels in a folder around": Good(
        {f"top/{k}": v for k, v in FLAT.items()} | {"top/labels.csv": rows_of("path,label", "images/{n}.png,{label}")},
        PETS,
    ),
    "parts by the words that people use": Good(
        FLAT
        | {"labels.csv": "path,label,subset\n0.png,cat,Training\n1.png,cat,val\n2.png,dog,Train\n3.png,dog,holdout\n"},
        {
            "images/0.png": ("cat", "train"),
            "images/1.png": ("cat", "validation"),
            "images/2.png": ("dog", "train"),
            "images/3.png": ("dog", "test"),
        },
    ),
    "labels in Windows-1252": Good(
        FLAT | {"labels.csv": "path;label\n0.png;gesund\n1.png;größer\n2.png;gesund\n3.png;größer\n".encode("cp1252")},
        {f"images/{n}.png": ("größer" if n % 2 else "gesund", None) for n in range(4)},
    ),
    "labels that begin a formula": Good(
        FLAT | {"labels.csv": "path,label\n0.png,+ve\n1.png,-ve\n2.png,+ve\n3.png,-ve\n"},
        {f"images/{n}.png": ("-ve" if n % 2 else "+ve", None) for n in range(4)},
    ),
    "COCO": Good(
        FLAT | {"annotations.json": coco(("0.png", "cat"), ("1.png", "cat"), ("2.png", "dog"), ("3.png", "dog"))}, PETS
    ),
    "COCO in parts": Good(
        {"train/0.png": None, "train/1.png": None, "valid/0.png": None, "valid/1.png": None}
        | {f"{part}/_annotations.coco.json": coco(("0.png", "cat"), ("1.png", "dog")) for part in ("train", "valid")},
        {
            "train/0.png": ("cat", "train"),
            "train/1.png": ("dog", "train"),
            "valid/0.png": ("cat", "validation"),
            "valid/1.png": ("dog", "validation"),
        },
    ),
    "Pascal VOC": Good(
        {f"JPEGImages/{n}.png": None for n in range(4)}
        | {f"Annotations/{n}.xml": voc(n, *(["cat", "cat"] if n < 2 else ["dog"])) for n in range(4)},
        {f"JPEGImages/{n}.png": ("cat" if n < 2 else "dog", None) for n in range(4)},
    ),
    "CVAT": Good(
        FLAT | {"annotations.xml": cvat(*(f'<tag label="{x}"></tag>' for x in ("cat", "cat", "dog", "dog")))}, PETS
    ),
    "Label Studio": Good(FLAT | {"project-1.json": tasks(["cat"], ["cat"], ["dog"], ["dog"])}, PETS),
    "Label Studio, short": Good(
        FLAT
        | {
            "min.json": json.dumps(
                [
                    {"image": f"/data/local-files/?d=pets/images/{n}.png", "choice": "cat" if n < 2 else "dog"}
                    for n in range(4)
                ]
            )
        },
        PETS,
    ),
}
