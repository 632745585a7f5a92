"""What an administrator may give away: nothing outside the own tenant, and no more than the own token has."""

from __future__ import annotations

import time
from dataclasses import asdict

from lensmount_service.access.identity import DEFAULT_TENANT, Identity, Quotas, require_tenant
from lensmount_service.errors import Forbidden


def tenant_of(giver: Identity, asked: str | None) -> str:
    """The tenant that a request is about: `asked`, or the caller's own.

    Raises Forbidden (`scope_missing`) for another tenant, whether it exists or not, unless the caller is an operator.
    """
    tenant = giver.tenant if asked is None else require_tenant(asked)
    if tenant != giver.tenant and not giver.is_operator:
        raise Forbidden(
            f"found a token of the tenant {giver.tenant!r}, expected one with the scope admin in the tenant "
            f"{DEFAULT_TENANT!r} for what belongs to others. Fix: leave the tenant out",
            code="scope_missing",
        )
    return tenant


def require_lifetime(giver: Identity, lifetime_s: float | None) -> None:
    """Raises Forbidden (`scope_missing`) for a life beyond the giver's own. None ends with the giver's."""
    if giver.expires_at is None or lifetime_s is None:
        return
    left_s = giver.expires_at - time.time()
    if lifetime_s > left_s:
        raise Forbidden(
            f"found a lifetime of {lifetime_s:.0f} s, expected at most {left_s:.0f} s, after which the own token "
            "expires. Fix: leave the lifetime out",
            code="scope_missing",
        )


def granted_quotas(giver: Identity, wanted: Quotas) -> Quotas:
    """`wanted`, with the giver's own limit where it has none. Raises Forbidden (`scope_missing`) for a larger limit."""
    own = asdict(giver.quotas)
    limits = asdict(wanted)
    for name, limit in own.items():
        if limit is None:
            continue
        if limits[name] is not None and limits[name] > limit:
            raise Forbidden(
                f"{name}: found {limits[name]}, expected at most the own token's limit {limit}. Fix: leave {name} out",
                code="scope_missing",
            )
        limits[name] = limit if limits[name] is None else limits[name]
    return Quotas(**limits)
