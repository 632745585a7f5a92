"""Which adapter a request will probably need, so that it goes where that adapter is in memory.

A hint decides nothing. The replica reads the request itself, checks who calls, and resolves the name for that tenant
at that moment. So a hint that is wrong costs one more load, and never a wrong answer.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import parse_qs

from starlette.datastructures import Headers

from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.custom_attributes import attributes_of, with_token
from lensmount_service.errors import ServiceError
from lensmount_service.oip.models import reference_of
from lensmount_service.store.keys import is_public, key_of, name_of
from lensmount_service.store.references import Reference
from lensmount_service.store.registry import Registry
from lensmount_service.twins.sagemaker import TARGET_MODEL

IN_QUERY = frozenset({"/predict", "/explain", "/feedback", "/invocations"})
IN_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]{1,200})(?:/versions/(?P<version>[^/]{1,100}))?/infer"
    r"|/hf/(?P<hf>[^/]{1,200})"
    r"|/integrations/labelstudio/(?P<studio>[^/]{1,200})/(?:predict|webhook)"
)

MAX_FIELDS = 64  # of a query that is looked at
LONGEST = 300  # characters of a reference, which may name a digest


class Hints:
    """`await Hints(registry, authenticator).digest("POST", "/predict", b"adapter=malaria", headers)`."""

    def __init__(self, registry: Registry, authenticator: Authenticator) -> None:
        self._registry = registry
        self._authenticator = authenticator

    async def digest(self, method: str, path: str, query: bytes, headers: Headers) -> str | None:
        """The digest, or another text that is the same for all requests with this reference; None without one."""
        named = reference_in(path, query, headers) if method == "POST" else None
        if named is None:
            return None
        try:
            reference = reference_of(*named)
            if reference.digest is not None:
                return reference.digest
            tenant = (await self._authenticator.identify(with_token(path, headers))).tenant
            name = name_of(reference.name) if is_public(reference.name) else key_of(tenant, reference.name)
            stored = Reference(name, reference.version, reference.digest, reference.alias)
            known = self._registry.resolve_cached(stored)
            version = known if known is not None else await asyncio.to_thread(self._registry.resolve, stored)
            return version.digest
        except ServiceError:
            return "@".join(named)


def reference_in(path: str, query: bytes, headers: Headers) -> tuple[str, str] | None:
    """The first adapter that a prediction names, as it names it, and the version that its path names ("" for none)."""
    if path not in IN_QUERY:
        found = IN_PATH.fullmatch(path)
        return None if found is None else (found["model"] or found["hf"] or found["studio"], found["version"] or "")
    few = query.count(b"&") < MAX_FIELDS
    named = parse_qs(query.decode("latin-1")).get("adapter", []) if few else []
    if not named and path == "/invocations":
        named = [value for name, value in attributes_of(headers) if name == "adapter"]
        named = named or headers.getlist(TARGET_MODEL)
    return (named[0].partition(",")[0].strip()[:LONGEST], "") if named else None
