"""The model repository extension: the index, and adapters that are loaded and unloaded.

Unloading an adapter is deleting it, which can be undone for the time that the operator states; loading undoes it.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Mapping
from functools import partial

from pydantic import BaseModel, ConfigDict

from lensmount_adapters.errors import AdapterError
from lensmount_service.errors import NotFound, RequestInvalid
from lensmount_service.oip.requests import Parameters
from lensmount_service.oip.tensors import Parameter
from lensmount_service.routes.context import TenantContext
from lensmount_service.routes.imports import as_foreign
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.references import Reference, require_name
from lensmount_service.store.registry import Version

FILE = "file:"


class RepositoryRequest(BaseModel):
    """The body of a request to the repository. Members that the protocol does not have are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    ready: bool = False
    parameters: Parameters = {}


def index_of(seen: TenantContext, *, only_ready: bool) -> list[dict[str, str]]:
    """Each version of each adapter that the tenant sees, and those that were unloaded. Reads the database."""
    entries = [*seen.catalog.entries(), *seen.catalog.public_entries()]
    rows = [_row(version, seen.catalog.status(version)) for entry in entries for version in entry.versions]
    if only_ready:
        return [row for row in rows if row["state"] == "READY"]
    return rows + [_row(deleted.version, "unloaded") for deleted in seen.catalog.deleted()]


async def load(
    seen: TenantContext, name: str, parameters: Mapping[str, Parameter | bytes], expected: Precondition = ANY
) -> None:
    """Upload the file in `parameters`, base64 or bytes. Without one, take an unloaded adapter back, or read it.

    `expected` is about the latest version. Raises RequestInvalid, NotFound, and what an upload raises.
    """
    files = [value for key, value in parameters.items() if key.startswith(FILE)]
    if files:
        await _upload(seen, name, files, expected)
        return
    try:
        found = await asyncio.to_thread(seen.catalog.resolve, Reference.parse(name))
        expected.require(found.version.digest)
    except NotFound:
        await asyncio.to_thread(partial(seen.catalog.undelete, require_name(name), expected=expected))


async def unload(seen: TenantContext, name: str, expected: Precondition = ANY) -> None:
    """Raises NotFound, or Forbidden for an adapter of another tenant or with a protected alias."""
    await asyncio.to_thread(partial(seen.catalog.delete, require_name(name), expected=expected))


async def _upload(seen: TenantContext, name: str, files: list[Parameter | bytes], expected: Precondition) -> None:
    require_name(name)
    if len(files) > 1 or not isinstance(files[0], str | bytes):
        raise RequestInvalid(
            f"found {len(files)} parameters {FILE}..., or one that is not a text, expected one with a file in base64. "
            f'Fix: {{"parameters": {{"{FILE}1/adapter.safetensors": "..."}}}}'
        )
    data = files[0] if isinstance(files[0], bytes) else await asyncio.to_thread(_decoded, files[0])
    try:
        await asyncio.to_thread(partial(seen.catalog.upload, name, data, expected=expected))
    except AdapterError as error:
        raise await asyncio.to_thread(as_foreign, error, data) from error


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise RequestInvalid(
            f"found a parameter {FILE}... that is not base64, expected an adapter file in base64. "
            "Fix: send base64.b64encode(data).decode()"
        ) from error


def _row(version: Version, status: str) -> dict[str, str]:
    state, reason = ("READY", "") if status == "ready" else ("UNAVAILABLE", status)
    return {"name": version.name, "version": str(version.version), "state": state, "reason": reason}
