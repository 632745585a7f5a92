"""A GIF of one frame is read, and one of several is refused with their number, also if it has a million."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageTooLarge
from lensmount_adapters.inputs.gif import ENOUGH, count_frames


def gif(frames: int, colours: int = 60) -> bytes:
    rng = np.random.default_rng(frames)
    images = [
        Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).quantize(colours) for _ in range(frames)
    ]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], comment=b"hello")
    return buffer.getvalue()


@pytest.mark.parametrize("frames", [1, 2, 5, 30])
@pytest.mark.parametrize("colours", [2, 60, 200])
def test_frames_are_counted_as_pillow_counts_them(frames: int, colours: int) -> None:
    data = gif(frames, colours)
    with Image.open(io.BytesIO(data)) as image:
        assert count_frames(data) == image.n_frames == frames  # type: ignore[attr-defined]  # a GIF has it


def test_one_frame_is_read_and_several_are_refused_with_a_way_out_that_works() -> None:
    data = gif(1)
    with Image.open(io.BytesIO(data)) as image:
        assert decode_image(data).tobytes() == image.convert("RGB").tobytes()
    with pytest.raises(
        ImageTooLarge, match=r"an animated GIF of 5 frames.* Fix: save the one frame that counts as PNG"
    ):
        decode_image(gif(5))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(gif(5))).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).size == (30, 20)


def test_a_transparent_pixel_is_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((2, 3), 0)
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=0)
    found = decode_image(buffer.getvalue())
    assert (found.getpixel((2, 3)), found.getpixel((0, 0))) == ((255, 255, 255), (0, 200, 0))


@pytest.mark.parametrize("transparency", [None, 1])
def test_what_the_frame_does_not_cover_is_white(transparency: int | None) -> None:
    """It is transparent, as browsers show it. Pillow gives it the first colour of the palette."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)).quantize(60)
    buffer = io.BytesIO()
    small.save(buffer, "GIF", **({} if transparency is None else {"transparency": transparency}))
    alone = np.asarray(decode_image(buffer.getvalue()))
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\x2c\0\0\0\0\x1e\0\x14\0")
    data[frame + 1 : frame + 5] = b"\4\0\3\0"
    data[6:10] = b"\x28\0\x19\0"  # a canvas of 40 x 25
    found = np.asarray(decode_image(bytes(data)))
    assert np.array_equal(found[3:23, 4:34], alone)
    assert (np.delete(found, np.s_[3:23], axis=0) == 255).all()
    assert (np.delete(found, np.s_[4:34], axis=1) == 255).all()


def test_a_million_frames_or_blocks_are_refused_at_once() -> None:
    head = b"GIF89a\1\0\1\0\0\0\0"
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\1\0\0"
    start = time.perf_counter()
    with pytest.raises(ImageTooLarge, match=f"{ENOUGH} or more frames"):
        decode_image(head + frame * 1_000_000)
    with pytest.raises(ImageTooLarge):
        decode_image(head + b"\x21\xfe" + b"\1\0" * 8_000_000)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("end", range(0, 60, 3))
def test_a_short_file_has_the_frames_that_began(end: int) -> None:
    assert count_frames(gif(1)[:end]) <= 1
