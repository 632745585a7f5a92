"""The options of a job in addition to its dataset and adapter: a closed list, the same for SDK and server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict


class JobOptions(TypedDict, total=False):
    """Keywords of `jobs.submit`. Omitted options, and None, use the server's defaults. `lensmount jobs submit --help`
    explains each. A test compares the fields with the server's table of options.
    """

    method: str | None  # lora, lora-tucker, dora, bias, norm, head, or several joined by "+"
    rank: int | None
    alpha: float | None
    init_std: float | None  # A is drawn from N(0, init_std^2); None: Kaiming uniform
    init_b_std: float | None  # the same for B; 0: B starts at zero
    head: str | None  # linear, mlp:256, mlp:512,256, cosine, cosine:512, text
    prompts: Mapping[str, Any] | None  # {"templates": ["a photo of {}."], "classes": {"cat": ["a cat"]}}, for head text
    targets: str | None  # regular expression over layer names
    epochs: int | None
    patience: int | None  # epochs without an improvement on validation
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
    views: int | None  # augmented versions of each image that cache_trunk keeps
    precision: Literal["auto", "float32", "bfloat16"] | None
    trunk: Literal["float", "int8"] | None
    seed: int | None
    shots: int | None  # images per class
    size: int | None  # pixels
    resize: Literal["squash", "crop", "pad"] | None
    augment: (
        Literal["photo", "microscopy", "tissue", "photo-robust", "microscopy-robust", "tissue-robust", "none"] | None
    )
    orientations: Literal[1, 2, 4, 8] | None  # rotations and reflections, averaged when predicting
    group_regex: str | None
    validation_fraction: float | None
    test_fraction: float | None
    depth: int | None  # slices, for backbones that take volumes
    depth_resize: Literal["resample", "crop"] | None
    window: tuple[float, float] | None  # intensities from black to white
    auto: bool | None  # search rank and targets
    max_file_bytes: int | None  # for the search
    max_seconds: float | None  # for the search
    calibration: Literal["auto", "part", "cross", "off"] | None  # which images measure what the file promises
    coverage: float | None  # how often a set of labels holds the right one
    accept_accuracy: float | None  # how often an accepted answer is right
    positive: str | None  # the label that counts as the positive result
    sensitivity: float | None  # share of positive images found
    specificity: float | None  # share of the others left alone
    prevalence: float | None  # how frequent the positive label is in use, for the report
    file_dtype: Literal["float16", "bfloat16", "float32"] | None
    license: str | None
    description: str | None
    author: str | None
    intended_use: str | None
    limits: str | None  # where it must not be used
    alias: str | None  # the alias to move to the new version; the gate compares with its current version
    canary: float | None  # percent of the requests of `alias` that the new version gets, in place of the alias
    margin: float | None  # how much worse the adapter may be than the one it replaces
    force: bool | None  # publish even if the gate fails
    priority: int | None  # -100..100, higher first
    max_attempts: int | None  # 1..10
