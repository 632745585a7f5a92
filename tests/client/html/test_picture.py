"""The image of a notebook: a small copy, or the bytes of a format that browsers show."""

from __future__ import annotations

import base64
import io
import sys

import pytest
from PIL import Image

from lensmount_client._html.picture import LARGEST_BYTES, SIDE, picture_of, shown


def jpeg(size: tuple[int, int], orientation: int = 1) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (9, 99, 9)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_the_copy_is_small_and_turned_as_the_file_says() -> None:
    picture = picture_of(jpeg((640, 320), orientation=6))
    assert picture is not None
    copy = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    assert copy.size == (SIDE // 2, SIDE)


def test_without_pillow_a_browsers_format_is_embedded_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    content = jpeg((8, 8))
    monkeypatch.setitem(sys.modules, "PIL", None)
    picture = picture_of(content)
    assert picture is not None
    assert picture.uri == "data:image/jpeg;base64," + base64.b64encode(content).decode()
    assert picture_of(content + bytes(LARGEST_BYTES)) is None
    assert picture_of(b"RIFF1234WEBPVP8 ") is not None
    assert picture_of(b"<svg/>") is None


def test_an_image_that_cannot_be_shown_says_so_and_none_says_nothing() -> None:
    assert "no preview" in shown(b"II*", "a")
    assert shown(b"", "a") == ""
