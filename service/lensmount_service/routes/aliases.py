"""/adapters/{name}/aliases/{alias}: which version an alias points at, and which other ones it tries."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial

from fastapi import APIRouter, Response

from lensmount_service.jobs.records import iso
from lensmount_service.rollout_spec import Rollout, RolloutInfo
from lensmount_service.rollouts.ready import InsteadOf, until_made
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.route import Route
from lensmount_service.store.references import Reference, require_name
from lensmount_service.store.registry import Version
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import Expected, ExpectedAlone
from lensmount_service.web.schemas import AliasInfo
from lensmount_service.web.trust_schemas import AliasTarget, AliasTrust

router = APIRouter(route_class=Route, prefix="/adapters/{name}/aliases", tags=["adapters"], responses=PROBLEMS)


@router.get("/{alias}", summary="One alias")
async def get_alias(context: Context, name: str, alias: str, response: Response) -> AliasInfo:
    """The header ETag stands for version, thresholds, protection and rollout; a write with If-Match compares it."""
    version = await asyncio.to_thread(context.catalog.version, Reference(name, alias=require_name(alias, "alias")))
    return alias_info(version, alias, response)


@router.put("/{alias}", summary="Point an alias at a version, or start a rollout")
async def put_alias(
    context: Context, name: str, alias: str, target: AliasTarget, response: Response, expected: Expected
) -> AliasInfo:
    """Requests by the alias use the thresholds in `trust`, which stay when the alias moves.

    With `stable` and a canary, the canary answers a part of the requests; a shadow computes images too, and its answers
    are only compared. Both are prepared first. The same versions again change the rollout that runs, such as its
    percentage; a `version` ends it. If-Match takes the ETag of the alias, or the digest of the version that it points
    at.
    """
    rollout = target.rollout(context.identity.actor)
    if rollout is not None:
        await until_made(await asyncio.to_thread(_prepare, context, name, rollout))
    version = await asyncio.to_thread(
        partial(
            context.catalog.set_alias,
            name,
            alias,
            target.points_at,
            None if target.trust is None else target.trust.overrides(),
            rollout=rollout,
            protected=target.protected,
            expected=expected,
        )
    )
    if version.rollout is not None:
        for number in version.rollout.versions - {version.version}:
            context.choice.ready.mark(version.rollout.id, number)
    return alias_info(version, alias, response)


@router.delete("/{alias}", status_code=204, summary="Remove an alias")
async def delete_alias(context: Context, name: str, alias: str, expected: ExpectedAlone) -> None:
    """Its rollout ends with it."""
    await asyncio.to_thread(context.catalog.delete_alias, name, alias, expected)


def alias_info(version: Version, alias: str, response: Response) -> AliasInfo:
    response.headers["ETag"] = f'"{version.alias_tag}"'
    return AliasInfo(
        name=version.name,
        version=version.version,
        digest=version.digest,
        alias=alias,
        trust=AliasTrust.of(version.thresholds),
        rollout=None if version.rollout is None else RolloutInfo.of(version.rollout, iso(version.rollout.started_at)),
    )


def _prepare(context: TenantContext, name: str, rollout: Rollout) -> list[Future[None]]:
    """Load every version. The futures are done when the programs of the stable version and the canary are made."""
    stable = context.catalog.version(Reference(name, rollout.stable)).digest
    shares = {rollout.stable: 0.0}
    if rollout.canary is not None:
        shares[rollout.canary.version] = rollout.canary.percent / 100
    made = {}
    for number in sorted(rollout.versions):
        resolve = partial(context.catalog.resolve, Reference(name, number))
        made[number] = context.choice.ready.prepare(resolve, InsteadOf(stable, shares.get(number, 0.0)))
    return [made[number] for number in shares]
