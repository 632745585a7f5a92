"""The endpoints of labelling and feedback: one function each, from arguments to a Call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lensmount_client._api.adapters import BYTES
from lensmount_client._api.read import body_of, nothing, read_adapter_id
from lensmount_client._api.read_datasets import dataset_of
from lensmount_client._errors import InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.operation import Operation
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_digest, checked_name
from lensmount_client._types.datasets import (
    Feedback,
    LabelInfo,
    NextImage,
    NextImages,
    Pool,
    Published,
    UnlabelledImage,
)
from lensmount_client._types.predictions import Score

STRATEGIES = ("staged", "typical", "margin", "entropy", "diverse")
MOST_CALLS = 1800  # each waits up to 2 s for the adapter's scores
MOST_LABELS = 1000  # in one request


@dataclass(frozen=True)
class Wanted:
    """What a person asks for: `Wanted("malaria", "reader1", 10)`."""

    adapter: str
    who: str
    n: int = 10
    strategy: str = "staged"
    lease_s: float = 900.0


def list_pools() -> Call[list[Pool]]:
    def read(response: Response) -> list[Pool]:
        return [
            Pool(
                name=item.string("name"),
                images=item.integer("images"),
                labelled=item.integer("labelled"),
                size_bytes=item.integer("size_bytes"),
                held={who: item.child("held").integer(who) for who in item.child("held").value},
            )
            for item in JsonFields.of(response).children("pools")
        ]

    return Call("GET", "/pools", read)


def add_unlabelled(name: str, image: bytes, who: str, group: str | None) -> Call[UnlabelledImage]:
    def read(response: Response) -> UnlabelledImage:
        (fields,) = JsonFields.of(response).children("images")
        return UnlabelledImage(
            digest=fields.string("digest"),
            size_bytes=fields.integer("size_bytes"),
            added_at=fields.number("added_at"),
            added_by=fields.string("added_by"),
            group=fields.string_or_none("group"),
        )

    params = {"who": who} if group is None else {"who": who, "group": group}
    return Call("POST", f"{_path(name)}/unlabelled", read, params=params, content=image, content_type=BYTES)


def delete_unlabelled(name: str) -> Call[None]:
    return Call("DELETE", f"{_path(name)}/unlabelled", nothing, gone_is_done=True)


def unlabelled_png(name: str, digest: str, side: int) -> Call[bytes]:
    return Call(
        "GET",
        f"{_path(name)}/unlabelled/{checked_digest(digest)}",
        lambda response: body_of(response, "image/png"),
        params={"side": side},
    )


def next_images(name: str, wanted: Wanted) -> Operation[NextImages]:
    """Ask until the adapter has computed the pool."""
    answer: NextImages = yield _next(name, wanted)
    for _ in range(MOST_CALLS):
        if answer.state == "done":
            break
        answer = yield _next(name, wanted)
    return answer


def _next(name: str, wanted: Wanted) -> Call[NextImages]:
    if wanted.strategy not in STRATEGIES:
        raise InvalidInput(f"strategy: found {wanted.strategy!r}, expected one of {', '.join(STRATEGIES)}")
    params: dict[str, str | int] = {
        "adapter": wanted.adapter,
        "who": wanted.who,
        "n": wanted.n,
        "strategy": wanted.strategy,
        "lease_s": f"{wanted.lease_s:g}",
    }
    return Call("POST", f"{_path(name)}/next", _next_of, params=params)


def _next_of(response: Response) -> NextImages:
    fields = JsonFields.of(response)
    return NextImages(
        name=fields.string("name"),
        adapter=read_adapter_id(fields.child("adapter")),
        strategy=fields.string("strategy"),
        state=fields.string("state"),
        done=fields.integer("done"),
        total=fields.integer("total"),
        unfamiliar=fields.integer("unfamiliar"),
        lease_s=fields.number("lease_s"),
        items=tuple(
            NextImage(
                item.digest("digest"),
                tuple(Score(each.string("label"), each.number("score")) for each in item.children("predictions")),
            )
            for item in fields.children("items")
        ),
    )


def add_labels(name: str, labels: Mapping[str, str], who: str) -> Call[list[LabelInfo]]:
    if not labels or len(labels) > MOST_LABELS:
        raise InvalidInput(f"labels: found {len(labels)}, expected 1 to {MOST_LABELS} in one call")
    body = json.dumps({"who": who, "labels": dict(labels)}).encode()
    return Call("POST", f"{_path(name)}/labels", _labels_of, content=body, content_type="application/json")


def list_labels(name: str) -> Operation[list[LabelInfo]]:
    """All labels of a pool, page by page."""
    labels: list[LabelInfo] = []
    while True:
        after = labels[-1].number if labels else 0
        page: list[LabelInfo] = yield Call("GET", f"{_path(name)}/labels", _labels_of, params={"after": after})
        labels += page
        if not page:
            return labels


def publish(name: str, base: str | None) -> Call[Published]:
    def read(response: Response) -> Published:
        fields = JsonFields.of(response)
        return Published(dataset_of(fields), fields.integer("labelled"), fields.strings("disputed"))

    return Call("POST", f"{_path(name)}/versions", read, params={} if base is None else {"base": base}, read_s=1800.0)


def feedback(image: bytes, adapter: str, label: str, who: str, request_id: str | None) -> Call[Feedback]:
    def read(response: Response) -> Feedback:
        fields = JsonFields.of(response)
        words = {word: fields.string(word) for word in ("dataset", "digest", "label", "who", "request_id")}
        return Feedback(**words, adapter=read_adapter_id(fields.child("adapter")))

    params: dict[str, str | int] = {"adapter": adapter, "label": label, "who": who}
    if request_id is not None:
        params["request_id"] = request_id
    return Call("POST", "/feedback", read, params=params, content=image, content_type=BYTES)


def _labels_of(response: Response) -> list[LabelInfo]:
    return [
        LabelInfo(
            number=item.integer("number"),
            digest=item.string("digest"),
            label=item.string("label"),
            who=item.string("who"),
            at=item.number("at"),
            adapter=item.string_or_none("adapter"),
            request_id=item.string_or_none("request_id"),
        )
        for item in JsonFields.of(response).children("labels")
    ]


def _path(name: str) -> str:
    return f"/datasets/{checked_name(name, 'dataset name')}"
