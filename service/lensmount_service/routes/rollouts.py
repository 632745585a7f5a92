"""/adapters/{name}/rollouts: which rollouts run, what a candidate showed, and the end of one: promoted or rolled back.

PUT /adapters/{name}/aliases/{alias} starts and changes a rollout.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass

from fastapi import APIRouter, Response

from lensmount_adapters.errors import LensmountError
from lensmount_service.errors import NotFound, ServiceError
from lensmount_service.rollout_spec import Rollout
from lensmount_service.rollouts.ready import InsteadOf, until_made
from lensmount_service.rollouts.report import report
from lensmount_service.rollouts.schemas import RolloutList, RolloutReport
from lensmount_service.routes.aliases import alias_info
from lensmount_service.routes.context import Context, TenantContext
from lensmount_service.routes.route import Route
from lensmount_service.store.aliases import End
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.precondition import Precondition
from lensmount_service.store.references import Reference, require_name
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.preconditions import ExpectedAlone
from lensmount_service.web.schemas import AliasInfo

router = APIRouter(route_class=Route, prefix="/adapters/{name}/rollouts", tags=["rollouts"], responses=PROBLEMS)


@router.get("", summary="The rollouts of an adapter")
async def list_rollouts(context: Context, name: str) -> RolloutList:
    """The reports of those that have not ended, by alias."""
    return RolloutList(rollouts=await asyncio.to_thread(_reports, context, name))


@router.get("/{alias}", summary="The report of a rollout")
async def get_rollout(context: Context, name: str, alias: str, response: Response) -> RolloutReport:
    """How the versions compare; of the last rollout if it has ended. ETag is that of the alias."""
    return await asyncio.to_thread(_report, context, name, alias, response)


@router.post("/{alias}/promote", summary="Make the candidate the alias's only version")
async def promote(context: Context, name: str, alias: str, response: Response, expected: ExpectedAlone) -> AliasInfo:
    """The candidate is the canary's version or, without a canary, the shadow's. Repeated, it changes nothing.

    If-Match takes the ETag of the alias.
    """
    return await _end(context, name, alias, "promoted", response, expected)


@router.post("/{alias}/rollback", summary="Make the stable version the alias's only version")
async def roll_back(context: Context, name: str, alias: str, response: Response, expected: ExpectedAlone) -> AliasInfo:
    """The next request on every server gets the stable version. Repeated, it changes nothing.

    If-Match takes the ETag of the alias.
    """
    return await _end(context, name, alias, "rolled_back", response, expected)


async def _end(
    context: TenantContext, name: str, alias: str, how: End, response: Response, expected: Precondition
) -> AliasInfo:
    sides = await asyncio.to_thread(_sides, context, name, require_name(alias, "alias"))
    if sides is not None and how == "promoted":  # all requests will be the candidate's, so its program is made first
        await until_made([sides.prepare(context)])
    version = await asyncio.to_thread(context.catalog.end_rollout, name, alias, how, expected=expected)
    if sides is not None:
        context.choice.ready.retire(sides.stable if how == "promoted" else sides.candidate.version.digest)
    return alias_info(version, alias, response)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The digest of the stable version of a rollout, and its candidate."""

    stable: str
    candidate: Snapshot

    def prepare(self, context: TenantContext) -> Future[None]:
        return context.choice.ready.prepare(lambda: self.candidate, InsteadOf(self.stable, 1.0))


def _sides(context: TenantContext, name: str, alias: str) -> _Sides | None:
    """None if there is no rollout, or a version cannot be loaded, which keeps no rollout from its end."""
    rollout = context.catalog.rollouts(name).get(alias)
    if rollout is None:
        return None
    try:
        candidate = context.catalog.resolve(Reference(name, rollout.candidate))
        return _Sides(context.catalog.version(Reference(name, rollout.stable)).digest, candidate)
    except (ServiceError, LensmountError):
        return None


def _reports(context: TenantContext, name: str) -> list[RolloutReport]:
    return [
        report(
            name,
            alias,
            context.keeper.shown.of(rollout),
            context.catalog.rollout_events(name, alias),
            ready=_ready(context, rollout),
        )
        for alias, rollout in sorted(context.catalog.rollouts(name).items())
    ]


def _report(context: TenantContext, name: str, alias: str, response: Response) -> RolloutReport:
    version = context.catalog.version(Reference(name, alias=require_name(alias, "alias")))
    events = context.catalog.rollout_events(name, alias)
    rollout = version.rollout
    if rollout is None and not events:
        raise NotFound(
            f"found no rollout of the alias {alias!r} of {name!r}. Fix: start one with a canary or a shadow",
            code="rollout_not_found",
        )
    response.headers["ETag"] = f'"{version.alias_tag}"'
    shown = None if rollout is None else context.keeper.shown.of(rollout)
    return report(name, alias, shown, events, ready=rollout is not None and _ready(context, rollout))


def _ready(context: TenantContext, rollout: Rollout) -> bool:
    return context.choice.ready.has(rollout.id, rollout.candidate)
