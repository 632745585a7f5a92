"""When a rollout is taken back without a person: each rule is a test, so that chance alone seldom ends one.

The rules are looked at every second, and all of them together end a rollout whose candidate is within them with a
probability of at most 1 %, however long it runs. A candidate is within a rule as long as it has no more of a thing than
the stable version (or than a multiple of it), or than the rule allows at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from lensmount_service.rollout_spec import Rollout, Rules, Side
from lensmount_service.rollouts.labelled import Labelled
from lensmount_service.rollouts.sequential import chance_of, log_evidence, p_value
from lensmount_service.rollouts.tally import BOUNDS_S, STEPS, Counts, Stage, Tally

RULES = ("errors", "not_finite", "uncertain", "unfamiliar", "p99", "worse_on_labels")
LEVELS = MappingProxyType(
    {
        **dict.fromkeys(RULES[:-1], 0.0004),
        "accuracy": 0.0005,
        "brier": 0.0075,
    }
)
"""How often each test may end a rollout for no reason: 1 in 100 together."""

MIN_TIMED = 100  # answered requests of either side before durations are compared
_AS_SURE = "and by more than chance explains"

Events = Callable[[Stage, Side], float]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken: what was found, what was expected, and the p-value, which is valid at any time."""

    rule: str
    found: str
    expected: str
    p: float


def findings(rollout: Rollout, counts: Counts, labelled: Labelled | None) -> list[Finding]:
    """The rules that the canary has broken; none while it has answered fewer than `rules.after` requests."""
    rules, canary = rollout.rules, counts.side("canary")
    found: list[Finding | None] = []
    if rollout.canary is not None and canary.requests >= rules.after:
        found += [
            _more_failures("errors", rules.errors, counts, lambda tally: tally.failed),
            _more_failures("not_finite", rules.not_finite, counts, lambda tally: tally.errors["output_not_finite"]),
            _more_often("uncertain", rules.uncertain, counts),
            _more_often("unfamiliar", rules.unfamiliar, counts),
            _slower(rules, counts),
        ]
    if rules.worse_on_labels and labelled is not None and labelled.images >= rules.after:
        found += [_worse_accuracy(labelled), _worse_brier(labelled)]
    return [each for each in found if each is not None]


def _more_failures(rule: str, most: float | None, counts: Counts, failed: Callable[[Tally], int]) -> Finding | None:
    """More than the part `most` of the canary's requests fails, and more of them than of the stable version's.

    Both are tested, so a fault of the machine, which fails both alike, does not end a rollout. If the canary answers
    all requests, there is nothing to compare it with.
    """
    if most is None:
        return None
    stable, canary = counts.side("stable"), counts.side("canary")
    mine, theirs = failed(canary), failed(stable)
    above = log_evidence(mine, canary.requests - mine, most) if most > 0 else _surely(mine)
    more = _log_more(counts, lambda stage, side: failed(counts.tally(stage, side)))
    if not any(stage.share < 1 for stage in counts.stages):
        more = above
    found = f"{_part(mine, canary.requests)} of the canary's requests, {_part(theirs, stable.requests)} of the others"
    what = "that fail" if rule == "errors" else "with scores that are not finite"
    return _finding(rule, min(above, more), found, f"at most {100 * most:g} % {what}, or no more than of the others")


def _more_often(rule: str, times: float | None, counts: Counts) -> Finding | None:
    """More than `times` as many of the canary's answers are uncertain or unfamiliar as of the stable version's."""
    if times is None:
        return None
    more = _log_more(counts, lambda stage, side: counts.part(stage, side, rule), times)
    stable, canary = (counts.side(side).decisions for side in ("stable", "canary"))
    found = f"{_part(canary[rule], canary.total())} of the canary's answers, {_part(stable[rule], stable.total())} of "
    return _finding(rule, more, f"{found}the others", f"at most {times:g} times as many that are {rule}")


def _slower(rules: Rules, counts: Counts) -> Finding | None:
    """The slowest hundredth of the canary's requests takes more than `p99` times as long as the stable version's.

    For each bound of the histogram, requests of the canary above `p99` times the bound are compared with others above
    the bound. The mean of the evidence over the bounds is tested: it allows any two distributions of which the
    canary's, divided by `p99`, is nowhere the slower one. Only requests that are given to a side each by itself are
    compared, because one client may always send larger images than another.
    """
    times = rules.p99
    if times is None:
        return None
    stable, canary = counts.side("stable"), counts.side("canary")
    if min(sum(stable.times), sum(canary.times)) < MIN_TIMED:
        return None
    slow, usual = canary.quantile_s(0.99), stable.quantile_s(0.99)
    if slow is None or usual is None or slow <= times * usual:
        return None
    steps = math.ceil(STEPS * math.log2(times))
    evidence = [_log_more(counts, partial(_above, counts, bound, steps)) for bound in range(len(BOUNDS_S) - steps)]
    mean = float(np.logaddexp.reduce(evidence)) - math.log(len(evidence))
    found = f"99 of 100 requests within {slow:.3g} s with the canary, within {usual:.3g} s otherwise"
    return _finding("p99", mean, found, f"at most {times:g} times as long")


def _above(counts: Counts, bound: int, steps: int, stage: Stage, side: Side) -> float:
    if not stage.every_request_by_itself:
        return 0.0
    return counts.tally(stage, side).slower_than(bound + steps if side == "canary" else bound)


def _worse_accuracy(labelled: Labelled) -> Finding | None:
    found = (
        f"{labelled.only_stable_right} images that only the stable version has right, "
        f"{labelled.only_candidate_right} that only the candidate has, of {labelled.images} with a label"
    )
    expected = "a candidate that is right as often as the stable version"
    return _finding("worse_on_labels", labelled.of_accuracy, found, expected, LEVELS["accuracy"])


def _worse_brier(labelled: Labelled) -> Finding | None:
    found = (
        f"a Brier score of {labelled.candidate.brier:.4f}, {labelled.stable.brier:.4f} of the stable version, on "
        f"{labelled.images} images with a label"
    )
    expected = "scores that are as close to the right answers as those of the stable version"
    return _finding("worse_on_labels", labelled.of_brier, found, expected, LEVELS["brier"])


def _log_more(counts: Counts, events: Events, times: float = 1.0) -> float:
    """The evidence that the canary has more than `times` as many events per request as the stable version.

    Each stage is a test of its own, with its own percentage; the product of their evidence is evidence.
    """
    return sum(
        log_evidence(events(stage, "canary"), events(stage, "stable"), chance_of(stage.share, times))
        for stage in counts.stages
    )


def _surely(count: int) -> float:
    """The evidence that something happens at all: it did, or it did not."""
    return math.inf if count else 0.0


def _finding(rule: str, evidence: float, found: str, expected: str, level: float | None = None) -> Finding | None:
    """Broken if the evidence is so strong that chance gives it less often than the level of the rule."""
    if p_value(evidence) > (LEVELS[rule] if level is None else level):
        return None
    return Finding(rule, f"{found}, {_AS_SURE}", expected, p_value(evidence))


def _part(count: float, of: float) -> str:
    return f"{count:g} of {of:g} ({100 * count / of:.1f} %)" if of else "0 of 0"
