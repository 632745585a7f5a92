"""DICOM files of one frame: the grey that the standard's formulas give, every refusal by name, no patient in words."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest
from tests.adapters.inputs.dicom_by_hand import EXPLICIT, dicom

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge
from lensmount_adapters.inputs.images import without_private_tags

pydicom: Any = pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
ROWS, COLUMNS = 12, 15


def drawn(stored: int, channels: int = 1) -> np.ndarray:
    samples = np.random.default_rng(stored).integers(0, 1 << stored, (ROWS, COLUMNS, channels))
    samples = samples.astype(np.uint8 if stored <= 8 else np.uint16)
    return samples[..., 0] if channels == 1 else samples


def grey(data: bytes) -> np.ndarray:
    found = np.asarray(decode_image(data))
    assert np.array_equal(found[..., 0], found[..., 2])
    return found[..., 0]


@pytest.mark.parametrize("stored", [1, 2, 7, 8, 9, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_without_a_window_the_whole_range_of_the_stored_bits_is_shown(stored: int, photometric: str) -> None:
    samples = drawn(stored)
    rule = np.rint(samples * 255.0 / ((1 << stored) - 1))
    found = grey(dicom(samples, stored, PhotometricInterpretation=photometric))
    assert np.array_equal(found, 255 - rule if photometric == "MONOCHROME1" else rule)


@pytest.mark.parametrize("stored", [8, 12, 16])
def test_signed_samples_begin_at_the_lowest_number(stored: int) -> None:
    samples = drawn(stored)
    half = 1 << (stored - 1)
    values = np.where(samples >= half, samples.astype(int) - 2 * half, samples)
    rule = np.rint((values + half) * 255.0 / (2 * half - 1))
    assert np.array_equal(grey(dicom(samples, stored, PixelRepresentation=1)), rule)


def by_the_standard(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, value by value as the pseudo-code there says."""
    out = np.empty(values.shape)
    exp = np.vectorize(lambda x: np.inf if x > 700 else np.exp(x))
    for place, x in np.ndenumerate(values):
        if function == "SIGMOID":
            y = 255 / (1 + exp(-4 * (x - centre) / width))
        elif function == "LINEAR_EXACT":
            y = 0 if x <= centre - width / 2 else 255 if x > centre + width / 2 else ((x - centre) / width + 0.5) * 255
        elif x <= centre - 0.5 - (width - 1) / 2:
            y = 0
        elif x > centre - 0.5 + (width - 1) / 2:
            y = 255
        else:
            y = ((x - (centre - 0.5)) / (width - 1) + 0.5) * 255
        out[place] = np.floor(y + 0.5)
    return out


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (0.5, 3), (2.5, -100)])
@pytest.mark.parametrize(("centre", "width"), [(40, 400), (1000, 1), (-600, 1500), (2048.5, 4096)])
def test_rescale_and_window_are_those_of_the_standard(
    function: str, slope: float, intercept: float, centre: float, width: float
) -> None:
    samples = drawn(12)
    tags: dict[str, Any] = {
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "WindowCenter": centre,
        "WindowWidth": width,
    }
    data = dicom(samples, 12, VOILUTFunction=function, **tags)
    rule = by_the_standard(samples.astype(float) * slope + intercept, centre, width, function)
    assert np.array_equal(grey(data), rule)
    inverted = dicom(samples, 12, VOILUTFunction=function, PhotometricInterpretation="MONOCHROME1", **tags)
    assert np.array_equal(grey(inverted), 255 - rule)


def test_the_first_of_several_windows_counts() -> None:
    samples = drawn(12)
    both = dicom(samples, 12, WindowCenter=[100, 2000], WindowWidth=[50, 4000])
    assert np.array_equal(grey(both), by_the_standard(samples.astype(float), 100, 50, "LINEAR"))


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_and_ybr_are_shown_in_colour(planar: int) -> None:
    samples = drawn(8, 3)
    data = dicom(samples, 8, PhotometricInterpretation="RGB", PlanarConfiguration=planar)
    assert np.array_equal(np.asarray(decode_image(data)), samples)
    data = dicom(samples, 8, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=planar)
    y, blue, red = (samples[..., i].astype(float) for i in range(3))  # PS3.3 C.7.6.3.1.2, solved for RGB
    rgb = (y + 1.402 * (red - 128), y - 0.344136 * (blue - 128) - 0.714136 * (red - 128), y + 1.772 * (blue - 128))
    found = np.asarray(decode_image(data)).astype(float)
    assert np.abs(found - np.stack(rgb, axis=2).clip(0, 255)).max() <= 1


