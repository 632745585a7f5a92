"""The wire types of trust, in a prediction and in what an adapter promises, and of aliases: thresholds and rollouts."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import Calibration, Operating, Selective
from lensmount_adapters.trust.judge import Decision, Judgement, Overrides
from lensmount_service.rollout_spec import Canary, Rollout, Rules, Shadow


class Unfamiliarity(BaseModel):
    """How unlike the training images an image is: in per cent, how many of the images kept aside are less so."""

    percentile: float = Field(ge=0, le=100, examples=[37.5])
    flag: bool = Field(description="Whether it reaches the adapter's threshold, or that of the alias")


class TrustBasis(BaseModel):
    """What the decision rests on: how many images kept aside, their calibration error, and the coverage of the sets."""

    images: int = Field(examples=[412])
    ece: float | None = Field(examples=[0.021])
    coverage: float | None = Field(examples=[0.95])


class TrustInfo(BaseModel):
    """Whether an answer can be relied on.

    unfamiliar: the image is unlike the training images. uncertain: it is not, and the score is too low to accept.
    """

    decision: Decision = Field(examples=["accept"])
    confidence: float = Field(ge=0, le=1, description="The best score", examples=[0.983])
    set: list[str] | None = Field(
        description="The labels that may be right: it holds the right one with the promised coverage. "
        "null: too few images to promise one",
        examples=[["Parasitized"]],
    )
    unfamiliarity: Unfamiliarity | None = Field(description="null if the adapter has no statistics of its images")
    calibration: TrustBasis | None = Field(description="null if there were too few images to measure it")

    @classmethod
    def of(cls, judgement: Judgement) -> TrustInfo:
        return cls(**judgement.to_json() | {"confidence": min(1.0, judgement.confidence)})


class AliasTrust(BaseModel):
    """Thresholds that requests by this alias use in place of the adapter's own; null leaves the adapter's own."""

    model_config = ConfigDict(extra="forbid", strict=True)
    accept_confidence: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="Accept from this score on", examples=[0.9]
    )
    unfamiliar_percentile: float | None = Field(
        default=None,
        gt=0,
        le=100,
        allow_inf_nan=False,
        description="Unfamiliar from this percentile of the images kept aside on",
        examples=[99.5],
    )

    def overrides(self) -> Overrides:
        return Overrides(self.accept_confidence, self.unfamiliar_percentile)

    @classmethod
    def of(cls, overrides: Overrides) -> AliasTrust | None:
        """None if the adapter's own thresholds hold."""
        return None if overrides == Overrides() else cls(**asdict(overrides))


class AliasTarget(BaseModel):
    """The body of PUT /adapters/{name}/aliases/{alias}: `version`, or `stable` with a canary or a shadow."""

    model_config = ConfigDict(extra="forbid", strict=True)
    version: int | None = Field(
        default=None, ge=1, le=999_999_999, description="The alias's only version", examples=[2]
    )
    stable: int | None = Field(
        default=None, ge=1, le=999_999_999, description="The version next to which others are tried"
    )
    canary: Canary | None = Field(default=None, description="Answers a part of the requests")
    shadow: Shadow | None = Field(default=None, description="Computes images too, and its answers are only compared")
    rules: Rules | None = Field(default=None, description="When the server rolls back by itself")
    trust: AliasTrust | None = Field(
        default=None, description="Replaces the alias's thresholds; without it they stay, with {} they are removed"
    )
    protected: bool | None = Field(
        default=None, description="Only an administrator of the tenant sets it, and then moves or deletes the alias"
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.version is None) == (self.stable is None):
            found = "neither version nor stable" if self.version is None else "both version and stable"
            raise ValueError(f'found {found}, expected one of them. Fix: send {{"version": 2}}')
        if self.version is not None and (self.canary or self.shadow or self.rules):
            raise ValueError("found a canary, a shadow or rules next to version. Fix: name the version as stable")
        return self

    @property
    def points_at(self) -> int:
        """The version that answers, apart from a canary."""
        return self.version or self.stable or 0

    def rollout(self, actor: str) -> Rollout | None:
        """A new rollout, or None if the alias shall have one version."""
        if self.stable is None:
            return None
        rules = self.rules or Rules()
        return Rollout(uuid.uuid4().hex, self.stable, self.canary, self.shadow, rules, started_by=actor)


class PromisedSets(BaseModel):
    """The share of each label's images whose set holds that label. Too few images were kept aside for some labels."""

    coverage: float = Field(examples=[0.95])
    guaranteed: list[str] = Field(examples=[["Parasitized", "Uninfected"]])
    no_guarantee: list[str] = Field(examples=[[]])


class PromisedFamiliarity(BaseModel):
    """From which percentile of how many images kept aside on an image is unfamiliar."""

    images: int = Field(examples=[412])
    flag: float = Field(examples=[99.0])


class Promises(BaseModel):
    """What an adapter promises about its answers, as measured on images kept aside; null for what was not measured."""

    calibration: Calibration | None
    sets: PromisedSets | None
    selective: Selective | None
    operating: Operating | None
    familiarity: PromisedFamiliarity | None

    @classmethod
    def of(cls, manifest: Manifest) -> Promises | None:
        """None for a file without them."""
        trust = manifest.trust
        if trust is None:
            return None
        sets, familiarity = None, None
        if trust.conformal is not None:
            known = list(zip(manifest.labels, trust.conformal.thresholds, strict=True))
            sets = PromisedSets(
                coverage=trust.conformal.coverage,
                guaranteed=[label for label, threshold in known if threshold is not None],
                no_guarantee=[label for label, threshold in known if threshold is None],
            )
        if trust.familiarity is not None:
            familiarity = PromisedFamiliarity(images=trust.familiarity.images, flag=trust.familiarity.flag)
        return cls(
            calibration=trust.calibration,
            sets=sets,
            selective=trust.selective,
            operating=trust.operating,
            familiarity=familiarity,
        )
