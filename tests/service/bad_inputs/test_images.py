"""Images that are not what they claim: each row is refused with its code, or accepted with the right pixels."""

from __future__ import annotations

import base64
import hashlib
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, MakePng

SECRET = "canary-7f3a"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes = b"", *, bits: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def rows_of(count: int, width: int = 64) -> bytes:
    return (b"\0" + bytes(3 * width)) * count


def saved(kind: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **options: Any) -> bytes:
    Image.new(mode, size).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def photo(kind: str = "JPEG", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), kind, **options)
    return buffer.getvalue()


def frames(kind: str, count: int) -> bytes:
    several = [Image.new("RGB", (4, 4), (n % 256, 0, 0)) for n in range(count)]
    several[0].save(buffer := io.BytesIO(), kind, save_all=True, append_images=several[1:])
    return buffer.getvalue()


def cyclic_tiff() -> bytes:
    """A directory of one entry whose successor is itself."""
    entry = struct.pack("<HHII", 256, 4, 1, 16)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)


def float_tiff(value: float) -> bytes:
    Image.fromarray(np.full((16, 16), value, np.float32)).save(buffer := io.BytesIO(), "TIFF")
    return buffer.getvalue()


def text_bomb() -> bytes:
    """A compressed comment of 48 kB that unpacks to 50 MB."""
    return png_of(64, 64, rows_of(64), extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))))


def broken_crc() -> bytes:
    data = bytearray(png_of(64, 64, rows_of(64)))
    data[29] ^= 1  # of the header's checksum
    return bytes(data)


UNSUPPORTED, TRUNCATED, INVALID = "unsupported_image_format", "image_truncated", "image_invalid"
REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "IMG-01 nothing": (lambda: b"", 422, "image_empty"),
    "IMG-02 text": (lambda: SECRET.encode() * 9, 415, UNSUPPORTED),
    "IMG-02 random bytes": (lambda: np.random.default_rng(1).bytes(999), 415, UNSUPPORTED),
    "IMG-04 ICO": (lambda: saved("ICO"), 415, UNSUPPORTED),
    "IMG-04 PPM": (lambda: saved("PPM"), 415, UNSUPPORTED),
    "IMG-04 TGA": (lambda: saved("TGA"), 415, UNSUPPORTED),
    "IMG-04 PDF": (lambda: b"%PDF-1.7\n" + bytes(99), 415, UNSUPPORTED),
    "IMG-04 PSD": (lambda: b"8BPS\0\1" + bytes(99), 415, UNSUPPORTED),
    "IMG-04 FITS": (lambda: b"SIMPLE  =                    T" + bytes(99), 415, UNSUPPORTED),
    "IMG-04 SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, UNSUPPORTED),
    "IMG-05 EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, UNSUPPORTED),
    "IMG-09 a pickle": (lambda: pickle.dumps(np.zeros(9)), 415, UNSUPPORTED),
    "IMG-10 30,000 x 30,000": (lambda: png_of(30_000, 30_000), 413, "image_too_large"),
    "IMG-11 12,000 x 12,000": (lambda: png_of(12_000, 12_000), 413, "image_too_large"),
    "IMG-13 65,535 x 1": (lambda: png_of(65_535, 1, rows_of(1, 65_535)), 413, "image_too_large"),
    "IMG-13 1 x 65,535": (lambda: png_of(1, 65_535, rows_of(65_535, 1)), 413, "image_too_large"),
    "IMG-14 0 x 0": (lambda: png_of(0, 0), 422, INVALID),
    "IMG-14 1 x 0": (lambda: png_of(1, 0), 422, INVALID),
    "IMG-17 300 pages": (lambda: frames("TIFF", 300), 413, "image_too_many_frames"),
    "IMG-27 transparent everywhere": (lambda: saved("PNG", mode="LA"), 422, INVALID),
    "IMG-18 a cyclic TIFF": (cyclic_tiff, 422, TRUNCATED),
    "IMG-21 10 of 64 rows": (lambda: png_of(64, 64, rows_of(10)), 422, TRUNCATED),
    "IMG-24 a bad checksum": (broken_crc, 422, INVALID),
    "IMG-26 NaN": (lambda: float_tiff(np.nan), 422, "unsupported_color_mode"),
    "IMG-26 infinity": (lambda: float_tiff(np.inf), 422, "unsupported_color_mode"),
    **{
        f"IMG-23 a JPEG without its last {cut} bytes": (partial(lambda cut: photo()[:-cut], cut), 422, TRUNCATED)
        for cut in (1, 2, 3, 40, 400)
    },
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_bad_image_is_refused_with_its_code(shared_client: TestClient, refused: Any, row: str) -> None:
    make, status, code = REFUSED[row]
    data = make()

    refused(shared_client, shared_client.post("/predict?adapter=cells", content=data), status, code, secret=SECRET)
    several = [("file", (f"{SECRET}.png", photo("PNG"))), ("file", (f"{SECRET}.png", data))]
    answer = shared_client.post("/predict?adapter=cells", files=several)
    refused(shared_client, answer, status, code, secret=SECRET)


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "IMG-04 GIF": lambda: saved("GIF"),
    "IMG-04 BMP": lambda: saved("BMP"),
    "IMG-06 AVIF": lambda: saved("AVIF"),
    "IMG-07 a JPEG and a ZIP": lambda: photo() + b"PK\x05\x06" + bytes(18),
    "IMG-12 4,000 x 4,000 in one bit": lambda: png_of(4000, 4000, bytes(501 * 4000), bits=1, colour=0),
    "IMG-15 1 x 1": lambda: png_of(1, 1, b"\0abc"),
    "IMG-16 a text that would unpack to 50 MB": text_bomb,
    "IMG-19 10,000 chunks": lambda: png_of(64, 64, rows_of(64), extra=chunk(b"tEXt", b"k\0v") * 10_000),
    "IMG-22 a hundred times as many rows": lambda: png_of(64, 64, rows_of(6400)),
    "IMG-27 CMYK": lambda: saved("JPEG", mode="CMYK"),
    "IMG-27 palette": lambda: saved("PNG", mode="P"),
    "IMG-27 one bit": lambda: saved("PNG", mode="1"),
    "IMG-27 16 bits": lambda: saved("PNG", mode="I;16"),
}