def test_a_palette_gives_its_colours() -> None:
    samples, colours = drawn(8), np.random.default_rng(9).integers(0, 65_536, (3, 256)).astype("<u2")
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in zip(("Red", "Green", "Blue"), colours, strict=True):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = values.tobytes()
    rule = np.rint(colours[:, samples].transpose(1, 2, 0) * 255.0 / 65_535)
    assert np.array_equal(np.asarray(decode_image(dicom(samples, 8, **tags))), rule)


REFUSED: dict[str, tuple[dict[str, Any], type[ImageError], str]] = {
    "frames": ({"NumberOfFrames": 40}, ImageTooLarge, "a DICOM file of 40 frames, expected one frame. Fix: export"),
    "size": ({"Rows": 30_000, "Columns": 30_000}, ImageTooLarge, "30000 x 30000"),
    "rows": ({"Rows": 500}, ImageInvalid, "found 360 of 15000 bytes of pixels in a DICOM file"),
    "32 bits": ({"BitsAllocated": 32}, ImageInvalid, "a DICOM file of 32-bit samples"),
    "high bit": ({"HighBit": 15}, ImageInvalid, "do not begin at the lowest bit"),
    "colour space": ({"PhotometricInterpretation": "HSV"}, ImageInvalid, "other pixels of 12 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    tags, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        decode_image(dicom(drawn(12), 12, **tags))


def test_nothing_about_the_patient_is_in_an_error_a_warning_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Mutants of a file whose private tags all hold one word. Warnings are errors here, so none is given either."""
    secret = "XyzzySecret"
    tags: dict[str, Any] = {
        "PatientName": secret,
        "PatientID": secret,
        "StudyDescription": secret,
        "WindowWidth": 5,
        "WindowCenter": 2,
    }
    data = dicom(drawn(12), 12, **tags)
    assert secret.encode() in data
    rng = random.Random(0)
    said: list[str] = []
    for _ in range(300):
        mutant = bytearray(data)
        for _ in range(rng.randint(1, 5)):
            mutant[rng.randrange(132, len(mutant))] = rng.randrange(256)
        try:
            decode_image(bytes(mutant[: rng.choice((len(mutant), rng.randrange(140, len(mutant))))]))
        except ImageError as error:
            said += [str(error), repr(error.__cause__), repr(error.__context__)]
    assert len(said) > 150
    assert secret not in "".join((*said, caplog.text))


def test_private_text_in_a_number_is_not_repeated() -> None:
    data = dicom(drawn(12), 12, RescaleSlope="1234.5").replace(b"1234.5", b"Secret")
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert "Secret" not in str(caught.value)


def test_a_file_of_millions_of_tags_is_refused_at_once() -> None:
    private = dicom(drawn(12), 12, syntax=EXPLICIT)
    start = private.index(b"\x28\0\2\0US")
    many = b"\x09\0\x10\x10LO\0\0" * 100_000
    with pytest.raises(ImageTooLarge, match="more than 20000 tags"):
        decode_image(private[:start] + many + private[start:])


def nested(tag: bytes, item: bytes, is_stated: bool) -> bytes:
    """A sequence of one item, its length stated or marked by delimiters."""
    if is_stated:
        item = b"\xfe\xff\0\xe0" + len(item).to_bytes(4, "little") + item
        return tag + b"SQ\0\0" + len(item).to_bytes(4, "little") + item
    item = b"\xfe\xff\0\xe0\xff\xff\xff\xff" + item + b"\xfe\xff\x0d\xe0\0\0\0\0"
    return tag + b"SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"


PASSED_OVER, KEPT = b"\x08\0\x40\x11", b"\x28\0\x10\x30"
TINY = b"\x09\0\x10\x10LO\2\0ab"
HOSTILE = {
    "a million tags in a sequence": nested(PASSED_OVER, TINY * 1_000_000, False),
    "a million tags in a sequence that is kept": nested(KEPT, TINY * 1_000_000, False),
    "a stated million of tags": nested(KEPT, TINY * 1_000_000, True),
    "a million items": PASSED_OVER + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\0\0\0\0" * 1_000_000,
    "100,000 levels": (PASSED_OVER + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff") * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nested_tags_take_neither_time_nor_memory(name: str, grown_mib: Any) -> None:
    plain = dicom(drawn(12), 12, syntax=EXPLICIT)
    start = plain.index(b"\x28\0\2\0US")
    data = plain[:start] + HOSTILE[name] + plain[start:]

    def decode() -> None:
        with pytest.raises(ImageError, match=r"20000 tags|sequence of \d+ bytes|nested too deeply"):
            decode_image(data)

    began = time.perf_counter()
    assert grown_mib(decode) < 60 + len(data) / 2**20
    assert time.perf_counter() - began < 3


def table(entries: np.ndarray, first: int, bits: int) -> Any:
    item = pydicom.dataset.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65_536, first, bits])
    item.add_new("LUTData", "OW", entries.tobytes())
    return pydicom.sequence.Sequence([item])


@pytest.mark.parametrize(
    ("first", "bits", "stored_as"), [(0, 16, "<u2"), (0, 12, "<u2"), (100, 16, "<u2"), (0, 8, "<u2"), (7, 8, "u1")]
)
def test_a_voi_table_maps_each_value(first: int, bits: int, stored_as: str) -> None:
    entries = np.random.default_rng(bits).integers(0, 1 << bits, 3000).astype(stored_as)
    samples = drawn(12)
    places = np.clip(samples.astype(int) - first, 0, len(entries) - 1)
    rule = np.rint(entries[places] * 255.0 / ((1 << bits) - 1))
    for photometric, expected in (("MONOCHROME2", rule), ("MONOCHROME1", 255 - rule)):
        data = dicom(samples, 12, VOILUTSequence=table(entries, first, bits), PhotometricInterpretation=photometric)
        assert np.array_equal(grey(data), expected)


def test_a_short_voi_table_and_a_segmented_palette_are_refused_by_name() -> None:
    short = table(np.zeros(50, "<u2"), 0, 16)
    short[0].LUTDescriptor = [4096, 0, 16]
    with pytest.raises(ImageInvalid, match="found 50 of 4096 entries of 16 bits in a VOI table"):
        decode_image(dicom(drawn(12), 12, VOILUTSequence=short))
    with pytest.raises(ImageInvalid, match="a segmented palette"):
        decode_image(dicom(drawn(8), 8, PhotometricInterpretation="PALETTE COLOR"))


@pytest.mark.parametrize("stored", [9, 10, 12, 14])
@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_the_stored_ones_are_no_part_of_the_sample(stored: int, signed: int) -> None:
    """Overlays were once kept there, and signed samples repeat their sign there."""
    samples = drawn(stored)
    plain = grey(dicom(samples, stored, PixelRepresentation=signed))
    above = (0xFFFF << stored) & 0xFFFF
    assert np.array_equal(grey(dicom(samples | np.uint16(above), stored, PixelRepresentation=signed)), plain)


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_422", "ARGB", "CMYK", "YBR_RCT"])
def test_three_samples_of_another_colour_space_are_refused(photometric: str) -> None:
    with pytest.raises(ImageInvalid, match="Fix: export it from your viewer as PNG"):
        decode_image(dicom(drawn(8, 3), 8, PhotometricInterpretation=photometric))


def test_what_a_data_set_keeps_of_a_file_has_its_pixels_and_nothing_of_the_patient() -> None:
    data = dicom(drawn(12), 12, PatientName="XyzzySecret")
    kept = without_private_tags(data, decode_image(data))
    assert b"Xyzzy" in data
    assert b"Xyzzy" not in kept
    assert decode_image(kept).tobytes() == decode_image(data).tobytes()
    assert without_private_tags(kept, decode_image(kept)) is kept
