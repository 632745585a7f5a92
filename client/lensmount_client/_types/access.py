"""What a client gets to know about tokens and who it is, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Quotas:
    """Limits of one token; None is no limit. `queue_share` is the part of the queue in (0, 1] that it may fill."""

    requests_per_minute: int | None = None
    pixels_per_minute: int | None = None  # of images, times the adapters asked about each
    bytes_per_minute: int | None = None  # of request bodies
    stored_bytes: int | None = None
    queued_jobs: int | None = None
    queue_share: float | None = None


@dataclass(frozen=True)
class Token:
    """A token without its secret. `expires_at` is None for a token that lasts until it is revoked."""

    name: str
    tenant: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    quotas: Quotas
    used: Mapping[str, float] = field(default_factory=dict)  # in lists, of stored_bytes and queued_jobs


@dataclass(frozen=True)
class TokenSecret:
    """A new token and its secret, which the server shows only once."""

    token: Token
    secret: str = field(repr=False)


@dataclass(frozen=True)
class WhoAmI:
    """Who the server takes the client for. `operator` is True for those who run the server."""

    actor: str
    tenant: str
    scopes: tuple[str, ...]
    operator: bool
    expires_at: datetime | None
    quotas: Quotas
    used: Mapping[str, float] = field(default_factory=dict)  # of each limited quota, by its name


@dataclass(frozen=True)
class AuditRecord:
    """One write on a server, or one refusal of an identity or a scope. `actor` is the name of the token.

    `count` is above 1 for equal refusals of one second.
    """

    time: datetime
    actor: str
    tenant: str
    action: str  # such as "PUT /adapters/{name}"
    target: str | None
    digest: str | None
    request_id: str
    status: int
    count: int


@dataclass(frozen=True)
class AuditPage:
    """A part of the audit log, oldest first.

    `next` is what `audit_page(after=...)` takes for the page behind it, None at the end of the log. `end` is the same
    at the end too: keep it, and ask later for what came since. It is None if the log has no record yet.
    """

    records: tuple[AuditRecord, ...]
    next: str | None
    end: str | None
