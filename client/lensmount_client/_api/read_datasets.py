"""JSON of the dataset endpoints to values."""

from __future__ import annotations

from collections.abc import Mapping

from lensmount_client._http.json_fields import JsonFields
from lensmount_client._types.datasets import Dataset, DatasetReport, DatasetWarning


def dataset_of(document: JsonFields, left_out: Mapping[str, int] | None = None) -> Dataset:
    """Raises UnexpectedResponse."""
    return Dataset(
        name=document.text("name"),
        version=document.integer("version"),
        digest=document.text("digest"),
        size_bytes=document.integer("size_bytes"),
        created_at=document.time("created_at"),
        images=document.integer("images"),
        classes=document.counts("classes"),
        report=_report_of(document.child("report")),
        raw=document.value,
        left_out=left_out or {},
    )


def _report_of(document: JsonFields) -> DatasetReport:
    near = document.child("near_duplicates")
    return DatasetReport(
        images=document.integer("images"),
        classes=document.counts("classes"),
        splits=document.counts("splits") if document.value.get("splits") is not None else None,
        duplicates=document.child("duplicates").integer("files"),
        near_duplicates=near.integer("pairs"),
        near_duplicates_across_splits=near.integer("across_splits"),
        near_duplicates_across_classes=near.integer("across_classes"),
        unreadable=document.child("unreadable").integer("files"),
        ignored=document.child("ignored").integer("files"),
        warnings=tuple(DatasetWarning(w.text("code"), w.text("message")) for w in document.children("warnings")),
        raw=document.value,
    )
