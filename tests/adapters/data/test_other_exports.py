"""Exports that are not read are named, in the forms that the tools' documents show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lensmount_adapters.data.other_exports import other_export

VIA = {"filename": "1.png", "size": 9, "regions": [], "file_attributes": {"class": "cat"}}
DOCUMENTS: list[tuple[str, str, Any]] = [
    ("VIA", "via.json", {"1.png9": VIA}),
    ("VIA", "project.json", {"_via_settings": {}, "_via_img_metadata": {"1.png9": VIA}}),
    ("LabelMe", "1.json", {"version": "5.0", "flags": {"cat": True}, "shapes": [], "imagePath": "1.png"}),
    ("Supervisely", "ann/1.png.json", {"tags": [{"name": "cat"}], "size": {"height": 8}, "objects": []}),
    ("V7 Darwin", "1.json", {"version": "2.0", "item": {"name": "1.png"}, "annotations": [{"name": "cat", "tag": {}}]}),
    ("FiftyOne", "labels.json", {"classes": ["cat", "dog"], "labels": {"1": 0}}),
    ("Azure Custom Vision", "images.json", [{"id": "1", "tags": [{"tagName": "cat"}]}]),
    ("Create ML", "annotations.json", [{"image": "1.png", "annotations": [{"label": "cat"}]}]),
    ("names and labels", "labels.json", {"1.png": "cat", "2.png": "dog"}),
    ("list of rows", "rows.json", [{"file": "1.png", "sort": "cat"}]),
]


@pytest.mark.parametrize(("tool", "name", "document"), DOCUMENTS)
def test_an_export_is_named_by_its_tool(tool: str, name: str, document: Any) -> None:
    found = other_export(["readme.txt", name], {name: json.dumps(document).encode()}.__getitem__)

    assert found is not None
    assert tool in found[0]
    assert found[1] == name


@pytest.mark.parametrize(
    ("tool", "name", "line"),
    [
        ("Ground Truth", "output.manifest", {"source-ref": "s3://b/1.png", "pets": 1}),
        ("Labelbox", "export.ndjson", {"data_row": {"external_id": "1.png"}}),
    ],
)
def test_an_export_with_one_object_in_each_line_is_named(tool: str, name: str, line: Any) -> None:
    found = other_export([name], lambda path: 2 * f"{json.dumps(line)}\n".encode())

    assert found is not None
    assert tool in found[0]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"[1]", b'{"a": 1}', b"\xff", b"[" * 5000])
def test_other_json_is_no_export(data: bytes) -> None:
    assert other_export(["a.json"], lambda path: data) is None
