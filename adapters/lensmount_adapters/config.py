"""Everything a training run depends on, checked when it is stated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from lensmount_adapters.augment import Augmentation, preset
from lensmount_adapters.augment_volumes import VolumeAugmentation, volume_preset
from lensmount_adapters.backbone import DEFAULT_BACKBONE, is_of_volumes
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.head_text import parse_head
from lensmount_adapters.manifest import HeadSpec, LinearHead, SegmentationHead, check_name
from lensmount_adapters.precision import PRECISIONS
from lensmount_adapters.prompts import Prompts
from lensmount_adapters.targets import parse_method

FILE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything a run depends on. `train(TrainingConfig(Path("cells"), "malaria", Path("malaria.safetensors")))`.

    `alpha` None is twice the rank; `epochs` None is 12, or more where images are few (`automatic_epochs`); `targets`
    None takes the backbone's preset, `size` None its own. `init_std` None draws A Kaiming uniform, a number from
    N(0, init_std^2); B is zero, or drawn from N(0, init_b_std^2). `head` may be a word such as "mlp:256"
    (head_text.py). `average` is the decay of the moving average that is evaluated and kept (0: the plain parameters),
    `mixup` and `cutmix` the parameters of their Beta distributions (0: none; both work on the activations that enter
    the branch). `patience` ends a run after so many epochs without a better validation. `cache_trunk` keeps `views`
    augmented variants of each picture behind the frozen trunk. `prompts` are what the head "text" starts from
    (text_prototypes.py). `auto` chooses method, rank and targets by short trials, within `max_file_bytes` and
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
    file_dtype: str = "fp16"
    license: str = ""
    description: str = ""
    labels: tuple[str, ...] | None = None
    where: str | None = None
    loss: Literal["dice-bce", "mse"] | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        require(check_name(self.name), f"name {self.name!r}", "lower case letters, digits, '.', '-', '_'")
        require(self.rank >= 1, f"rank {self.rank}", "at least 1")
        require(self.alpha is None or self.alpha > 0, f"alpha {self.alpha}", "more than 0")
        require(self.init_std is None or self.init_std > 0, f"init-std {self.init_std}", "more than 0")
        require(self.init_b_std >= 0, f"init-b-std {self.init_b_std}", "0 or more")
        require(self.epochs is None or self.epochs >= 1, f"{self.epochs} epochs", "at least 1")
        require(self.batch_size >= 1, f"batch size {self.batch_size}", "at least 1")
        require(self.learning_rate > 0, f"learning rate {self.learning_rate}", "more than 0")
        require(0 <= self.warmup < 1, f"warm-up {self.warmup}", "a share of the steps from 0 to below 1")
        require(0 <= self.label_smoothing < 1, f"label smoothing {self.label_smoothing}", "0 to below 1")
        require(0 <= self.average < 1, f"average {self.average}", "0 to below 1")
        require(self.precision in ("auto", *PRECISIONS), f"precision {self.precision!r}", "auto, fp32 or bf16")
        require(self.file_dtype in FILE_DTYPES, f"file dtype {self.file_dtype!r}", f"one of {', '.join(FILE_DTYPES)}")
        require(self.resize in ("squash", "crop", "pad"), f"resize {self.resize!r}", "squash, crop or pad")
        require(self.depth_resize in ("resample", "crop"), f"depth-resize {self.depth_resize!r}", "resample or crop")
        require(self.class_weights in ("none", "balanced"), f"class weights {self.class_weights!r}", "none or balanced")
        require(self.mixup >= 0, f"mixup {self.mixup}", "0 or more")
        require(self.cutmix >= 0, f"cutmix {self.cutmix}", "0 or more")
        require(self.patience is None or self.patience >= 1, f"patience {self.patience}", "at least 1 epoch")
        require(self.orientations in (1, 2, 4, 8), f"{self.orientations} orientations", "1, 2, 4 or 8")
        require(self.cache_trunk in ("auto", "on", "off"), f"cache-trunk {self.cache_trunk!r}", "auto, on or off")
        require(self.views >= 1, f"{self.views} views", "at least 1")
        require(self.max_file_bytes is None or self.max_file_bytes > 0, f"{self.max_file_bytes} bytes", "more than 0")
        require(self.max_seconds is None or self.max_seconds > 0, f"{self.max_seconds} seconds", "more than 0")
        require(not self.auto or self.validation_fraction > 0, "auto without a validation part", "one to compare on")
        require(self.loss in (None, "dice-bce", "mse"), f"loss {self.loss!r}", "dice-bce or mse")
        parse_method(self.method)
        if isinstance(self.head, str) and parse_head(self.head)[0] == "linear":
            object.__setattr__(self, "head", LinearHead())  # one way to say it: records and checkpoints are compared
        found = "prompts with another head" if self.prompts else "head text without prompts"
        require((self.head == "text") == (self.prompts is not None), found, "head text with prompts, or neither")
        if self.head == "segmentation":
            object.__setattr__(self, "head", SegmentationHead())
        own = (self.labels, self.where, self.loss) != (None, None, None)
        require(not own or self.masks, "labels, where or loss", "them with head segmentation only")
        object.__setattr__(self, "labels", None if self.labels is None else tuple(self.labels))  # a recipe has a list
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
