"""Who sent a request, and the tokens of the server: what the routes about identity need."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lensmount_service.access.identity import Identity
from lensmount_service.access.tokens import TokenStore


async def _identity_of(request: Request) -> Identity:  # async, because FastAPI runs plain functions in a thread
    identity: Identity = request.state.identity
    return identity


async def _tokens_of(request: Request) -> TokenStore:
    tokens: TokenStore = request.app.state.tokens
    return tokens


Caller = Annotated[Identity, Depends(_identity_of)]
Tokens = Annotated[TokenStore, Depends(_tokens_of)]
