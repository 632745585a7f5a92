"""Every error of the package: one base class, one tree, and a stable code on each error.

LensmountError
├── BackboneError               unknown name, or weights that are not available
│   ├── WeightsMismatch         a weights file that does not fit the backbone
│   └── ExecutorUnavailable     a requested library, compiler or device that is missing
├── AdapterError                a refused adapter file; nothing has changed
│   ├── AdapterUnsupported      not a safetensors file at all
│   ├── AdapterTooLarge         over a stated limit
│   ├── AdapterMalformed        not a well-formed safetensors file
│   ├── AdapterInvalid          well formed, but not a valid adapter
│   └── BackboneMismatch        made for another backbone
├── ExplainError                what no method can explain, or an unknown label
├── ImageError                  a refused image or volume
│   ├── ImageUnsupported        not a supported format
│   │   └── VolumeUnsupported
│   ├── ImageTooLarge           more bytes, pixels or frames than the limits allow
│   │   └── VolumeTooLarge
│   └── ImageInvalid            empty, truncated, or not decodable
│       └── VolumeInvalid
├── ExportError                 an adapter that a format cannot hold; the message names one that can
├── SwapError                   a merge failed; the base weights are restored
├── IntegrityError              resident weights that changed since the start
├── DatasetError                data that cannot be trained on
│   ├── DatasetTooLarge         over a stated limit
│   └── ArchiveInvalid          a refused zip file; nothing is unpacked
└── TrainingError               options or data that training cannot use

A message says what was found, what was expected and how to fix it. Each class declares every code that it is raised
with: `default_code`, and the more specific ones in `finer_codes`.
"""

from __future__ import annotations

from typing import ClassVar


class LensmountError(Exception):
    """The base of all errors that are raised on purpose. `code` is stable and safe to script against."""

    default_code: ClassVar[str] = "lensmount_error"
    finer_codes: ClassVar[tuple[str, ...]] = ()  # codes of this class alone, not of its subclasses

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
    finer_codes: ClassVar[tuple[str, ...]] = ("adapter_header_too_large", "adapter_too_many_tensors", "rank_too_large")


class AdapterMalformed(AdapterError):
    default_code = "adapter_malformed"
    finer_codes: ClassVar[tuple[str, ...]] = ("adapter_empty", "empty_tensor")


class AdapterInvalid(AdapterError):
    default_code = "adapter_invalid"
    finer_codes: ClassVar[tuple[str, ...]] = (
        "adapter_incomplete",
        "adapter_no_effect",
        "adapter_norm_limit",
        "adapter_not_finite",
        "adapter_overflow",
        "adapter_shape_mismatch",
        "adapter_unknown_target",
        "head_mismatch",
        "head_missing",
        "manifest_invalid",
        "manifest_missing",
        "preprocessing_mismatch",
        "trust_mismatch",
        "unsupported_dtype",
    )


class BackboneMismatch(AdapterError):
    default_code = "backbone_mismatch"


class ExportError(LensmountError):
    default_code = "export_not_possible"
    finer_codes: ClassVar[tuple[str, ...]] = ("export_unavailable",)  # a library is not installed


class ExplainError(LensmountError):
    default_code = "explanation_not_possible"
    finer_codes: ClassVar[tuple[str, ...]] = ("unknown_label",)


class ImageError(LensmountError):
    default_code = "image_invalid"


class ImageUnsupported(ImageError):
    default_code = "unsupported_image_format"


class ImageTooLarge(ImageError):
    default_code = "image_too_large"
    finer_codes: ClassVar[tuple[str, ...]] = ("image_too_many_frames",)


class ImageInvalid(ImageError):
    default_code = "image_invalid"
    finer_codes: ClassVar[tuple[str, ...]] = ("image_empty", "image_truncated", "unsupported_color_mode")


class VolumeUnsupported(ImageUnsupported):
    default_code = "unsupported_volume_format"


class VolumeTooLarge(ImageTooLarge):
    default_code = "volume_too_large"


class VolumeInvalid(ImageInvalid):
    default_code = "volume_invalid"
    finer_codes: ClassVar[tuple[str, ...]] = ("volume_empty", "volume_truncated")


class SwapError(LensmountError):
    default_code = "swap_failed"


class IntegrityError(LensmountError):
    default_code = "integrity_violated"


class DatasetError(LensmountError):
    default_code = "dataset_invalid"
    finer_codes: ClassVar[tuple[str, ...]] = ("dataset_too_small", "dataset_unreadable", "draft_needs_images")


class DatasetTooLarge(DatasetError):
    default_code = "zip_too_large"
    finer_codes: ClassVar[tuple[str, ...]] = ("dataset_too_large",)


class ArchiveInvalid(DatasetError):
    default_code = "zip_malformed"
    finer_codes: ClassVar[tuple[str, ...]] = (
        "zip_bad_path",
        "zip_duplicate_name",
        "zip_encrypted",
        "zip_method_not_supported",
        "zip_overlap",
        "zip_size_mismatch",
        "zip_symlink",
    )


class TrainingError(LensmountError):
    default_code = "training_failed"
