"""What the bytes of a file are, by their content: the name of the format, in words for messages, and a way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec

PNG, JPEG, WEBP, TIFF, BMP, GIF = "PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"
JPEG2000, AVIF, HEIF, DICOM = "JPEG2000", "AVIF", "HEIF", "DICOM"
FORMATS = (
    *(PNG, JPEG, WEBP, TIFF, BMP, GIF, JPEG2000, AVIF),
    *((HEIF,) if find_spec("pillow_heif") else ()),
    *((DICOM,) if find_spec("pydicom") else ()),
)
"""The names of the formats that this installation reads."""
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".avif", ".heic", ".heif", ".dcm", ".dicom"),
)
EXPECTED = "a PNG, JPEG, WebP, TIFF, BMP, GIF, JPEG 2000, AVIF, HEIC or DICOM image"
_EXPORT = "open it in the program that wrote it and export a PNG or TIFF"
_CONVERT = "convert the file to PNG"


@dataclass(frozen=True, slots=True)
class Format:
    """What a file is: `name` if it is read and None otherwise, and `words` and a `way_out` for messages."""

    name: str | None
    words: str
    way_out: str = _CONVERT


def recognise(data: bytes) -> Format:
    """Say what the bytes are. The file's name plays no part."""
    for recogniser in (_by_magic, _riff, _iso_media, _dicom, _text):
        found = recogniser(data)
        if found is not None:
            return found
    if not data.strip(b"\0"):
        return Format(None, f"{len(data)} zero bytes", "copy the file again, because its content is lost")
    if data[257:262] == b"ustar":
        return Format(None, "a tar archive", "unpack it and send the images")
    return Format(None, "bytes of an unknown format")


