"""DICOM files of one frame, with the extra `dicom`: the grey that a viewer shows, and nothing about the patient.

Grey: the stored value becomes slope * value + intercept. The first window then maps it to 0..255 by the function that
the file names (PS3.3 C.11.2.1), or a VOI table does. Without both, the whole range of BitsStored becomes 0..255.
MONOCHROME1 is inverted. RGB, YBR and palettes become RGB.

Only the tags below are kept, and no message has the value of a text tag.
"""

from __future__ import annotations

import io
import logging
import math
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge, ImageUnsupported
from lensmount_adapters.inputs.dicom_pixels import BIG_ENDIAN, NATIVE, SUPPORTED, frame_samples
from lensmount_adapters.inputs.limits import ImageLimits, check_frames
from lensmount_adapters.inputs.pixels import image_of, refused_samples, to_8_bits

_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
)
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_COLOURS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_MOST_TAGS = 20_000
_MOST_SEQUENCE_BYTES = 1 << 18  # of a sequence that is kept; a VOI table of 65,536 entries takes half of it
_MOST_READS = 2 * _MOST_TAGS  # a tag or an item takes at least one
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_EXPORT = "export it from your viewer as PNG"


def decode_dicom(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a DICOM file of one frame to an RGB image. Raises ImageError."""
    try:
        return _decoded(data, limits)
    except (ImageError, MemoryError):
        raise
    except RecursionError:
        failed = "a RecursionError, because its sequences are nested too deeply"
    except Exception as error:  # pydicom may raise anything, and its words may quote what is private
        failed = type(error).__name__
    raise ImageInvalid(f"the decoder of a DICOM file failed with {failed}. Fix: check that the file is complete")


def _decoded(data: bytes, limits: ImageLimits) -> Image.Image:
    pydicom = _pydicom()
    if _DEFLATED in data[:2048]:
        raise ImageInvalid(f"found a DICOM file whose tags are deflated, expected plain tags. Fix: {_EXPORT}")
    file: Any = pydicom.filereader.read_partial(
        _Metered(data), force=True, specific_tags=[pydicom.tag.Tag(name) for name in _TAGS]
    )
    _check_sequences(file)
    if "PixelData" not in file or "Rows" not in file or "Columns" not in file:
        raise ImageInvalid("found a DICOM file without an image, expected pixels. Fix: choose the file of the image")
    limits.check_size(int(file.Columns), int(file.Rows))
    frames = int(file.get("NumberOfFrames") or 1)
    check_frames(frames, f"a DICOM file of {frames} frames", "export the one frame that counts as PNG")
    syntax = str(getattr(file.file_meta, "TransferSyntaxUID", "") or _guessed_syntax(file))
    if syntax not in SUPPORTED:
        raise refused_samples(f"a DICOM file of the transfer syntax {_named(pydicom, syntax)}", _EXPORT)
    stored, signed = int(file.get("BitsStored", 0)), int(file.get("PixelRepresentation", 0)) == 1
    if not 1 <= stored <= 16 or int(file.get("BitsAllocated", 0)) not in (1, 8, 16):
        raise refused_samples(f"a DICOM file of {int(file.get('BitsAllocated', 0))}-bit samples", _EXPORT)
    if int(file.get("HighBit", stored - 1)) != stored - 1:
        raise refused_samples("a DICOM file whose samples do not begin at the lowest bit", _EXPORT)
    samples = frame_samples(file, syntax, limits)
    return _shown(file, samples, stored, signed)


@cache
def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.filereader
        import pydicom.pixels
    except ImportError as error:
        raise ImageUnsupported(
            "found a DICOM file, and this installation does not read DICOM. "
            "Fix: pip install 'lensmount[dicom]' where images are decoded, or export the image as PNG"
        ) from error
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # its warnings quote values
    logging.getLogger("pydicom").disabled = True  # so do its log lines
    return pydicom


class _Metered(io.BytesIO):
    """A file that stops its reader after a number of reads. It sees nested tags and empty items too."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise ImageTooLarge(f"found a DICOM file of more than {_MOST_TAGS} tags. Fix: {_EXPORT}")
        return super().read(size)


def _check_sequences(file: Any) -> None:
    """Refuse a large sequence of a stated length, which pydicom parses only when it is used."""
    for name in (name for name in _TAGS if name.endswith("Sequence")):
        raw = file.get_item(name)
        if raw is not None and isinstance(raw.value, bytes) and len(raw.value) > _MOST_SEQUENCE_BYTES:
            raise ImageTooLarge(
                f"found a DICOM sequence of {len(raw.value)} bytes, expected at most {_MOST_SEQUENCE_BYTES}. "
                f"Fix: {_EXPORT}"
            )


def _guessed_syntax(file: Any) -> str:
    """Files without a header state no transfer syntax: implicit little endian, unless the tags were explicit."""
    return BIG_ENDIAN if file.is_little_endian is False else NATIVE[0]


def _named(pydicom: Any, syntax: str) -> str:
    uid = pydicom.uid.UID(syntax)
    return str(uid.name) if uid.is_transfer_syntax else "of a maker's own"


def _shown(file: Any, samples: np.ndarray, stored: int, signed: bool) -> Image.Image:
    photometric = str(file.get("PhotometricInterpretation", ""))
    if photometric in ("MONOCHROME1", "MONOCHROME2") and samples.ndim == 2:
        if 8 * samples.itemsize < stored:
            raise refused_samples(f"8-bit samples in a DICOM file of {stored} bits", _EXPORT)
        table = _grey_table(file, stored, signed)
        grey = table[samples.view(f"u{samples.itemsize}") & ((1 << stored) - 1)]
        return image_of(255 - grey if photometric == "MONOCHROME1" else grey)
    if photometric == "PALETTE COLOR" and samples.ndim == 2:
        if "RedPaletteColorLookupTableData" not in file:
            raise refused_samples("a DICOM file of a segmented palette", _EXPORT)
        colours = _pydicom().pixels.apply_color_lut(samples & ((1 << min(stored, 8 * samples.itemsize)) - 1), file)
        return image_of(to_8_bits(colours, 8 * colours.itemsize))
    if (
        photometric in _COLOURS and samples.ndim == 3 and samples.shape[2] == 3 and stored == 8
    ):  # frame_samples has turned YBR into RGB
        return image_of(samples.view(np.uint8))
    colours = photometric if photometric in _COLOURS else "other"
    raise refused_samples(f"a DICOM file of {colours} pixels of {stored} bits", _EXPORT)


def _grey_table(file: Any, stored: int, signed: bool) -> np.ndarray:
    """Return the grey of each stored bit pattern, uint8 [2^stored]."""
    if "ModalityLUTSequence" in file:
        raise refused_samples("a DICOM file with a modality table", _EXPORT)
    patterns = np.arange(1 << stored, dtype=np.int64)
    half = 1 << (stored - 1)
    values = (patterns ^ half) - half if signed else patterns  # two's complement
    slope, intercept = _number(file, "RescaleSlope", 1.0), _number(file, "RescaleIntercept", 0.0)
    window = _window(file)
    if window is None and "VOILUTSequence" in file:
        return _by_table(file.VOILUTSequence[0], slope * values + intercept, signed)
    if window is None:
        return to_8_bits((values + (half if signed else 0)).astype(np.uint16), stored)
    return _windowed(slope * values + intercept, *window)


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    elif function == "LINEAR_EXACT":
        shown = (values - centre) / width + 0.5
    elif width == 1:
        shown = (values > centre - 0.5).astype(np.float64)
    else:
        shown = (values - (centre - 0.5)) / (width - 1) + 0.5
    grey: np.ndarray = np.floor(shown.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return grey


def _by_table(item: Any, values: np.ndarray, signed: bool) -> np.ndarray:
    """Look the values up in a VOI table (PS3.3 C.11.2.1.1). Its entries take 16 bits, or 8 where writers pack them."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 1 << 16
    first -= (1 << 16) if signed and first >= 1 << 15 else 0
    data = item.LUTData
    entries = np.array(data) if not isinstance(data, bytes) else np.frombuffer(data, "<u2", len(data) // 2)
    if isinstance(data, bytes) and bits <= 8 and len(data) in (count, count + 1):
        entries = np.frombuffer(data, np.uint8)
    if entries.size < count or not 1 <= bits <= 16:
        raise ImageInvalid(f"found {entries.size} of {count} entries of {bits} bits in a VOI table. Fix: {_EXPORT}")
    places = (values.round() - first).clip(0, count - 1).astype(np.int64)
    return to_8_bits(entries[places].astype(np.uint16), bits)


def _window(file: Any) -> tuple[float, float, str] | None:
    """Return the first window's centre, width and function, or None without a window that can be used."""
    centre, width = _number(file, "WindowCenter", math.nan), _number(file, "WindowWidth", math.nan)
    function = str(_value(file, "VOILUTFunction") or "LINEAR")
    least = 0 if function in ("SIGMOID", "LINEAR_EXACT") else 1
    if not math.isfinite(centre) or not math.isfinite(width) or width < least or width == 0:
        return None
    return centre, width, function


def _number(file: Any, keyword: str, default: float) -> float:
    value = _value(file, keyword)
    if value is None:
        return default
    many = not isinstance(value, str) and hasattr(value, "__getitem__")
    number = float(value[0] if many else value)
    return number if math.isfinite(number) else default


def _value(file: Any, keyword: str) -> Any:
    """The value of a tag, or of the same tag in the functional groups of an enhanced file, or None."""
    places = [file]
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in list(file.get(groups) or [])[:1]:
            places += [item for name in _GROUPS for item in list(group.get(name) or [])[:1]]
    return next((place.get(keyword) for place in places if place.get(keyword) not in (None, "")), None)
