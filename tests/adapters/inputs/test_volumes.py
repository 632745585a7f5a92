"""From the bytes of a volume to the backbone's input: equal voxels from every format, and errors for other data."""

from __future__ import annotations

import gzip
import io
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lensmount_adapters.errors import ImageError, VolumeInvalid, VolumeTooLarge, VolumeUnsupported
from lensmount_adapters.inputs.rules import (
    IntensityPercentiles,
    IntensityRange,
    VolumePreprocessing,
)
from lensmount_adapters.inputs.volumes import VolumeLimits, decode_volume, preprocess_volume, window_volume

nibabel: Any = pytest.importorskip("nibabel", reason="the extra 'volumes' is not installed")
tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")

VOXELS = np.random.default_rng(0).integers(-500, 1500, (5, 24, 20)).astype(np.int16)  # [slices, height, width]
HALVES: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def npy(voxels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, voxels)
    return file.getvalue()


def tiff(voxels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, voxels, photometric=options.pop("photometric", "minisblack"), **options)
    return file.getvalue()


def nifti(voxels: np.ndarray, affine: np.ndarray | None = None, kind: Any = None) -> bytes:
    """A file of [slices, height, width], in the orientation RAS+ unless the affine says otherwise."""
    kind = kind or nibabel.Nifti1Image
    image = kind(voxels.transpose(2, 1, 0), np.eye(4) if affine is None else affine, dtype=voxels.dtype)
    return bytes(image.to_bytes())


EVERY_FORMAT: dict[str, Callable[[np.ndarray], bytes]] = {
    "npy": npy,
    "npy in Fortran's order": lambda x: npy(np.asfortranarray(x)),
    "npy, big-endian": lambda x: npy(x.astype(">i2")),
    "TIFF": tiff,
    "TIFF, deflate": lambda x: tiff(x, compression="zlib"),
    "BigTIFF, big-endian, in tiles": lambda x: tiff(x, bigtiff=True, byteorder=">", tile=(16, 16)),
    "NIfTI-1": nifti,
    "NIfTI-1, gzip": lambda x: gzip.compress(nifti(x)),
    "NIfTI-2": lambda x: nifti(x, kind=nibabel.Nifti2Image),
}


@pytest.mark.parametrize("form", EVERY_FORMAT)
def test_the_same_voxels_come_from_every_format(form: str) -> None:
    found = decode_volume(EVERY_FORMAT[form](VOXELS))

    assert found.dtype == np.float32
    assert np.array_equal(found, VOXELS)


def test_colour_keeps_its_three_channels() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (4, 18, 22, 3)).astype(np.uint8)

    for data in (npy(colour), tiff(colour, photometric="rgb")):
        assert np.array_equal(decode_volume(data), colour)


def test_a_nifti_volume_of_any_orientation_is_turned_to_ras_and_slices_come_first() -> None:
    """The expected voxel is looked up through the affine, by world coordinates."""
    stored = np.arange(3 * 18 * 20, dtype=np.float32).reshape(18, 3, 20)  # axes: to the back, down, to the left
    affine = np.array([[0, 0, -1, 19], [-1, 0, 0, 17], [0, -1, 0, 2], [0, 0, 0, 1]], float)

    found = decode_volume(bytes(nibabel.Nifti1Image(stored, affine).to_bytes()))

    assert found.shape == (3, 18, 20)
    for x, y, z in [(0, 0, 0), (19, 0, 2), (4, 17, 1), (7, 9, 2)]:  # to the right, to the front, up
        i, j, k = (np.linalg.inv(affine) @ (x, y, z, 1)).round().astype(int)[:3]
        assert found[z, y, x] == stored[i, j, k]


def test_the_scale_of_a_nifti_header_is_applied() -> None:
    image = nibabel.Nifti1Image(VOXELS.transpose(2, 1, 0), np.eye(4))
    image.header.set_slope_inter(0.5, -100)

    found = decode_volume(bytes(image.to_bytes()))

    assert np.array_equal(found, VOXELS * 0.5 - 100)


