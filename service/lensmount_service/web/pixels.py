"""How many pixels an image has by its header, before anything is decoded."""

from __future__ import annotations

import io

from PIL import Image

from lensmount_adapters.inputs import formats


def stated_pixels(data: bytes) -> int:
    """Width times height. For a volume, or a file whose header cannot be read here, the number of bytes."""
    try:
        name = formats.recognise(data).name
        if name is not None:
            with Image.open(io.BytesIO(data), formats=(name,)) as image:
                return image.width * image.height
    except MemoryError:
        raise
    except Exception:  # readers may raise anything on hostile bytes; the decoder says what is wrong with the file
        return len(data)
    return len(data)
