"""The endpoints of reviews and edits of datasets: from arguments to a Call, from an answer to a value."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lensmount_client._api.datasets import CHECKING_S
from lensmount_client._api.read_datasets import dataset_of
from lensmount_client._errors import InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_name, checked_version
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.reviews import DatasetReview, LabelDoubt, LookAlike

JSON = "application/json"


@dataclass(frozen=True)
class ReviewState:
    """How far a review is: none, waiting, running, done or failed."""

    state: str
    version: int
    done: int
    total: int
    review: DatasetReview | None
    error: str | None


def start_review(name: str, version: int | None, group_regex: str | None = None) -> Call[ReviewState]:
    return _review("POST", name, version, group_regex)


def get_review(name: str, version: int | None, group_regex: str | None = None) -> Call[ReviewState]:
    return _review("GET", name, version, group_regex)


def _review(method: str, name: str, version: int | None, group_regex: str | None) -> Call[ReviewState]:
    params = _version(version) | ({} if group_regex is None else {"group_regex": group_regex})
    return Call(method, f"/datasets/{checked_name(name, 'dataset name')}/review", _read, params=params)


def edit_items(name: str, relabel: Mapping[str, str], exclude: Collection[str], version: int | None) -> Call[Dataset]:
    """Raises InvalidInput for a text in place of a list of paths."""
    if isinstance(exclude, str):
        raise InvalidInput(
            f"exclude: found the text {exclude[:80]!r}, expected a list of paths. Fix: [{exclude[:80]!r}]"
        )
    try:
        body = json.dumps({"relabel": dict(relabel), "exclude": list(exclude)}).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"found changes that are not JSON ({error}), expected paths and labels as text. Fix: relabel "
            'with a dict such as {"cat/1.png": "dog"}'
        ) from error
    return Call(
        "PATCH",
        f"/datasets/{checked_name(name, 'dataset name')}/items",
        lambda response: dataset_of(JsonFields.of(response)),
        params=_version(version),
        content=body,
        content_type=JSON,
        read_s=CHECKING_S,
        retried=version is not None,  # a second time, the latest version would have the changes already
    )


def _read(response: Response) -> ReviewState:
    fields = JsonFields.of(response)
    name, version = fields.string("name"), fields.integer("version")
    review = fields.child_or_none("review")
    return ReviewState(
        state=fields.string("state"),
        version=version,
        done=fields.integer("done"),
        total=fields.integer("total"),
        review=None if review is None else _review_of(review, name, version),
        error=fields.string_or_none("error"),
    )


def _review_of(fields: JsonFields, name: str, version: int) -> DatasetReview:
    return DatasetReview(
        name=name,
        version=version,
        images=fields.integer("images"),
        checked=fields.integer("checked"),
        accuracy=fields.number_or_none("accuracy"),
        flagged=fields.integer("flagged"),
        labels=tuple(
            LabelDoubt(
                item.string("path"),
                item.string("label"),
                item.string("suggested"),
                item.number("quality"),
                item.boolean("flagged"),
            )
            for item in fields.children("labels")
        ),
        outliers=tuple(item.string("path") for item in fields.children("outliers")),
        look_alikes=tuple(
            LookAlike(
                item.strings("paths"),
                item.strings("labels"),
                item.number("similarity"),
                item.boolean("leak"),
                item.boolean("conflict"),
            )
            for item in fields.children("look_alikes")
        ),
        notes=fields.strings("notes"),
        raw=fields.value,
    )


def _version(version: int | None) -> dict[str, str | int]:
    return {} if version is None else {"version": checked_version(version)}
