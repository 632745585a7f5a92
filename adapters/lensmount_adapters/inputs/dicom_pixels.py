"""The samples of a DICOM file's one frame, plain or compressed, each codec's size checked before it runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lensmount_adapters.errors import ImageInvalid, ImageTooLarge
from lensmount_adapters.inputs.jpeg2000 import jpeg2000_samples
from lensmount_adapters.inputs.jpeg_header import check_jpeg_is_whole, jpeg_size
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.pixels import refused_samples

_ROOT = "1.2.840.10008.1.2"
BIG_ENDIAN = f"{_ROOT}.2"
NATIVE = (_ROOT, f"{_ROOT}.1", BIG_ENDIAN)
RLE = f"{_ROOT}.5"
_JPEG = (f"{_ROOT}.4.50", f"{_ROOT}.4.51")
_LOSSLESS_JPEG = (f"{_ROOT}.4.57", f"{_ROOT}.4.70")
_JPEG_2000 = (f"{_ROOT}.4.90", f"{_ROOT}.4.91")
# JPEG-LS is left out: its decoder takes ten seconds over a frame that ends too early.
SUPPORTED = {*NATIVE, RLE, *_JPEG, *_LOSSLESS_JPEG, *_JPEG_2000}
_MOST_FRAGMENTS = 20_000
_EXPORT = "export it from your viewer as PNG"


def frame_samples(file: Any, syntax: str, limits: ImageLimits) -> np.ndarray:
    """Return the stored samples, [rows, columns], or [rows, columns, 3] as RGB.

    Raises ImageInvalid; codecs may raise anything else.
    """
    shape = (int(file.Rows), int(file.Columns), int(file.get("SamplesPerPixel", 1)))
    if shape[2] not in (1, 3):
        raise refused_samples(f"a DICOM file of {shape[2]} samples per pixel", _EXPORT)
    photometric = str(file.get("PhotometricInterpretation", ""))
    if syntax in NATIVE or syntax == RLE:
        samples = _native(file, syntax, shape) if syntax in NATIVE else _rle(file, shape)
    else:
        samples = _compressed(_frame(file), syntax, shape, photometric, limits)
    if samples.shape[:2] != shape[:2] or samples.size != np.prod(shape):
        raise ImageInvalid(
            f"found {' x '.join(map(str, samples.shape))} samples in a DICOM file of {' x '.join(map(str, shape))}. "
            f"Fix: {_EXPORT}"
        )
    if shape[2] == 3 and syntax not in _JPEG:  # whose decoder gives RGB
        return _as_rgb(samples, photometric, syntax)
    return samples[..., 0] if samples.ndim == 3 and shape[2] == 1 else samples


def _as_rgb(samples: np.ndarray, photometric: str, syntax: str) -> np.ndarray:
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        import pydicom.pixels

        rgb: np.ndarray = pydicom.pixels.convert_color_space(samples, "YBR_FULL", "RGB")
        return rgb
    if photometric in ("YBR_RCT", "YBR_ICT") and syntax not in _JPEG_2000:
        raise refused_samples("a DICOM file of the colours of JPEG 2000 without its compression", _EXPORT)
    return samples


def _native(file: Any, syntax: str, shape: tuple[int, int, int]) -> np.ndarray:
    allocated, data = int(file.BitsAllocated), bytes(file.PixelData)
    rows, columns, count = shape
    if str(file.get("PhotometricInterpretation", "")) == "YBR_FULL_422":
        from pydicom.pixels.utils import expand_ybr422

        _check_length(len(data), rows * columns * 2)
        data = expand_ybr422(data[: rows * columns * 2], allocated)
    _check_length(len(data), (rows * columns * count * allocated + 7) // 8)
    if allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=rows * columns * count)
        return bits.reshape(shape)
    if syntax == BIG_ENDIAN and allocated == 8:
        raise refused_samples("a big-endian DICOM file of 8-bit samples", _EXPORT)
    order = ">" if syntax == BIG_ENDIAN else "<"
    samples = np.frombuffer(data, f"{order}u{allocated // 8}", rows * columns * count).astype(f"u{allocated // 8}")
    is_planar = count == 3 and int(file.get("PlanarConfiguration", 0)) == 1
    if is_planar and str(file.get("PhotometricInterpretation", "")) != "YBR_FULL_422":
        return samples.reshape(count, rows, columns).transpose(1, 2, 0)
    return samples.reshape(shape)


def _check_length(found: int, expected: int) -> None:
    if found < expected:
        raise ImageInvalid(
            f"found {found} of {expected} bytes of pixels in a DICOM file. Fix: send the whole file",
            code="image_truncated",
        )


def _frame(file: Any) -> bytes:
    from pydicom.encaps import generate_frames

    if file.PixelData.count(b"\xfe\xff\0\xe0") > _MOST_FRAGMENTS:
        raise ImageTooLarge(f"found a DICOM frame of more than {_MOST_FRAGMENTS} fragments. Fix: {_EXPORT}")
    frame: bytes = next(iter(generate_frames(file.PixelData, number_of_frames=1)))
    return frame


def _rle(file: Any, shape: tuple[int, int, int]) -> np.ndarray:
    import imagecodecs

    size = int(file.BitsAllocated) // 8
    if size not in (1, 2):
        raise refused_samples(f"a DICOM file of {int(file.BitsAllocated)}-bit samples in RLE", _EXPORT)
    rows, columns, count = shape
    raw = imagecodecs.dicomrle_decode(_frame(file), f"<u{size}", out=bytearray(rows * columns * count * size))
    samples = np.frombuffer(raw, f"<u{size}")
    _check_length(samples.size, rows * columns * count)
    return samples.reshape(count, rows, columns).transpose(1, 2, 0)


def _compressed(
    frame: bytes, syntax: str, shape: tuple[int, int, int], photometric: str, limits: ImageLimits
) -> np.ndarray:
    import imagecodecs

    if syntax in _JPEG_2000:
        return jpeg2000_samples(frame, limits, shape[:2], may_be_signed=True)[0]
    found = jpeg_size(frame)
    if found != shape:
        raise ImageInvalid(
            f"found a JPEG of {' x '.join(map(str, found))} in a DICOM file of {' x '.join(map(str, shape))}. "
            f"Fix: {_EXPORT}"
        )
    check_jpeg_is_whole(frame)
    if syntax in _LOSSLESS_JPEG:
        return np.asarray(imagecodecs.jpegsof3_decode(frame))
    if shape[2] == 1:
        return np.asarray(imagecodecs.jpeg8_decode(frame))
    says_itself = b"JFIF\0" in frame[:32] or b"Adobe\0" in frame[:1024]
    space = None if says_itself else ("RGB" if photometric == "RGB" else "YCBCR")
    return np.asarray(imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace="RGB"))
