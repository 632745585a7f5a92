"""The advice of each refusal of an image or a volume is followed, and the file is then read with its pixels."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.adapters.inputs.dicom_by_hand import dicom
from tests.adapters.inputs.test_bmp import bmp
from tests.adapters.inputs.test_jpeg2000 import box, jp2, jpeg2000
from tests.adapters.inputs.test_refused_images import png
from tests.adapters.inputs.test_volumes import claiming, nifti, npy, with_dims
from tests.adapters.inputs.test_volumes import tiff as stack
from tests.adapters.inputs.tiff_by_hand import simple, tags_of, tiff

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.prepare import InputLimits, prepare
from lensmount_adapters.inputs.rules import Preprocessing, VolumePreprocessing
from lensmount_adapters.inputs.volumes import VolumeLimits, decode_volume

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
pydicom: Any = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GREY = PICTURE[..., :1]
FLOATS = PICTURE.astype(np.float32)
BIG_ENDIAN, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
BASELINE = "1.2.840.10008.1.2.4.50"


def saved(kind: str, image: np.ndarray = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, kind, **options)
    return buffer.getvalue()


def with_tag(tag: int, kind: int, *values: int, samples: np.ndarray = PICTURE, photometric: int = 2) -> bytes:
    return simple(samples, 8, photometric, more={tag: (kind, values)})


def strip(data: bytes, compression: int, samples: np.ndarray = PICTURE, photometric: int = 2) -> bytes:
    return tiff(tags_of(samples, 8, photometric, compression), [data])


def of_dicom(stored: int = 8, samples: np.ndarray = GREY[..., 0], **tags: Any) -> bytes:
    return dicom(samples, stored, **tags)


def signed_jpeg2000() -> bytes:
    data = bytearray(jpeg2000(PICTURE, 8, "j2k"))
    for component in range(3):
        data[42 + 3 * component] |= 0x80
    return bytes(data)


def tiles_of_one_pixel() -> bytes:
    data = bytearray(jpeg2000(PICTURE, 8, "j2k"))
    struct.pack_into(">2I", data, 24, 1, 1)
    struct.pack_into(">2I", data, 8, 5000, 5000)
    return bytes(data)


def small_code_blocks() -> bytes:
    data = bytearray(jpeg2000(PICTURE, 8, "j2k"))
    struct.pack_into(">2I", data, 8, 6000, 6000)
    struct.pack_into(">2I", data, 24, 6000, 6000)
    data[data.index(b"\xff\x52") + 10 : data.index(b"\xff\x52") + 12] = b"\0\0"
    return bytes(data)


PNG, TIFF, LZW = saved("PNG"), saved("TIFF"), saved("TIFF", compression="tiff_lzw")
GREY_PNG = saved("PNG", GREY)
JPEG = saved("JPEG", quality=100, subsampling=0)
WEBP = saved("WEBP", lossless=True)
WHOLE = "Fix: send the whole file"
SAVE_PNG = "Fix: save it as PNG"
RGB_OR_GREY = "Fix: save the image as an RGB or grey TIFF, or as PNG"
LZW_OR_PLAIN = "Fix: save it with LZW or without compression"
EXPORT = "Fix: export it from your viewer as PNG"

# what is refused, words of the message with its advice, and the files that the advice leads to
IMAGES: dict[str, tuple[bytes, str, tuple[bytes, ...]]] = {
    "nothing": (b"", "Fix: send the file", (PNG,)),
    "a cut JPEG": (JPEG[:-100], WHOLE, (JPEG,)),
    "a JPEG without a frame": (b"\xff\xd8\xff\xd9", WHOLE, (JPEG,)),
    "a JPEG of a kind that is not read": (JPEG.replace(b"\xff\xc0", b"\xff\xc5"), SAVE_PNG, (PNG,)),
    "a cut PNG": (png(8, 8, bytes(9)), "Fix: send the whole file", (PNG,)),
    "a PNG's header with another checksum": (PNG[:29] + b"....." + PNG[34:], "Fix: send the file again", (PNG,)),
    "a PNG's pixels with another checksum": (PNG[:-16] + b"...." + PNG[-12:], "Fix: send the file again", (PNG,)),
    "a PNG without its palette": (png(8, 8, bytes(72), colour=3), "Fix: save the image again", (PNG,)),
    "an animated PNG": (
        saved("PNG", save_all=True, append_images=[Image.new("RGB", (30, 20))]),
        "Fix: save the one frame that counts as a PNG of its own",
        (PNG,),
    ),
    "a cut WebP": (WEBP[:-50], "Fix: check that the file is complete", (WEBP,)),
    "a cut GIF": (saved("GIF", GREY)[:-300], "Fix: check that the file is complete", (saved("GIF", GREY),)),
    "a cut BMP": (bmp([bytes(92)] * 3, 32, 40, 3, struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)), WHOLE, (saved("BMP"),)),
    "a BMP without its header": (b"BM" + bytes(12) + b"\x28\0\0\0", WHOLE, (saved("BMP"),)),
    "a BMP with another header": (b"BM" + bytes(12) + struct.pack("<I", 24) + bytes(60), SAVE_PNG, (PNG,)),
    "a BMP of 2 bits": (bmp([bytes(8)] * 11, 2), SAVE_PNG, (PNG,)),
    "transparent everywhere": (
        saved("PNG", np.dstack([PICTURE, np.zeros((20, 30), np.uint8)])),
        "Fix: remove the alpha channel and send the image again",
        (PNG,),
    ),
    "a JPEG 2000 image without pixels": (saved("JPEG2000")[:60], WHOLE, (jpeg2000(PICTURE, 8),)),
    "a JPEG 2000 image of many tiles": (tiles_of_one_pixel(), SAVE_PNG, (PNG,)),
    "a JPEG 2000 image of small code-blocks": (small_code_blocks(), SAVE_PNG, (PNG,)),
    "a JPEG 2000 image of L*a*b*": (jp2(PICTURE, 8, 14), SAVE_PNG, (PNG,)),
    "a JPEG 2000 image of channels in another order": (
        jp2(PICTURE, 8, 16, box(b"cdef", struct.pack(">H9H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1))),
        SAVE_PNG,
        (PNG,),
    ),
    "a TIFF that is cut in its header": (TIFF[:6], WHOLE, (TIFF,)),
    "a TIFF whose tags are cut": (TIFF[:4] + struct.pack("<I", len(TIFF) - 40) + TIFF[8:], "Fix: send the", (TIFF,)),
    "a TIFF that is cut": (simple(PICTURE, 8, 2)[:500] + TIFF[:0], "Fix: send the whole file", (TIFF,)),
    "a TIFF without a size": (
        tiff({k: v for k, v in tags_of(PICTURE, 8, 2).items() if k != 256}, [b"x"]),
        "Fix: save the image again",
        (TIFF,),
    ),
    "a TIFF of many strips": (
        simple(PICTURE, 8, 2, more={257: (4, [16_000]), 322: (4, [2]), 323: (4, [1])}),
        "Fix: save it with larger strips",
        (TIFF,),
    ),
    "a TIFF of missing strips": (with_tag(278, 4, 5), "Fix: save the image again, with every strip or tile", (TIFF,)),
    "a TIFF of L*a*b* of the ICC": (with_tag(262, 3, 9), RGB_OR_GREY, (TIFF, PNG)),
    "a TIFF of two channels": (simple(PICTURE[..., :2], 8, 1), "Fix: save the channels that should", (GREY_PNG,)),
    "a TIFF of a short palette": (
        simple(GREY, 8, 3, more={320: (3, [0] * 9)}),
        RGB_OR_GREY,
        (saved("TIFF", GREY), GREY_PNG),
    ),
    "a TIFF of subsampled YCbCr": (with_tag(530, 3, 2, 2, photometric=6), RGB_OR_GREY, (TIFF, PNG)),
    "a TIFF of YCbCr with its own coefficients": (
        simple(PICTURE, 8, 6, more={529: (5, [1, 3, 1, 3, 1, 3]), 530: (3, [1, 1])}),
        RGB_OR_GREY,
        (TIFF, PNG),
    ),
    "a TIFF of other inks": (
        simple(np.dstack([PICTURE, GREY]), 8, 5, more={332: (3, [2])}),
        RGB_OR_GREY,
        (TIFF, PNG),
    ),
    "a TIFF of another compression": (strip(PICTURE.tobytes(), 34_887), LZW_OR_PLAIN, (LZW, TIFF)),
    "a TIFF with a predictor and without compression": (with_tag(317, 3, 2), LZW_OR_PLAIN, (LZW, TIFF)),
    "a TIFF of 12 bits with a predictor": (
        simple(PICTURE, 12, 2, compression=8, more={317: (3, [2])}),
        LZW_OR_PLAIN,
        (LZW, TIFF),
    ),
    "a TIFF whose strip is too short": (strip(zlib.compress(bytes(99)), 8), WHOLE, (TIFF,)),
    "a TIFF with a JPEG of another size": (strip(JPEG, 7, PICTURE[:5, :5]), LZW_OR_PLAIN, (LZW, TIFF)),
    "a TIFF with a WebP of another size": (strip(WEBP, 50_001, np.tile(PICTURE, (2, 2, 1))), LZW_OR_PLAIN, (LZW, TIFF)),
    "a TIFF with JPEG 2000 of another depth": (
        strip(jpeg2000(np.full((20, 30), 900, np.uint16), 12, "j2k"), 34_712, GREY, 1),
        LZW_OR_PLAIN,
        (saved("TIFF", GREY, compression="tiff_lzw"), saved("TIFF", GREY)),
    ),
    "a TIFF of fax data of 8 bits": (strip(bytes(99), 4, GREY, 1), LZW_OR_PLAIN, (saved("TIFF", GREY),)),
    "a raw photo": (
        with_tag(50_706, 1, 1, 4, 0, 0),
        "Fix: export a TIFF or JPEG from your raw converter",
        (TIFF,),
    ),
    "a DICOM file of deflated tags": (
        of_dicom().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"),
        EXPORT,
        (GREY_PNG,),
    ),
    "a DICOM file of 32 bits": (of_dicom(BitsAllocated=32), EXPORT, (GREY_PNG,)),
    "a DICOM file of another high bit": (of_dicom(HighBit=9), EXPORT, (GREY_PNG,)),
    "a DICOM file of another colour space": (of_dicom(PhotometricInterpretation="HSV"), EXPORT, (GREY_PNG,)),
    "a DICOM file of frames": (
        of_dicom(NumberOfFrames=2),
        "Fix: export the one frame that counts as PNG",
        (GREY_PNG,),
    ),
    "a DICOM file of another size": (of_dicom(Rows=500), WHOLE, (GREY_PNG, of_dicom())),
    "a DICOM file of big-endian bytes": (of_dicom(syntax=BIG_ENDIAN), EXPORT, (GREY_PNG,)),
    "a DICOM file with a JPEG of another size": (
        dicom(GREY[:5, :5, 0], 8, BASELINE, saved("JPEG", GREY)),
        EXPORT,
        (GREY_PNG,),
    ),
    "a DICOM file with a modality table": (
        of_dicom(ModalityLUTSequence=pydicom.sequence.Sequence([pydicom.dataset.Dataset()])),
        EXPORT,
        (GREY_PNG,),
    ),
    "a DICOM file of a segmented palette": (of_dicom(PhotometricInterpretation="PALETTE COLOR"), EXPORT, (GREY_PNG,)),
    "a DICOM file without an image": (
        bytes(128) + b"DICM" + bytes(200),
        "Fix: choose the file of the image",
        (of_dicom(),),
    ),
    "a volume": (b"\x93NUMPY\1\0" + bytes(99), "Fix: use an adapter on a volume backbone, or send", (PNG,)),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_that_is_saved_as_advised_is_read_with_its_pixels(name: str) -> None:
    data, words, mended = IMAGES[name]
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert words in str(caught.value)

    for good in mended:
        found = np.asarray(decode_image(good)).astype(int)
        grey = np.broadcast_to(GREY, found.shape)
        tolerance = 3 if good == JPEG else 0  # of a format that changes noise
        assert min(np.abs(found - PICTURE).max(), np.abs(found - grey).max()) <= tolerance


@pytest.mark.parametrize(
    ("data", "image"),
    [
        (with_tag(258, 3, 8, 8, 4), FLOATS),
        (simple(np.zeros((4, 5), np.uint32), 16, 1, more={258: (3, [32])}), FLOATS),
        (signed_jpeg2000(), PICTURE.astype(np.int16) - 128),
    ],
    ids=["different depths", "32 bits", "signed JPEG 2000"],
)
def test_the_line_of_numpy_in_the_advice_gives_the_whole_range(data: bytes, image: np.ndarray) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)

    shown = eval(str(caught.value).partition("for example ")[2], {"numpy": np, "image": image})
    found = np.asarray(decode_image(saved("PNG", shown)))
    assert (found.min(), found.max()) == (0, 255)


def test_limits_that_are_raised_as_advised_let_the_image_pass_and_so_does_a_smaller_one() -> None:
    small = ImageOps.scale(Image.fromarray(PICTURE), 0.5)
    with pytest.raises(ImageError, match="or raise max_pixels"):
        decode_image(PNG, ImageLimits(max_pixels=599))
    assert decode_image(PNG, ImageLimits(max_pixels=600)).size == (30, 20)
    assert decode_image(saved("PNG", np.asarray(small)), ImageLimits(max_pixels=599)).size == (15, 10)

    with pytest.raises(ImageError, match="Fix: save the image smaller, or raise max_image_bytes"):
        decode_image(PNG, ImageLimits(max_image_bytes=len(PNG) - 1))
    assert decode_image(PNG, ImageLimits(max_image_bytes=len(PNG))).size == (30, 20)

    with pytest.raises(ImageError, match=r"at least 1 x 1\. Fix: save the image again"):
        decode_image(png(0, 5, b""))


SLICES = np.random.default_rng(1).integers(-500, 1500, (5, 24, 20)).astype(np.int16)


def series() -> Any:
    import nibabel

    return nibabel.Nifti1Image(np.stack([SLICES.transpose(2, 1, 0)] * 2, axis=3), np.eye(4), dtype=np.int16)


def of_different_pages() -> bytes:
    import tifffile

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(SLICES[0], photometric="minisblack", metadata=None)
        writer.write(SLICES[1].astype(np.float32), photometric="minisblack", metadata=None)
    return buffer.getvalue()


def bad_start() -> bytes:
    data = bytearray(nifti(SLICES))
    struct.pack_into("<f", data, 108, 5e8)
    return bytes(data)


AS_NPY, AS_NIFTI, AS_TIFF = npy(SLICES), nifti(SLICES), stack(SLICES)
VOLUMES: dict[str, tuple[bytes, str, bytes]] = {
    "nothing": (b"", "Fix: send the file", AS_NPY),
    "an image": (PNG, "Fix: save the slices as one such file", AS_TIFF),
    "NaN": (
        npy(np.where(SLICES.max() == SLICES, np.nan, SLICES)),
        "Fix: replace them, for example with numpy.nan_to_num",
        npy(np.nan_to_num(SLICES.astype(np.float64))),
    ),
    "another version of .npy": (
        AS_NPY[:6] + b"\3\0" + AS_NPY[8:],
        "Fix: write it with numpy.save",
        AS_NPY,
    ),
    "slices last": (
        npy(SLICES.transpose(1, 2, 0)[..., :4]),
        "Fix: put the slices first, for example with numpy.stack(slices)",
        npy(np.stack(list(SLICES))),
    ),
    "no slice": (npy(SLICES[:0]), "Fix: save the volume with its slices", AS_NPY),
    "a huge shape": (claiming((4000, 16000, 16000)), "Fix: scale it down before sending", AS_NPY),
    "complex numbers": (npy(SLICES.astype(np.complex64)), "Fix: save real numbers", npy(SLICES.astype(np.float32))),
    "a cut file": (AS_NPY[:-9], "Fix: send the whole file", AS_NPY),
    "gzip of text": (gzip.compress(b"hello" * 400), "Fix: unpack it, and send a volume", gzip.compress(AS_NIFTI)),
    "a series": (
        series().to_bytes(),
        "for example image.slicer[..., 0] of nibabel",
        series().slicer[..., 0].to_bytes(),
    ),
    "four dimensions": (with_dims(20, 6, 4, 5), "Fix: save one volume of them", AS_NIFTI),
    "voxels in the header": (bad_start(), "Fix: save it again, for example with nibabel", AS_NIFTI),
    "a TIFF of one page": (stack(SLICES[0]), "Fix: save the slices as one file", AS_TIFF),
    "pages of two types": (of_different_pages(), "Fix: save the slices with one shape and type", AS_TIFF),
    "pages in a loop": (
        b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(9),
        "Fix: check that the file is complete",
        AS_TIFF,
    ),
    "white is zero": (
        stack(SLICES.astype(np.uint16), photometric="miniswhite"),
        "Fix: save them so, for example with photometric='minisblack' of tifffile",
        stack(SLICES.astype(np.uint16), photometric="minisblack"),
    ),
    "two channels": (
        stack(np.stack([SLICES] * 2, axis=-1).astype(np.uint8), planarconfig="contig", extrasamples=["unspecified"]),
        "Fix: save one channel, or three as RGB",
        stack(SLICES),
    ),
    "LZW": (
        stack(SLICES, compression="lzw"),
        "Fix: save it without compression",
        AS_TIFF,
    ),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_that_is_saved_as_advised_is_read_with_its_voxels(name: str) -> None:
    data, words, mended = VOLUMES[name]
    with pytest.raises(ImageError) as caught:
        decode_volume(data)
    assert words in str(caught.value)

    voxels = decode_volume(mended)
    assert voxels.shape == SLICES.shape
    if name == "white is zero":
        voxels = voxels.astype(np.uint16).astype(np.int16)
    assert name == "NaN" or np.array_equal(voxels, SLICES)


def test_a_volume_over_a_limit_passes_when_it_is_scaled_down_compressed_or_has_fewer_slices() -> None:
    flat = nifti(np.zeros((5, 24, 20), np.int16))
    with pytest.raises(ImageError, match="Fix: scale the volume down, or save it compressed"):
        decode_volume(flat, VolumeLimits(max_volume_bytes=4000))
    assert decode_volume(gzip.compress(flat), VolumeLimits(max_volume_bytes=4000 + len(flat))).shape == (5, 24, 20)
    assert decode_volume(nifti(SLICES[:, :12, :10]), VolumeLimits(max_volume_bytes=4000)).shape == (5, 12, 10)

    with pytest.raises(ImageError, match="Fix: leave slices out"):
        decode_volume(AS_TIFF, VolumeLimits(max_slices=4))
    assert len(decode_volume(stack(SLICES[:4]), VolumeLimits(max_slices=4))) == 4


def test_an_adapter_for_images_refuses_a_volume_and_takes_one_slice_and_the_other_way_round() -> None:
    rule = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    volume = VolumePreprocessing(depth=4, size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ImageError, match="Fix: use an adapter on a volume backbone, or send one slice as PNG"):
        prepare(AS_NPY, [rule], InputLimits())

    assert prepare(GREY_PNG, [rule]).inputs[rule].shape == (3, 16, 16)
    assert prepare(AS_NPY, [volume]).inputs[volume].shape == (3, 4, 16, 16)
