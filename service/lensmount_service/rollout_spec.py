"""What an alias may hold next to its version: a canary, a shadow, and the rules that end them. Values without I/O.

Below all rooms, because the store keeps a rollout in the row of its alias, and the room `rollouts` is above the store.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

log = structlog.get_logger(__name__)

Side = Literal["stable", "canary", "shadow"]

KEY = r"^(request|client|header:[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64})$"

Number = Annotated[int, Field(strict=True, ge=1, le=999_999_999, description="The number of a version")]
Part = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Times = Annotated[float, Field(strict=True, ge=1, le=1e6, allow_inf_nan=False)]

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that answers `percent` of the requests. Requests with the same key get the same version.

    `key` is `request` (every request by itself), `client` (the caller's token) or `header:NAME`.
    """

    __pydantic_config__ = _STRICT
    version: Number
    percent: Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False, description="Of the requests")]
    key: Annotated[str, Field(strict=True, pattern=KEY, description="request, client or header:NAME")] = "request"


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that computes a `sample` of the answered images too, and whose answers are only compared."""

    __pydantic_config__ = _STRICT
    version: Number
    sample: Annotated[Part, Field(description="The part of the images that it computes")] = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """When a canary is taken back without a person. None turns a rule off; rollouts/rules.py has the tests.

    `errors` and `not_finite`: more than this part of its requests fails, and more of them than of the stable version's.
    `uncertain`, `unfamiliar`, `p99`: more than this many times what the stable version has. `worse_on_labels`: it is
    right less often, or its Brier score is worse. `after`: not before it had this many requests, or labels.
    """

    __pydantic_config__ = _STRICT
    errors: Part | None = 0.02
    not_finite: Part | None = 0.0
    uncertain: Times | None = 2.0
    unfamiliar: Times | None = 2.0
    p99: Times | None = 2.0
    worse_on_labels: Annotated[bool, Field(strict=True)] = True
    after: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 50


@dataclass(frozen=True, slots=True)
class Rollout:
    """`rollout.takes("request-1")` says whether the canary answers; `Rollout.parse(rollout.dump())` is the same again.

    `id` is new when another version becomes stable, canary or shadow. `salt` is `salt_of` the candidate, so that all
    servers agree, and a higher percentage keeps those who are in. `started_at` is in seconds since the epoch.
    """

    __pydantic_config__ = _STRICT
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    stable: Number
    canary: Canary | None = None
    shadow: Shadow | None = None
    rules: Rules = field(default_factory=Rules)
    started_at: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    started_by: str | None = None
    salt: str = ""

    @property
    def candidate(self) -> int:
        """The version that `promote` makes the only one: the canary's, or else the shadow's."""
        versions = [each.version for each in (self.canary, self.shadow) if each is not None]
        return versions[0] if versions else self.stable

    @property
    def versions(self) -> frozenset[int]:
        """Every version that the rollout needs."""
        return frozenset({self.stable, *(each.version for each in (self.canary, self.shadow) if each is not None)})

    def side_of(self, version: int) -> Side:
        """On which side a version that answered is; a shadow never answers."""
        return "canary" if self.canary is not None and version == self.canary.version else "stable"

    def takes(self, key: str) -> bool:
        """Whether requests with this key belong to the canary."""
        return self.canary is not None and 100 * share(self.salt, key) < self.canary.percent

    def samples(self, request: str) -> bool:
        """Whether the shadow computes the images of the request with this id.

        The salt is not that of the canary: else the requests below the sample would be the canary's first.
        """
        return self.shadow is not None and share(f"{self.salt}-shadow", request) < self.shadow.sample

    def dump(self) -> str:
        """JSON text."""
        return _FORM.dump_json(self).decode()

    @classmethod
    def parse(cls, text: str) -> Rollout:
        """Raises ValueError for anything that `dump` does not give."""
        return _FORM.validate_json(text, strict=True)


_FORM = TypeAdapter(Rollout)


class RolloutInfo(BaseModel):
    """A rollout that runs: which versions are tried next to the stable one."""

    id: str = Field(description="It is new when another version is tried")
    stable: int = Field(examples=[7])
    canary: Canary | None = Field(examples=[{"version": 8, "percent": 10.0, "key": "client"}])
    shadow: Shadow | None
    rules: Rules
    started_at: str = Field(examples=["2026-11-29T10:00:00.000Z"])
    started_by: str | None = Field(description="The name of a token")

    @classmethod
    def of(cls, rollout: Rollout, started_at: str) -> Self:
        """`started_at` is that of the rollout as answers write times."""
        shown = {name: getattr(rollout, name) for name in RolloutInfo.model_fields if name != "started_at"}
        return cls(**shown, started_at=started_at)


@functools.lru_cache(maxsize=1024)
def stored_rollout(text: str | None) -> Rollout | None:
    """The rollout in the row of an alias. A damaged one is no rollout: the stable version answers.

    Cached, because every prediction by such an alias needs it.
    """
    if not text:
        return None
    try:
        return Rollout.parse(text)
    except ValidationError as error:  # it was valid when it was written
        log.error("a rollout in the database cannot be read, so the stable version answers", reason=str(error)[:200])
        return None


def share(salt: str, key: str) -> float:
    """Where a key falls in [0, 1): the first 53 bits of SHA-256 of both, the same on every machine."""
    digest = hashlib.sha256(f"{salt} {key}".encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def salt_of(adapter: str, alias: str, digest: str) -> str:
    """The salt of the rollout of a candidate with this digest, under the key of its adapter and an alias."""
    return hashlib.sha256(f"{adapter} {alias} {digest}".encode()).hexdigest()[:32]
