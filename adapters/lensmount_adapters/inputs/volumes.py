"""From the bytes of a volume to the input of a volume backbone, with the same voxels in training and in serving.

The formats, recognised by content, and the axes of their data:

| format | axes |
|---|---|
| multi-page TIFF | [page, row, column], each page grey or RGB; uncompressed or deflate |
| NIfTI-1 and -2 in one file, .nii or .nii.gz | brought to RAS+ (x to the right, y to the front, z up), then [z, y, x] |
| .npy | [slices, height, width], or [slices, height, width, 3] in colour, unchanged |

So the slices of a NIfTI volume run from bottom to top, rows from back to front and columns from left to right.
Voxels are integers or floating-point numbers of any width. They are scaled as a NIfTI header says and become float32.
NaN, infinity and complex numbers are refused. The header is checked before any voxels are read, and gzip data is never
inflated beyond the size that the header states.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.errors import ImageError, VolumeInvalid, VolumeTooLarge, VolumeUnsupported
from lensmount_adapters.inputs.rules import IntensityRange, VolumePreprocessing

FORMATS = ("TIFF", "NIfTI", "NPY")
SUFFIXES = (".tif", ".tiff", ".nii", ".nii.gz", ".npy")
COLOURS = 3


@dataclass(frozen=True, slots=True)
class VolumeLimits:
    """Limits of a volume, checked against its header before its voxels are read."""

    max_volume_bytes: int = 128 * 2**20  # of the file as sent
    max_voxels: int = 2**26  # 256 slices of 512 x 512; each colour counts as one
    max_side: int = 16_384
    max_slices: int = 4096

    def check(self, shape: tuple[int, ...]) -> None:
        """Check `shape`, [slices, height, width] or [slices, height, width, 3].

        Raises VolumeInvalid, VolumeTooLarge.
        """
        sides = " x ".join(map(str, shape))
        if min(shape) < 1:
            raise VolumeInvalid(
                f"found a volume of {sides}, expected at least one voxel along each axis. "
                "Fix: save the volume with its slices"
            )
        if math.prod(shape) > self.max_voxels or shape[0] > self.max_slices or max(shape[1:]) > self.max_side:
            raise VolumeTooLarge(
                f"found a volume of {sides}, expected at most {self.max_voxels} voxels, {self.max_slices} slices and "
                f"{self.max_side} per side. Fix: scale it down before sending"
            )


def decode_volume(data: bytes, limits: VolumeLimits | None = None) -> np.ndarray:
    """Decode the bytes of a file to float32 [slices, height, width] or [slices, height, width, 3], with finite values.

    Raises VolumeUnsupported (another format), VolumeTooLarge (over a limit), VolumeInvalid (empty, truncated, damaged,
    NaN or infinity).
    """
    limits = limits or VolumeLimits()
    if not data:
        raise VolumeInvalid(
            "found an empty body, expected the bytes of a volume. Fix: send the file", code="volume_empty"
        )
    if len(data) > limits.max_volume_bytes:
        raise VolumeTooLarge(
            f"found {len(data)} bytes, expected at most {limits.max_volume_bytes}. "
            "Fix: scale the volume down, or save it compressed (.nii.gz)"
        )
    decode = _decoder_of(data)
    try:
        with np.errstate(all="ignore"):  # overflow gives infinity, which is refused below
            voxels: np.ndarray = decode(data, limits)
    except (ImageError, MemoryError):
        raise
    except ImportError as error:
        raise VolumeUnsupported(
            f"reading this volume needs {error.name}. Fix: pip install 'lensmount[volumes]'"
        ) from error
    except Exception as error:  # decoders may raise anything on hostile bytes; none of it may become a 500
        raise VolumeInvalid(
            f"the decoder failed with {type(error).__name__}: {str(error)[:120]}. Fix: check that the file is complete",
            code="volume_truncated" if isinstance(error, EOFError) else "volume_invalid",
        ) from error
    if not np.isfinite(voxels).all():
        raise VolumeInvalid(
            f"found {np.count_nonzero(~np.isfinite(voxels))} voxels that are NaN or infinite, expected finite numbers. "
            "Fix: replace them, for example with numpy.nan_to_num"
        )
    return voxels


def is_volume(data: bytes) -> bool:
    """Return True if the bytes begin like a NIfTI, gzip or .npy file. A TIFF file may be an image or a volume."""
    return data[:6] == _NPY or data[:2] == _GZIP or _is_nifti(data)


def window_volume(voxels: np.ndarray, rule: VolumePreprocessing) -> Tensor:
    """Apply the rule except for mean and std: the result is float32 [1 or 3, depth, height, width] in [0, 1]."""
    lower, upper = _window(voxels, rule)
    x = torch.from_numpy(np.ascontiguousarray(voxels))
    x = ((x - lower) / (upper - lower)).clamp_(0, 1) if upper > lower else torch.zeros_like(x)
    x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x.unsqueeze(1)  # [D, C, H, W]
    if rule.depth_resize == "crop":
        x = _cropped(x, rule.depth)
    x = F.interpolate(x, rule.size, mode="bilinear", antialias=True)
    if len(x) != rule.depth:
        along = x.permute(1, 0, 2, 3).flatten(2).unsqueeze(0)  # [1, C, D, H * W]: each row is a slice
        along = F.interpolate(along, (rule.depth, along.shape[-1]), mode="bilinear", antialias=True)
        return along[0].reshape(-1, rule.depth, *rule.size).clamp_(0, 1)
    return x.permute(1, 0, 2, 3).clamp_(0, 1).contiguous()


def preprocess_volume(voxels: np.ndarray, rule: VolumePreprocessing) -> Tensor:
    """Apply an adapter's preprocessing rule to get the backbone's input, float32 [3, depth, height, width]."""
    x = window_volume(voxels, rule)
    mean, std = (torch.tensor(values).view(COLOURS, 1, 1, 1) for values in (rule.mean, rule.std))
    return (x - mean) / std


def _window(voxels: np.ndarray, rule: VolumePreprocessing) -> tuple[float, float]:
    window = rule.window
    if isinstance(window, IntensityRange):
        return window.lower, window.upper
    lower, upper = np.percentile(voxels, (window.lower, window.upper))
    return float(lower), float(upper)


def _cropped(x: Tensor, depth: int) -> Tensor:
    """Return the middle `depth` slices of [D, C, H, W], padded with slices of zeros on both ends if there are fewer."""
    missing = max(0, depth - len(x))
    x = F.pad(x, (0, 0, 0, 0, 0, 0, missing // 2, missing - missing // 2))
    first = (len(x) - depth) // 2
    return x[first : first + depth]


# The formats

_GZIP, _NPY = b"\x1f\x8b", b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHERS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"RIFF": "a WebP image",
    b"PK\x03\x04": "a zip file",
}


def _decoder_of(data: bytes) -> Any:
    if data[:6] == _NPY:
        return _decode_npy
    if data[:4] in _TIFF:
        return _decode_tiff
    if data[:2] == _GZIP or _is_nifti(data):
        return _decode_nifti
    other = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), "bytes of another format")
    other = "a DICOM file" if data[128:132] == b"DICM" else other
    raise VolumeUnsupported(
        f"found {other}, expected a volume: multi-page TIFF, NIfTI (.nii, .nii.gz) or .npy. "
        "Fix: save the slices as one such file, because this adapter takes volumes"
    )


def _decode_npy(data: bytes, limits: VolumeLimits) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise VolumeInvalid(
            f"found .npy version {version}, expected (1, 0) or (2, 0), which have plain numbers. "
            "Fix: write it with numpy.save"
        )
    shape, is_fortran, dtype = readers[version](file)
    _check_numbers(dtype)
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != COLOURS) or (len(shape) == 3 and shape[2] <= 4):
        raise VolumeInvalid(
            f"found an array of shape {list(shape)}, expected [slices, height, width] or [slices, height, width, 3]. "
            "Fix: put the slices first, for example with numpy.stack(slices)"
        )
    limits.check(shape)
    _check_length(len(data) - file.tell(), math.prod(shape) * dtype.itemsize)
    flat = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C").astype(np.float32)


_NIFTI_HEADERS = {
    348: (344, b"n+1\0"),
    540: (4, b"n+2\0"),
}  # header length: (offset of the magic bytes, the magic bytes)


def _is_nifti(data: bytes) -> bool:
    return _nifti_length(data) is not None


def _nifti_length(data: bytes) -> int | None:
    """Return the header length of a NIfTI-1 or -2 file in either byte order, or None for other data."""
    for order in ("<i", ">i"):
        length: int = struct.unpack_from(order, data)[0] if len(data) >= 540 else 0
        if length in _NIFTI_HEADERS:
            at, magic = _NIFTI_HEADERS[length]
            return length if data[at : at + 4] == magic else None
    return None


def _decode_nifti(data: bytes, limits: VolumeLimits) -> np.ndarray:
    import nibabel

    file: Any = gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == _GZIP else io.BytesIO(data)
    head = file.read(544)  # NIfTI-2's header and the extension flag after it
    length = _nifti_length(head)
    if length is None:
        raise VolumeUnsupported(
            "found a gzip file of another format, expected NIfTI inside. Fix: unpack it, and send a volume"
        )
    kind: Any = nibabel.Nifti1Image if length == 348 else nibabel.Nifti2Image
    header = kind.header_class(head[:length])
    _check_numbers(header.get_data_dtype())
    shape = tuple(int(side) for side in header.get_data_shape())
    if len(shape) < 3 or math.prod(shape[3:]) != 1:
        raise VolumeInvalid(
            f"found a NIfTI image of shape {list(shape)}, expected three dimensions. "
            "Fix: save one volume of them, for example image.slicer[..., 0] of nibabel"
        )
    limits.check(tuple(reversed(shape[:3])))
    start = int(header.get_data_offset())
    if not length < start <= limits.max_volume_bytes:
        raise VolumeInvalid(
            f"found voxels that start at byte {start} by the header, expected them after the header. "
            "Fix: save it again, for example with nibabel"
        )
    size = start + math.prod(shape) * header.get_data_dtype().itemsize
    content = head[:size] + file.read(max(0, size - len(head)))
    _check_length(len(content) - start, size - start)
    file.read(1)  # reading to the end makes gzip verify its checksum
    image = nibabel.funcs.as_closest_canonical(kind.from_bytes(content))  # type: ignore[no-untyped-call]  # nibabel is untyped
    voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    return np.ascontiguousarray(voxels.reshape(voxels.shape[:3]).transpose(2, 1, 0))


def _decode_tiff(data: bytes, limits: VolumeLimits) -> np.ndarray:
    import tifffile

    pages = _count_pages(data, limits.max_slices)
    if pages == 1:
        raise VolumeUnsupported(
            "found a TIFF image of one page, expected a volume with one page per slice. "
            "Fix: save the slices as one file, because this adapter takes volumes"
        )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        first = file.pages.first
        _check_page(first)
        limits.check((pages, *first.shape))
        voxels = np.empty((pages, *first.shape), np.float32)
        for index in range(pages):
            page: Any = file.pages[index]
            if page.shape != first.shape or page.dtype != first.dtype:
                raise VolumeInvalid(
                    f"found pages of shape {list(first.shape)} {first.dtype} and {list(page.shape)} {page.dtype}, "
                    "expected the same shape and type on every page. Fix: save the slices with one shape and type"
                )
            _check_page(page)
            _check_segments(data, page, limits)
            voxels[index] = page.asarray(maxworkers=1)
    return voxels


def _count_pages(data: bytes, most: int) -> int:
    """Count the pages by following their chain. The library drops pages that lie beyond the end of a short file."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    count, step, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    (at,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    seen: set[int] = set()
    while at:
        if at in seen or at + struct.calcsize(count) > len(data):
            raise VolumeInvalid(
                "found a TIFF file with pages beyond its end, or in a loop. Fix: check that the file is complete",
                code="volume_truncated",
            )
        seen.add(at)
        if len(seen) > most:
            raise VolumeTooLarge(f"found more than {most} pages, expected at most that many. Fix: leave slices out")
        (tags,) = struct.unpack_from(order + count, data, at)
        next_at = at + struct.calcsize(count) + tags * step
        if next_at + struct.calcsize(pointer) > len(data):
            raise EOFError("a page's tags end beyond the file")
        (at,) = struct.unpack_from(order + pointer, data, next_at)
    return len(seen)