_PICTURES = {
    b"\x89PNG\r\n\x1a\n": Format(PNG, "a PNG image"),
    b"\xff\xd8\xff\xf7": Format(None, "a JPEG-LS image"),
    b"\xff\xd8\xff": Format(JPEG, "a JPEG image"),
    b"II*\0\x10\0\0\0CR\x02": Format(None, "a raw photo (Canon CR2)", "export a TIFF or JPEG from your raw converter"),
    b"II*\0": Format(TIFF, "a TIFF image"),
    b"MM\0*": Format(TIFF, "a TIFF image"),
    b"II+\0": Format(TIFF, "a BigTIFF image"),
    b"MM\0+": Format(TIFF, "a BigTIFF image"),
    b"BM": Format(BMP, "a BMP image"),
    b"GIF87a": Format(GIF, "a GIF image"),
    b"GIF89a": Format(GIF, "a GIF image"),
    b"\0\0\0\x0cjP  \r\n\x87\n": Format(JPEG2000, "a JPEG 2000 image"),
    b"\xff\x4f\xff\x51": Format(JPEG2000, "a JPEG 2000 image"),
}
_RAW = "export a TIFF or JPEG from your raw converter"
_UNPACK = "unpack it and send the images one by one, or push the zip as a data set"
_FRAME = "save one frame as PNG, for example with: ffmpeg -i FILE -frames:v 1 frame.png"
_PAGE = "export the page as PNG, for example with: pdftoppm -png -singlefile FILE page"
_VOLUME = "use an adapter on a volume backbone, or send one slice as PNG"
_OTHERS = {
    b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI": (
        "a PNG of an iPhone app (CgBI), which other readers cannot read",
        "convert it to PNG, for example with: pngcrush -revert-iphone-optimizations FILE image.png",
    ),
    b"\x8aMNG": ("an animation (MNG)", "save the one frame that counts as PNG"),
    b"\x8bJNG": ("a JNG image", _CONVERT),
    b"\x89PNG": ("a PNG that was changed by a transfer as text", "copy the file again in binary mode"),
    b"\0\0\0\x0cJXL \r\n\x87\n": ("a JPEG XL image", "convert it to PNG, for example with: djxl FILE image.png"),
    b"\xff\x0a": ("a JPEG XL image", "convert it to PNG, for example with: djxl FILE image.png"),
    b"II\xbc": ("a JPEG XR image", _CONVERT),
    b"IIRO": ("a raw photo (Olympus ORF)", _RAW),
    b"IIRS": ("a raw photo (Olympus ORF)", _RAW),
    b"MMOR": ("a raw photo (Olympus ORF)", _RAW),
    b"IIU\0": ("a raw photo (Panasonic RW2)", _RAW),
    b"FUJIFILMCCD-RAW": ("a raw photo (Fujifilm RAF)", _RAW),
    b"FOVb": ("a raw photo (Sigma X3F)", _RAW),
    b"8BPS": ("a Photoshop file", "save it as PNG or as a flat TIFF"),
    b"gimp xcf": ("a GIMP file", "export it as PNG"),
    b"%PDF": ("a PDF", _PAGE),
    b"%!PS": ("a PostScript file", "convert it to PNG, for example with Ghostscript"),
    b"ZISRAWFILE": ("a Zeiss CZI microscope file", _EXPORT),
    b"\xda\xce\xbe\x0a": ("a Nikon ND2 microscope file", _EXPORT),
    b"\x70\0\0\0": ("a Leica LIF microscope file", _EXPORT),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("a compound file (Olympus OIB, Zeiss ZVI or an old Office file)", _EXPORT),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file (as Imaris, ilastik and MATLAB write)", _EXPORT),
    b"MATLAB 5.0": ("a MATLAB file", "save the array with imwrite(array, 'image.png')"),
    b"SIMPLE  =": ("a FITS file", _EXPORT),
    b"\x93NUMPY": ("a numpy file", "use an adapter on a volume backbone, or send the array itself through the SDK"),
    b"\x80\x04": ("a Python pickle", "send the array itself through the SDK"),
    b"PK\x03\x04": ("a zip file", _UNPACK),
    b"PK\x05\x06": ("an empty zip file", "send an image"),
    b"Rar!": ("a RAR archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"\x1f\x8b": ("a gzip file", "unpack it first"),
    b"BZh": ("a bzip2 file", "unpack it first"),
    b"\xfd7zXZ\0": ("an xz file", "unpack it first"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "unpack it first"),
    b"\0\x05\x16\x07": ("a macOS side file (its name begins with ._)", "send the file of the same name without ._"),
    b"\0\x05\x16\0": ("a macOS side file", "send the image that it belongs to"),
    b"\x1aE\xdf\xa3": ("a video (Matroska or WebM)", _FRAME),
    b"\0\0\x01\xba": ("a video (MPEG)", _FRAME),
    b"\0\0\x01\xb3": ("a video (MPEG)", _FRAME),
    b"FLV\x01": ("a video (FLV)", _FRAME),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ("a video (WMV)", _FRAME),
    b"OggS": ("an Ogg file", _FRAME),
    b"ID3": ("a sound file", "send an image"),
    b"\0\0\x01\0": ("a Windows icon", _CONVERT),
    b"\0\0\x02\0": ("a Windows cursor", _CONVERT),
    b"\x76\x2f\x31\x01": ("an OpenEXR image of floating-point pixels", "choose the range to show and save 8-bit PNG"),
    b"#?RADIANCE": ("a Radiance HDR image of floating-point pixels", "choose the range to show and save 8-bit PNG"),
    b"DDS ": ("a DirectDraw texture (DDS)", _CONVERT),
    b"qoif": ("a QOI image", _CONVERT),
    b"FLIF": ("a FLIF image", _CONVERT),
    b"BPG\xfb": ("a BPG image", _CONVERT),
    b"AT&TFORM": ("a DjVu document", "export the page as PNG"),
    b"\xd7\xcd\xc6\x9a": ("a Windows metafile", _CONVERT),
    b"\x0a\x05\x01": ("a PCX image", _CONVERT),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "fetch the file with: git lfs pull"),
    b"SQLite format 3": ("an SQLite database", "send an image"),
    b"\x7fELF": ("a program", "send an image"),
    b"MZ": ("a Windows program", "send an image"),
}
_NETPBM = re.compile(rb"P[1-7]\s")


