"""The caller of a request: a name for the audit log, a tenant, and scopes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lensmount_service.access.scopes import EVERY_SCOPE, Scope
from lensmount_service.errors import RequestInvalid
from lensmount_service.store.keys import DEFAULT_TENANT as DEFAULT_TENANT
from lensmount_service.store.keys import PUBLIC as PUBLIC

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Identity:
    """`key` stays the same for all requests of a caller and differs between callers, so that shares and quotas are
    counted by it. `quotas` are the limits of the caller's token, and `expires_at` is when it ends, in seconds since the
    epoch.
    """

    actor: str
    key: str
    scopes: frozenset[Scope]
    tenant: str = DEFAULT_TENANT
    quotas: Quotas = field(default_factory=lambda: Quotas())
    expires_at: float | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    @property
    def is_operator(self) -> bool:
        """True for those who run the server: administrators of the default tenant."""
        return "admin" in self.scopes and self.tenant == DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of one token; None means no limit. `queue_share` is the part of the queue in (0, 1] that it may fill."""

    requests_per_minute: int | None = None
    pixels_per_minute: int | None = None
    bytes_per_minute: int | None = None
    stored_bytes: int | None = None
    queued_jobs: int | None = None
    queue_share: float | None = None


LOOPBACK = Identity("loopback", "loopback", EVERY_SCOPE)  # while the server has no token at all
FIRST_ADMIN = Identity("first-admin", "first-admin", EVERY_SCOPE)  # the owner of LENSMOUNT_TOKEN
OWN_WORKER = Identity(
    "own-worker", "own-worker", EVERY_SCOPE
)  # the process that `lensmount serve --with-worker` starts


def require_tenant(name: str) -> str:
    """Raises RequestInvalid unless `name` may name a tenant."""
    if _TENANT.fullmatch(name) is None or name == PUBLIC:
        raise RequestInvalid(
            f"found the tenant {name[:80]!r}, expected 1 to 31 lower-case letters, digits and '-', beginning with a "
            f"letter or digit, and not {PUBLIC!r}. Fix: --tenant lab1",
            code="invalid_name",
        )
    return name
