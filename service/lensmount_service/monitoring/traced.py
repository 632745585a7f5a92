"""What the trace of a prediction tells of its batches: their stages, and the adapters of each."""

from __future__ import annotations

from collections.abc import Sequence

from lensmount_adapters.runners.runner import Runner
from lensmount_adapters.runners.stages import Stage
from lensmount_service.engine.engine import Answer
from lensmount_service.errors import Unavailable
from lensmount_service.store.catalog import Snapshot
from lensmount_service.tracing.span import BATCH_SIZE, DIGEST, MODE, NAME, TIER, Span, Value


def note_computed(
    span: Span, names: Sequence[str], snapshots: Sequence[Snapshot], answers: Sequence[Answer | Unavailable], by: Runner
) -> None:
    """One child for each stage of each batch, however many images of the request the batch has.

    `names` are those of the adapters in the metrics; `answers` are images outer, adapters inner. A stage that was for
    several adapters of the request names them all, separated by commas.
    """
    digests = [snapshot.adapter.digest for snapshot in snapshots]
    adapters = [
        {NAME: name, DIGEST: digest, TIER: by.tier(digest) or "memory"}
        for name, digest in zip(names, digests, strict=True)
    ]
    stages: dict[int, tuple[Stage, int]] = {}
    users: dict[int, dict[int, None]] = {}  # by stage: numbers of adapters, in order
    for number, answer in enumerate(answers):
        if isinstance(answer, Answer):
            for stage in answer.stages:
                stages[id(stage)] = stage, answer.batch_size
                users.setdefault(id(stage), {})[number % len(adapters)] = None
    for key, (stage, batch_size) in stages.items():
        told: dict[str, Value] = {BATCH_SIZE: batch_size}
        if stage.mode:
            told[MODE] = stage.mode
        told |= {part: ",".join(adapters[number][part] for number in users[key]) for part in (NAME, DIGEST, TIER)}
        span.child(stage.name, stage.started, stage.ended, told)