@pytest.mark.parametrize("row", ACCEPTED)
def test_an_odd_image_that_has_one_meaning_is_answered(shared_client: TestClient, row: str) -> None:
    answer = shared_client.post("/predict?adapter=cells", content=ACCEPTED[row]())

    assert answer.status_code == 200, answer.text


def test_img_03_the_bytes_decide_and_not_the_content_type(
    shared_client: TestClient, make_png: MakePng, same_scores: CompareAnswers
) -> None:
    plain = shared_client.post("/predict?adapter=cells", content=make_png())
    lying = shared_client.post("/predict?adapter=cells", content=make_png(), headers={"Content-Type": "image/jpeg"})

    assert same_scores(lying.json(), plain.json())


def test_img_28_all_eight_orientations_of_a_picture_have_one_prediction(
    shared_client: TestClient, same_scores: CompareAnswers
) -> None:
    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.open(io.BytesIO(photo("PNG")))
    first = shared_client.post("/predict?adapter=cells", content=photo("PNG")).json()
    for orientation, transpose in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright.transpose(transpose).save(buffer := io.BytesIO(), "PNG", exif=exif)
        assert same_scores(shared_client.post("/predict?adapter=cells", content=buffer.getvalue()).json(), first)


def test_img_29_what_exif_says_of_a_person_is_in_no_answer(shared_client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = SECRET

    answer = shared_client.post("/predict?adapter=cells", content=photo(exif=exif))

    assert answer.status_code == 200
    assert SECRET not in answer.text + str(answer.headers) + shared_client.get("/metrics").text


def test_img_32_no_field_makes_the_server_fetch_a_url(shared_client: TestClient, refused: Any) -> None:
    for url in ("http://169.254.169.254/", "file:///etc/passwd"):
        form: dict[str, Any] = {"files": {"file": photo()}, "data": {"image_url": url}}
        answer = shared_client.post("/predict?adapter=cells", **form)
        refused(shared_client, answer, 422, "invalid_request", secret=url)


def test_img_33_a_batch_is_neither_empty_nor_larger_than_the_limit(shared_client: TestClient, refused: Any) -> None:
    ends: dict[str, Any] = {"content": b"--B--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=B"}}
    refused(shared_client, shared_client.post("/predict?adapter=cells", **ends), 422, "missing_part")
    many = [("file", b"x")] * 65
    refused(shared_client, shared_client.post("/predict?adapter=cells", files=many), 413, "batch_too_large")


