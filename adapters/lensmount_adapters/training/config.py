"""Everything a training run depends on, checked when it is stated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lensmount_adapters.adapter.head_text import parse_head
from lensmount_adapters.adapter.manifest import HeadSpec, LinearHead, SegmentationHead, check_name
from lensmount_adapters.backbone.load import DEFAULT_BACKBONE
from lensmount_adapters.backbone.names import is_of_volumes
from lensmount_adapters.delta.targets import parse_method
from lensmount_adapters.dtypes import WORDS
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.augment import Augmentation, preset
from lensmount_adapters.training.augment_volumes import VolumeAugmentation, volume_preset
from lensmount_adapters.training.options import TRAINING_OPTIONS
from lensmount_adapters.training.prompts import Prompts, prompts_of

FILE_DTYPES: dict[str, torch.dtype] = {word: getattr(torch, word) for word in WORDS}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything a run depends on. `train(TrainingConfig(Path("cells"), "malaria", Path("malaria.safetensors")))`.

    The ranges and the words that each field takes are in training/options.py.
    `alpha` None is twice the rank; `epochs` None is 12, or more where images are few (`automatic_epochs`); `targets`
    None takes the backbone's preset, `size` None its own. `init_std` None draws A Kaiming uniform, a number from
    N(0, init_std^2); B is zero, or drawn from N(0, init_b_std^2). `head` may be a word such as "mlp:256"
    (head_text.py). `average` is the decay of the moving average that is evaluated and kept (0: the plain parameters),
    `mixup` and `cutmix` the parameters of their Beta distributions (0: none; both work on the activations that enter
    the branch). `patience` ends a run after so many epochs without a better validation. `cache_trunk` keeps `views`
    augmented variants of each picture behind the frozen trunk. `prompts` are what the head "text" starts from
    (training/text_prototypes.py). `auto` chooses method, rank and targets by short trials, within `max_file_bytes` and
    `max_seconds` for the trials. `orientations` above 1 averages each answer over that many of the square's eight
    orientations, in serving as well. `augmentation` overrides fields of the preset named by `augment`.
    `depth`, `depth_resize` and `window` (intensities; None: percentiles of each volume) are for backbones of volumes
    (VolumePreprocessing), `resize` is for those of images.
    For masks (a segmentation head): `labels` names them, `where` "COLUMN=VALUE" chooses rows of index.csv, `loss` is
    "dice-bce" (None) or "mse".
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
    average: float = 0.98
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    file_dtype: str = "float16"
    license: str = ""
    description: str = ""
    labels: tuple[str, ...] | None = None
    where: str | None = None
    loss: Literal["dice-bce", "mse"] | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        require(check_name(self.name), f"name {self.name!r}", "lower case letters, digits, '.', '-', '_'")
        self._take_plain_values()
        for option in TRAINING_OPTIONS:
            value = option.full(getattr(self, option.name))
            object.__setattr__(self, option.name, value)
            expected = option.expected_instead(value)
            require(expected is None, option.found(value), expected or "")
        self._require_that_they_fit_together()

    def _take_plain_values(self) -> None:
        """Lists and tables, as JSON and TOML hold them, become what the fields are."""
        for name in ("labels", "window"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if isinstance(self.prompts, Mapping):
            object.__setattr__(self, "prompts", prompts_of(self.prompts))

    def _require_that_they_fit_together(self) -> None:
        kept = self.validation_fraction + self.test_fraction
        require(
            kept < 1, f"fractions of {kept:g} for validation and test", "below 1 in all, so that some are trained on"
        )
        ordered = self.window is None or (len(self.window) == 2 and self.window[0] < self.window[1])
        require(ordered, f"window {self.window}", "two numbers, the lower one first")
        require(not self.auto or self.validation_fraction > 0, "auto without a validation part", "one to compare on")
        parse_method(self.method)
        if isinstance(self.head, str) and parse_head(self.head)[0] == "linear":
            object.__setattr__(self, "head", LinearHead())  # one way to say it: records and checkpoints are compared
        found = "prompts with another head" if self.prompts else "head text without prompts"
        require((self.head == "text") == (self.prompts is not None), found, "head text with prompts, or neither")
        if self.head == "segmentation":
            object.__setattr__(self, "head", SegmentationHead())
        own = (self.labels, self.where, self.loss) != (None, None, None)
        require(not own or self.masks, "labels, where or loss", "them with head segmentation only")
        self.augmentation_rule()

    @property
    def masks(self) -> bool:
        """Whether masks are learned, and not classes."""
        return isinstance(self.head, SegmentationHead)

    def augmentation_rule(self) -> Augmentation | VolumeAugmentation:
        own = volume_preset(self.augment) if is_of_volumes(self.backbone) else preset(self.augment)
        try:
            return replace(own, **self.augmentation)
        except TypeError as error:
            raise TrainingError(
                f"found augmentation {self.augmentation}, expected fields of {type(own).__name__}"
            ) from error

    def hyper_parameters(self) -> dict[str, Any]:
        """What makes two runs the same run, as JSON: all but the places of things and the speed of the machine."""
        own = asdict(self)
        head = self.head if isinstance(self.head, str) else self.head.model_dump(mode="json")
        prompts = None if self.prompts is None else self.prompts.model_dump(mode="json")
        augmentation = {key: _plain(value) for key, value in asdict(self.augmentation_rule()).items()}
        own |= {"head": head, "prompts": prompts, "augmentation": augmentation, "window": _plain(self.window)}
        kept = {key: value for key, value in own.items() if key not in _PLACES}
        if not is_of_volumes(self.backbone):
            return {key: value for key, value in kept.items() if key not in _OF_VOLUMES}
        return kept


_PLACES = (
    "data", "out", "resume", "threads", "device", "license", "description", "auto", "max_file_bytes", "max_seconds",
)  # fmt: skip


_OF_VOLUMES = ("depth", "depth_resize", "window")


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def require(holds: bool, found: str, expected: str) -> None:
    """Raises TrainingError unless it holds."""
    if not holds:
        raise TrainingError(f"found {found}, expected {expected}")
