"""Read the JSON of the dataset endpoints."""

from __future__ import annotations

from lensmount_client._api.read import tenant_of
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._types.datasets import Dataset, DatasetReport, DatasetWarning, Draft


def dataset_of(fields: JsonFields) -> Dataset:
    """Raises UnexpectedResponse."""
    return Dataset(
        name=fields.string("name"),
        version=fields.integer("version"),
        digest=fields.string("digest"),
        size_bytes=fields.integer("size_bytes"),
        created_at=fields.time("created_at"),
        images=fields.integer("images"),
        classes=fields.counts("classes"),
        report=_report_of(fields.child("report")),
        raw=fields.value,
        tenant=tenant_of(fields),
        owner=fields.string_or_none("owner"),
    )


def draft_of(fields: JsonFields) -> Draft:
    """Raises UnexpectedResponse."""
    facts = fields.child("draft")
    return Draft(
        name=fields.string("name"),
        version=fields.integer("version"),
        digest=fields.string("digest"),
        images=facts.integer("images"),
        left_out=facts.integer("left_out"),
        classes=facts.counts("classes"),
        balanced_accuracy=facts.number_or_none("balanced_accuracy"),
        seconds=facts.number("seconds"),
        raw=fields.value,
    )


def _report_of(fields: JsonFields) -> DatasetReport:
    near = fields.child("near_duplicates")
    return DatasetReport(
        images=fields.integer("images"),
        classes=fields.counts("classes"),
        splits=fields.counts("splits") if fields.value.get("splits") is not None else None,
        duplicates=fields.child("duplicates").integer("files"),
        near_duplicates=near.integer("pairs"),
        near_duplicates_across_splits=near.integer("across_splits"),
        near_duplicates_across_classes=near.integer("across_classes"),
        unreadable=fields.child("unreadable").integer("files"),
        ignored=fields.child("ignored").integer("files"),
        warnings=tuple(DatasetWarning(w.string("code"), w.string("message")) for w in fields.children("warnings")),
        notes=fields.strings("notes") if "notes" in fields.value else (),
        raw=fields.value,
    )
