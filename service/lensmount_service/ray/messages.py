"""What the door and a replica send each other. Ray pickles them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Asked:
    """One HTTP request. `digest` names the adapter that will probably answer it, None for a request without one.

    `more` says that the rest of the body follows as pieces. The router notes in `tried` which replicas have taken the
    request, so that another attempt goes elsewhere; `wanted` is a replica that knows something about this request.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    scheme: str
    body: bytes
    more: bool = False
    digest: str | None = None
    wanted: str | None = None
    tried: list[str] = field(default_factory=list)
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Piece:
    """More of the body of the request `key` for the replica that has it, or how much of its response was `taken`.

    `is_last` ends the body. `left` says that the client has gone.
    """

    key: str
    replica: str
    data: bytes = b""
    is_last: bool = False
    taken: int = 0
    left: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The first message of a replica about a request whose body is not complete yet."""

    replica: str


@dataclass(frozen=True, slots=True)
class Head:
    """The status, the headers and the first part of a response. `more` says that further parts follow, as bytes."""

    status: int
    headers: Headers
    body: bytes
    more: bool
    replica: str