def _by_magic(data: bytes) -> Format | None:
    for magic, picture in _PICTURES.items():
        if data.startswith(magic) and data[12:16] != b"CgBI" and (magic != b"BM" or _is_bmp(data)):
            return picture
    for magic, (words, way_out) in _OTHERS.items():
        if data.startswith(magic):
            return Format(None, words, way_out)
    return Format(None, "a Netpbm image (PBM, PGM, PPM)") if _NETPBM.match(data) else None


def _is_bmp(data: bytes) -> bool:
    """BM alone may begin a text; a BMP states the length of its second header, 12 to 124 bytes."""
    return len(data) < 18 or 12 <= int.from_bytes(data[14:18], "little") <= 124


def _riff(data: bytes) -> Format | None:
    if data[:4] != b"RIFF":
        return None
    kinds = {
        b"WEBP": Format(WEBP, "a WebP image"),
        b"AVI ": Format(None, "a video (AVI)", _FRAME),
        b"WAVE": Format(None, "a sound file (WAV)", "send an image"),
    }
    return kinds.get(data[8:12], Format(None, "a RIFF file without an image"))


def _iso_media(data: bytes) -> Format | None:
    """HEIC, AVIF, CR3, MP4 and MOV share one container; its brands tell them apart."""
    if data[4:8] != b"ftyp":
        return Format(None, "a video (QuickTime)", _FRAME) if data[4:8] in (b"moov", b"mdat", b"wide") else None
    length = min(max(int.from_bytes(data[:4], "big"), 16), 256)
    major = data[8:12]
    brands = {data[at : at + 4] for at in (8, *range(16, length, 4))}
    if major == b"crx ":
        return Format(None, "a raw photo (Canon CR3)", _RAW)
    if brands & {b"avif", b"avis"}:
        return Format(AVIF, "an AVIF image")
    if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}:
        return Format(HEIF, "a HEIC photo")
    return Format(None, "a video (MP4 or QuickTime)", _FRAME)


def _dicom(data: bytes) -> Format | None:
    bare = data[:2] in (b"\2\0", b"\x08\0") and data[2:4] in (b"\0\0", b"\1\0", b"\5\0", b"\x08\0", b"\x16\0")
    if data[128:132] == b"DICM" or (bare and (data[4:6] in (b"UL", b"CS", b"UI", b"OB") or data[6:8] == b"\0\0")):
        return Format(DICOM, "a DICOM file")
    return None


def _text(data: bytes) -> Format | None:
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Format(None, "text in UTF-16", "send an image")
    if not head or any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head):
        return None
    lower = head.lower()
    for sign, words, way_out in (
        (b"data:image/", "a data URL, which is text", "decode what follows the comma with base64"),
        (b"<!doctype html", "an HTML page, as servers send it for an error or a login", "download the image itself"),
        (b"<html", "an HTML page, as servers send it for an error or a login", "download the image itself"),
        (b"<svg", "an SVG drawing", "convert it to PNG, for example with: rsvg-convert FILE -o image.png"),
        (b"/9j/", "base64 text of a JPEG", "decode it with base64 before sending"),
        (b"ivborw0kgg", "base64 text of a PNG", "decode it with base64 before sending"),
        (b"{", "JSON text", "send the image's bytes themselves"),
    ):
        if lower.startswith(sign):
            return Format(None, words, way_out)
    if b"<svg" in lower:
        return Format(None, "an SVG drawing", "convert it to PNG, for example with: rsvg-convert FILE -o image.png")
    if lower.startswith(b"<?xml"):
        return Format(None, "an XML file", "send an image")
    return Format(None, "text", "send an image") if max(head) < 127 else None
