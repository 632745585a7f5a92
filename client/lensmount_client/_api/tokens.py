"""The endpoints of tokens: one function each, from arguments to a Call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lensmount_client._api.read import nothing
from lensmount_client._errors import InvalidInput
from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._reference import checked_name
from lensmount_client._types.access import Quotas, Token, TokenSecret, WhoAmI


def create(
    name: str,
    scopes: Sequence[str],
    tenant: str | None,
    lifetime_s: float | None,
    quotas: Mapping[str, Any] | None,
) -> Call[TokenSecret]:
    """Is never retried: if the answer was lost, the token exists and nobody knows its secret."""
    fields = {"name": checked_name(name, "token name"), "scopes": list(scopes), "tenant": tenant}
    limits = {key: value for key, value in (quotas or {}).items() if value is not None}
    try:
        body = json.dumps({**fields, "lifetime_s": lifetime_s, "quotas": limits}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"found a value that is not JSON ({error}), expected texts and numbers") from error
    return Call("POST", "/tokens", _secret, content=body, content_type="application/json", retried=False)


def list_tokens(tenant: str | None) -> Call[list[Token]]:
    def read(response: Response) -> list[Token]:
        return [_token(fields) for fields in JsonFields.of(response).children("tokens")]

    return Call("GET", "/tokens", read, params=_of(tenant))


def revoke(name: str, tenant: str | None) -> Call[None]:
    return Call("DELETE", f"/tokens/{checked_name(name, 'token name')}", nothing, params=_of(tenant), gone_is_done=True)


def rotate(name: str, tenant: str | None) -> Call[TokenSecret]:
    """Is never retried, for the reason of `create`."""
    path = f"/tokens/{checked_name(name, 'token name')}/rotate"
    return Call("POST", path, _secret, params=_of(tenant), retried=False)


def whoami() -> Call[WhoAmI]:
    def read(response: Response) -> WhoAmI:
        fields = JsonFields.of(response)
        return WhoAmI(
            actor=fields.string("actor"),
            tenant=fields.string("tenant"),
            scopes=fields.strings("scopes"),
            operator=fields.boolean("operator"),
            expires_at=fields.time_or_none("expires_at"),
            quotas=_quotas(fields.child("quotas")),
            used=_used(fields),
        )

    return Call("GET", "/whoami", read)


def _of(tenant: str | None) -> dict[str, str | int]:
    return {} if tenant is None else {"tenant": tenant}


def _secret(response: Response) -> TokenSecret:
    fields = JsonFields.of(response)
    return TokenSecret(_token(fields), fields.string("secret"))


def _token(fields: JsonFields) -> Token:
    return Token(
        name=fields.string("name"),
        tenant=fields.string("tenant"),
        scopes=fields.strings("scopes"),
        created_at=fields.time("created_at"),
        expires_at=fields.time_or_none("expires_at"),
        quotas=_quotas(fields.child("quotas")),
        used=_used(fields),
    )


def _used(fields: JsonFields) -> dict[str, float]:
    """Nothing from a server that does not say."""
    used = fields.child_or_none("used")
    return {} if used is None else {name: used.number(name) for name in used.value}


def _quotas(fields: JsonFields) -> Quotas:
    return Quotas(
        requests_per_minute=fields.integer_or_none("requests_per_minute"),
        pixels_per_minute=fields.integer_or_none("pixels_per_minute"),
        bytes_per_minute=fields.integer_or_none("bytes_per_minute"),
        stored_bytes=fields.integer_or_none("stored_bytes"),
        queued_jobs=fields.integer_or_none("queued_jobs"),
        queue_share=fields.number_or_none("queue_share"),
    )
