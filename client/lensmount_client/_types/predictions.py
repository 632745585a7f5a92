"""The answers of adapters about one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lensmount_client._errors import NoLabel
from lensmount_client._html.markup import bars, frame, line
from lensmount_client._html.picture import shown
from lensmount_client._types.records import Record, data_frame
from lensmount_client._types.results import AdapterId, Backbone
from lensmount_client._types.trust import Trust, trust_words

if TYPE_CHECKING:
    import pandas


RECORD = (  # the keys of a record, in their order
    *("adapter", "label", "score", "scores", "decision", "set", "percentile", "abstained", "error"),
    *("version", "digest", "fingerprint", "request_id"),
)


@dataclass(frozen=True)
class Score:
    """One class. The score is in [0, 1]."""

    label: str
    score: float


@dataclass(frozen=True)
class Fallback:
    """The server quarantined the version `asked`, which the name or alias stands for; `served` is the one before."""

    asked: int
    served: int
    code: str


@dataclass(frozen=True)
class PredictionError:
    """Why one of several adapters gave no result: the status and code that a request for it alone would have."""

    status: int
    code: str
    detail: str


@dataclass(frozen=True)
class Prediction:
    """`prediction.top.label`. The digest and the fingerprint identify the weights, for a reproducible result.

    `trust` is None if the adapter promises nothing about its answers. With decision="strict", `abstained` says why
    there is no label, and `predictions` is empty then. `fallback` says that an earlier version answered, because the
    server quarantined the one asked for. Of several adapters, one that failed has `error`.
    """

    predictions: tuple[Score, ...]  # best first
    adapter: AdapterId
    backbone: Backbone
    request_id: str
    timing_ms: Mapping[str, float]  # queue, decode, swap, forward, total
    trust: Trust | None = None
    abstained: str | None = None
    fallback: Fallback | None = None
    error: PredictionError | None = None

    _image: ClassVar[bytes] = b""  # for notebooks; not a field, so that asdict() and == are about the answer alone

    def __str__(self) -> str:
        """Short: "Parasitized 94.0% (malaria@1), sure"."""
        adapter = f"{self.adapter.name}@{self.adapter.version}"
        if self.error is not None:
            return f"no answer ({adapter}): {self.error.code}"
        if not self.predictions:
            return f"no label ({adapter}): {self.abstained}"
        words = trust_words(self.trust)
        return f"{self.top.label} {self.top.score:.1%} ({adapter})" + (f", {words}" if words else "")

    def with_image(self, image: bytes) -> Prediction:
        """The same answer, which a notebook shows together with this image."""
        object.__setattr__(self, "_image", image)  # frozen: no user sees it change
        return self

    def to_record(self) -> Record:
        """One flat dictionary with the keys RECORD. A prediction that failed has only its adapter and `error`."""
        best, trust = self.predictions[:1], self.trust
        unlike = trust.unfamiliarity if trust else None
        return {
            "adapter": self.adapter.name,
            "label": best[0].label if best else None,
            "score": best[0].score if best else None,
            "scores": {score.label: score.score for score in self.predictions},
            "decision": trust.decision if trust else None,
            "set": trust.set if trust else None,
            "percentile": unlike.percentile if unlike else None,
            "abstained": self.abstained,
            "error": self.error.code if self.error else None,
            "version": self.adapter.version,
            "digest": self.adapter.digest,
            "fingerprint": self.backbone.fingerprint,
            "request_id": self.request_id,
        }

    def _repr_html_(self) -> str:
        """The image, the scores as bars, and what the answer is worth, for notebooks."""
        return frame(shown(self._image, "the image that was asked about"), self._card())

    def _card(self) -> str:
        drawn = bars((score.label, score.score) for score in self.predictions)
        return line(self, strong=True) + (drawn if self.predictions else "")

    @property
    def top(self) -> Score:
        """The best class. Raises NoLabel if there is none: after an error, or with decision="strict"."""
        self._check()
        if not self.predictions:
            raise NoLabel(f"found no label: {self.abstained}. Fix: read `prediction.label`, which is None then")
        return self.predictions[0]

    @property
    def label(self) -> str | None:
        """The best class's label, or None if the adapter abstained. Raises NoLabel if it failed."""
        self._check()
        return self.predictions[0].label if self.predictions else None

    def _check(self) -> None:
        if self.error is not None:
            raise NoLabel(
                f"{self.adapter.name}: found no result, because the server answered {self.error.status} "
                f"{self.error.code} for this adapter. Fix: read `prediction.error` first"
            )


class Predictions(list[Prediction]):
    """The answers of several adapters about one image: a list. `predictions.to_pandas()` has a row for each."""

    def __str__(self) -> str:
        return "; ".join(map(str, self))

    def to_records(self) -> list[Record]:
        """One flat dictionary for each adapter, with the keys RECORD."""
        return [prediction.to_record() for prediction in self]

    def to_pandas(self) -> pandas.DataFrame:
        """The records as a table. Raises InvalidInput if pandas is not installed."""
        return data_frame(self.to_records(), RECORD)

    def _repr_html_(self) -> str:
        """The image, and the bars of each adapter, for notebooks."""
        image = next((prediction._image for prediction in self if prediction._image), b"")
        cards = [prediction._card() for prediction in self]
        return frame(shown(image, "the image that was asked about"), *cards)
