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
    """Asks once: who asks for the health wants to hear that it is bad."""

    def read(answer: Response) -> Health:
        document = JsonFields.of(answer)
        return Health(document.text("status"), document.value)

    return Call("GET", "/health/ready", read, retried=False)


def limits() -> Call[Mapping[str, Any]]:
    return Call("GET", "/limits", lambda answer: JsonFields.of(answer).value)


def integrity() -> Call[Integrity]:
    def read(answer: Response) -> Integrity:
        document = JsonFields.of(answer)
        return Integrity(document.truth("ok"), document.value)

    return Call("GET", "/integrity", read)
