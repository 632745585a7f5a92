"""What an error response says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """An error response: RFC 9457 problem details, or what could be read of another response."""

    status: int
    code: str
    title: str
    detail: str = ""
    request_id: str | None = None
    retry_after_s: float | None = None
    errors: tuple[Any, ...] = ()
    limit: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  # all other members of the document
