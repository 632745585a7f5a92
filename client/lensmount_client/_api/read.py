"""JSON that several endpoints share, to values."""

from __future__ import annotations

from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._types.results import (
    AdapterId,
    AdapterInfo,
    Backbone,
)


def etag_of(answer: Response) -> str:
    """The digest that the header holds, without its quotes."""
    return answer.headers.get("etag", "").removeprefix("W/").strip('"')


def nothing(answer: Response) -> None:
    return None


def read_adapter_id(document: JsonFields) -> AdapterId:
    return AdapterId(document.text("name"), document.integer("version"), document.text("digest"))


def read_backbone(document: JsonFields) -> Backbone:
    return Backbone(document.text("name"), document.text("fingerprint"))


def read_adapter_info(document: JsonFields) -> AdapterInfo:
    aliases = document.child("aliases")
    return AdapterInfo(
        name=document.text("name"),
        version=document.integer("version"),
        digest=document.text("digest"),
        size_bytes=document.integer("size_bytes"),
        created_at=document.time("created_at"),
        method=document.text("method"),
        labels=document.texts("labels"),
        backbone=read_backbone(document.child("backbone")),
        aliases={alias: aliases.integer(alias) for alias in aliases.value},
        versions=document.integers("versions"),
        status=document.text("status"),
        manifest=document.child("manifest").value if "manifest" in document.value else None,
    )
