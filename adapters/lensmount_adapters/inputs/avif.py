"""AVIF: turned by its own boxes alone, and 10 and 12 bits by the rule: Pillow cuts these to 8 first."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from lensmount_adapters.inputs.limits import ImageLimits, check_frames
from lensmount_adapters.inputs.orientation import orientation_of, upright
from lensmount_adapters.inputs.pixels import image_of, to_8_bits, to_rgb

_IS_DEEP, _HAS_12_BITS = 0x40, 0x20  # in the third byte of the box av1C (AV1-ISOBMFF, 2.3.3)
_HIDDEN = ((b"Exif\0", b"free\0"), (b"application/rdf+xml\0", b"application/ignored\0"))


def decode_avif(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode an AVIF to an upright RGB image. Raises ImageError; libavif may raise anything else."""
    end = data.find(b"mdat")
    head = data[: end if end >= 0 else 65_536]
    plain = head
    for kind, other in _HIDDEN:  # an odd EXIF block makes Pillow fail, and XMP must not turn the image a second time
        plain = plain.replace(kind, other)
    with Image.open(io.BytesIO(plain + data[len(head) :]), formats=("AVIF",)) as opened:
        limits.check_size(*opened.size)
        frames: int = getattr(opened, "n_frames", 1)
        check_frames(frames, f"an AVIF of {frames} frames", "save the one frame that counts as PNG")
        orientation = orientation_of(opened.info.get("exif"))  # Pillow puts that of the boxes there
        bits = _depth(head)
        if bits == 8:
            opened.load()
            image = to_rgb(opened)
            image.info.clear()  # nothing may turn it a second time
            return upright(image, orientation)
    import imagecodecs

    return upright(image_of(to_8_bits(np.asarray(imagecodecs.avif_decode(data)), bits)), orientation)


def _depth(head: bytes) -> int:
    coding = head.find(b"av1C")
    flags = head[coding + 6] if 0 <= coding < len(head) - 6 else 0
    if not flags & _IS_DEEP:
        return 8
    return 12 if flags & _HAS_12_BITS else 10
