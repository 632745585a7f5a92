"""The endpoints about the server itself: health, limits, integrity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_client._http.call import Call
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._http.response import Response
from lensmount_client._types.results import (
    Health,
    Integrity,
)


def health() -> Call[Health]:
    """Is never retried: a caller that asks for the health wants to see at once that it is bad."""

    def read(response: Response) -> Health:
        fields = JsonFields.of(response)
        return Health(fields.string("status"), fields.value)

    return Call("GET", "/health/ready", read, retried=False)


def limits() -> Call[Mapping[str, Any]]:
    return Call("GET", "/limits", lambda response: JsonFields.of(response).value)


def integrity() -> Call[Integrity]:
    def read(response: Response) -> Integrity:
        fields = JsonFields.of(response)
        return Integrity(fields.boolean("ok"), fields.value)

    return Call("GET", "/integrity", read)
