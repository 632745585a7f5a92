"""Every error of the package: one base class, one tree, a stable code on each.

LensmountError
├── BackboneError               backbone_unavailable: unknown name, weights that cannot be had
│   ├── WeightsMismatch         weights_mismatch: a weights file that does not fit the backbone
│   └── ExecutorUnavailable     executor_unavailable: a library, compiler or device that is asked for and not there
├── AdapterError                an adapter file that is refused; nothing has been changed
│   ├── AdapterUnsupported      unsupported_adapter_format: not a safetensors file at all
│   ├── AdapterTooLarge         adapter_too_large: over a stated limit
│   ├── AdapterMalformed        adapter_malformed: not a well-formed safetensors file
│   ├── AdapterInvalid          adapter_invalid and finer codes: well formed, but not a right adapter
│   └── BackboneMismatch        backbone_mismatch: made for another backbone
├── ImageError                  an image or a volume that is refused
│   ├── ImageUnsupported        unsupported_image_format
│   │   └── VolumeUnsupported   unsupported_volume_format
│   ├── ImageTooLarge           image_too_large
│   │   └── VolumeTooLarge      volume_too_large
│   └── ImageInvalid            image_empty, image_truncated, image_invalid
│       └── VolumeInvalid       volume_empty, volume_truncated, volume_invalid
├── SwapError                   swap_failed: a merge broke off; the base is restored
├── IntegrityError              integrity_violated: resident weights are not what they were at start
├── DatasetError                dataset_invalid, dataset_too_small, dataset_unreadable: images that cannot be trained on
│   ├── DatasetTooLarge         zip_too_large, dataset_too_large: over a stated limit
│   └── ArchiveInvalid          zip_malformed and finer zip_ codes: a zip file that is refused; nothing is unpacked
└── TrainingError               training_failed

A message says what was found, what was expected and the cure.
"""

from __future__ import annotations

from typing import ClassVar


class LensmountError(Exception):
    """The base of all errors raised on purpose; `code` is stable and safe to script against."""

    default_code: ClassVar[str] = "lensmount_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code


class BackboneError(LensmountError):
    default_code = "backbone_unavailable"


class WeightsMismatch(BackboneError):
    default_code = "weights_mismatch"


class ExecutorUnavailable(BackboneError):
    default_code = "executor_unavailable"


class AdapterError(LensmountError):
    default_code = "adapter_invalid"


class AdapterUnsupported(AdapterError):
    default_code = "unsupported_adapter_format"


class AdapterTooLarge(AdapterError):
    default_code = "adapter_too_large"


class AdapterMalformed(AdapterError):
    default_code = "adapter_malformed"


class AdapterInvalid(AdapterError):
    default_code = "adapter_invalid"


class BackboneMismatch(AdapterError):
    default_code = "backbone_mismatch"


class ImageError(LensmountError):
    default_code = "image_invalid"


class ImageUnsupported(ImageError):
    default_code = "unsupported_image_format"


class ImageTooLarge(ImageError):
    default_code = "image_too_large"


class ImageInvalid(ImageError):
    default_code = "image_invalid"


class VolumeUnsupported(ImageUnsupported):
    default_code = "unsupported_volume_format"


class VolumeTooLarge(ImageTooLarge):
    default_code = "volume_too_large"


class VolumeInvalid(ImageInvalid):
    default_code = "volume_invalid"


class SwapError(LensmountError):
    default_code = "swap_failed"


class IntegrityError(LensmountError):
    default_code = "integrity_violated"


class DatasetError(LensmountError):
    default_code = "dataset_invalid"


class DatasetTooLarge(DatasetError):
    default_code = "zip_too_large"


class ArchiveInvalid(DatasetError):
    default_code = "zip_malformed"


class TrainingError(LensmountError):
    default_code = "training_failed"
