"""The wire types of rollouts: what runs, and the report of how the versions compare."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from lensmount_service.rollout_spec import RolloutInfo


class RolloutState(RolloutInfo):
    """A rollout that runs, as this server sees it."""

    ready: bool = Field(description="Whether this server has prepared the candidate, which gets no request before")


class SideReport(BaseModel):
    """What one version of a rollout answered, on all servers."""

    version: int = Field(examples=[8])
    requests: int = Field(description="Those that failed are counted too")
    images: int = Field(description="That have an answer")
    errors: dict[str, int] = Field(description="By code", examples=[{"adapter_corrupt": 1}])
    not_finite: int = Field(description="Images whose scores are not finite")
    decisions: dict[str, int] = Field(examples=[{"accept": 39, "uncertain": 2}])
    p50_ms: float | None
    p99_ms: float | None
    labels: dict[str, int] = Field(description="How often each label was the best")


class Confusion(BaseModel):
    """`counts[i][j]`: images to which the stable version gives label i and the candidate label j."""

    labels: list[str]
    counts: list[list[int]]


class Compared(BaseModel):
    """Images that the stable version answered and the shadow computed as well."""

    images: int
    agreement: float | None = Field(description="The part of them with the same best label")
    confusion: Confusion
    mean_change_of_scores: float | None = Field(description="Mean of |shadow - stable| over images and labels")
    shed: int = Field(description="Images that the shadow left out because the server was busy")
    failed: int = Field(description="Images that the shadow could not compute")


class LabelledSide(BaseModel):
    """How one version did on the labelled images; null without images."""

    accuracy: float | None
    ece: float | None = Field(description="Expected calibration error")
    brier: float | None


class Labelled(BaseModel):
    """Images with a label from feedback, computed with both versions."""

    images: int
    stable: LabelledSide
    candidate: LabelledSide
    only_stable_right: int
    only_candidate_right: int
    mcnemar_p: float | None = Field(description="Exact, two-sided; of one look at these images")
    sequential_p_accuracy: float | None = Field(
        description="That the candidate is worse; holds however often one looks"
    )
    sequential_p_brier: float | None = Field(description="The same for the Brier score")


class RuleFinding(BaseModel):
    """A rule that the candidate breaks."""

    rule: str = Field(examples=["errors"])
    found: str
    expected: str


class RolloutEventInfo(BaseModel):
    """What became of a rollout of the alias, and what that rested on."""

    at: str = Field(examples=["2026-11-29T10:00:00.000Z"])
    actor: str | None = Field(description="The name of a token; null: the server")
    what: str = Field(examples=["started"], description="started, changed, promoted, rolled_back or ended")
    evidence: dict[str, Any]


class RolloutReport(BaseModel):
    """The rollout of an alias; of the last one if it has ended, when `rollout` is null."""

    name: str = Field(examples=["malaria"])
    alias: str = Field(examples=["prod"])
    rollout: RolloutState | None
    sides: dict[str, SideReport] = Field(description="stable, canary and shadow, as far as the rollout has them")
    share: float | None = Field(description="The part of the answered requests that the canary had; null without any")
    without_key: int = Field(description="Requests without the header of the canary's key")
    compared: Compared | None = Field(description="null without a shadow")
    labelled: Labelled | None = Field(description="null without labelled images, or if the labels of both differ")
    findings: list[RuleFinding]
    events: list[RolloutEventInfo] = Field(description="Of all rollouts of the alias, the newest first; at most 200")


class RolloutList(BaseModel):
    """The reports of the rollouts of one adapter that have not ended, by alias."""

    rollouts: list[RolloutReport]
