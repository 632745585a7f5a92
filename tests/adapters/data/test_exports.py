"""Exports of annotation tools: small files written by hand after the tools' documents."""

from __future__ import annotations

import json

import pytest

from lensmount_adapters.data.exports import read_exports
from lensmount_adapters.errors import DatasetError


def read(files: dict[str, str | bytes]) -> tuple[str, list[tuple[str, str, str | None]]] | None:
    data = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    found = read_exports("d", sorted(data), data.__getitem__)
    return None if found is None else (found[0], [(image.name, image.label, image.split) for image in found[1]])


def coco(*annotations: tuple[int, int]) -> str:
    return json.dumps(
        {
            "info": {},
            "images": [{"id": n, "file_name": f"{n}.jpg", "height": 8, "width": 8} for n in (1, 2)],
            "annotations": [{"id": i, "image_id": image, "category_id": c} for i, (image, c) in enumerate(annotations)],
            "categories": [{"id": 5, "name": "cat", "supercategory": "pet"}, {"id": 6, "name": "dog"}],
        }
    )


def test_coco_gives_the_category_of_each_image_and_the_part_of_its_name() -> None:
    assert read({"annotations/instances_train2017.json": coco((1, 5), (1, 5), (2, 6))}) == (
        "a COCO",
        [("1.jpg", "cat", "train"), ("2.jpg", "dog", "train")],
    )
    with pytest.raises(DatasetError, match=r"a\.json: found the labels cat, dog for 1\.jpg in a COCO export"):
        read({"a.json": coco((1, 5), (1, 6), (2, 6))})
    with pytest.raises(DatasetError, match=r"found no label for 2\.jpg.*Fix: give it a label"):
        read({"a.json": coco((1, 5))})


def test_label_studio_names_are_those_before_the_upload() -> None:
    def task(address: str, *choices: str) -> dict[str, object]:
        value = {"type": "choices", "value": {"choices": list(choices)}}
        return {"id": 1, "data": {"image": address}, "annotations": [{"id": 1, "result": [value]}]}

    tasks = [
        task("/data/upload/3/8f3ac1d2-cell%201.png", "cat"),
        task("/data/local-files/?d=pets/2.png", "dog"),
        task("s3://bucket/pets/3.png", "dog"),
    ]
    found = read({"export.json": json.dumps(tasks)})
    assert found is not None
    assert [(name.rpartition("/")[2], label) for name, label, _ in found[1]] == [
        ("cell 1.png", "cat"),
        ("2.png", "dog"),
        ("3.png", "dog"),
    ]


def test_cvat_gives_the_tag_of_each_image() -> None:
    image = '<image id="0" name="a/1.png"><tag label="cat" source="manual"/></image>'
    text = f'<?xml version="1.0"?><annotations><meta><task/></meta>{image}</annotations>'
    assert read({"annotations.xml": text}) == ("a CVAT", [("a/1.png", "cat", None)])


def test_a_file_with_a_dtd_or_of_another_kind_is_no_export() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><annotations><image name="&d;"/></annotations>'
    deep = "<annotations>" + "<a>" * 1000
    for text in (bomb, deep, "<html/>", "<annotations", "[" * 5000, "[]", "{}", "[1]", '[{"image": "1.png"}]', "\0"):
        assert read({"annotations.xml": text, "a.json": text, "b.xml": text}) is None


def test_yolo_s_boxes_are_refused_by_name_and_other_texts_are_not() -> None:
    assert read({"labels/1.txt": "cat", "notes/1.txt": "0 0.1 0.1 0.2 0.2"}) is None
    with pytest.raises(DatasetError, match=r"2 label files of YOLO with boxes.*Fix"):
        read({"labels/train/1.txt": "0 0.1 0.1 0.2 0.2\n", "labels/train/2.txt": "1 0.1 0.1 0.2 0.2 0.3 0.4\n"})
