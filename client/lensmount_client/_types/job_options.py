"""What may be said of a training beside its dataset and its adapter: a closed list, the same for SDK and server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict


class JobOptions(TypedDict, total=False):
    """Keywords of `jobs.submit`; what is left out or None is the server's default. `lensmount jobs submit --help`
    says what each does. A test compares the fields with the server's table of options.
    """

    method: str | None  # lora, lora-tucker, bias, norm, head, or several joined by "+"
    rank: int | None
    alpha: float | None
    init_std: float | None  # A is drawn from N(0, init_std^2); None: Kaiming uniform
    init_b_std: float | None  # B likewise; 0: it starts at zero
    head: str | None  # linear, mlp:256, mlp:512,256, cosine, cosine:512, text
    prompts: Mapping[str, Any] | None  # {"templates": ["a photo of {}."], "classes": {"cat": ["a cat"]}}, for head text
    targets: str | None  # regular expression over layer names
    epochs: int | None
    patience: int | None  # epochs without a better validation
    batch_size: int | None
    learning_rate: float | None
    warmup: float | None  # share of the steps
    weight_decay: float | None
    label_smoothing: float | None
    class_weights: Literal["balanced", "none"] | None
    mixup: float | None
    cutmix: float | None
    average: float | None
    cache_trunk: Literal["auto", "on", "off"] | None
    views: int | None  # of each image, that cache_trunk keeps
    precision: Literal["auto", "float32", "bfloat16"] | None
    seed: int | None
    shots: int | None  # images of each class
    size: int | None  # pixels
    resize: Literal["squash", "crop", "pad"] | None
    augment: Literal["photo", "microscopy", "tissue", "none"] | None
    orientations: Literal[1, 2, 4, 8] | None  # of the square, averaged when predicting
    group_regex: str | None
    validation_fraction: float | None
    test_fraction: float | None
    depth: int | None  # slices, on a backbone of volumes
    depth_resize: Literal["resample", "crop"] | None
    window: tuple[float, float] | None  # intensities from black to white
    auto: bool | None  # search rank and targets
    max_file_bytes: int | None  # for the search
    max_seconds: float | None  # for the search
    file_dtype: Literal["float16", "bfloat16", "float32"] | None
    license: str | None
    description: str | None
    alias: str | None  # the alias to move to the new version; the gate compares with what it means now
    margin: float | None  # how much worse than what it replaces the adapter may be
    force: bool | None  # publish whatever the gate says
    priority: int | None  # -100..100, higher first
    max_attempts: int | None  # 1..10