RULE = VolumePreprocessing(depth=8, size=(16, 32), window=IntensityRange(lower=-400, upper=1400), **HALVES)


def by_pillow(voxels: np.ndarray, rule: VolumePreprocessing) -> np.ndarray:
    """The same by Pillow in float, first slice by slice and then along the depth, in [0, 1]."""
    window = rule.window
    low, high = (
        (window.lower, window.upper)
        if isinstance(window, IntensityRange)
        else np.percentile(voxels.astype(np.float64), (window.lower, window.upper))
    )
    x = ((voxels.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)

    def scaled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))

    slices = np.stack([scaled(pixels, *rule.size) for pixels in x])  # [D, H, W]
    return np.stack([scaled(slices[:, row], rule.depth, rule.size[1]) for row in range(rule.size[0])], axis=1)


@pytest.mark.parametrize("depth", [8, 5, 3])
@pytest.mark.parametrize("window", [RULE.window, IntensityPercentiles(lower=2, upper=97)])
def test_the_window_and_both_resamplings_match_pillow(
    depth: int, window: IntensityRange | IntensityPercentiles
) -> None:
    rule = RULE.model_copy(update={"depth": depth, "window": window})

    found = window_volume(decode_volume(npy(VOXELS)), rule)

    assert found.shape == (1, depth, 16, 32)
    np.testing.assert_allclose(found[0], by_pillow(VOXELS, rule), atol=1e-5)
    x = preprocess_volume(decode_volume(npy(VOXELS)), rule)
    torch.testing.assert_close(x, ((found - 0.5) / 0.5).expand(3, -1, -1, -1))


def test_the_middle_slices_are_taken_and_missing_ones_are_zero() -> None:
    voxels = np.broadcast_to(np.arange(5.0)[:, None, None], (5, 16, 16))

    def levels(depth: int) -> list[float]:
        window = IntensityRange(lower=-1, upper=4)
        rule = VolumePreprocessing(depth=depth, size=(16, 16), depth_resize="crop", window=window, **HALVES)
        found: list[float] = (window_volume(decode_volume(npy(voxels)), rule)[0, :, 0, 0] * 5 - 1).round().tolist()
        return found

    assert levels(3) == [1, 2, 3]
    assert levels(8) == [-1, 0, 1, 2, 3, 4, -1, -1]


def with_dims(*dims: int) -> bytes:
    """A NIfTI header that claims this shape."""
    data = bytearray(nifti(VOXELS))
    struct.pack_into(f"<{len(dims) + 1}h", data, 40, len(dims), *dims)
    return bytes(data)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "PNG")
    return file.getvalue()


def claiming(shape: tuple[int, ...], dtype: Any = np.int16) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + bytes(64)


