"""The keys of the stores: all tenants share one flat space of keys, and each sees only names.

The key of the default tenant's NAME is NAME. The key of another tenant's is TENANT/NAME, and no name has a slash.
A key has at most 96 characters; columns have room for 128.
"""

from __future__ import annotations

from typing import Any, Protocol

import sqlalchemy as sa

DEFAULT_TENANT = "default"  # of the server's first token, and of callers on loopback without a token
PUBLIC = "public"  # not a tenant: the prefix of what tenants share, as in public/malaria


def key_of(tenant: str, name: str) -> str:
    """The key of a tenant's name. A text with a slash gets a key that nothing has, so it names nothing."""
    return name if tenant == DEFAULT_TENANT and "/" not in name else f"{tenant}/{name}"


def tenant_of(key: str) -> str:
    return key.partition("/")[0] if "/" in key else DEFAULT_TENANT


def name_of(key: str) -> str:
    """The name that the key's own tenant gives it."""
    return key.partition("/")[2] if "/" in key else key


def is_public(name: str) -> bool:
    """Whether a name is one that tenants share: public/NAME."""
    return name.startswith(f"{PUBLIC}/")


def within(column: sa.ColumnElement[Any], tenant: str) -> sa.ColumnElement[bool]:
    """Only the keys of one tenant."""
    if tenant == DEFAULT_TENANT:
        return ~column.contains("/")
    return column.startswith(f"{tenant}/")  # LIKE has no wildcard among the characters of a tenant


class Charge(Protocol):
    """What the owner of something pays for it: called in the transaction that stores it, before it is stored."""

    def __call__(
        self, connection: sa.Connection, key: str, owner: str | None, more: int, source: str | None = None
    ) -> None:
        """Raises QuotaExceeded if the owner, in the tenant of `key`, may not store `more` bytes.

        `source` is the digest of an upload that ends with this: its bytes are not counted a second time.
        """


def free_of_charge(
    connection: sa.Connection, key: str, owner: str | None, more: int, source: str | None = None
) -> None:
    """Let everybody store everything."""
