"""The trust block: how far an adapter's answers can be relied on, as measured on images kept aside.

Each part is None where it was not measured, or where there were too few images for it. A promise that cannot be kept
is not made: thresholds are None then. `adapter/trust_check.py` ties the block to its file.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from lensmount_adapters.backbone.fingerprint import Digest
from lensmount_adapters.strict import Strict

UNSEALED = "sha256:" + 64 * "0"  # until `dump_adapter` writes the file
QUANTILES = 101  # of the unfamiliarity at 0, 1, ..., 100 %


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Real = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Images = Annotated[int, Field(ge=0, le=10**9)]
Interval = Annotated[tuple[Size, Size], BeforeValidator(_tuple)]  # 95 %, by bootstrap over the images


class Calibration(Strict):
    """How well scores agree with how often they are right, on `images` images that neither training nor epochs saw.

    `part` are images of a part of their own; `cross-fitted` are the training images, each scored by a network that was
    trained without it. `ece` has 15 bins of equal width, `adaptive_ece` 15 bins with equally many images.
    """

    images: Annotated[int, Field(ge=1, le=10**9)]
    source: Literal["part", "cross-fitted"]
    scaling: Literal["temperature", "vector"] = "temperature"  # vector: folded into the last linear layer
    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]  # that of the head
    ece: Share
    ece_interval: Interval
    adaptive_ece: Share
    adaptive_ece_interval: Interval
    brier: Size
    brier_interval: Interval
    log_loss: Size
    log_loss_interval: Interval


class Conformal(Strict):
    """Sets of labels that hold the right one in `coverage` of the images of each class.

    A label belongs to the set if its score of nonconformity is at most its threshold. `lac`: 1 - probability (Sadinle
    et al., arXiv 1609.00451). `raps`: the sum of the probabilities above the label's, plus `penalty` for each rank
    beyond `free_ranks` (Angelopoulos et al., arXiv 2009.14193). A threshold of None has too few images for the
    coverage, and its label is in every set: no guarantee. One threshold and one count of images for each label.
    """

    coverage: Annotated[float, Field(gt=0, lt=1)]
    method: Literal["lac", "raps"]
    thresholds: Annotated[tuple[Size | None, ...], BeforeValidator(_tuple)]
    images: Annotated[tuple[Images, ...], BeforeValidator(_tuple)]
    penalty: Annotated[float, Field(ge=0, le=1)] = 0.0
    free_ranks: Annotated[int, Field(ge=0, le=10_000)] = 0


class Selective(Strict):
    """Answers whose top score is at least `threshold` are right in `accuracy` of the cases; `share` of all are.

    The threshold is None if no part of the `images` images is large and good enough to promise it.
    """

    accuracy: Annotated[float, Field(gt=0, lt=1)]
    threshold: Share | None
    share: Share
    images: Images


class Operating(Strict):
    """An image counts as `positive` if that label's score is at least `threshold`; then `kind` is at least `value`.

    `images` counts those that the promise rests on: the positive ones for a sensitivity, the others for a specificity.
    """

    positive: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    kind: Literal["sensitivity", "specificity"]
    value: Annotated[float, Field(gt=0, lt=1)]
    threshold: Share | None
    images: Images


class Familiarity(Strict):
    """How unlike the training images an image is, by the file's tensors `trust.*`.

    `space` names what was pooled: fingerprint of the backbone | layer at the cut | kind of pooling. `quantiles` are
    those of the scores of `images` held-out images, at 0 to 100 %. An image at or above the percentile `flag` is
    flagged as unfamiliar.
    """

    space: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}\|[A-Za-z0-9_.]{1,128}\|[a-z0-9+]{1,32}$")]
    images: Annotated[int, Field(ge=1, le=10**9)]
    quantiles: Annotated[tuple[Real, ...], BeforeValidator(_tuple), Field(min_length=QUANTILES, max_length=QUANTILES)]
    flag: Annotated[float, Field(gt=0, le=100)]

    @property
    def backbone(self) -> str:
        """The fingerprint of the backbone in `space`."""
        return self.space.partition("|")[0]


class Trust(Strict):
    """What an adapter file promises. `of` ties the promises to the tensors and settings that they were measured with.

    Leave `of` out in a new block: `dump_adapter` fills it in.
    """

    of: Digest = UNSEALED
    calibration: Calibration | None = None
    conformal: Conformal | None = None
    selective: Selective | None = None
    operating: Operating | None = None
    familiarity: Familiarity | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> Trust:
        if not any((self.calibration, self.conformal, self.selective, self.operating, self.familiarity)):
            raise ValueError("found no part, expected at least one, or no trust block")
        return self
