"""GET /whoami: who the server takes the caller for."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from lensmount_service.access.guard import GuardedRoute
from lensmount_service.routes.caller import Caller
from lensmount_service.web.openapi import PROBLEMS
from lensmount_service.web.token_schemas import QuotaLimits, WhoAmI

router = APIRouter(route_class=GuardedRoute, tags=["access"], responses=PROBLEMS)


@router.get("/whoami", summary="Who the caller is, and what the caller may do")
async def whoami(caller: Caller, request: Request) -> WhoAmI:
    state = request.app.state
    held = await asyncio.to_thread(state.holdings.used, caller.tenant, caller.actor, caller.quotas)
    return WhoAmI(
        actor=caller.actor,
        tenant=caller.tenant,
        scopes=list(caller.scopes),
        operator=caller.is_operator,
        expires_at=caller.expires_at,  # type: ignore[arg-type]  # pydantic reads seconds since the epoch
        quotas=QuotaLimits.model_validate(caller.quotas),
        used={**state.meter.used(caller), **held},
    )
