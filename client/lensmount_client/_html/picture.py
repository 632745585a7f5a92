"""An image inside a page: its own bytes or, if Pillow is installed, a small copy of it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from lensmount_client._html.markup import line, text

SIDE = 224  # pixels of a small copy, and the widest that an image is shown
LARGEST_BYTES = 500_000  # of an image that is put into a notebook as it is
SHOWN_BY_BROWSERS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}


@dataclass(frozen=True)
class Picture:
    """What an `<img>` shows: a data URI. Nothing is fetched."""

    uri: str

    def markup(self, alt: str) -> str:
        style = f"max-width:{SIDE}px;max-height:{SIDE}px;display:block"
        return f'<img src="{self.uri}" alt="{text(alt)}" style="{style}">'


def picture_of(content: bytes) -> Picture | None:
    """The image to show, or None for one that neither Pillow nor a browser shows, or that is too large to embed."""
    small = _small_copy(content)
    if small is not None:
        return Picture(_uri("image/png", small))
    kind = _kind_of(content)
    return Picture(_uri(kind, content)) if kind and len(content) <= LARGEST_BYTES else None


def shown(content: bytes, alt: str) -> str:
    """The image as markup, or one line that says why there is none. Empty without an image."""
    if not content:
        return ""
    picture = picture_of(content)
    return line("no preview of this image") if picture is None else picture.markup(alt)


def _small_copy(content: bytes) -> bytes | None:
    """A PNG of at most SIDE pixels a side, turned as its file says. Never raises: it is only a preview."""
    try:
        from PIL import Image, ImageOps

        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded at a fraction of its size
            image = ImageOps.exif_transpose(opened)
            image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
            image.thumbnail((SIDE, SIDE))
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
    except Exception:  # Pillow is missing, or raises anything on odd bytes
        return None
    return buffer.getvalue()


def _kind_of(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in SHOWN_BY_BROWSERS.items() if content.startswith(start)), None)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
