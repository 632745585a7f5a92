"""The headers with which a client protects a write: If-Match and If-None-Match. Every write takes or refuses them.

`Expected` is for a route that reads a body, which web/bodies.py compares with its digest. `ExpectedAlone` is for a
route without one.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from lensmount_service.errors import PreconditionFailed, RequestError
from lensmount_service.store.precondition import ANY, Precondition, Tags
from lensmount_service.web.bodies import limited
from lensmount_service.web.digests import BodyDigests

_OPAQUE = r'"([\x21\x23-\x7e\x80-\xff]*)"'
_TAG = re.compile(rf"(W/)?{_OPAQUE}")
_LIST = re.compile(rf"(?:[ \t,]*(?:W/)?{_OPAQUE}[ \t]*(?:,|$))+[ \t,]*")  # empty members are allowed
_MOST_CHARACTERS = 4096
_MOST_UNREAD_BYTES = 65_536  # of a body that means nothing, and that its sender wants compared all the same


def expected_of(request: Request) -> Precondition:
    """What the request expects of the present state. Raises RequestError for headers that cannot be read."""
    return Precondition(_tags(request, "If-Match"), _tags(request, "If-None-Match"))


_IfMatch = Annotated[
    str | None, Header(alias="If-Match", description="Only if what is there now has one of these ETags")
]
_IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="`*`: only if nothing is there yet")]
_Digest = Annotated[
    str | None,
    Header(alias="Content-Digest", description="Only if the body has this digest: sha-256=:BASE64:"),
]


async def _expected(  # async, because FastAPI runs plain functions in a thread
    request: Request, _: _IfMatch = None, __: _IfNoneMatch = None, ___: _Digest = None
) -> Precondition:
    """The parameters are for the description; what counts are all lines of these headers."""
    return expected_of(request)


async def _expected_alone(expected: Annotated[Precondition, Depends(_expected)], request: Request) -> Precondition:
    if BodyDigests(request):
        async for _ in limited(request, _MOST_UNREAD_BYTES):
            pass
    return expected


TAKES_CONDITIONS = Depends(_expected)  # of a route that has too many parameters already, and calls `expected_of`
Expected = Annotated[Precondition, Depends(_expected)]
ExpectedAlone = Annotated[Precondition, Depends(_expected_alone)]


def refuse_conditions(expected: Precondition, why: str) -> None:
    """For a write that has another protection. Raises PreconditionFailed if there is one of the headers.

    To ignore them would be to change what the client wanted left alone.
    """
    if expected != ANY:
        raise PreconditionFailed(
            f"found If-Match or If-None-Match, expected neither, because {why}. Fix: leave the header out"
        )


def _tags(request: Request, name: str) -> Tags:
    text = ",".join(request.headers.getlist(name)).strip()
    if not text:
        return None
    if text == "*":
        return frozenset({"*"})
    if len(text) > _MOST_CHARACTERS or not _LIST.fullmatch(text):
        raise RequestError(f'{name}: found no list of ETags, expected * or "sha256:...". Fix: send the ETag in quotes')
    weak_too = name == "If-None-Match"  # a weak tag never meets If-Match
    return frozenset(tag for weak, tag in _TAG.findall(text) if tag != "*" and (weak_too or not weak))
