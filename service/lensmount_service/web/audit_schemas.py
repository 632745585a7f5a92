"""The wire types of the audit log."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


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
