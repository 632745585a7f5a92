"""Masks in colour are read by the table of colours next to the images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.masks.colours import read_colours, table_of
from lensmount_adapters.masks.file import Frame, read_mask
from lensmount_adapters.masks.folder import read_mask_folder

COLOURS = np.array([[0, 0, 0], [64, 0, 128], [128, 64, 128], [255, 255, 255]], np.uint8)
NAMES = ("void", "car", "road", "line")
VALUES = np.zeros((12, 16), np.uint8)  # indices of COLOURS
VALUES[2:7, 3:9] = 1
VALUES[8:11] = 2
VALUES[9, 4:7] = 3
FRAME = Frame((16, 12), 1)
ROWS = list(zip(NAMES, COLOURS.tolist(), strict=True))
TABLES = {
    "class_dict.csv": "name,r,g,b\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in ROWS),
    "Class_Dict.csv": "\ufeffname;r;g;b;class_11\r" + "".join(f"{name};{r};{g};{b};1\r" for name, (r, g, b) in ROWS),
    "class_dict.CSV": "Label\tColour\n" + "".join(f"{name}\t#{r:02X}{g:02x}{b:02x}\n" for name, (r, g, b) in ROWS),
    "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in ROWS),
    "label_colors.txt": "".join(f"{r} {g} {b}\t\t{name}\n" for name, (r, g, b) in ROWS),
}


def saved(image: Image.Image, suffix: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, suffix)
    return file.getvalue()


def palette() -> Image.Image:
    image = Image.fromarray(3 - VALUES)  # the indices run the other way round than the table
    image.putpalette(COLOURS[::-1].tobytes())
    return image


def drawn(root: Path, mask: bytes, **tables: str) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (16, 12)).save(root / "images" / "0.png")
    (root / "masks" / "0.png").write_bytes(mask)
    for name, text in tables.items():
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("labels", [("car", "road"), ("road", "line", "car"), ("Line",)])
@pytest.mark.parametrize("table", TABLES)
def test_each_label_is_the_pixels_of_its_colour(table: str, labels: tuple[str, ...]) -> None:
    colours, _ = read_colours(table, TABLES[table].encode(), labels)
    expected = np.stack([NAMES.index(label.lower()) == VALUES for label in labels])

    rgb = Image.fromarray(COLOURS[VALUES])
    for image in (rgb, rgb.convert("RGBA"), palette()):
        for suffix in ("PNG", "TIFF"):
            assert np.array_equal(read_mask(saved(image, suffix), FRAME, len(labels), colours).labels, expected)


def test_the_label_mask_alone_is_every_class_but_the_background(tmp_path: Path) -> None:
    root = drawn(
        tmp_path / "d", saved(Image.fromarray(COLOURS[VALUES])), **{"class_dict.csv": TABLES["class_dict.csv"]}
    )

    folder = read_mask_folder(root, ("mask",))

    assert np.array_equal(folder.masks(folder.samples[0], (16, 12)), (VALUES > 0)[None])
    assert folder.notes == ("class_dict.csv has 3 classes (car, road, line), which are read as one label",)
    assert "road, line" in read_mask_folder(root, ("car",)).notes[0]
    before = folder.digest
    (root / "class_dict.csv").write_text(TABLES["class_dict.csv"] + "tree,1,2,3\n")
    assert read_mask_folder(root, ("mask",)).digest != before


def test_grey_masks_are_colours_of_three_equal_channels() -> None:
    colours, _ = read_colours(
        "labelmap.txt", b"background:0,0,0::\ncell:255,255,255::\nwall:128,128,128::\n", ("wall", "cell")
    )
    grey = np.array([0, 128, 255], np.uint8)[VALUES.clip(max=2)]

    found = read_mask(saved(Image.fromarray(grey)), FRAME, 2, colours).labels

    assert np.array_equal(found, np.stack([grey == 128, grey == 255]))


def test_a_colour_that_is_not_in_the_table_is_refused_and_each_advice_works(tmp_path: Path) -> None:
    strange = COLOURS[VALUES].copy()
    strange[0, :5] = (9, 8, 7)
    table = TABLES["class_dict.csv"]
    root = drawn(tmp_path / "d", saved(Image.fromarray(strange)), **{"class_dict.csv": table})
    with pytest.raises(
        DatasetError, match=r"masks/0\.png: found 5 pixels of 1 colour.*such as #090807.*Fix: add these"
    ):
        _car(root)
    (root / "class_dict.csv").write_text(table + "edge,9,8,7\n")
    assert np.array_equal(_car(root), VALUES == 1)
    (root / "masks" / "0.png").write_bytes(saved(Image.fromarray(VALUES)))  # numbers instead of colours
    with pytest.raises(
        DatasetError, match=r"such as #010101.*if their values are the numbers .* remove class_dict\.csv"
    ):
        _car(root)
    (root / "class_dict.csv").unlink()
    assert np.array_equal(_car(root), VALUES > 0)


@pytest.mark.parametrize("name", ["void", "Ignore", "ignored"])
def test_a_colour_called_void_counts_as_nothing_unless_it_is_black(name: str) -> None:
    pixels = Image.fromarray(COLOURS[VALUES])
    colours, _ = read_colours(
        "labelmap.txt", f"car:64,0,128::\nroad:128,64,128::\n{name}:255,255,255::\n".encode(), ("car",)
    )

    mask = read_mask(saved(pixels), FRAME, 1, colours)

    assert np.array_equal(mask.labels[0], VALUES == 1)
    assert mask.ignored is not None
    assert np.array_equal(mask.ignored, VALUES == 3)
    black, _ = read_colours("labelmap.txt", TABLES["labelmap.txt"].encode(), ("car",))  # its void is black
    assert read_mask(saved(pixels), FRAME, 1, black).ignored is None


def _car(root: Path) -> np.ndarray:
    folder = read_mask_folder(root, ("car",))
    return np.asarray(folder.masks(folder.samples[0], (16, 12))[0])


def test_a_mask_in_colour_without_a_table_is_refused_and_the_table_of_the_advice_is_read(tmp_path: Path) -> None:
    root = drawn(tmp_path / "d", saved(Image.fromarray(COLOURS[VALUES])))
    with pytest.raises(DatasetError, match=r"in colour.*or put class_dict\.csv with the columns name, r, g, b next to"):
        _car(root)
    (root / "class_dict.csv").write_text(TABLES["class_dict.csv"])

    assert np.array_equal(_car(root), VALUES == 1)


def test_formats_that_change_colours_and_deeper_values_are_refused() -> None:
    colours, _ = read_colours("labelmap.txt", TABLES["labelmap.txt"].encode(), ("car",))

    with pytest.raises(DatasetError, match=r"found a JPEG, which changes colours.*Fix: export the masks as PNG"):
        read_mask(saved(Image.fromarray(COLOURS[VALUES]), "JPEG"), FRAME, 1, colours)
    with pytest.raises(DatasetError, match=r"found a PNG of uint16 values up to 900.*Fix: remove labelmap\.txt"):
        read_mask(saved(Image.fromarray(VALUES.astype(np.uint16) * 300)), FRAME, 1, colours)
    with pytest.raises(DatasetError, match="transparent in places"):
        read_mask(saved(Image.new("RGBA", (16, 12))), FRAME, 1, colours)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("class_dict.csv", "name,r,g\ncar,1,2\n", "found the columns name, r, g, expected name, r, g, b. Fix: name"),
        ("class_dict.csv", "name,r,g,b\ncar,1,2,256\n", "row 2: found the colour '1,2,256'.*Fix: correct it"),
        ("class_dict.csv", "name,r,g,b\ncar,0.5,0,0\n", "row 2: found the colour '0.5,0,0'"),
        ("class_dict.csv", "name,r,g,b\ncar,1,2,3\nbus,1,2,3\n", "row 3: found the colour #010203 for bus, which car"),
        ("class_dict.csv", "name,r,g,b\nvoid,0,0,0\n", "found no class but the background"),
        ("class_dict.csv", "", "found the columns none"),
        ("class_dict.csv", "name,r,g,b\nbus,1,2,3\n", "no colour for the label car, expected .*: bus. Fix: choose"),
        ("labelmap.txt", "car:red::\n", "row 1: found 'car:red::', expected a name and a colour, such as .*Fix: write"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_name_and_row(name: str, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_colours(name, text.encode(), ("car",))
    assert "Fix: " in str(caught.value)


def test_two_tables_are_refused() -> None:
    assert table_of(["images/0.png", "labelmap.txt"]) == "labelmap.txt"
    assert table_of(["a/labelmap.txt"]) is None
    with pytest.raises(DatasetError, match=r"class_dict\.csv and labelmap\.txt, expected one\. Fix: remove"):
        table_of(["class_dict.csv", "labelmap.txt"])
