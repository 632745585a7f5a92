"""How a request names an adapter: `name`, `name@3`, `name@sha256:<64 hex>` or `name:alias`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lensmount_adapters.adapter.manifest import RESERVED_NAMES, check_name
from lensmount_service.errors import RequestInvalid

_REFERENCE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]{0,63})"
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
    """Raises RequestInvalid (`invalid_name`) unless `name` may name an adapter or an alias."""
    if not check_name(name):
        raise RequestInvalid(
            f"found the {what} {name[:80]!r}, expected lower-case letters, digits, '.', '_' and '-', beginning with a "
            f"letter or digit, at most 64, and none of {', '.join(sorted(RESERVED_NAMES))}",
            code="invalid_name",
        )
    return name
