"""Read the JSON that several endpoints share."""

from __future__ import annotations

from typing import Any

from lensmount_client._api.read_rollouts import rollout_of
from lensmount_client._errors import UnexpectedResponse
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._types.results import (
    AdapterId,
    AdapterInfo,
    AliasTrust,
    Backbone,
)
from lensmount_client._types.rollouts import Rollout


def etag_of(response: Response) -> str:
    """The digest in the ETag header, without its quotes."""
    return response.headers.get("etag", "").removeprefix("W/").strip('"')


def nothing(response: Response) -> None:
    """Of a request whose status is its answer. Raises UnexpectedResponse for a page of another server."""
    if response.status != 204:
        JsonFields.of(response)


def body_of(response: Response, media_type: str) -> bytes:
    """The body as it is. Raises UnexpectedResponse if it is of another type, such as a page of another server."""
    if response.content_type != media_type:
        raise UnexpectedResponse(
            f"found {response.content_type or 'no content type'}, expected {media_type} of a lensmount server. "
            "Fix: check base_url",
            response.request_id,
        )
    return response.body


def read_adapter_id(fields: JsonFields) -> AdapterId:
    return AdapterId(fields.string("name"), fields.integer("version"), fields.string("digest"))


def read_backbone(fields: JsonFields) -> Backbone:
    return Backbone(fields.string("name"), fields.string("fingerprint"))


def read_adapter_info(fields: JsonFields) -> AdapterInfo:
    aliases = fields.child("aliases")
    return AdapterInfo(
        name=fields.string("name"),
        version=fields.integer("version"),
        digest=fields.string("digest"),
        size_bytes=fields.integer("size_bytes"),
        created_at=fields.time("created_at"),
        method=fields.string("method"),
        labels=fields.strings("labels"),
        backbone=read_backbone(fields.child("backbone")),
        aliases={alias: aliases.integer(alias) for alias in aliases.value},
        versions=fields.integers("versions"),
        status=fields.string("status"),
        manifest=fields.child("manifest").value if "manifest" in fields.value else None,
        trust=read_promises(fields),
        alias_trust=_alias_trusts(fields),
        tenant=tenant_of(fields),
        owner=fields.string_or_none("owner"),
        signed_by=fields.string_or_none("signed_by"),
        protected_aliases=fields.strings("protected_aliases") if "protected_aliases" in fields.value else (),
        draft=bool(fields.value.get("draft")),
        rollouts=_rollouts(fields),
        titles=_titles(fields),
    )


def _titles(fields: JsonFields) -> dict[str, str]:
    """How people read the labels. Servers of before titles do not say it."""
    found = fields.child_or_none("titles")
    return {} if found is None else {label: found.string(label) for label in found.value}


def tenant_of(fields: JsonFields) -> str:
    """Whose something is. Servers without tenants do not say it."""
    return fields.string_or_none("tenant") or "default"


def read_promises(fields: JsonFields) -> dict[str, Any] | None:
    """What the version promises; None if nothing, or of a server of before promises."""
    found = fields.child_or_none("trust")
    return None if found is None else found.value


def read_alias_trust(fields: JsonFields) -> AliasTrust:
    return AliasTrust(fields.number_or_none("accept_confidence"), fields.number_or_none("unfamiliar_percentile"))


def _alias_trusts(fields: JsonFields) -> dict[str, AliasTrust]:
    """Empty for a server of before them."""
    found = fields.child_or_none("alias_trust")
    return {} if found is None else {alias: read_alias_trust(found.child(alias)) for alias in found.value}


def _rollouts(fields: JsonFields) -> dict[str, Rollout]:
    """Empty for a server of before them."""
    found = fields.child_or_none("rollouts")
    return {} if found is None else {alias: rollout_of(found.child(alias)) for alias in found.value}
