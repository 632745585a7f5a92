"""Which adapter answers a request: the one that it names or, for an alias with a rollout, the version that is chosen.

Everything that answers images asks here: /predict, /v2, gRPC, /explain and Label Studio. Feedback and the choice of
images to label do not: for them an alias means its stable version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fastapi import Request

from lensmount_adapters.errors import LensmountError
from lensmount_service.errors import ServiceError
from lensmount_service.rollout_spec import Rollout
from lensmount_service.rollouts.choice import Keys, place_of
from lensmount_service.routes.context import TenantContext, caller_of
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.references import Reference


def keys_of(request: Request) -> Keys:
    return Keys(request.state.request_id, caller_of(request), request.headers)


async def snapshot_of(context: TenantContext, reference: Reference, keys: Callable[[], Keys]) -> Snapshot:
    """The adapter that answers a request with these keys. Raises NotFound, VersionDeleted, BackboneMismatch or
    Unavailable.
    """
    known = context.catalog.resolve_cached(reference)
    stable = known if known is not None else await asyncio.to_thread(context.catalog.resolve, reference)
    rollout = stable.version.rollout
    return stable if rollout is None else await _chosen(context, stable, rollout, keys())


async def _chosen(context: TenantContext, stable: Snapshot, rollout: Rollout, keys: Keys) -> Snapshot:
    """The canary if the request belongs to it, with what the alias says. The stable version if that cannot answer."""
    catalog, number = context.catalog, rollout.candidate
    stable = replace(stable, shadowed=rollout.samples(keys.request))
    canary = Reference(stable.version.name, number)
    chosen = context.choice.choose(rollout, keys, partial(catalog.resolve, canary), stable.version.digest)
    place = place_of(rollout, keys, chosen)
    if chosen != number:
        return replace(stable, place=place)
    try:
        known = catalog.resolve_cached(canary)
        found = known if known is not None else await asyncio.to_thread(catalog.resolve, canary)
    except (ServiceError, LensmountError) as error:
        context.choice.failed(rollout, number, error.code)
        return stable
    alias = stable.version
    version = replace(found.version, thresholds=alias.thresholds, alias=alias.alias, rollout=rollout)
    return replace(found, version=version, place=place)
