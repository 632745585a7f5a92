"""What may be said of a training beside its dataset and its adapter: a closed list, the same for SDK and server."""

from __future__ import annotations

from typing import Literal, TypedDict


class JobOptions(TypedDict, total=False):
    """Keywords of `jobs.submit`; what is left out or None is the server's default. `lensmount jobs submit --help`
    says what each does.
    """

    alias: str | None  # the alias to move to the new version; the gate compares with what it means now
    method: str | None  # lora, lora-tucker, bias, norm, head, or several joined by "+"
    rank: int | None
    alpha: float | None
    init_std: float | None  # A is drawn from N(0, init_std^2); None: Kaiming uniform
    head: str | None  # linear, mlp:256, mlp:512,256, cosine, cosine:512
    targets: str | None  # regular expression over layer names
    epochs: int | None
    shots: int | None  # images of each class
    seed: int | None
    size: int | None  # pixels
    resize: Literal["squash", "crop", "pad"] | None
    augment: Literal["photo", "microscopy", "tissue", "none"] | None
    group_regex: str | None
    validation_fraction: float | None
    test_fraction: float | None
    batch_size: int | None
    learning_rate: float | None
    weight_decay: float | None
    label_smoothing: float | None
    class_weights: Literal["balanced", "none"] | None
    mixup: float | None
    cutmix: float | None
    average: float | None
    patience: int | None  # epochs without a better validation
    auto: bool | None  # search rank and targets
    max_file_bytes: int | None  # for the search
    max_seconds: float | None  # for the search
    orientations: Literal[1, 2, 4, 8] | None  # of the square, averaged when predicting
    cache_trunk: Literal["auto", "on", "off"] | None
    views: int | None  # of each image, that cache_trunk keeps
    description: str | None
    license: str | None
    priority: int | None  # -100..100, higher first
    max_attempts: int | None  # 1..10
    margin: float | None  # how much worse than what it replaces the adapter may be
    force: bool | None  # publish whatever the gate says
