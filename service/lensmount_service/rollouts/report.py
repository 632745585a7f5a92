"""The report of a rollout, from what is stored about it."""

from __future__ import annotations

from collections.abc import Sequence

from lensmount_service.rollout_spec import Rollout, RolloutInfo
from lensmount_service.rollouts.schemas import RolloutEventInfo, RolloutReport, RolloutState
from lensmount_service.store.aliases import RolloutEvent
from lensmount_service.store.database import iso


def state_of(rollout: Rollout, *, ready: bool) -> RolloutState:
    return RolloutState(**dict(RolloutInfo.of(rollout, iso(rollout.started_at))), ready=ready)


def report(
    name: str, alias: str, rollout: Rollout | None, events: Sequence[RolloutEvent], *, ready: bool
) -> RolloutReport:
    """`rollout` is None if the last one has ended. `events` are oldest first. `ready` says so of this server."""
    return RolloutReport(
        name=name,
        alias=alias,
        rollout=None if rollout is None else state_of(rollout, ready=ready),
        sides={},
        share=None,
        without_key=0,
        compared=None,
        labelled=None,
        findings=[],
        events=[
            RolloutEventInfo(at=iso(event.at), actor=event.actor, what=event.what, evidence=event.evidence)
            for event in reversed(events)
        ],
    )
