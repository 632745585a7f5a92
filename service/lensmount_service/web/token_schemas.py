"""The wire types of tokens and of the audit log: what POST /tokens takes, and who may and did what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_LIFETIME_S = 100 * 366 * 86_400.0
_LARGEST = 10**15

Scopes = Annotated[list[str], AfterValidator(sorted), Field(examples=[["predict", "upload"]])]
Limit = Annotated[int | None, Field(ge=1, le=_LARGEST)]


class QuotaLimits(BaseModel):
    """Limits of one token; null is no limit. `queue_share` is the part of the queue that it may fill."""

    model_config = ConfigDict(extra="forbid", strict=True, from_attributes=True)
    requests_per_minute: Limit = None
    pixels_per_minute: Limit = Field(default=None, description="Pixels of images, times the adapters asked about each")
    bytes_per_minute: Limit = Field(default=None, description="Bytes of request bodies")
    stored_bytes: Limit = Field(default=None, description="Bytes of adapters, datasets and images that wait for labels")
    queued_jobs: Limit = Field(default=None, description="Jobs that wait for a worker")
    queue_share: float | None = Field(default=None, gt=0, le=1)


class NewToken(BaseModel):
    """The body of POST /tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(max_length=64, examples=["reader1"])
    scopes: list[str] = Field(max_length=16, examples=[["predict", "upload"]])
    tenant: str | None = Field(default=None, max_length=64, description="By default the caller's own", examples=["lab"])
    lifetime_s: float | None = Field(
        default=None, gt=0, le=MAX_LIFETIME_S, allow_inf_nan=False, description="Seconds until it expires; null: never"
    )
    quotas: QuotaLimits = Field(default_factory=QuotaLimits)


class TokenInfo(BaseModel):
    """One token without its secret."""

    model_config = ConfigDict(from_attributes=True)
    name: str = Field(examples=["reader1"])
    tenant: str = Field(examples=["default"])
    scopes: Scopes
    created_at: datetime
    expires_at: datetime | None
    quotas: QuotaLimits
    used: dict[str, float] | None = Field(
        default=None, description="In lists, what counts against `stored_bytes` and `queued_jobs` now"
    )


class TokenMade(TokenInfo):
    """A new token. Its secret is shown only here; the server keeps a hash."""

    secret: str = Field(examples=["lm_..."])


class TokenList(BaseModel):
    tokens: list[TokenInfo]


def listed(tokens: Sequence[object], used: Sequence[dict[str, float]]) -> TokenList:
    """These tokens, and what each uses."""
    infos = [TokenInfo.model_validate(token) for token in tokens]
    return TokenList(tokens=[info.model_copy(update={"used": each}) for info, each in zip(infos, used, strict=True)])


class WhoAmI(BaseModel):
    """Who the server takes the caller for, and what the caller may do."""

    actor: str = Field(examples=["reader1"])
    tenant: str = Field(examples=["default"])
    scopes: Scopes
    operator: bool = Field(description="True for those who run the server")
    expires_at: datetime | None
    quotas: QuotaLimits
    used: dict[str, float] = Field(
        description="What counts against each limit at this moment; of `queue_share`, the images in the queue"
    )


class AuditRecord(BaseModel):
    """One write, or one refusal of an identity or a scope."""

    time: datetime
    actor: str = Field(examples=["reader1"], description="The token's name; - for a caller who is not known")
    tenant: str = Field(examples=["default"])
    action: str = Field(examples=["PUT /adapters/{name}"])
    target: str | None = Field(examples=["/adapters/malaria/versions/2"])
    digest: str | None
    request_id: str
    status: int = Field(examples=[201])
    count: int = Field(description="Above 1 for equal refusals of one second")


class AuditPage(BaseModel):
    """Records, oldest first."""

    records: list[AuditRecord]
    next: str | None = Field(description="Pass it as `after` for the next page; null at the end")
    end: str | None = Field(description="Pass it as `after` later for what came since; null if there is no log yet")
