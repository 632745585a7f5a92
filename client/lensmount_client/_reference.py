"""Adapter names, references and the other words of a request, checked before they are sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from lensmount_client._errors import AdapterMismatch, InvalidInput

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
READABLE_NAME = re.compile(f"(public/)?{NAME.pattern}")  # an own name, or one that a tenant shares with all
ALWAYS, STRICT = "always", "strict"  # what `decision` may be
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Identified(Protocol):
    """An AdapterId, which is defined on a higher floor."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Reference:
    """`Reference.parse("malaria@3").version == 3`; also `name`, `name@sha256:...` and `name:alias`."""

    name: str
    version: int | None = None
    digest: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises InvalidInput."""
        if not isinstance(text, str):
            raise InvalidInput(f"adapter: found {type(text).__name__}, expected a reference such as 'malaria'")
        name, separator, pin = text.partition("@")
        if separator and DIGEST.fullmatch(pin) and READABLE_NAME.fullmatch(name):
            return cls(name, digest=pin)
        if separator and re.fullmatch(r"[1-9][0-9]{0,8}", pin) and READABLE_NAME.fullmatch(name):
            return cls(name, version=int(pin))
        name, colon, alias = text.partition(":")
        if READABLE_NAME.fullmatch(name) and (NAME.fullmatch(alias) if colon else True):
            return cls(name, alias=alias or None)
        raise InvalidInput(
            f"adapter: found {text!r}, expected name, name@3, name@sha256:<64 hex> or name:alias"
            + (". Fix: give several adapters as a list" if "," in text else "")
        )

    def check(self, answered: Identified, request_id: str | None) -> None:
        """Raise AdapterMismatch unless the server answered with the requested adapter."""
        for word, expected, found in (
            ("name", self.name, answered.name),
            ("version", self.version, answered.version),
            ("digest", self.digest, answered.digest),
        ):
            if expected is not None and expected != found:
                raise AdapterMismatch(f"adapter {word}: found {found} in the response, expected {expected}", request_id)


def checked_name(text: str, word: str = "adapter name") -> str:
    """The name itself. Raises InvalidInput."""
    if not isinstance(text, str) or not NAME.fullmatch(text):
        raise InvalidInput(f"{word}: found {text!r}, expected 1 to 64 of a-z 0-9 . _ - starting with a letter or digit")
    return text


def checked_readable(text: str, word: str = "adapter name") -> str:
    """A name or public/NAME. Raises InvalidInput."""
    if isinstance(text, str) and READABLE_NAME.fullmatch(text):
        return text
    return checked_name(text, word)


def plain_name(text: str, word: str = "adapter name") -> str:
    """The name without public/, for a file of that name. Raises InvalidInput."""
    return checked_readable(text, word).removeprefix("public/")


def checked_version(version: int) -> int:
    """The version itself. Raises InvalidInput."""
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidInput(f"version: found {version!r}, expected 1, 2, 3, ...")
    return version


def checked_digest(text: str) -> str:
    """The digest itself, which is a part of paths. Raises InvalidInput."""
    if not isinstance(text, str) or not DIGEST.fullmatch(text):
        raise InvalidInput(f"digest: found {str(text)[:80]!r}, expected sha256:<64 hex>")
    return text


def checked_decision(decision: str) -> str:
    """The decision itself. Raises InvalidInput."""
    if decision not in (ALWAYS, STRICT):
        raise InvalidInput(f"decision: found {decision!r}, expected {ALWAYS!r} or {STRICT!r}")
    return decision
