"""/tokens: administrators make, list, rotate and revoke the tokens of their tenant, and operators those of all."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from lensmount_service.access.grants import granted_quotas, require_lifetime, tenant_of
from lensmount_service.access.guard import GuardedRoute
from lensmount_service.access.identity import Quotas
from lensmount_service.access.tokens import Token
from lensmount_service.routes.caller import Caller, Tokens
from lensmount_service.store.references import require_name
from lensmount_service.web.json_body import read_json
from lensmount_service.web.openapi import PROBLEMS, token_body
from lensmount_service.web.preconditions import Expected, ExpectedAlone
from lensmount_service.web.token_schemas import NewToken, TokenInfo, TokenList, TokenMade, listed

MAX_BODY_BYTES = 8192
_AS_TOKEN = 'send JSON such as {"name": "reader1", "scopes": ["predict"]}'

Tenant = Annotated[
    str | None,
    Query(max_length=64, description="By default the caller's own; operators may name any", examples=["lab"]),
]

router = APIRouter(route_class=GuardedRoute, prefix="/tokens", tags=["access"], responses=PROBLEMS)


@router.post("", status_code=201, openapi_extra=token_body(), summary="Make a token")
async def create_token(
    tokens: Tokens, caller: Caller, request: Request, response: Response, expected: Expected
) -> TokenMade:
    """The secret is shown only in this answer. Nobody can make a token that may do more than the own one.

    If-Match and If-None-Match are about a valid token of this name.
    """
    wanted = await read_json(request, NewToken, MAX_BODY_BYTES, _AS_TOKEN)
    require_lifetime(caller, wanted.lifetime_s)
    create = partial(
        tokens.create,
        require_name(wanted.name, "token name"),
        wanted.scopes,
        tenant_of(caller, wanted.tenant),
        wanted.lifetime_s,
        granted_quotas(caller, Quotas(**wanted.quotas.model_dump())),
        caller.expires_at,
        first_must_be_admin=not request.app.state.has_first_token,
        expected=expected,
    )
    return _made(*await asyncio.to_thread(create), response)


@router.get("", summary="The valid tokens")
async def list_tokens(tokens: Tokens, caller: Caller, request: Request, tenant: Tenant = None) -> TokenList:
    """Without their secrets. An operator sees those of all tenants unless `tenant` names one."""
    wanted = None if tenant is None and caller.is_operator else tenant_of(caller, tenant)
    found = await asyncio.to_thread(tokens.list, wanted)
    return listed(found, await asyncio.to_thread(request.app.state.holdings.used_by, found))


@router.get("/{name}", summary="One valid token")
async def get_token(tokens: Tokens, caller: Caller, name: str, response: Response, tenant: Tenant = None) -> TokenInfo:
    """The header ETag changes with the secret; a write with If-Match compares it."""
    where = tenant_of(caller, tenant)
    token = await asyncio.to_thread(tokens.get, require_name(name, "token name"), where)
    response.headers["ETag"] = f'"{token.id}"'
    return TokenInfo.model_validate(token)


@router.delete("/{name}", status_code=204, response_class=Response, summary="Revoke a token")
async def revoke_token(
    tokens: Tokens, caller: Caller, name: str, expected: ExpectedAlone, tenant: Tenant = None
) -> None:
    """It is refused from the next request on."""
    await asyncio.to_thread(tokens.revoke, require_name(name, "token name"), tenant_of(caller, tenant), expected)


@router.post("/{name}/rotate", summary="Give a token a new secret")
async def rotate_token(
    tokens: Tokens, caller: Caller, name: str, response: Response, expected: ExpectedAlone, tenant: Tenant = None
) -> TokenMade:
    """The old secret is refused from now on. The new one lasts as long, and no longer than the caller's own token."""
    where = tenant_of(caller, tenant)
    rotate = partial(tokens.rotate, require_name(name, "token name"), where, caller.expires_at, expected)
    return _made(*await asyncio.to_thread(rotate), response)


def _made(token: Token, secret: str, response: Response) -> TokenMade:
    response.headers["ETag"] = f'"{token.id}"'
    return TokenMade(**TokenInfo.model_validate(token).model_dump(), secret=secret)
