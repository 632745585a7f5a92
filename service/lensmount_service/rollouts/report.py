"""The report of a rollout, from what is stored about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lensmount_service.rollout_spec import Rollout, RolloutInfo
from lensmount_service.rollouts.schemas import RolloutEventInfo, RolloutReport, RolloutState
from lensmount_service.rollouts.shown import Shown
from lensmount_service.store.aliases import RolloutEvent
from lensmount_service.store.database import iso

_NOTHING: dict[str, Any] = {
    "sides": {},
    "share": None,
    "without_key": 0,
    "compared": None,
    "labelled": None,
    "findings": [],
}


def state_of(rollout: Rollout, *, ready: bool) -> RolloutState:
    return RolloutState(**dict(RolloutInfo.of(rollout, iso(rollout.started_at))), ready=ready)


def report(name: str, alias: str, shown: Shown | None, events: Sequence[RolloutEvent], *, ready: bool) -> RolloutReport:
    """`shown` is None if the last rollout has ended. `events` are oldest first. `ready` says so of this server."""
    return RolloutReport(
        name=name,
        alias=alias,
        rollout=None if shown is None else state_of(shown.rollout, ready=ready),
        **(_NOTHING if shown is None else shown.to_json()),
        events=[
            RolloutEventInfo(at=iso(event.at), actor=event.actor, what=event.what, evidence=event.evidence)
            for event in reversed(events)
        ],
    )
