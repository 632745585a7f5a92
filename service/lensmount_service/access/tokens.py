"""The tokens of a server: shown once when they are made, stored as hashes, revoked from one request to the next.

A token is `lm_` and 43 characters of 256 random bits. Because of that many bits, one SHA-256 is enough: nobody can try
them all, and a slow hash would only slow down each request.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from lensmount_service.access.identity import DEFAULT_TENANT, Identity, Quotas
from lensmount_service.access.scopes import Scope, require_scopes
from lensmount_service.errors import NotFound, RequestInvalid
from lensmount_service.store.database import Database, metadata
from lensmount_service.store.memo import StampedCache
from lensmount_service.store.precondition import ANY, Precondition
from lensmount_service.store.similar import similar_name

PREFIX = "lm_"
MAX_TOKENS = 10_000  # that are kept in memory once they have been used
MAX_PER_TENANT = 1000  # valid ones

token_table = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("tenant", sa.String(32), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),  # SHA-256 of the token, in hex
    sa.Column("scopes", sa.String(64), nullable=False),  # separated by commas
    sa.Column("quotas", sa.Text, nullable=False),  # JSON: the limits that are set
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Index("ix_tokens_name", "tenant", "name"),
)
_t = token_table.c


@dataclass(frozen=True, slots=True)
class Token:
    """One token without its secret. Its `id` is its ETag, which another secret changes.

    Times are seconds since the epoch by the database's clock.
    """

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    quotas: Quotas = field(default_factory=Quotas)

    def identity(self) -> Identity:
        return Identity(self.name, self.id, self.scopes, self.tenant, self.quotas, self.expires_at)


class TokenStore:
    """`token, secret = tokens.create("reader1", {"predict"})`, `tokens.find(secret)`; safe from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._valid: StampedCache[str, Token] = StampedCache(database.stamp, MAX_TOKENS)
        self._any: StampedCache[str, str] = StampedCache(database.stamp)
        database.create()

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        tenant: str = DEFAULT_TENANT,
        lifetime_s: float | None = None,
        quotas: Quotas | None = None,
        not_after: float | None = None,
        *,
        first_must_be_admin: bool = False,
        expected: Precondition = ANY,
    ) -> tuple[Token, str]:
        """The new token and its secret, which is not stored. Names are unique among a tenant's valid tokens.

        It lasts for `lifetime_s`, and at most until `not_after`, in seconds since the epoch.
        `first_must_be_admin`: refuse a first token that could not make others, which would lock everybody out.
        `expected` is about a valid token of this name. Raises PreconditionFailed or RequestInvalid.
        """
        allowed = require_scopes(scopes)
        with self._database.write() as connection:
            now = self._database.now(connection)
            locks_out = "admin" not in allowed or tenant != DEFAULT_TENANT
            if first_must_be_admin and locks_out and not _valid(connection, now):
                raise RequestInvalid(
                    f"found the server's first token without the scope admin in the tenant {DEFAULT_TENANT!r}. "
                    "After the first token nobody may call without one, so nobody could make a second one. "
                    "Fix: lensmount tokens create admin --scopes admin"
                )
            known = {row.name: row.id for row in _valid(connection, now, tenant)}
            expected.require(known.get(name))
            if len(known) >= MAX_PER_TENANT:
                raise RequestInvalid(
                    f"found {len(known)} valid tokens in the tenant {tenant!r}, expected fewer than {MAX_PER_TENANT}. "
                    f"Fix: revoke one that nobody uses: lensmount tokens revoke {min(known)}"
                )
            if name in known:
                raise RequestInvalid(
                    f"found a valid token named {name!r} in the tenant {tenant!r}, expected another name. "
                    f"Fix: choose another name, or lensmount tokens rotate {name}",
                    code="token_exists",
                )
            return self._insert(
                connection,
                Token(
                    uuid.uuid4().hex, name, tenant, allowed, now, _end(now, lifetime_s, not_after), quotas or Quotas()
                ),
            )

    def rotate(
        self,
        name: str,
        tenant: str = DEFAULT_TENANT,
        not_after: float | None = None,
        expected: Precondition = ANY,
    ) -> tuple[Token, str]:
        """A new secret for a token; the old one is refused from now on.

        The new one lasts as long as the old one did, and at most until `not_after`, in seconds since the epoch.
        Raises NotFound (`token_not_found`) or PreconditionFailed.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            before = _by_name(connection, now, name, tenant)
            expected.require(before.id)
            connection.execute(token_table.update().where(_t.id == before.id).values(revoked_at=now))
            lifetime_s = None if before.expires_at is None else before.expires_at - before.created_at
            expires_at = _end(now, lifetime_s, not_after)
            return self._insert(
                connection,
                Token(uuid.uuid4().hex, name, tenant, _scopes(before), now, expires_at, _quotas(before)),
            )

    def revoke(self, name: str, tenant: str = DEFAULT_TENANT, expected: Precondition = ANY) -> None:
        """The token is refused from the next request on.

        Raises NotFound (`token_not_found`) or PreconditionFailed.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            found = _by_name(connection, now, name, tenant)
            expected.require(found.id)
            connection.execute(token_table.update().where(_t.id == found.id).values(revoked_at=now))

    def get(self, name: str, tenant: str = DEFAULT_TENANT) -> Token:
        """A valid token. Raises NotFound (`token_not_found`)."""
        with self._database.read() as connection:
            return _token(_by_name(connection, self._database.now(connection), name, tenant))

    def list(self, tenant: str | None = None) -> list[Token]:
        """The valid tokens of a tenant, or of all, by tenant and name."""
        with self._database.read() as connection:
            rows = _valid(connection, self._database.now(connection), tenant)
        return [_token(row) for row in sorted(rows, key=lambda row: (row.tenant, row.name))]

    def find(self, secret: str) -> Token | None:
        """The valid token with this secret, or None. Raises Unavailable if the database cannot be read."""
        try:
            token = self._valid.get_or_load(_hash(secret), self._load)
        except NotFound:  # not cached, so that made-up tokens take no memory
            return None
        return token if _is_current(token) else None

    def find_cached(self, secret: str) -> Token | None:
        """`find` if the token is in memory and nothing was committed since, otherwise None. Never blocks."""
        token = self._valid.get(_hash(secret)) if self._database.stamps_at_once else None
        return token if token is not None and _is_current(token) else None

    def was_there_any(self) -> bool:
        """Whether there ever was a token, so that callers without one are refused for good."""
        return self._any.get_or_load("", self._count) == "some"

    def was_there_any_cached(self) -> bool | None:
        """`was_there_any` if the answer is in memory, otherwise None. Never blocks."""
        known = self._any.get("") if self._database.stamps_at_once else None
        return None if known is None else known == "some"

    def _load(self, key: str) -> Token:
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(token_table).where(_t.hash == key, _t.revoked_at.is_(None))
            ).one_or_none()
        if row is None:
            raise NotFound("found no valid token with this secret", code="token_not_found")
        return _token(row)

    def _count(self, _: str) -> str:
        with self._database.read() as connection:
            return "none" if connection.execute(sa.select(_t.id).limit(1)).first() is None else "some"

    @staticmethod
    def _insert(connection: sa.Connection, token: Token) -> tuple[Token, str]:
        secret = PREFIX + secrets.token_urlsafe(32)
        connection.execute(
            token_table.insert().values(
                id=token.id,
                name=token.name,
                tenant=token.tenant,
                hash=_hash(secret),
                scopes=",".join(sorted(token.scopes)),
                quotas=json.dumps({key: value for key, value in asdict(token.quotas).items() if value is not None}),
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        )
        return token, secret


def _is_current(token: Token) -> bool:
    return token.expires_at is None or time.time() < token.expires_at


def _end(now: float, lifetime_s: float | None, not_after: float | None) -> float | None:
    ends = (not_after, None if lifetime_s is None else now + lifetime_s)
    return min((end for end in ends if end is not None), default=None)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _valid(connection: sa.Connection, now: float, tenant: str | None = None) -> Sequence[Any]:
    query = sa.select(token_table).where(_t.revoked_at.is_(None), sa.or_(_t.expires_at.is_(None), _t.expires_at > now))
    if tenant is not None:
        query = query.where(_t.tenant == tenant)
    return connection.execute(query).all()


def _by_name(connection: sa.Connection, now: float, name: str, tenant: str) -> Any:
    for row in _valid(connection, now, tenant):
        if row.name == name:
            return row
    meant = similar_name(connection, _t.name, sa.and_(_t.tenant == tenant, _t.revoked_at.is_(None)), name)
    raise NotFound(
        f"found no valid token named {name!r} in the tenant {tenant!r}.{meant} Fix: see lensmount tokens list",
        code="token_not_found",
    )


def _token(row: Any) -> Token:
    return Token(row.id, row.name, row.tenant, _scopes(row), row.created_at, row.expires_at, _quotas(row))


def _scopes(row: Any) -> frozenset[Scope]:
    return require_scopes(row.scopes.split(","))


def _quotas(row: Any) -> Quotas:
    return Quotas(**json.loads(row.quotas))


def quotas_of(connection: sa.Connection, tenant: str, name: str | None) -> Quotas:
    """The limits of a tenant's token with this name, as the newest of this name has it; none without one."""
    mine = _t.tenant == tenant, _t.name == name
    row = connection.execute(sa.select(_t.quotas).where(*mine).order_by(_t.created_at.desc()).limit(1)).first()
    return Quotas() if row is None else _quotas(row)
