"""What this server saw of each rollout, in memory: a prediction adds to it in a few microseconds, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensmount_adapters.trust.judge import Judgement
from lensmount_service.rollout_spec import Rollout, Side
from lensmount_service.rollouts.tally import MOST_KEYS, Counts, FirstRequest, Stage, Tally


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer of one version to one image: scores, one per label, and what they are worth, if that is known."""

    labels: tuple[str, ...]
    scores: Sequence[float]
    judgement: Judgement | None = None

    @property
    def top(self) -> str:
        return self.labels[int(np.argmax(self.scores))]


class Evidence:
    """`sample = evidence.sample(rollout, "canary"); sample.image("a", "accept"); sample.request(200, 1, 0.01)`.

    One lock guards everything; nobody holds it for longer than a few additions.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}  # by rollout, since they were taken
        self._keys: dict[str, set[str]] = {}  # by rollout: the lasting keys whose first request was here
        self._lock = threading.Lock()

    def sample(self, rollout: Rollout, side: Side, place: float | None = None) -> Sample:
        """Where one request is counted that `side` answers.

        `place` is the `share` of its key in [0, 1), which stands for the key if that lasts for several requests.
        """
        return Sample(self, rollout, side, Stage.of(rollout.canary), place)

    def refused(self, rollout: Rollout, side: Side, code: str) -> None:
        """Count a request for which this version was to answer and cannot be used at all."""
        self.sample(rollout, side).request(503, code=code)

    def unkeyed(self, rollout: Rollout) -> None:
        """Count a request without the header that is the key."""
        with self._lock:
            self._of(rollout.id).without_key += 1

    def shadowed(self, rollout: Rollout, stable: Scored, shadow: Scored | None, why: str, seconds: float) -> None:
        """Count an image that the shadow was to compute too. Without an answer of the shadow, `why` says the reason.

        The reason `shed` means that the server had no time for it; any other is a failure. Scores that are not finite
        are the failure `output_not_finite`.
        """
        if shadow is not None and not np.isfinite(shadow.scores).all():
            shadow, why = None, "output_not_finite"
        with self._lock:
            counts = self._of(rollout.id)
            if shadow is None and why == "shed":
                counts.compared.shed += 1
                return
            counts.shadow.request(int(shadow is not None), seconds, None if shadow is not None else why)
            if shadow is None:
                counts.compared.failed[why] += 1
                return
            decision = None if shadow.judgement is None else shadow.judgement.decision
            counts.shadow.image(shadow.top, decision, 1.0)
            counts.compared.images += 1
            counts.compared.agreed += stable.top == shadow.top
            counts.compared.pair((stable.top, shadow.top))
            counts.compared.change += _change(stable, shadow)

    def dropped(self, rollout: Rollout) -> None:
        """Count a label for which there was no time to compute both versions."""
        with self._lock:
            self._of(rollout.id).labels_dropped += 1

    def taken(self) -> dict[str, Counts]:
        """The counts since the last call, by rollout, to be stored. They are no longer here then."""
        with self._lock:
            taken, self._counts = self._counts, {}
        return taken

    def give_back(self, taken: Mapping[str, Counts]) -> None:
        """Add counts that could not be stored."""
        with self._lock:
            for rollout, counts in taken.items():
                self._counts[rollout] = Counts.total([counts, self._counts.get(rollout, Counts())])

    def pending(self, rollout: str) -> Counts:
        """A copy of what was not taken yet."""
        with self._lock:
            return Counts.total([self._counts.get(rollout, Counts())])

    def forget(self, all_but: Collection[str]) -> None:
        """Drop what is known of every rollout but these."""
        with self._lock:
            self._counts = {rollout: counts for rollout, counts in self._counts.items() if rollout in all_but}
            self._keys = {rollout: keys for rollout, keys in self._keys.items() if rollout in all_but}

    def _of(self, rollout: str) -> Counts:
        """The counts to add to; the caller holds the lock."""
        return self._counts.setdefault(rollout, Counts())


@dataclass(slots=True)
class Sample:
    """The counts of one request. Its images may be counted before or after it."""

    evidence: Evidence
    rollout: Rollout
    side: Side
    stage: Stage
    place: float | None
    _first: FirstRequest | None = None
    _looked: bool = False

    def request(self, status: int, images: int = 0, seconds: float = 0.0, code: str | None = None) -> None:
        """Count the request: `images` have an answer, and `code` says why it has none."""
        with self.evidence._lock:
            self._tally().request(images, seconds, None if status < 400 else code or str(status))

    def image(self, label: str | None, decision: str | None, part: float = 1.0) -> None:
        """Count an image that is this part of the images of the request."""
        with self.evidence._lock:
            self._tally().image(label, decision, part)
            if decision is None or self.place is None or self.stage.every_request_by_itself:
                return
            if not self._looked:
                self._looked, self._first = True, self._claimed()
            if self._first is not None:
                self._first.parts[decision] = self._first.parts.get(decision, 0.0) + part

    def _tally(self) -> Tally:
        return self.evidence._of(self.rollout.id).tally(self.stage, self.side)

    def _claimed(self) -> FirstRequest | None:
        """Where this request counts for its key, unless an earlier one does or there are too many keys."""
        known = self.evidence._keys.setdefault(self.rollout.id, set())
        key = f"{int((self.place or 0.0) * 2**48):012x}"
        if key in known or len(known) >= MOST_KEYS:
            return None
        known.add(key)
        return self.evidence._of(self.rollout.id).keys.setdefault(key, FirstRequest(self.stage, self.side))


def _change(stable: Scored, shadow: Scored) -> float:
    """The mean absolute difference of the scores over all labels of both; one that a version lacks counts as 0."""
    first = dict(zip(stable.labels, stable.scores, strict=True))
    second = dict(zip(shadow.labels, shadow.scores, strict=True))
    labels = first.keys() | second.keys()
    return sum(abs(first.get(label, 0.0) - second.get(label, 0.0)) for label in labels) / len(labels)
