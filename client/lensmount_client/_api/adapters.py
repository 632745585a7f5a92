"""The endpoints of adapters: one function each, from arguments to a Call."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from lensmount_client._api.protect import content_digest, if_matches
from lensmount_client._api.read import (
    etag_of,
    nothing,
    read_adapter_id,
    read_adapter_info,
    read_alias_trust,
    read_promises,
    tenant_of,
)
from lensmount_client._api.read_rollouts import rollout_of
from lensmount_client._errors import InvalidInput
from lensmount_client._files.signing import HEADER
from lensmount_client._http.call import Call
from lensmount_client._http.download import Download
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import Reference, checked_name, checked_readable, checked_version
from lensmount_client._types.results import (
    AdapterFile,
    AdapterId,
    AdapterInfo,
    AdapterStats,
    Alias,
    AliasTrust,
    DeletedVersion,
    DownloadedFile,
    Imported,
    ImportedModule,
    ImportReport,
    PushedAdapter,
    VersionInfo,
)

BYTES = "application/octet-stream"
FETCH_S = 120.0  # the server gives up after 60 s
IMPORT_S = 600.0  # a conversion takes seconds; it waits for those before it
MAX_SOURCE = 1024  # characters
EXPORT_S = 600.0  # the server's own limit
MAX_EXPORT_BYTES = 16 * 2**30


def list_adapters(public: bool = False) -> Call[list[AdapterInfo]]:
    def read(response: Response) -> list[AdapterInfo]:
        return [read_adapter_info(item) for item in JsonFields.of(response).children("adapters")]

    return Call("GET", "/adapters", read, params={"public": "true"} if public else {})


def list_deleted() -> Call[list[DeletedVersion]]:
    def read(response: Response) -> list[DeletedVersion]:
        return [
            DeletedVersion(
                name=item.string("name"),
                version=item.integer("version"),
                digest=item.string("digest"),
                size_bytes=item.integer("size_bytes"),
                deleted_at=item.time("deleted_at"),
                kept_until=item.time("kept_until"),
            )
            for item in JsonFields.of(response).children("deleted")
        ]

    return Call("GET", "/adapters", read, params={"deleted": "true"})


def get_adapter(name: str) -> Call[AdapterInfo]:
    return Call("GET", _adapter_path(name), lambda response: read_adapter_info(JsonFields.of(response)))


def get_stats(name: str) -> Call[AdapterStats]:
    def read(response: Response) -> AdapterStats:
        fields = JsonFields.of(response)
        return AdapterStats(
            name=fields.string("name"),
            since=fields.time("since"),
            requests={int(status): count for status, count in fields.counts("requests").items() if status.isdecimal()},
            images=fields.integer("images"),
            decisions=fields.counts("decisions"),
            mean_ms=fields.number_or_none("mean_ms"),
            last_used=fields.time_or_none("last_used"),
        )

    return Call("GET", f"{_adapter_path(name)}/stats", read)


def get_version(name: str, version: int) -> Call[VersionInfo]:
    def read(response: Response) -> VersionInfo:
        fields = JsonFields.of(response)
        return VersionInfo(
            name=fields.string("name"),
            version=fields.integer("version"),
            digest=fields.string("digest"),
            size_bytes=fields.integer("size_bytes"),
            created_at=fields.time("created_at"),
            manifest=fields.child("manifest").value,
            trust=read_promises(fields),
            tenant=tenant_of(fields),
            owner=fields.string_or_none("owner"),
            signed_by=fields.string_or_none("signed_by"),
        )

    return Call("GET", f"{_adapter_path(name)}/versions/{checked_version(version)}", read)


def push(
    name: str,
    content: bytes,
    digest: str,
    *,
    accept_rounded_backbone: bool = False,
    if_match: str | None = None,
    signature: str | None = None,
) -> Call[PushedAdapter]:
    """`digest` is that of `content`. The server must return the same, unless it may change the file and says so."""

    def read(response: Response) -> PushedAdapter:
        fields = JsonFields.of(response)
        pushed, note = read_adapter_id(fields), fields.string_or_none("note")
        Reference(name, digest=digest if note is None else None).check(pushed, response.request_id)
        return PushedAdapter(pushed.name, pushed.version, pushed.digest, note)

    params = {"accept_rounded_backbone": "true"} if accept_rounded_backbone else {}
    headers = {"Content-Digest": content_digest(content), **if_matches(if_match)}
    headers |= {} if signature is None else {HEADER: signature}
    return Call("PUT", _adapter_path(name), read, params=params, content=content, content_type=BYTES, headers=headers)


def fetch(name: str, url: str, digest: str, if_match: str | None, signature: str | None) -> Call[PushedAdapter]:
    def read(response: Response) -> PushedAdapter:
        pushed = read_adapter_id(JsonFields.of(response))
        Reference(name, digest=digest).check(pushed, response.request_id)
        return PushedAdapter(pushed.name, pushed.version, pushed.digest, None)

    headers = {**if_matches(if_match), **({} if signature is None else {HEADER: signature})}
    content = json.dumps({"url": url, "digest": digest}).encode()
    path = f"{_adapter_path(name)}/fetch"
    return Call("POST", path, read, content=content, content_type="application/json", headers=headers, read_s=FETCH_S)


def import_(name: str, content: bytes, *, preprocessing: str | None, source: str, dry_run: bool) -> Call[Imported]:
    """`content` is a zip file with the adapter, and with labels.json and head.safetensors if they were given."""

    def read(response: Response) -> Imported:
        fields = JsonFields.of(response)
        adapter = fields.child_or_none("adapter")
        return Imported(None if adapter is None else read_adapter_id(adapter), _report(fields.child("report")))

    params = {"source": source[:MAX_SOURCE]} if source else {}
    params |= {} if preprocessing is None else {"preprocessing": preprocessing}
    params |= {"dry_run": "true"} if dry_run else {}
    path = f"{_adapter_path(name)}/import"
    return Call("POST", path, read, params=params, content=content, content_type="application/zip", read_s=IMPORT_S)


def _report(fields: JsonFields) -> ImportReport:
    ignored = fields.child("ignored")
    return ImportReport(
        tool=fields.string("tool"),
        method=fields.string("method"),
        labels=fields.strings("labels"),
        stored_as=fields.string("stored_as"),
        share=fields.number("share"),
        error=fields.number("error"),
        matched=tuple(
            ImportedModule(
                module=each.string("module"),
                form=each.string("form"),
                rank=each.integer_or_none("rank"),
                error=each.number("error"),
                tensors=each.strings("tensors"),
            )
            for each in fields.children("matched")
        ),
        ignored={name: ignored.string(name) for name in ignored.value},
        notes=fields.strings("notes"),
        unproven=fields.string("unproven"),
    )


def pull(name: str, version: int | None, download: Download) -> Call[AdapterFile]:
    def read(response: Response) -> AdapterFile:
        pulled = download.finish(etag_of(response), response.request_id)
        return AdapterFile(pulled.path, pulled.digest, pulled.size_bytes)

    params = {} if version is None else {"version": checked_version(version)}
    return Call("GET", f"{_adapter_path(name)}/file", read, params=params, sink=download)


def export(name: str, to: str, version: int | None, download: Download) -> Call[DownloadedFile]:
    """A zip, which the server makes in seconds or minutes."""
    params: dict[str, str | int] = {"to": to}
    if version is not None:
        params["version"] = checked_version(version)

    def read(response: Response) -> DownloadedFile:
        return download.finish(etag_of(response), response.request_id)

    path = f"{_adapter_path(name)}/export"
    return Call("GET", path, read, params=params, sink=download, limit_bytes=MAX_EXPORT_BYTES, read_s=EXPORT_S)


def delete(name: str, version: int | None, *, purge: bool = False, if_match: str | None = None) -> Call[None]:
    params = {"purge": "true"} if purge else {}
    return Call(
        "DELETE", _version_path(name, version), nothing, params=params, headers=if_matches(if_match), gone_is_done=True
    )


def undelete(name: str, version: int | None) -> Call[None]:
    return Call("POST", f"{_version_path(name, version)}/undelete", nothing)


def release(name: str, version: int) -> Call[AdapterId]:
    def read(response: Response) -> AdapterId:
        return read_adapter_id(JsonFields.of(response))

    return Call("POST", f"{_adapter_path(name)}/versions/{checked_version(version)}/release", read)


def set_alias(
    name: str,
    alias: str,
    version: int,
    trust: AliasTrust | None,
    protected: bool | None = None,
    if_match: str | None = None,
) -> Call[Alias]:
    def read(response: Response) -> Alias:
        fields = JsonFields.of(response)
        kept, rollout = fields.child_or_none("trust"), fields.child_or_none("rollout")
        return Alias(
            name=fields.string("name"),
            alias=fields.string("alias"),
            version=fields.integer("version"),
            digest=fields.string("digest"),
            trust=None if kept is None else read_alias_trust(kept),
            rollout=None if rollout is None else rollout_of(rollout),
        )

    body: dict[str, Any] = {"version": checked_version(version)}
    if trust is not None:
        body["trust"] = _checked_thresholds(trust)
    if protected is not None:
        body["protected"] = protected
    content = json.dumps(body).encode()
    headers = if_matches(if_match)
    return Call(
        "PUT", _alias_path(name, alias), read, content=content, content_type="application/json", headers=headers
    )


def _checked_thresholds(trust: AliasTrust) -> dict[str, float]:
    """Raises InvalidInput."""
    if trust.accept_confidence is not None and not 0 <= trust.accept_confidence <= 1:
        raise InvalidInput(f"accept_confidence: found {trust.accept_confidence:g}, expected 0 to 1")
    if trust.unfamiliar_percentile is not None and not 0 < trust.unfamiliar_percentile <= 100:
        raise InvalidInput(f"unfamiliar_percentile: found {trust.unfamiliar_percentile:g}, expected above 0 to 100")
    return {name: value for name, value in asdict(trust).items() if value is not None}


def delete_alias(name: str, alias: str) -> Call[None]:
    return Call("DELETE", _alias_path(name, alias), nothing, gone_is_done=True)


def _adapter_path(name: str) -> str:
    return f"/adapters/{checked_readable(name)}"


def _version_path(name: str, version: int | None) -> str:
    return _adapter_path(name) + ("" if version is None else f"/versions/{checked_version(version)}")


def _alias_path(name: str, alias: str) -> str:
    return f"{_adapter_path(name)}/aliases/{checked_name(alias, 'alias')}"
