"""Read the JSON of rollouts."""

from __future__ import annotations

from typing import Any

from lensmount_client._http.json_fields import JsonFields
from lensmount_client._types.rollouts import (
    SIDES,
    Canary,
    RightAnswers,
    Rollout,
    RolloutComparison,
    RolloutEvent,
    RolloutFinding,
    RolloutLabels,
    RolloutReport,
    RolloutSide,
    Shadow,
)


def rollout_of(fields: JsonFields) -> Rollout:
    canary, shadow = fields.child_or_none("canary"), fields.child_or_none("shadow")
    return Rollout(
        id=fields.string("id"),
        stable=fields.integer("stable"),
        canary=None
        if canary is None
        else Canary(canary.integer("version"), canary.number("percent"), canary.string("key")),
        shadow=None if shadow is None else Shadow(shadow.integer("version"), shadow.number("sample")),
        rules=fields.child("rules").value,
        started_at=fields.time("started_at"),
        started_by=fields.string_or_none("started_by"),
        ready=bool(fields.value.get("ready")),
    )


def report_of(fields: JsonFields) -> RolloutReport:
    rollout, sides = fields.child_or_none("rollout"), fields.child("sides")
    compared, labelled = fields.child_or_none("compared"), fields.child_or_none("labelled")
    return RolloutReport(
        name=fields.string("name"),
        alias=fields.string("alias"),
        rollout=None if rollout is None else rollout_of(rollout),
        sides={side: _side(sides.child(side)) for side in SIDES if sides.value.get(side) is not None},
        share=fields.number_or_none("share"),
        without_key=fields.integer("without_key"),
        compared=None if compared is None else _comparison(compared),
        labelled=None if labelled is None else _labels(labelled),
        findings=tuple(
            RolloutFinding(item.string("rule"), _text(item.value.get("found")), _text(item.value.get("expected")))
            for item in fields.children("findings")
        ),
        events=tuple(_event(item) for item in fields.children("events")),
        raw=fields.value,
    )


def _side(fields: JsonFields) -> RolloutSide:
    return RolloutSide(
        version=fields.integer("version"),
        requests=fields.integer("requests"),
        images=fields.integer("images"),
        errors=fields.counts("errors"),
        not_finite=fields.integer("not_finite"),
        decisions=fields.counts("decisions"),
        p50_ms=fields.number_or_none("p50_ms"),
        p99_ms=fields.number_or_none("p99_ms"),
        labels=fields.counts("labels"),
    )


def _comparison(fields: JsonFields) -> RolloutComparison:
    confusion = fields.child("confusion")
    return RolloutComparison(
        images=fields.integer("images"),
        agreement=fields.number_or_none("agreement"),
        labels=confusion.strings("labels"),
        counts=tuple(tuple(int(count) for count in row) for row in confusion.number_rows("counts")),
        mean_change_of_scores=fields.number_or_none("mean_change_of_scores"),
        shed=fields.integer("shed"),
        failed=fields.integer("failed"),
    )


def _labels(fields: JsonFields) -> RolloutLabels:
    return RolloutLabels(
        images=fields.integer("images"),
        stable=_right(fields.child("stable")),
        candidate=_right(fields.child("candidate")),
        only_stable_right=fields.integer("only_stable_right"),
        only_candidate_right=fields.integer("only_candidate_right"),
        mcnemar_p=fields.number_or_none("mcnemar_p"),
        sequential_p_accuracy=fields.number_or_none("sequential_p_accuracy"),
        sequential_p_brier=fields.number_or_none("sequential_p_brier"),
    )


def _right(fields: JsonFields) -> RightAnswers:
    return RightAnswers(fields.number_or_none("accuracy"), fields.number_or_none("ece"), fields.number_or_none("brier"))


def _event(fields: JsonFields) -> RolloutEvent:
    evidence = fields.child_or_none("evidence")
    return RolloutEvent(
        at=fields.time("at"),
        actor=fields.string_or_none("actor"),
        what=fields.string("what"),
        evidence=None if evidence is None else evidence.value,
    )


def _text(value: Any) -> str:
    """Of a finding: a sentence or a number."""
    return value if isinstance(value, str) else "" if value is None else str(value)
