"""Everything that a training run depends on, validated when the config is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lensmount_adapters.adapter.head_text import parse_head
from lensmount_adapters.adapter.manifest import HeadSpec, LinearHead, SegmentationHead, check_name
from lensmount_adapters.adapter.manifest_check import SIZES_OF_FLOAT32, is_of_float32, width_in_float32
from lensmount_adapters.augmentation.images import Augmentation, preset
from lensmount_adapters.augmentation.volumes import VolumeAugmentation, volume_preset
from lensmount_adapters.backbone.load import DEFAULT_BACKBONE
from lensmount_adapters.backbone.names import is_of_volumes
from lensmount_adapters.delta.targets import parse_method
from lensmount_adapters.dtypes import WORDS
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.options.json_values import as_json
from lensmount_adapters.options.table import TRAINING_OPTIONS
from lensmount_adapters.text.prompts import Prompts, prompts_of

FILE_DTYPES: dict[str, torch.dtype] = {word: getattr(torch, word) for word in WORDS}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that a run depends on.

    >>> train(TrainingConfig(Path("cells"), "malaria", Path("malaria.safetensors")))  # doctest: +SKIP

    options/table.py has the allowed range or words of each field.

    Model: `targets` None uses the backbone's preset. `alpha` None is twice the rank. `init_std` None draws A Kaiming
    uniform, a number draws it from N(0, init_std^2). B is zero, or drawn from N(0, init_b_std^2). `head` may be text
    such as "mlp:256" (head_text.py). The head "text" is initialised from `prompts` (text/text_prototypes.py).

    Training: `epochs` None is 12, or more if there are few images (`automatic_epochs`). `patience` ends a run after
    this many epochs without a better validation score. `average` is the decay of the moving average that is evaluated
    and kept (0: the plain parameters). `mixup` and `cutmix` are the parameters of their Beta distributions (0: off);
    both work on the activations that enter the branch. `cache_trunk` keeps the trunk's output for `views` augmented
    variants of each image. `auto` chooses method, rank and targets by short trials, within `max_file_bytes` and, for
    the trials, `max_seconds`.

    Data: `class_depth` is how many levels of folders name the class (None: 1, if nothing else can be meant).
    `max_image_bytes` and `max_pixels` are the limits of one image; evaluation takes those of the training. `size` None
    is the backbone's own. `orientations` above 1 averages each prediction over that many of the
    square's eight orientations, on the server too. `augmentation` overrides fields of the preset that `augment` names.
    `depth`, `depth_resize` and `window` (intensities; None: percentiles of each volume) are for backbones of volumes
    (VolumePreprocessing), `resize` is for backbones of images.

    Trust: `calibration` says which images measure how far the answers can be relied on (calibration_images.py), the
    others what is promised (trust/). `positive` is the label that the report treats as the result of a test, and
    `prevalence` its frequency in use.

    Masks (a segmentation head): `labels` names them, `where` "COLUMN=VALUE" selects rows of index.csv, `loss` is
    "dice-bce" (None) or "mse".

    Raises TrainingError if a value is not allowed or two values contradict each other.
    """

    data: Path
    name: str
    out: Path
    backbone: str = DEFAULT_BACKBONE
    weights: str | None = None
    method: str = "lora"
    rank: int = 8
    alpha: float | None = None
    init_std: float | None = None
    init_b_std: float = 0.0
    targets: str | None = None
    head: HeadSpec | str = field(default_factory=LinearHead)
    prompts: Prompts | None = None
    epochs: int | None = None
    shots: int | None = None
    seed: int = 0
    size: int | None = None
    resize: Literal["squash", "crop", "pad"] = "squash"
    depth: int | None = None
    depth_resize: Literal["resample", "crop"] = "resample"
    window: tuple[float, float] | None = None
    augment: str = "photo"
    augmentation: dict[str, Any] = field(default_factory=dict)
    group_regex: str | None = None
    class_depth: int | None = None
    max_image_bytes: int = ImageLimits().max_image_bytes
    max_pixels: int = ImageLimits().max_pixels
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    batch_size: int = 32
    learning_rate: float = 4e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    class_weights: Literal["none", "balanced"] = "balanced"
    mixup: float = 0.0
    cutmix: float = 0.0
    patience: int | None = None
    orientations: Literal[1, 2, 4, 8] = 1
    cache_trunk: Literal["auto", "on", "off"] = "auto"
    views: int = 4
    auto: bool = False
    max_file_bytes: int | None = None
    max_seconds: float | None = None
    calibration: Literal["auto", "part", "cross", "off"] = "auto"
    coverage: float = 0.95
    accept_accuracy: float = 0.99
    positive: str | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    prevalence: float | None = None
    average: float = 0.98
    precision: str = "auto"
    trunk: Literal["float", "int8"] = "float"
    device: str = "auto"
    threads: int | None = None
    file_dtype: str = "float16"
    license: str = ""
    description: str = ""
    author: str = ""
    intended_use: str = ""
    limits: str = ""
    labels: tuple[str, ...] | None = None
    where: str | None = None
    loss: Literal["dice-bce", "mse"] | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        require(check_name(self.name), f"name {self.name!r}", "lower case letters, digits, '.', '-', '_'")
        self._convert_plain_values()
        for option in TRAINING_OPTIONS:
            value = option.full_word(getattr(self, option.name))
            object.__setattr__(self, option.name, value)
            expected = option.expected_instead(value)
            require(expected is None, option.in_words(value), expected or "")
        self._require_numbers_of_float32()
        self._require_consistent_values()

    def _convert_plain_values(self) -> None:
        """Convert lists and tables, as JSON and TOML have them, to the types of the fields."""
        for name in ("labels", "window"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if isinstance(self.prompts, Mapping):
            object.__setattr__(self, "prompts", prompts_of(self.prompts))

    def _require_numbers_of_float32(self) -> None:
        """Training computes in float32, in which 1e-300 is 0 and 1e300 is infinite. An adapter file has no others."""
        for option in TRAINING_OPTIONS:
            value = getattr(self, option.name)
            if value is not None and option.type in ("float", "window"):
                fits = all(map(is_of_float32, value if option.type == "window" else (value,)))
                require(fits, option.in_words(value), f"0 or {SIZES_OF_FLOAT32}")
        scale = (self.alpha or 0.0) / self.rank
        require(is_of_float32(scale), f"alpha / rank of {scale:.3g}", SIZES_OF_FLOAT32)

    def _require_consistent_values(self) -> None:
        held_out = self.validation_fraction + self.test_fraction
        require(
            held_out < 1,
            f"fractions of {held_out:g} for validation and test together",
            "less than 1, so that images remain for training",
        )
        ordered = self.window is None or (len(self.window) == 2 and self.window[0] < self.window[1])
        require(ordered, f"window {self.window}", "two numbers, the lower first")
        width = width_in_float32(*self.window) if self.window is not None else 1.0
        require(width != 0 and is_of_float32(width), f"window {self.window}", f"a width of {SIZES_OF_FLOAT32}")
        comparable = not self.auto or self.validation_fraction > 0
        require(comparable, "auto without a validation part", "a validation fraction above 0 to compare the trials on")
        points = [name for name in ("sensitivity", "specificity") if getattr(self, name) is not None]
        require(
            len(points) < 2,
            "sensitivity and specificity",
            "one of the two, because one threshold cannot promise both. Fix: leave --specificity out",
        )
        require(
            not points or self.positive is not None,
            f"{''.join(points)} without positive",
            f"both: the label whose {''.join(points)} it is. Fix: --positive LABEL, or leave --{''.join(points)} out",
        )
        require(
            self.prevalence is None or self.positive is not None,
            f"prevalence {self.prevalence} without positive",
            "both: the label whose frequency it is. Fix: --positive LABEL, or leave --prevalence out",
        )
        parse_method(self.method)
        if isinstance(self.head, str) and parse_head(self.head)[0] == "linear":
            object.__setattr__(self, "head", LinearHead())  # records and checkpoints are compared: one form only
        found = "prompts with another head" if self.prompts else "head text without prompts"
        require((self.head == "text") == (self.prompts is not None), found, "head text with prompts, or neither")
        if self.head == "segmentation":
            object.__setattr__(self, "head", SegmentationHead())
        for_masks = (self.labels, self.where, self.loss) != (None, None, None)
        require(not for_masks or self.masks, "labels, where or loss", "them with head segmentation only")
        self.augmentation_rule()

    @property
    def masks(self) -> bool:
        """Whether the run learns masks instead of classes."""
        return isinstance(self.head, SegmentationHead)

    def augmentation_rule(self) -> Augmentation | VolumeAugmentation:
        chosen = volume_preset(self.augment) if is_of_volumes(self.backbone) else preset(self.augment)
        try:
            return replace(chosen, **self.augmentation)
        except TypeError as error:
            raise TrainingError(
                f"found augmentation {self.augmentation}, expected fields of {type(chosen).__name__}"
            ) from error

    def hyper_parameters(self) -> dict[str, Any]:
        """The values that define a run, as JSON: everything except for paths, descriptions and the machine's settings.

        Two runs with equal hyper-parameters on the same data are the same run.
        """
        values = asdict(self)
        head = self.head if isinstance(self.head, str) else self.head.model_dump(mode="json")
        prompts = None if self.prompts is None else self.prompts.model_dump(mode="json")
        augmentation = as_json(asdict(self.augmentation_rule()))
        values |= {"head": head, "prompts": prompts, "augmentation": augmentation, "window": as_json(self.window)}
        left_out = _NOT_OF_THE_RUN if is_of_volumes(self.backbone) else (*_NOT_OF_THE_RUN, *_OF_VOLUMES)
        if self.trunk == "float":
            left_out = (*left_out, "trunk")  # records and checkpoints of most runs are older than the option
        return {key: value for key, value in values.items() if key not in left_out}


_NOT_OF_THE_RUN = (
    "data", "out", "resume", "threads", "device", "auto", "max_file_bytes", "max_seconds",
    "license", "description", "author", "intended_use", "limits", "prevalence",
)  # fmt: skip


_OF_VOLUMES = ("depth", "depth_resize", "window")


def require(condition: bool, found: str, expected: str) -> None:
    """Raise TrainingError with what was found and what was expected, unless `condition` is true."""
    if not condition:
        raise TrainingError(f"found {found}, expected {expected}")


def require_folder_of(out: Path) -> None:
    """Raise TrainingError unless a file `out` can be made: its folder exists, and no folder or device has its name."""
    require(out.parent.is_dir(), f"no folder {out.parent} for the result", "an existing folder")
    require(out.is_file() or not out.exists(), f"something else than a file at {out}", "a file or a new name")
