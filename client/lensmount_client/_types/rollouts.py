"""What a client gets to know about rollouts, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

STABLE, CANARY, SHADOW = "stable", "canary", "shadow"
SIDES = (STABLE, CANARY, SHADOW)


@dataclass(frozen=True)
class Canary:
    """The version that answers `percent` (0 to 100) of an alias's requests.

    `key` says what decides: "request" draws for each request, "client" keeps a caller on one side, and "header:NAME"
    keeps all requests with one value of that header there.
    """

    version: int
    percent: float
    key: str


@dataclass(frozen=True)
class Shadow:
    """The version that also computes the part `sample` (0 to 1) of the images; nobody gets its answers."""

    version: int
    sample: float


@dataclass(frozen=True)
class Rollout:
    """What an alias holds while a new version is tried. `rules` say when the server rolls back by itself.

    `ready` is True once the server that was asked has loaded the new version. Before that the stable one answers.
    """

    id: str
    stable: int
    canary: Canary | None
    shadow: Shadow | None
    rules: Mapping[str, Any]
    started_at: datetime
    started_by: str | None
    ready: bool = False


@dataclass(frozen=True)
class RolloutSide:
    """What one version did since the start. `errors` counts by code, `decisions` and `labels` count answers.

    `not_finite` counts images whose scores were not finite. Times are in milliseconds; None if there was no request.
    """

    version: int
    requests: int
    images: int
    errors: Mapping[str, int]
    not_finite: int
    decisions: Mapping[str, int]
    p50_ms: float | None
    p99_ms: float | None
    labels: Mapping[str, int]


@dataclass(frozen=True)
class RolloutComparison:
    """Stable and shadow on the same images. `counts[i][j]` images have label i by the stable and j by the shadow.

    `agreement` is the share of `images` with the same label, and `mean_change_of_scores` the mean absolute difference
    of all scores. `shed` images were left out under load, and `failed` ones have no answer by the shadow.
    """

    images: int
    agreement: float | None
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    mean_change_of_scores: float | None
    shed: int
    failed: int


@dataclass(frozen=True)
class RightAnswers:
    """How right a version was on the labelled images: all three from 0 to 1. `ece` is the calibration error."""

    accuracy: float | None
    ece: float | None
    brier: float | None


@dataclass(frozen=True)
class RolloutLabels:
    """Both versions on the images that people labelled.

    `mcnemar_p` is the exact p-value of a difference in accuracy, for one look. The two sequential p-values are about
    "the candidate is worse", and stay valid however often they are read.
    """

    images: int
    stable: RightAnswers
    candidate: RightAnswers
    only_stable_right: int
    only_candidate_right: int
    mcnemar_p: float | None
    sequential_p_accuracy: float | None
    sequential_p_brier: float | None


@dataclass(frozen=True)
class RolloutFinding:
    """A rule that does not hold now, with what was found and what the rule expects."""

    rule: str
    found: str
    expected: str


@dataclass(frozen=True)
class RolloutEvent:
    """What happened to a rollout: started, changed, promoted, rolled_back or ended. `actor` is None for the server."""

    at: datetime
    actor: str | None
    what: str
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RolloutReport:
    """What all servers saw of a rollout. `rollout` is None when it has ended; the figures are those of the last one.

    `share` is the part of the requests that the canary got, from 0 to 1. `without_key` requests lacked the header of
    the key, and the stable version answered them. `raw` is the server's complete response.
    """

    name: str
    alias: str
    rollout: Rollout | None
    sides: Mapping[str, RolloutSide]  # by "stable", "canary" and "shadow"
    share: float | None
    without_key: int
    compared: RolloutComparison | None
    labelled: RolloutLabels | None
    findings: tuple[RolloutFinding, ...]
    events: tuple[RolloutEvent, ...]  # newest first
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
