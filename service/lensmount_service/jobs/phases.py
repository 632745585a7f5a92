"""The phases of one attempt at a job, in order, by the names that its progress uses; the client has the same tuple."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from lensmount_adapters.training.loop import PHASES as TRAINING_PHASES

AfterTraining: TypeAlias = Literal["judging", "reporting", "publishing"]
AFTER_TRAINING: tuple[AfterTraining, ...] = get_args(AfterTraining)  # these phases have neither epochs nor steps
PHASES: tuple[str, ...] = (*TRAINING_PHASES, *AFTER_TRAINING)