NOT_FINITE = np.where(VOXELS.max() == VOXELS, np.nan, VOXELS.astype(np.float32))
BAD: dict[str, tuple[bytes, type[ImageError], str]] = {
    "nothing": (b"", VolumeInvalid, "volume_empty"),
    "text": (b"hello, world", VolumeUnsupported, "unsupported_volume_format"),
    "a PNG": (png(), VolumeUnsupported, "unsupported_volume_format"),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), VolumeUnsupported, "unsupported_volume_format"),
    "gzip of text": (gzip.compress(b"hello" * 400), VolumeUnsupported, "unsupported_volume_format"),
    "a TIFF of one page": (tiff(VOXELS[0]), VolumeUnsupported, "unsupported_volume_format"),
    "NaN in npy": (npy(NOT_FINITE), VolumeInvalid, "volume_invalid"),
    "NaN in NIfTI": (nifti(NOT_FINITE), VolumeInvalid, "volume_invalid"),
    "numbers that overflow": (npy(np.full((3, 16, 16), 1e300)), VolumeInvalid, "volume_invalid"),
    "complex in npy": (npy(VOXELS.astype(np.complex64)), VolumeInvalid, "volume_invalid"),
    "complex in NIfTI": (nifti(VOXELS.astype(np.complex64)), VolumeInvalid, "volume_invalid"),
    "text in npy": (npy(VOXELS.astype("U4")), VolumeInvalid, "volume_invalid"),
    "an image in npy": (npy(np.zeros((20, 20, 3), np.uint8)), VolumeInvalid, "volume_invalid"),
    "two dimensions": (npy(VOXELS[0]), VolumeInvalid, "volume_invalid"),
    "no slice": (npy(VOXELS[:0]), VolumeInvalid, "volume_invalid"),
    "npy that claims more than there is": (claiming((50, 64, 64)), VolumeInvalid, "volume_truncated"),
    "npy that claims far too much": (claiming((4000, 16000, 16000)), VolumeTooLarge, "volume_too_large"),
    "npy that claims 2**80": (claiming((2**40, 2**40, 16)), VolumeTooLarge, "volume_too_large"),
    "npy of objects": (claiming((5, 24, 20), object), VolumeInvalid, "volume_invalid"),
    "NIfTI that claims far too much": (with_dims(32000, 32000, 32000), VolumeTooLarge, "volume_too_large"),
    "NIfTI that claims more than there is": (with_dims(20, 24, 50), VolumeInvalid, "volume_truncated"),
    "NIfTI of a negative side": (with_dims(20, -24, 5), VolumeInvalid, "volume_invalid"),
    "NIfTI of four dimensions": (with_dims(20, 6, 4, 5), VolumeInvalid, "volume_invalid"),
    "NIfTI cut short": (nifti(VOXELS)[:-9], VolumeInvalid, "volume_truncated"),
    "gzip cut short": (gzip.compress(nifti(VOXELS))[:-99], VolumeInvalid, "volume_truncated"),
    "npy cut short": (npy(VOXELS)[:-9], VolumeInvalid, "volume_truncated"),
    "TIFF cut short": (tiff(VOXELS)[:-999], VolumeInvalid, "volume_truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_volume_is_refused_with_its_code(name: str) -> None:
    data, error, code = BAD[name]

    with pytest.raises(error) as raised:
        decode_volume(data)

    assert raised.value.code == code
    assert "expected" in str(raised.value) or "Fix" in str(raised.value)


def test_limits_are_those_of_the_caller() -> None:
    for limits in (VolumeLimits(max_volume_bytes=100), VolumeLimits(max_voxels=999), VolumeLimits(max_slices=4)):
        for data in (npy(VOXELS), tiff(VOXELS), nifti(VOXELS)):
            with pytest.raises(VolumeTooLarge):
                decode_volume(data, limits)


def test_a_bomb_is_not_inflated() -> None:
    """A gigabyte of zeros after a header that claims a small volume, and a strip that inflates to too many bytes."""
    import tracemalloc

    bomb = gzip.compress(nifti(VOXELS)) + b"".join(gzip.compress(bytes(2**20)) * 8 for _ in range(128))
    small = tiff(np.zeros((3, 64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    with tifffile.TiffFile(io.BytesIO(small)) as file:
        pages = [(page.dataoffsets[0], page.tags["ImageLength"].valueoffset) for page in file.pages]
    lying = bytearray(small)
    for _, at in pages:
        struct.pack_into("<H", lying, at, 16)  # a quarter of the stored rows

    tracemalloc.start()
    assert np.array_equal(decode_volume(bomb), VOXELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 * 2**20
    with pytest.raises(ImageError):
        decode_volume(bytes(lying))


@pytest.mark.filterwarnings("ignore")  # nibabel and tifffile warn about damaged headers
@pytest.mark.parametrize("form", EVERY_FORMAT)
def test_damaged_files_raise_only_image_errors_and_stay_within_the_limits(form: str) -> None:
    draw, good = random.Random(form), EVERY_FORMAT[form](VOXELS)
    limits = VolumeLimits(max_voxels=10_000)
    for _ in range(150):
        damaged = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(min(len(damaged), 700)) if draw.random() < 0.8 else draw.randrange(len(damaged))
            damaged[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(damaged)) :]
        try:
            found = decode_volume(bytes(damaged), limits)
        except ImageError:
            continue
        assert np.isfinite(found).all()
        assert found.size <= limits.max_voxels
