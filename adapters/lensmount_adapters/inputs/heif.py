"""HEIC and HEIF photos, with the extra `heif`. libheif turns and crops them as the file says."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from lensmount_adapters.errors import ImageUnsupported
from lensmount_adapters.inputs.limits import ImageLimits, check_frames
from lensmount_adapters.inputs.pixels import image_of, to_8_bits, to_rgb


def decode_heif(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a photo to an upright RGB image. Raises ImageError; libheif may raise anything else."""
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageUnsupported(
            "found a HEIC photo, and this installation does not read HEIC. "
            "Fix: pip install 'lensmount[heif]' where images are decoded, or export the photo as JPEG"
        ) from error
    file: Any = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    limits.check_size(*file.size)
    check_frames(len(file), f"a HEIC file of {len(file)} photos", "export the one photo that counts as JPEG")
    bits = file.info.get("bit_depth", 8)
    if bits > 8:
        return image_of(to_8_bits(np.asarray(file) >> (16 - bits), bits))  # libheif puts them at the top of 16 bits
    photo: Image.Image = file.to_pillow()
    return to_rgb(photo)
