"""Every endpoint as one function from arguments to a Call; both clients run these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lensmount_client._errors import AdapterMismatch, InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.download import Download
from lensmount_client._http.json_fields import Document
from lensmount_client._http.response import Answer
from lensmount_client._reference import Reference, checked_name, checked_version
from lensmount_client._types.results import (
    AdapterFile,
    AdapterId,
    AdapterInfo,
    Alias,
    Backbone,
    Health,
    Integrity,
    Prediction,
    Score,
    VersionInfo,
)

BYTES = "application/octet-stream"


def predict(
    image: bytes, adapters: Sequence[str], top_k: int, timeout_s: float | None = None
) -> Call[list[Prediction]]:
    """One image under one or several adapters; the predictions come in the order of the adapters."""
    references = [Reference.parse(text) for text in adapters]
    if not references:
        raise InvalidInput("adapter: found an empty list, expected one adapter or more")
    if top_k < 1:
        raise InvalidInput(f"top_k: found {top_k}, expected 1 or more")

    def read(answer: Answer) -> list[Prediction]:
        document = Document.of(answer)
        several = "results" in document.value
        results = list(document.children("results")) if several else [document]
        if len(results) != len(references):
            raise AdapterMismatch(
                f"asked for {len(references)} adapters, answered by {len(results)}", answer.request_id
            )
        predictions = [prediction_of(result, document) for result in results]
        for reference, prediction in zip(references, predictions, strict=True):
            reference.check(prediction.adapter, prediction.request_id)
        return predictions

    params: dict[str, str | int] = {"adapter": ",".join(adapters), "top_k": top_k}
    if timeout_s is not None:
        params["timeout"] = f"{timeout_s:g}"
    return Call("POST", "/predict", read, params=params, content=image, content_type=BYTES)


def list_adapters() -> Call[list[AdapterInfo]]:
    def read(answer: Answer) -> list[AdapterInfo]:
        return [_adapter_info(item) for item in Document.of(answer).children("adapters")]

    return Call("GET", "/adapters", read)


def get_adapter(name: str) -> Call[AdapterInfo]:
    return Call("GET", _adapter_path(name), lambda answer: _adapter_info(Document.of(answer)))


def get_version(name: str, version: int) -> Call[VersionInfo]:
    def read(answer: Answer) -> VersionInfo:
        document = Document.of(answer)
        return VersionInfo(
            name=document.text("name"),
            version=document.integer("version"),
            digest=document.text("digest"),
            size_bytes=document.integer("size_bytes"),
            created_at=document.time("created_at"),
            manifest=document.child("manifest").value,
        )

    return Call("GET", f"{_adapter_path(name)}/versions/{checked_version(version)}", read)


def push(name: str, content: bytes, digest: str) -> Call[AdapterId]:
    """`digest` is that of `content`; the server must answer with the same."""

    def read(answer: Answer) -> AdapterId:
        pushed = _adapter_id(Document.of(answer))
        Reference(name, digest=digest).check(pushed, answer.request_id)
        return pushed

    return Call("PUT", _adapter_path(name), read, content=content, content_type=BYTES)


def pull(name: str, version: int | None, download: Download) -> Call[AdapterFile]:
    def read(answer: Answer) -> AdapterFile:
        pulled = download.finish(etag_of(answer), answer.request_id)
        return AdapterFile(pulled.path, pulled.digest, pulled.size_bytes)

    params = {} if version is None else {"version": checked_version(version)}
    return Call("GET", f"{_adapter_path(name)}/file", read, params=params, sink=download)


def delete(name: str, version: int | None) -> Call[None]:
    path = _adapter_path(name)
    if version is not None:
        path += f"/versions/{checked_version(version)}"
    return Call("DELETE", path, nothing)


def set_alias(name: str, alias: str, version: int) -> Call[Alias]:
    def read(answer: Answer) -> Alias:
        document = Document.of(answer)
        return Alias(
            name=document.text("name"),
            alias=document.text("alias"),
            version=document.integer("version"),
            digest=document.text("digest"),
        )

    body = b'{"version": %d}' % checked_version(version)
    return Call("PUT", _alias_path(name, alias), read, content=body, content_type="application/json")


def delete_alias(name: str, alias: str) -> Call[None]:
    return Call("DELETE", _alias_path(name, alias), nothing)


def health() -> Call[Health]:
    """Asks once: who asks for the health wants to hear that it is bad."""

    def read(answer: Answer) -> Health:
        document = Document.of(answer)
        return Health(document.text("status"), document.value)

    return Call("GET", "/health/ready", read, retried=False)


def limits() -> Call[Mapping[str, Any]]:
    return Call("GET", "/limits", lambda answer: Document.of(answer).value)


def integrity() -> Call[Integrity]:
    def read(answer: Answer) -> Integrity:
        document = Document.of(answer)
        return Integrity(document.truth("ok"), document.value)

    return Call("GET", "/integrity", read)


def _adapter_path(name: str) -> str:
    return f"/adapters/{checked_name(name)}"


def _alias_path(name: str, alias: str) -> str:
    return f"{_adapter_path(name)}/aliases/{checked_name(alias, 'alias')}"


def etag_of(answer: Answer) -> str:
    """The digest that the header holds, without its quotes."""
    return answer.headers.get("etag", "").removeprefix("W/").strip('"')


def nothing(answer: Answer) -> None:
    return None


def prediction_of(document: Document, outermost: Document) -> Prediction:
    scores = tuple(Score(item.text("label"), item.number("score")) for item in document.children("predictions"))
    if not scores:
        document.child("predictions[0]")  # names what is missing
    timing = document.child("timing_ms")
    return Prediction(
        predictions=scores,
        adapter=_adapter_id(document.child("adapter")),
        backbone=_backbone(document.child("backbone")),
        request_id=(document if "request_id" in document.value else outermost).text("request_id"),
        timing_ms={phase: timing.number(phase) for phase in timing.value},
    )


def _adapter_id(document: Document) -> AdapterId:
    return AdapterId(document.text("name"), document.integer("version"), document.text("digest"))


def _backbone(document: Document) -> Backbone:
    return Backbone(document.text("name"), document.text("fingerprint"))


def _adapter_info(document: Document) -> AdapterInfo:
    aliases = document.child("aliases")
    return AdapterInfo(
        name=document.text("name"),
        version=document.integer("version"),
        digest=document.text("digest"),
        size_bytes=document.integer("size_bytes"),
        created_at=document.time("created_at"),
        method=document.text("method"),
        labels=document.texts("labels"),
        backbone=_backbone(document.child("backbone")),
        aliases={alias: aliases.integer(alias) for alias in aliases.value},
        versions=document.integers("versions"),
        status=document.text("status"),
        manifest=document.child("manifest").value if "manifest" in document.value else None,
    )
