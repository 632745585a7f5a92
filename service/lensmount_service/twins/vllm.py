"""/v1/models, /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them.

An adapter that is stored is known. To load it is to read it into memory and to prepare its programs, so that its first
request does not wait for that; to unload it is to give the memory back. Neither changes what is stored.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.errors import NotFound, RequestError, RequestInvalid
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Version
from lensmount_service.twins.openapi import LOAD_BODY, UNLOAD_BODY
from lensmount_service.web.bodies import read_raw
from lensmount_service.web.json_body import Form, parse_form
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import Expected

MAX_BODY_BYTES = 65_536
_AS_LOAD = 'send {"lora_name": "NAME"}'
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
Text = Annotated[str, StringConstraints(max_length=4096)]

router = APIRouter(route_class=GuardedRoute, prefix="/v1", tags=["twins of other servers"], responses=PROBLEMS)


class LoadRequest(BaseModel):
    """Members for paths and files, such as `load_inplace`, mean nothing here and are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    lora_name: Text
    lora_path: Text | None = None


class UnloadRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    lora_name: Text


@router.get("/models", summary="vLLM: the backbone and the adapters")
async def list_models(context: Context) -> dict[str, Any]:
    """The backbone has no parent. `root` is the digest of an adapter's latest version."""

    def cards() -> list[dict[str, Any]]:
        latest = [entry.latest for entry in [*context.catalog.entries(), *context.catalog.public_entries()]]
        ready = [version for version in latest if context.catalog.status(version) == "ready"]
        return [_base_card(context), *(_card(context, version.name, version) for version in ready)]

    return {"object": "list", "data": await asyncio.to_thread(cards)}


@router.get("/models/{adapter}", summary="vLLM: one adapter, or the backbone")
async def show_model(context: Context, adapter: str) -> dict[str, Any]:
    """`adapter` is a reference as in POST /predict."""
    reference = Reference.parse(adapter)
    try:
        version = await asyncio.to_thread(context.catalog.version, reference)
    except NotFound:
        if adapter != context.engine.backbone.name:
            raise
        return _base_card(context)
    return _card(context, adapter, version)


@router.post(
    "/load_lora_adapter",
    response_class=PlainTextResponse,
    responses=_TEXT,
    openapi_extra=LOAD_BODY,
    summary="vLLM: prepare an adapter for its first request",
)
async def load_lora_adapter(context: Context, request: Request, expected: Expected) -> PlainTextResponse:
    """`lora_path` may name a version of the adapter. A file or an address is refused: upload it first.

    Loading an adapter again is no error, because any request may have loaded it.
    """
    asked = await _read(request, LoadRequest)
    reference = reference_of(asked)
    version = await asyncio.to_thread(context.catalog.version, reference)
    expected.require(version.digest)

    def load() -> Snapshot:
        snapshot = context.catalog.resolve(reference)
        context.engine.runner.prepare(snapshot.adapter)
        return snapshot

    snapshot = await context.queues.admit(load, version.size_bytes)
    return _success(asked.lora_name, "added", snapshot.version)


@router.post(
    "/unload_lora_adapter",
    response_class=PlainTextResponse,
    responses=_TEXT,
    openapi_extra=UNLOAD_BODY,
    summary="vLLM: give an adapter's memory back",
)
async def unload_lora_adapter(context: Context, request: Request, expected: Expected) -> PlainTextResponse:
    """The next request loads it again. It stays in memory as long as another tenant uses the same file."""
    asked = await _read(request, UnloadRequest)
    reference = Reference.parse(asked.lora_name)
    version = await asyncio.to_thread(context.catalog.version, reference)
    expected.require(version.digest)
    await asyncio.to_thread(context.catalog.unload, reference)
    return _success(asked.lora_name, "removed", version)


def reference_of(asked: LoadRequest) -> Reference:
    """The stored adapter that a request means. Raises RequestError for a path or an address."""
    named = Reference.parse(asked.lora_name)
    path = asked.lora_path or asked.lora_name
    try:
        stored = Reference.parse(f"{named.name}@{path}" if path.startswith("sha256:") else path)
    except RequestInvalid as error:
        raise RequestError(
            f"lora_path: found {path[:80]!r}, expected a stored version of {named.name}, because this server reads no "
            f"file and no address for a client. Fix: upload the file as {named.name} with PUT /adapters/{{name}}, then "
            "leave lora_path out"
        ) from error
    if stored.name != named.name or (named != Reference(named.name) and named != stored):
        raise RequestError(
            f"found lora_name {asked.lora_name!r} and lora_path {path[:80]!r}, expected the same adapter in both. "
            "Fix: leave lora_path out"
        )
    return stored


async def _read(request: Request, form: type[Form]) -> Form:
    """The body. Raises RequestError for all that is wrong with it, because vLLM answers 400."""
    body = await read_raw(request, MAX_BODY_BYTES)
    try:
        return parse_form(body, form, _AS_LOAD)
    except RequestInvalid as error:
        raise RequestError(str(error)) from error


def _success(name: str, what: str, version: Version) -> PlainTextResponse:
    """vLLM's text. The headers tell the audit log what it was about."""
    headers = {"Location": f"/adapters/{version.name}", "ETag": f'"{version.digest}"'}
    return PlainTextResponse(f"Success: LoRA adapter '{name}' {what} successfully.", headers=headers)


def _base_card(context: TenantContext) -> dict[str, Any]:
    backbone = context.engine.backbone
    return _model(backbone.name, 0, backbone.fingerprint, None)


def _card(context: TenantContext, name: str, version: Version) -> dict[str, Any]:
    created = int(datetime.fromisoformat(version.created_at).timestamp())
    card = _model(name, created, version.digest, version.manifest.backbone.name)
    return {**card, "version": version.version, "tier": context.catalog.tier(version)}


def _model(name: str, created: int, root: str, parent: str | None) -> dict[str, Any]:
    """The members of vLLM. `created` is in seconds since 1970."""
    base = {"id": name, "object": "model", "created": created, "owned_by": "lensmount", "root": root}
    return {**base, "parent": parent, "permission": []}
