"""How a request names an adapter: `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`.

A name may be `public/name`, which a tenant shares with all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lensmount_adapters.adapter.manifest import RESERVED_NAMES, check_name
from lensmount_service.errors import Forbidden, RequestInvalid
from lensmount_service.store.keys import PUBLIC, is_public, name_of

_REFERENCE = re.compile(
    r"(?P<name>(?:public/)?[a-z0-9][a-z0-9._-]{0,63})"
    r"(?:@(?P<version>[1-9][0-9]{0,8})|@(?P<digest>sha256:[0-9a-f]{64})|:(?P<alias>[a-z0-9][a-z0-9._-]{0,63}))?"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """An adapter as a request names it. A name alone means the latest version."""

    name: str
    version: int | None = None
    digest: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises RequestInvalid (`invalid_reference`)."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise RequestInvalid(
                f"found the reference {text[:80]!r}, expected name, name@version, name@sha256:... or name:alias",
                code="invalid_reference",
            )
        version = match["version"]
        return cls(match["name"], int(version) if version else None, match["digest"], match["alias"])


def parse_references(text: str, most: int) -> list[Reference]:
    """A comma-separated list of 1 to `most` references; raises RequestInvalid."""
    references = [Reference.parse(part.strip()) for part in text.split(",", most)]
    if len(references) > most:
        raise RequestInvalid(f"found more than {most} adapters in one request, expected at most {most}")
    return references


def require_name(name: str, what: str = "adapter name") -> str:
    """The name of what a request writes. Raises RequestInvalid (`invalid_name`), or Forbidden (`public_read_only`)."""
    if is_public(name):
        raise Forbidden(
            f"found the {what} {name[:80]!r}, which is shared by its owner and can only be read. "
            "Fix: choose a name of your own, without public/",
            code="public_read_only",
        )
    if not check_name(name) or name == PUBLIC:
        raise RequestInvalid(
            f"found the {what} {name[:80]!r}, expected lower-case letters, digits, '.', '_' and '-', beginning with a "
            f"letter or digit, at most 64, and none of {', '.join(sorted({*RESERVED_NAMES, PUBLIC}))}",
            code="invalid_name",
        )
    return name


def require_key(key: str, what: str = "adapter name") -> str:
    """`require_name` for the name in a key."""
    require_name(name_of(key), what)
    return key
