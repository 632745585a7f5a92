"""Turn an image or a volume in any supported form into the bytes of a file."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import read_file
from lensmount_client._files.png import png_of_array, png_of_image
from lensmount_client._files.tensor import png_of_tensor
from lensmount_client._types.inputs import ImageInput


def image_bytes(source: ImageInput) -> bytes:
    """The bytes to send. Raises InvalidInput for anything that cannot be an image.

    * a path (str or Path) or a binary file object: its bytes as they are, from the file's current position
    * bytes: as they are
    * a PIL image: encoded as PNG, without loss, keeping its orientation. CMYK, LAB, YCbCr, HSV and premultiplied
      alpha are converted as the server converts them. Refused: 32-bit pixels (modes I and F), and an image whose
      samples PIL has cut or left without a range (a 16-bit RGB PNG, a 12-bit TIFF). Send their path instead.
    * a numpy array of dtype uint8, uint16 or bool and shape [H, W], [H, W, 1], [H, W, 3] (RGB) or [H, W, 4] (RGBA):
      as PNG of 8 or 16 bits. The range is that of the dtype, so 65535 is white for uint16.
      Nothing is scaled or guessed: float pixels and other shapes are refused.
    * a torch tensor of dtype uint8, uint16 or bool and shape [H, W], [1, H, W], [3, H, W] (RGB) or [4, H, W] (RGBA),
      channels first as torchvision decodes images, on any device: as PNG. Floats, other shapes and batches are refused.
    * a numpy array of numbers and shape [slices, H, W] or [slices, H, W, 3], H and W above 4: a volume, as .npy
    """
    if isinstance(source, str | Path):
        return read_file(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _filled(bytes(source), "bytes")
    if _is_a(source, "PIL.Image", "Image"):
        return png_of_image(source)
    if _is_a(source, "numpy", "ndarray"):
        return _npy_of_array(source) if _is_volume(source) else png_of_array(source)
    if _is_a(source, "torch", "Tensor"):
        return png_of_tensor(source)
    if hasattr(source, "read"):
        return _read(source)
    raise InvalidInput(
        f"image: found {type(source).__name__}, expected a path, bytes, a binary file, a PIL image, "
        "a numpy uint8 array [H, W, 3] or a torch uint8 tensor [3, H, W]"
    )


def _is_volume(array: Any) -> bool:
    """True for three dimensions too large to be channels, or four with RGB last. [3, H, W] of uint8 is an image."""
    channels_first = array.dtype.name == "uint8" and array.shape[:1] in ((1,), (3,), (4,))
    if array.ndim == 3:
        return min(array.shape[1:]) > 4 and not channels_first
    return bool(array.ndim == 4 and array.shape[3] == 3 and min(array.shape[1:3]) > 4)


def _npy_of_array(array: Any) -> bytes:
    import numpy as np

    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"volume: found an array of {array.dtype.name}, expected whole or floating-point numbers")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read(file: Any) -> bytes:
    try:
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: a closed file, or text that cannot be decoded
        raise InvalidInput(f"image: the file object cannot be read ({error})") from error
    if not isinstance(content, bytes):
        raise InvalidInput("image: found a file opened as text, expected open(path, 'rb')")
    return _filled(content, "file object")


def _filled(content: bytes, word: str) -> bytes:
    if not content:
        raise InvalidInput(f"image: the {word} is empty, expected an image file's bytes")
    return content


def _is_a(value: object, module: str, name: str) -> bool:
    """isinstance without an import: if the value exists, its module is loaded."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name, ()))
