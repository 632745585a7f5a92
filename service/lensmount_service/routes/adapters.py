"""/adapters: upload, list, download and delete adapters."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.rebind import note_of
from lensmount_adapters.draft.draft import is_draft
from lensmount_adapters.errors import AdapterError
from lensmount_service.errors import RequestInvalid
from lensmount_service.jobs.records import iso
from lensmount_service.rollout_spec import RolloutInfo
from lensmount_service.routes.charges import charge_bytes
from lensmount_service.routes.context import Context, Public, TenantContext
from lensmount_service.routes.imports import SMALLER, as_foreign
from lensmount_service.routes.route import Route
from lensmount_service.settings import MAX_REQUEST_TIMEOUT_S
from lensmount_service.sources.adapter_sources import FETCH_S
from lensmount_service.store.keys import name_of
from lensmount_service.store.references import Reference, require_name
from lensmount_service.store.registry import Deleted, Entry, Version
from lensmount_service.store.signatures import HEADER
from lensmount_service.web.bodies import OpenFile, read_multipart, read_raw
from lensmount_service.web.deadline import deadline
from lensmount_service.web.openapi import PROBLEMS, adapter_body, adapter_form, file_answer
from lensmount_service.web.preconditions import (
    TAKES_CONDITIONS,
    Expected,
    ExpectedAlone,
    expected_of,
    refuse_conditions,
)
from lensmount_service.web.schemas import (
    AdapterDetail,
    AdapterInfo,
    AdapterList,
    AdapterRef,
    AdapterSource,
    AdapterStats,
    AdapterUploaded,
    BackboneInfo,
    DeletedAdapters,
    DeletedVersion,
    VersionDetail,
)
from lensmount_service.web.trust_schemas import AliasTrust, Promises

VersionNumber = Annotated[int, Path(ge=1, le=999_999_999)]

router = APIRouter(route_class=Route, prefix="/adapters", tags=["adapters"], responses=PROBLEMS)


@router.get("", summary="All adapters")
async def list_adapters(
    context: Context, public: Public = False, deleted: bool = False
) -> AdapterList | DeletedAdapters:
    """With `deleted=true`, the versions that can be undeleted instead."""
    catalog = context.catalog
    if deleted:
        kept_s = context.settings.undelete_s
        return DeletedAdapters(deleted=[_deleted(each, kept_s) for each in await asyncio.to_thread(catalog.deleted)])
    entries = await asyncio.to_thread(catalog.public_entries if public else catalog.entries)
    return AdapterList(adapters=[_info(context, entry) for entry in entries])


@router.put(
    "/{name}",
    status_code=201,
    dependencies=[TAKES_CONDITIONS],
    response_model_exclude_none=True,
    responses={200: {"model": AdapterUploaded, "description": "The latest version already has these bytes."}},
    openapi_extra=adapter_body(),
    summary="Upload an adapter",
)
async def put_adapter(
    context: Context,
    name: str,
    request: Request,
    response: Response,
    job: Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")] = None,
    alias: str | None = None,
    accept_rounded_backbone: bool = False,
    lease: Annotated[str | None, Header(alias="Lensmount-Lease", pattern=r"^[0-9a-f]{32}$")] = None,
) -> AdapterUploaded:
    """Send the raw safetensors file as the body. It is checked before anything is stored; a refusal changes nothing.

    `accept_rounded_backbone`: a file for the same weights in another precision becomes one for the weights here. Its
    digest is then another one, and `note` says how much the logits change.

    The header Lensmount-Signature says who made the file: `keyid=..., sig=...` (Ed25519), as `lensmount adapters sign`
    prints it. Some servers store only what a trusted key has signed.

    `job` and `alias` are for workers and need the header Lensmount-Lease. The version, its alias and the end of the
    job are then one transaction, and a job publishes at most once.
    """
    require_name(name)
    expected = expected_of(request)
    signature = request.headers.get(HEADER)
    if (job is None) != (lease is None) or (alias is not None and job is None):
        raise RequestInvalid(
            "found only some of ?job=, ?alias= and the header Lensmount-Lease, expected all of them or none. "
            "Fix: upload without them, then PUT /adapters/{name}/aliases/{alias}"
        )
    if job is not None:
        refuse_conditions(expected, "a worker's lease protects what its job publishes")
    data = await read_raw(request, context.settings.max_adapter_bytes, SMALLER)
    if job is None or lease is None:
        upload = partial(
            context.catalog.upload,
            accept_rounded_backbone=accept_rounded_backbone,
            signature=signature,
            expected=expected,
        )
        return await _upload(upload, name, data, response, tell_rounding=accept_rounded_backbone)
    publish = partial(context.training.publisher.publish, job, lease, alias)
    signature = signature or await asyncio.to_thread(context.catalog.own_signature, data)
    return await _upload(partial(context.catalog.upload, publish=publish, signature=signature), name, data, response)


@router.post(
    "",
    status_code=201,
    response_model_exclude_none=True,
    responses={200: {"model": AdapterUploaded, "description": "The latest version already has these bytes."}},
    openapi_extra=adapter_form(),
    summary="Upload an adapter as a form",
)
async def post_adapter(context: Context, request: Request, response: Response, expected: Expected) -> AdapterUploaded:
    """Send a multipart form with the part `file` and optionally the field `name` (default: the manifest's name)."""
    parts, fields = await read_multipart(request, context.settings.max_adapter_bytes + 64 * 1024, 1, SMALLER)
    if unknown := fields.keys() - {"name"}:
        raise RequestInvalid(f"found the field {min(unknown)[:40]!r}, expected only `file` and `name`")
    data = parts[0].data
    limits = context.catalog.limits
    try:
        name = fields.get("name") or (await asyncio.to_thread(parse_adapter, data, limits)).manifest.name
    except AdapterError as error:
        raise await asyncio.to_thread(as_foreign, error, data) from error
    require_name(name)
    upload = partial(context.catalog.upload, expected=expected, signature=request.headers.get(HEADER))
    return await _upload(upload, name, data, response)


@router.post(
    "/{name}/fetch",
    status_code=201,
    response_model_exclude_none=True,
    responses={200: {"model": AdapterUploaded, "description": "The latest version already has these bytes."}},
    summary="Fetch an adapter from a URL and publish it",
)
async def fetch_adapter(
    context: Context, name: str, request: Request, response: Response, source: AdapterSource, expected: Expected
) -> AdapterUploaded:
    """The server reads https://HOST/PATH, hf://OWNER/REPO[@REVISION]/PATH or s3://BUCKET/KEY, if its operator lists the
    host or the bucket in LENSMOUNT_FETCH_HOSTS. A file with another SHA-256 than `digest` is refused; otherwise it is
    checked and published like an upload. The header Lensmount-Signature is that of an upload.
    """
    require_name(name)
    async with deadline(request, FETCH_S + 1):
        data = await context.sources.fetch(source.url, source.digest, context.caller, request.state.holding.add)
    charge_bytes(request, len(data))
    upload = partial(context.catalog.upload, expected=expected, signature=request.headers.get(HEADER))
    return await _upload(upload, name, data, response)


@router.get("/{name}", summary="One adapter")
async def get_adapter(context: Context, name: str, response: Response) -> AdapterDetail:
    """The header ETag is the digest of the latest version; a write with If-Match compares it."""
    entry = await asyncio.to_thread(context.catalog.entry, name)
    response.headers["ETag"] = f'"{entry.latest.digest}"'
    return AdapterDetail(**_info(context, entry).model_dump(), manifest=entry.latest.manifest.model_dump(mode="json"))


@router.delete("/{name}", status_code=204, summary="Delete an adapter with all its versions")
async def delete_adapter(context: Context, name: str, expected: ExpectedAlone, purge: bool = False) -> None:
    """New requests no longer find it. It can be undeleted for the time that the server's operator states.

    With `purge` it is gone for good, and its space is free at once.
    """
    await asyncio.to_thread(partial(context.catalog.delete, name, purge=purge, expected=expected))


@router.get("/{name}/stats", summary="How an adapter was used")
async def get_stats(context: Context, name: str) -> AdapterStats:
    """The requests of the caller's tenant to /predict and /v2 since this server started, under this name."""
    await asyncio.to_thread(context.catalog.entry, name)
    use = context.usage.shown(context.identity.tenant, name)
    return AdapterStats(
        name=name,
        since=iso(context.usage.since),
        requests={str(status): count for status, count in sorted(use.requests.items())},
        images=use.images,
        decisions=dict(use.decisions),
        mean_ms=None if use.mean_s is None else round(use.mean_s * 1000, 2),
        last_used=None if use.last_used is None else iso(use.last_used),
    )


@router.post("/{name}/undelete", summary="Undo the latest delete of an adapter")
async def undelete_adapter(context: Context, name: str, response: Response, expected: ExpectedAlone) -> AdapterDetail:
    """Its versions and aliases are back as they were. An alias that was set meanwhile stays where it is."""
    await asyncio.to_thread(partial(context.catalog.undelete, name, expected=expected))
    return await get_adapter(context, name, response)


@router.get(
    "/{name}/file",
    response_class=Response,
    responses=file_answer("application/octet-stream"),
    summary="Download the file, byte for byte",
)
async def get_file(
    context: Context, name: str, version: Annotated[int | None, Query(ge=1, le=999_999_999)] = None
) -> Response:
    stored = await asyncio.to_thread(context.catalog.version, Reference(name, version))
    data = await asyncio.to_thread(context.catalog.read, stored)
    raw = base64.b64encode(bytes.fromhex(stored.digest.removeprefix("sha256:"))).decode()
    headers = {
        "ETag": f'"{stored.digest}"',
        "Content-Digest": f"sha-256=:{raw}:",  # RFC 9530
        "Content-Disposition": f'attachment; filename="{name_of(stored.name)}.safetensors"',
        **({} if stored.signature is None else {HEADER: stored.signature}),
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get(
    "/{name}/export",
    response_class=Response,
    responses=file_answer("application/zip"),
    summary="Download it in the format of another tool",
)
async def get_export(
    context: Context,
    request: Request,
    name: str,
    to: Annotated[str, Query(max_length=40, description="peft, lycoris, timm, onnx, openvino or torchscript")],
    version: Annotated[int | None, Query(ge=1, le=999_999_999)] = None,
) -> Response:
    """A zip, which has the adapter's logits divided by its temperature. Its README.md says how to load it.

    The first request for an adapter in a format takes seconds, and exports are made one after the other.
    """
    async with deadline(request, MAX_REQUEST_TIMEOUT_S):
        snapshot = await asyncio.to_thread(context.catalog.resolve, Reference(name, version))
        exported = await context.exports.open(snapshot, to)
    headers = {
        "ETag": f'"{exported.digest}"',
        "Content-Disposition": f'attachment; filename="{name_of(snapshot.version.name)}-{to}.zip"',
    }
    return OpenFile(exported.file, "application/zip", headers)


@router.get("/{name}/versions/{version}", summary="One version")
async def get_version(context: Context, name: str, version: VersionNumber, response: Response) -> VersionDetail:
    stored = await asyncio.to_thread(context.catalog.version, Reference(name, version))
    response.headers["ETag"] = f'"{stored.digest}"'
    return VersionDetail(
        **_ref(stored).model_dump(),
        size_bytes=stored.size_bytes,
        created_at=stored.created_at,
        trust=Promises.of(stored.manifest),
        manifest=stored.manifest.model_dump(mode="json"),
        tenant=context.tenant_of(name),
        owner=stored.owner,
        signed_by=context.catalog.signer(stored),
    )


@router.delete("/{name}/versions/{version}", status_code=204, summary="Delete one version")
async def delete_version(
    context: Context, name: str, version: VersionNumber, expected: ExpectedAlone, purge: bool = False
) -> None:
    """Like the delete of an adapter, for one version and its aliases."""
    await asyncio.to_thread(partial(context.catalog.delete, name, version, purge=purge, expected=expected))


@router.post("/{name}/versions/{version}/undelete", summary="Undo the delete of one version")
async def undelete_version(
    context: Context, name: str, version: VersionNumber, response: Response, expected: ExpectedAlone
) -> VersionDetail:
    await asyncio.to_thread(context.catalog.undelete, name, version, expected)
    return await get_version(context, name, version, response)


@router.post("/{name}/versions/{version}/release", summary="Compute a quarantined version again")
async def release_version(context: Context, name: str, version: VersionNumber, expected: ExpectedAlone) -> AdapterRef:
    """A version is quarantined after LENSMOUNT_QUARANTINE_AFTER failures in a row. Another one stays as it is."""
    return _ref(await asyncio.to_thread(context.catalog.release, name, version, expected))


async def _upload(
    upload: Callable[[str, bytes], tuple[Version, bool]],
    name: str,
    data: bytes,
    response: Response,
    *,
    tell_rounding: bool = False,
) -> AdapterUploaded:
    try:
        version, created = await asyncio.to_thread(upload, name, data)
    except AdapterError as error:
        raise await asyncio.to_thread(as_foreign, error, data) from error
    response.status_code = 201 if created else 200
    response.headers["ETag"] = f'"{version.digest}"'
    response.headers["Location"] = f"/adapters/{name}/versions/{version.version}"
    note = note_of(version.manifest) if tell_rounding else None
    return AdapterUploaded(**_ref(version).model_dump(), note=note)


def _ref(version: Version) -> AdapterRef:
    return AdapterRef(name=version.name, version=version.version, digest=version.digest)


def _deleted(deleted: Deleted, kept_s: float) -> DeletedVersion:
    return DeletedVersion(
        **_ref(deleted.version).model_dump(),
        size_bytes=deleted.version.size_bytes,
        deleted_at=iso(deleted.at),
        kept_until=iso(deleted.at + kept_s),
    )


def _info(context: TenantContext, entry: Entry) -> AdapterInfo:
    latest = entry.latest
    return AdapterInfo(
        **_ref(latest).model_dump(),
        size_bytes=latest.size_bytes,
        created_at=latest.created_at,
        method=latest.manifest.method,
        labels=list(latest.manifest.labels),
        titles=latest.manifest.titles,
        backbone=BackboneInfo(**latest.manifest.backbone.model_dump()),
        aliases=entry.aliases,
        protected_aliases=list(entry.protected),
        alias_trust={alias: AliasTrust(**asdict(found)) for alias, found in entry.thresholds.items()},
        rollouts={alias: RolloutInfo.of(found, iso(found.started_at)) for alias, found in entry.rollouts.items()},
        draft=is_draft(latest.manifest),
        trust=Promises.of(latest.manifest),
        versions=[version.version for version in entry.versions],
        status=context.catalog.status(latest),
        tier=context.catalog.tier(latest),
        tenant=context.tenant_of(latest.name),
        owner=latest.owner,
        signed_by=context.catalog.signer(latest),
    )
