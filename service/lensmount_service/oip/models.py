"""Adapters as models: references by name and version, their metadata and their configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.inputs import INPUT
from lensmount_service.oip.outputs import Output, outputs_of
from lensmount_service.oip.requests import IMAGE
from lensmount_service.oip.tensors import BYTES, FP32
from lensmount_service.routes.context import TenantContext
from lensmount_service.store.references import Reference

PLATFORM = "lensmount_adapter"
_TYPES = {BYTES: "TYPE_STRING", "FP32": "TYPE_FP32", "FP64": "TYPE_FP64"}


def reference_of(model: str, version: str = "") -> Reference:
    """`malaria` and `3`, `prod` or `sha256:...`; the name may have the version as well, as in `malaria@3`.

    Raises RequestInvalid (`invalid_reference`).
    """
    if not version:
        return Reference.parse(model)
    named = Reference.parse(model)
    if named != Reference(named.name):
        raise RequestInvalid(
            f"found the model {model[:80]!r}, which names a version, and the version {version[:80]!r}, expected one of "
            "them. Fix: ask for the name alone with this version",
            code="invalid_reference",
        )
    is_alias = not (version.isdecimal() or version.startswith("sha256:"))
    return Reference.parse(f"{model}{':' if is_alias else '@'}{version}")


def inputs_of(manifest: Manifest) -> tuple[Output, ...]:
    """The inputs of an adapter, of which a request has one: encoded images, or the network's own input."""
    return Output(IMAGE, BYTES, (-1,)), Output(INPUT, FP32, (-1, *manifest.preprocessing.input_shape))


async def metadata_of(seen: TenantContext, model: Reference) -> dict[str, Any]:
    """What clients ask for before an inference. `versions` are numbers; aliases and digests are versions as well.

    Raises NotFound or VersionDeleted, as all functions here that ask for a model.
    """
    version = await asyncio.to_thread(seen.catalog.version, model)
    entry = await asyncio.to_thread(seen.catalog.entry, model.name)
    return {
        "name": version.name,
        "versions": [str(each.version) for each in entry.versions],
        "platform": PLATFORM,
        "inputs": _described(inputs_of(version.manifest)),
        "outputs": _described(outputs_of(version.manifest)),
    }


async def config_of(seen: TenantContext, model: Reference) -> dict[str, Any]:
    """The model configuration extension. Its shapes have no dimension for the number of images."""
    version = await asyncio.to_thread(seen.catalog.version, model)
    manifest = version.manifest
    return {
        "name": version.name,
        "platform": PLATFORM,
        "backend": "lensmount",
        "max_batch_size": seen.settings.max_files,
        "input": [{**_configured(each), "optional": True} for each in inputs_of(manifest)],
        "output": [_configured(each) for each in outputs_of(manifest)],
        "dynamic_batching": {},
        "parameters": {
            "version": {"string_value": str(version.version)},
            "digest": {"string_value": version.digest},
            "backbone": {"string_value": manifest.backbone.fingerprint},
            "labels": {"string_value": "\n".join(manifest.labels)},
        },
    }


async def require_ready(seen: TenantContext, model: Reference) -> None:
    """Raises what a request for the model would raise. Nothing is read into memory for a model that is ready."""
    version = await asyncio.to_thread(seen.catalog.version, model)
    if seen.catalog.status(version) != "ready":
        await asyncio.to_thread(seen.catalog.resolve, model)  # says why, unless an earlier version answers


async def numbers_of(seen: TenantContext, model: Reference | None) -> list[tuple[str, int]]:
    """The name and number of each version that a question about a model, or about all of them, is about."""
    if model is None:
        entries = await asyncio.to_thread(lambda: [*seen.catalog.entries(), *seen.catalog.public_entries()])
    elif model == Reference(model.name):
        entries = [await asyncio.to_thread(seen.catalog.entry, model.name)]
    else:
        return [(model.name, (await asyncio.to_thread(seen.catalog.version, model)).version)]
    return [(version.name, version.version) for entry in entries for version in entry.versions]


def _described(tensors: Sequence[Output]) -> list[dict[str, Any]]:
    return [{"name": each.name, "datatype": each.datatype, "shape": list(each.shape)} for each in tensors]


def _configured(tensor: Output) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": _TYPES[tensor.datatype], "dims": list(tensor.shape[1:]) or [1]}
