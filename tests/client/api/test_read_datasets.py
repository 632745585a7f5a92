"""A dataset and the server's report on it, read into the types of the SDK."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_client import DatasetWarning, UnexpectedResponse
from lensmount_client._api.read_datasets import dataset_of, draft_of
from lensmount_client._http.json_fields import JsonFields

REPORT: dict[str, Any] = {
    "images": 5,
    "classes": {"cat": 2, "dog": 3},
    "splits": None,
    "duplicates": {"files": 1},
    "near_duplicates": {"pairs": 4, "across_splits": 2, "across_classes": 3},
    "unreadable": {"files": 6},
    "ignored": {"files": 7},
    "warnings": [{"code": "few_images", "message": "cat has 2 images"}],
    "of_a_newer_server": [1],
}
DOCUMENT: dict[str, Any] = {
    "name": "pets",
    "version": 3,
    "digest": "sha256:00",
    "size_bytes": 70,
    "created_at": "2026-01-02T03:04:05Z",
    "images": 5,
    "classes": {"cat": 2, "dog": 3},
    "report": REPORT,
}


def fields(**changes: Any) -> JsonFields:
    return JsonFields({**DOCUMENT, "report": {**REPORT, **changes}}, "", None)


def test_each_count_of_the_report_has_its_field() -> None:
    report = dataset_of(fields()).report
    assert (report.images, report.classes, report.splits) == (5, {"cat": 2, "dog": 3}, None)
    near = (report.near_duplicates, report.near_duplicates_across_splits, report.near_duplicates_across_classes)
    assert (report.duplicates, *near, report.unreadable, report.ignored) == (1, 4, 2, 3, 6, 7)
    assert report.warnings == (DatasetWarning("few_images", "cat has 2 images"),)
    assert dataset_of(fields(splits={"train": 4, "test": 1})).report.splits == {"train": 4, "test": 1}


def test_the_complete_response_is_kept() -> None:
    dataset = dataset_of(fields())
    assert dataset.reference == "pets@3"
    assert dataset.raw["report"] == dataset.report.raw == REPORT
    assert (dataset.left_out, dataset.notes, dataset.report.notes) == ({}, (), ())


def test_the_notes_of_the_report_are_read() -> None:
    assert dataset_of(fields(notes=["The data are in d"])).report.notes == ("The data are in d",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warnings": [{"code": "x"}]}, r"without report.warnings\[0\].message"),
        ({"classes": {"cat": -0.5}}, "report.classes.cat: found -0.5, expected a whole number"),
        ({"duplicates": 1}, "report.duplicates: found 1, expected an object"),
    ],
)
def test_a_wrong_field_of_the_report_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnexpectedResponse, match=message):
        dataset_of(fields(**changes))


def test_a_draft_is_an_adapter_version_with_what_it_is_made_of() -> None:
    facts = {"images": 9, "left_out": 1, "classes": {"a": 4, "b": 5}, "balanced_accuracy": None, "seconds": 0.5}
    document = {"name": "first", "version": 2, "digest": "sha256:00", "draft": facts}

    draft = draft_of(JsonFields(document, "", None))

    assert (draft.name, draft.version, draft.digest) == ("first", 2, "sha256:00")
    assert (draft.images, draft.left_out, draft.classes) == (9, 1, {"a": 4, "b": 5})
    assert (draft.balanced_accuracy, draft.seconds, draft.raw) == (None, 0.5, document)