def test_img_08_a_zip_and_a_program_are_no_images(shared_client: TestClient, refused: Any) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("a.png", photo("PNG"))
    refused(shared_client, shared_client.post("/predict?adapter=cells", content=buffer.getvalue()), 415, UNSUPPORTED)
    program = b"MZ" + bytes(126) + b"DICM" + bytes(200)
    answer = shared_client.post("/predict?adapter=cells", content=program)
    assert answer.status_code in (415, 422)


def test_img_31_base64_is_not_an_image(shared_client: TestClient, refused: Any) -> None:
    for data in (base64.b64encode(photo()), b"data:image/jpeg;base64," + base64.b64encode(photo())):
        refused(shared_client, shared_client.post("/predict?adapter=cells", content=data), 415, UNSUPPORTED)


def test_img_20_a_body_over_the_limit_is_refused_with_and_without_its_length(
    shared_client: TestClient, refused: Any
) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        for _ in range(4096):
            read += 2**16
            yield bytes(2**16)

    over = shared_client.get("/limits").json()["max_request_bytes"] + 1
    stated = shared_client.build_request("POST", "/predict?adapter=cells", content=b"x")
    stated.headers["Content-Length"] = str(over)
    refused(shared_client, shared_client.send(stated), 413, "body_too_large")
    refused(shared_client, shared_client.post("/predict?adapter=cells", content=endless()), 413, "body_too_large")


def test_img_25_sixteen_bits_keep_their_order_and_none_is_cut_to_white(shared_client: TestClient) -> None:
    """40,000 of 65,535 is 156 of 255: its scores are those of the image of 8 bits, and not those of white."""

    def scores(pixels: np.ndarray) -> list[float]:
        Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
        answer = shared_client.post("/predict?adapter=cells", content=buffer.getvalue()).json()
        return [prediction["score"] for prediction in sorted(answer["predictions"], key=lambda p: p["label"])]

    wide, narrow, white = (
        scores(np.full((64, 64), value, kind))
        for value, kind in ((40_000, np.uint16), (156, np.uint8), (255, np.uint8))
    )
    assert wide == pytest.approx(narrow, abs=1e-3)
    assert wide != pytest.approx(white, abs=1e-3)


def test_img_30_a_changed_bit_is_noticed_if_the_digest_was_sent(shared_client: TestClient, refused: Any) -> None:
    data = photo("PNG")
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"Content-Digest": f"sha-256=:{digest}:"}

    assert shared_client.post("/predict?adapter=cells", content=data, headers=headers).status_code == 200
    for at in (0, 100, len(data) - 1):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        answer = shared_client.post("/predict?adapter=cells", content=changed, headers=headers)
        refused(shared_client, answer, 422, "digest_mismatch")


@pytest.mark.parametrize("at", range(8))
def test_img_34_one_bad_image_of_eight_refuses_all_of_them(shared_client: TestClient, refused: Any, at: int) -> None:
    files = [("file", (f"{n}.png", photo("PNG")[: 200 if n == at else None])) for n in range(8)]

    answer = shared_client.post("/predict?adapter=cells", files=files)
    refused(shared_client, answer, 422, TRUNCATED)