def _check_page(page: Any) -> None:
    if page.dtype is None:
        raise VolumeInvalid(
            f"found pages of {page.bitspersample} bits, expected integers or floating-point numbers. "
            "Fix: save it with 8, 16 or 32 bits"
        )
    _check_numbers(page.dtype)
    if page.axes not in ("YX", "YXS") or (page.axes == "YXS" and page.shape[2] != COLOURS):
        raise VolumeInvalid(
            f"found pages of shape {list(page.shape)} ({page.axes}), expected grey or RGB. "
            "Fix: save one channel, or three as RGB"
        )
    if int(page.photometric) not in (1, 2):
        raise VolumeUnsupported(
            f"found pages of {page.photometric.name} pixels, expected MINISBLACK (grey) or RGB. "
            "Fix: save them so, for example with photometric='minisblack' of tifffile"
        )
    if int(page.compression) not in (1, 8, 32946):
        raise VolumeUnsupported(
            f"found pages compressed by {page.compression.name}, expected none or deflate. "
            "Fix: save it without compression"
        )


def _check_segments(data: bytes, page: Any, limits: VolumeLimits) -> None:
    """Check that strips or tiles lie within the file and are complete. The library fills missing bytes with zeros."""
    chunk = math.prod(page.chunks) * page.dtype.itemsize
    if chunk > limits.max_voxels * page.dtype.itemsize:
        raise VolumeTooLarge(
            f"found tiles of {' x '.join(map(str, page.chunks))}, expected smaller ones. Fix: save it in strips"
        )
    available = 0
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
        if offset + size > len(data):
            raise EOFError("a page's pixels end beyond the file")
        if int(page.compression) == 1:
            available += size
            continue
        inflate = zlib.decompressobj()
        inflated = len(inflate.decompress(data[offset : offset + size], chunk + 1))
        if inflated > chunk:
            raise VolumeInvalid(
                f"found a strip that inflates to more than its {chunk} bytes, expected at most that many. "
                "Fix: save it again"
            )
        available += inflated
    _check_length(available, page.nbytes)


def _check_numbers(dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf":
        raise VolumeInvalid(
            f"found values of type {dtype}, expected integers or floating-point numbers. "
            "Fix: save real numbers, for example of the type float32",
            code="volume_invalid",
        )


def _check_length(found: int, expected: int) -> None:
    if found < expected:
        raise VolumeInvalid(
            f"found {found} of {expected} bytes of voxels. Fix: send the whole file", code="volume_truncated"
        )
