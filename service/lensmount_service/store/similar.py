"""The name in a table that is most similar to a mistyped one. The cost is bounded, however many names there are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from lensmount_adapters.suggestion import MAX_NAMES, did_you_mean
from lensmount_service.store.keys import DEFAULT_TENANT, name_of, tenant_of, within

PREFIXES = (1, 2, 4, 8, 16, 32)  # names with a common prefix are compared first


def similar_name(
    connection: sa.Connection, column: sa.ColumnElement[Any], live: sa.ColumnElement[bool], name: str
) -> str:
    """ " Did you mean 'malaria'?", from the live names in `column`, or an empty text.

    The database selects at most MAX_NAMES names of about the same length, those with a common prefix first.
    """
    common_prefixes = sum(
        (sa.case((sa.func.substr(column, 1, n) == name[:n], 1), else_=0) for n in PREFIXES), sa.literal(0)
    )
    query = (
        sa.select(column)
        .where(live, sa.func.length(column).between(len(name) - 2, len(name) + 2))
        .group_by(column)
        .order_by(common_prefixes.desc(), column)
        .limit(MAX_NAMES)
    )
    return did_you_mean(name, connection.execute(query).scalars())


def similar_key(
    connection: sa.Connection, column: sa.ColumnElement[Any], live: sa.ColumnElement[bool], key: str
) -> str:
    """`similar_name` among the names of the key's own tenant."""
    tenant = tenant_of(key)
    mine = sa.and_(live, within(column, tenant))
    names = column if tenant == DEFAULT_TENANT else sa.func.substr(column, len(tenant) + 2)
    return similar_name(connection, names, mine, name_of(key))
