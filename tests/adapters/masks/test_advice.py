"""The advice of each refusal of masks, their layouts and their tables is followed, and they are then read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from tests.adapters.masks.test_file import (
    FRAME,
    HEIGHT,
    LABELS,
    SHAPE,
    WIDTH,
    labels_in,
    saved,
    shape_in,
    tiff,
    with_orientation,
)

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.masks.colours import read_colours, table_of
from lensmount_adapters.masks.file import Frame, read_mask
from lensmount_adapters.masks.folder import read_mask_folder
from lensmount_adapters.masks.index import select
from lensmount_adapters.masks.lists import read_lists
from lensmount_adapters.masks.pairs import find_pairs
from lensmount_adapters.masks.tiff import tiff_values

WHITE = SHAPE.astype(np.uint8) * 255
GREY = saved(WHITE)
FLOATS = SHAPE.astype(np.float32)
NOISE = np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH)).astype(np.uint8)


def with_pages(count: int) -> bytes:
    return tiff(np.stack([WHITE] * count))


# what is refused, words of its advice, and the one object as the advice saves it
OBJECTS: dict[str, tuple[bytes, str, bytes]] = {
    "an empty file": (b"", "Fix: export it again", GREY),
    "text": (b"0 0.5 0.5 0.1 0.2\n" * 9, "Fix: export it as a grey PNG", GREY),
    "a damaged file": (GREY[:60], "Fix: ", GREY),
    "a damaged BMP": (saved(WHITE, "BMP")[:900], "Fix: export it again, as a grey PNG", GREY),
    "several pages": (
        with_pages(3),
        "Fix: save the page that is the mask as a file of its own",
        tiff(WHITE),
    ),
    "CMYK": (saved(Image.new("CMYK", (WIDTH, HEIGHT)), "TIFF"), "Fix: save it as a grey PNG", GREY),
    "16 bits in colour": (
        tiff(np.stack([WHITE.astype(np.uint16)] * 3, -1), photometric="rgb"),
        "Fix: save one channel, as a grey 8-bit or 16-bit PNG",
        saved(WHITE.astype(np.uint16) * 257),
    ),
    "many channels": (
        tiff(np.stack([WHITE] * 5, -1), planarconfig="contig"),
        "Fix: save one channel, as a grey PNG",
        GREY,
    ),
    "transparency": (
        saved(Image.merge("LA", [Image.fromarray(WHITE)] * 2)),
        "Fix: save the object as white (255) on black (0), without transparency",
        GREY,
    ),
    "white is zero": (
        tiff(255 - WHITE, photometric="miniswhite"),
        "Fix: save it as a grey PNG in which the background is black (0)",
        GREY,
    ),
    "complex numbers": (tiff(SHAPE.astype(np.complex64)), "Fix: save a grey PNG", GREY),
    "a TIFF of 64 bits that is cut": (tiff(SHAPE.astype(np.int64))[:-900], "Fix: ", GREY),
    "no numbers": (tiff(np.where(SHAPE, np.nan, 0)), "Fix: replace them by 0", tiff(FLOATS)),
    "an overshoot": (
        tiff(np.where(SHAPE, 1.1, -0.1)),
        "Fix: cut them off with numpy's values.clip(0, 1)",
        tiff(np.where(SHAPE, 1.1, -0.1).clip(0, 1)),
    ),
    "negative values": (tiff(SHAPE.astype(np.int16) - 1), "Fix: replace negative values by 0", tiff(WHITE)),
    "fractions": (
        tiff(np.where(SHAPE, 2.5, 0)),
        "Fix: save whole numbers, with 0 as background",
        tiff(np.where(SHAPE, 2.0, 0)),
    ),
    "greys in a JPEG": (saved(NOISE, "JPEG"), "Fix: export it as PNG", GREY),
    "slopes": (
        saved((NOISE // 2 + 60).astype(np.uint8)),
        "Fix: save the object as 255 and the rest as 0",
        GREY,
    ),
    "another size": (saved(WHITE.T.copy()), "Fix: export the mask in the size of its image", GREY),
    "too many pixels": (
        saved(Image.new("1", (20_000, 4))),
        "Fix: scale the image and its mask down",
        GREY,
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_a_mask_that_is_saved_as_advised_is_the_object(name: str) -> None:
    data, words, mended = OBJECTS[name]
    with pytest.raises(DatasetError) as caught:
        read_mask(data, FRAME, 1)
    assert words in str(caught.value)

    assert np.array_equal(shape_in(mended), SHAPE)


LABELLED: dict[str, tuple[bytes, str, bytes]] = {
    "a JPEG": (saved(LABELS * 100, "JPEG"), "Fix: export the masks as PNG", saved(LABELS)),
    "colours": (
        saved(np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[LABELS]),
        "Fix: save a grey PNG in which 0 is background and value i is the i-th label",
        saved(LABELS),
    ),
    "numbers without a label": (
        saved(np.choose(LABELS, [0, 1, 7]).astype(np.uint8)),
        "or replace each by the number of its label",
        saved(LABELS),
    ),
}


@pytest.mark.parametrize("name", LABELLED)
def test_masks_of_two_labels_that_are_saved_as_advised_are_those_labels(name: str) -> None:
    data, words, mended = LABELLED[name]
    with pytest.raises(DatasetError) as caught:
        read_mask(data, FRAME, 2)
    assert words in str(caught.value)

    assert np.array_equal(labels_in(mended), LABELS)


def test_the_numbers_of_instances_are_one_label_as_advised() -> None:
    with pytest.raises(DatasetError, match="Fix: if these are the numbers of instances, give one label"):
        read_mask(saved(LABELS * 9), FRAME, 2)

    assert np.array_equal(shape_in(saved(LABELS * 9)), LABELS > 0)


def test_a_mask_that_fits_both_ways_is_read_when_the_image_is_saved_without_exif() -> None:
    square = np.zeros((24, 24), np.uint8)
    square[2:6, 3:20] = 255
    with pytest.raises(DatasetError, match="otherwise save the image without EXIF"):
        read_mask(saved(square), Frame((24, 24), 6), 1)

    assert np.array_equal(read_mask(saved(square), Frame((24, 24), 1), 1).labels[0], square > 0)
    image = Image.open(io.BytesIO(with_orientation(Image.fromarray(square), 6, "PNG")))
    upright = ImageOps.exif_transpose(image)
    assert np.array_equal(read_mask(saved(upright), Frame(upright.size, 1), 1).labels[0], np.rot90(square, -1) > 0)


def test_the_pages_or_channels_of_a_file_are_joined_when_they_are_files_of_a_folder_named_after_the_image(
    tmp_path: Path,
) -> None:
    first, second = SHAPE & (np.arange(WIDTH) < 10), SHAPE & (np.arange(WIDTH) >= 10)
    for words, data in (
        ("If each page is one object", tiff(np.stack([first, second]).astype(np.uint8))),
        (
            "if each channel is one object",
            tiff(np.stack([first, second], -1).astype(np.uint8), planarconfig="contig"),
        ),
    ):
        with pytest.raises(DatasetError, match=f"{words}.*folder named after the image: its masks are joined"):
            read_mask(data, FRAME, 1)
    root = tmp_path / "d"
    (root / "images").mkdir(parents=True)
    (root / "masks" / "0").mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images" / "0.png")
    for number, part in enumerate((first, second)):
        Image.fromarray(part.astype(np.uint8)).save(root / "masks" / "0" / f"{number}.png")

    folder = read_mask_folder(root, ("cell",))
    assert np.array_equal(folder.masks(folder.samples[0], (WIDTH, HEIGHT))[0], SHAPE)


def test_a_tiff_whose_pixels_are_too_many_is_read_when_it_is_scaled_down() -> None:
    with pytest.raises(DatasetError, match="Fix: scale the image and its mask down"):
        tiff_values(tiff(np.zeros((1, 20_000), np.int64)), ImageLimits())

    assert tiff_values(tiff(np.zeros((1, 10_000), np.int64)), ImageLimits())[0].shape == (1, 10_000)


def moved(old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda files: [name.replace(old, new, 1) if name.startswith(old) else name for name in files]


def without(start: str) -> Callable[[list[str]], list[str]]:
    return lambda files: [name for name in files if not name.startswith(start)]


# files, words of the advice, and the files that it leads to
LAYOUTS: dict[str, tuple[list[str], str, Callable[[list[str]], list[str]]]] = {
    "class folders": (
        ["cats/0.png", "dogs/0.png"],
        "Fix: put the images into images/",
        lambda files: ["images/0.png", "masks/0.png"],
    ),
    "no masks": (["images/0.png"], "Fix: put the mask of each image", lambda files: [*files, "masks/0.png"]),
    "NumPy masks": (["images/0.png", "masks/0.npy"], "as a PNG", moved("masks/0.npy", "masks/0.png")),
    "two folders of masks": (
        ["images/0.png", "masks/0.png", "gt/0.png"],
        "expected one of them. Fix: rename",
        moved("gt", "other"),
    ),
    "two sets": (
        [f"{day}/{kind}/{n}.png" for day in ("mon", "tue") for kind in ("images", "masks") for n in "01"],
        "Fix: give d/mon",
        lambda files: [name.removeprefix("mon/") for name in files if name.startswith("mon/")],
    ),
    "train ids": (
        ["leftImg8bit/a_leftImg8bit.png", "gtFine/a_gtFine_labelTrainIds.png"],
        "Fix: use the files that end in _labelIds.png",
        moved("gtFine/a_gtFine_labelTrainIds", "gtFine/a_gtFine_labelIds"),
    ),
    "two images of one mask": (
        ["images/0.jpg", "images/0.png", "masks/0.tif"],
        "Fix: rename one image and give it a mask of its own",
        lambda files: ["images/0.jpg", "images/1.png", "masks/0.tif", "masks/1.tif"],
    ),
    "two masks of one image": (
        ["images/0.png", "masks/0.png", "masks/0.tif"],
        "Fix: remove all but one",
        without("masks/0.tif"),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_of_masks_that_follows_the_advice_gives_pairs(name: str) -> None:
    files, words, mend = LAYOUTS[name]
    with pytest.raises(DatasetError) as caught:
        find_pairs("d", files)
    assert words in str(caught.value)

    found = find_pairs("d", mend(files))
    assert found.pairs
    assert not found.without_mask


# text of the table, words of the advice, and the text as advised
COLOURS: dict[str, tuple[str, str, str, str]] = {
    "columns": ("class_dict.csv", "name,r,g\ncar,1,2\n", "Fix: name the columns so", "name,r,g,b\ncar,1,2,3\n"),
    "a colour": ("class_dict.csv", "name,r,g,b\ncar,1,2,256\n", "Fix: correct it, such as", "name,r,g,b\ncar,1,2,25\n"),
    "one colour twice": (
        "class_dict.csv",
        "name,r,g,b\ncar,1,2,3\nbus,1,2,3\n",
        "Fix: correct one of the rows",
        "name,r,g,b\ncar,1,2,3\nbus,1,2,4\n",
    ),
    "only background": (
        "class_dict.csv",
        "name,r,g,b\nvoid,0,0,0\n",
        "Fix: add a row for each class",
        "name,r,g,b\nvoid,0,0,0\ncar,1,2,3\n",
    ),
    "another label": (
        "class_dict.csv",
        "name,r,g,b\nbus,1,2,3\n",
        "or add the label with its colour",
        "name,r,g,b\nbus,1,2,3\ncar,1,2,4\n",
    ),
    "a line": ("labelmap.txt", "car:red::\n", "such as car:64,0,128::. Fix: write it like this", "car:64,0,128::\n"),
}


@pytest.mark.parametrize("name", COLOURS)
def test_a_table_of_colours_that_follows_the_advice_is_read(name: str) -> None:
    file, text, words, mended = COLOURS[name]
    with pytest.raises(DatasetError) as caught:
        read_colours(file, text.encode(), ("car",))
    assert words in str(caught.value)

    assert 1 in read_colours(file, mended.encode(), ("car",))[0].numbers


def test_of_two_tables_of_colours_one_is_removed_and_of_two_labels_one_that_is_there_is_chosen() -> None:
    with pytest.raises(DatasetError, match="Fix: remove the other"):
        table_of(["class_dict.csv", "labelmap.txt"])
    assert table_of(["labelmap.txt"]) == "labelmap.txt"

    table = b"name,r,g,b\nbus,1,2,3\n"
    with pytest.raises(DatasetError, match=r"expected labels of this table: bus\. Fix: choose labels among them"):
        read_colours("class_dict.csv", table, ("car",))
    assert read_colours("class_dict.csv", table, ("bus",))[0].numbers.tolist() == [1]


IMAGES = ["images/0.png", "images/1.png"]
INDEX: dict[str, tuple[bytes, str, bytes]] = {
    "no rows": (b"", "Fix: write a header and a row for each image", b"file,kind\n0.png,red\n"),
    "another column": (
        b"a,kind\n0.png,red\n",
        "Fix: name the column of file names file in the first row",
        b"file,kind\n0.png,red\n",
    ),
    "a column twice": (
        b"file,kind,kind\n0.png,red,blue\n",
        "the column kind twice",
        b"file,kind,old\n0.png,red,blue\n",
    ),
    "two values": (
        b"file,kind\n0.png,red\n0.png,blue\n",
        "Fix: keep one of the rows",
        b"file,kind\n0.png,red\n",
    ),
    "other names": (
        b"file,kind\n9.png,red\n",
        "or correct names such as '9.png'",
        b"file,kind\n0.png,red\n",
    ),
    "a short row": (b"file,kind\n0.png\n", "Fix: ", b"file,kind\n0.png,red\n"),
}


@pytest.mark.parametrize("name", INDEX)
def test_an_index_that_follows_the_advice_selects_images(name: str) -> None:
    data, words, mended = INDEX[name]
    with pytest.raises(DatasetError) as caught:
        select("index.csv", data, IMAGES, "kind=red")
    assert words in str(caught.value)

    assert select("index.csv", mended, IMAGES, "kind=red")[0] == {"images/0.png"}


def test_another_value_of_the_index_is_chosen_and_a_name_of_two_images_is_written_as_its_path() -> None:
    with pytest.raises(DatasetError, match=r"kind: blue\. Fix: choose one of them"):
        select("index.csv", b"file,kind\n0.png,blue\n", IMAGES, "kind=red")
    assert select("index.csv", b"file,kind\n0.png,blue\n", IMAGES, "kind=blue")[0] == {"images/0.png"}

    two = ["a/0.png", "b/0.png"]
    with pytest.raises(DatasetError, match="Fix: write its path"):
        select("index.csv", b"file,kind\n0.png,red\n", two, "kind=red")
    assert select("index.csv", b"file,kind\na/0.png,red\n", two, "kind=red")[0] == {"a/0.png"}
    with pytest.raises(DatasetError, match="Fix: write its path"):
        read_lists("d", ["train.txt"], lambda _: b"0\n", two)
    assert read_lists("d", ["train.txt"], lambda _: b"a/0\n", two)[0] == {"a/0.png": "train"}


def test_a_dataset_of_masks_that_follows_the_advice_is_read(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with pytest.raises(DatasetError, match="Fix: check the path"):
        read_mask_folder(root, ("cell",))
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
        Image.fromarray(WHITE).save(root / folder / "0.png")
    assert len(read_mask_folder(root, ("cell",))) == 1

    with pytest.raises(DatasetError, match=r"expected COLUMN=VALUE.*Fix: give a column of index\.csv"):
        read_mask_folder(root, ("cell",), "red")
    with pytest.raises(DatasetError, match=r"Fix: save the table of the images as index\.csv"):
        read_mask_folder(root, ("cell",), "kind=red")
    (root / "index.csv").write_text("file,kind\n0.png,red\n")
    assert len(read_mask_folder(root, ("cell",), "kind=red")) == 1

    Image.fromarray(WHITE).save(root / "images" / "1.png")
    with pytest.raises(DatasetError, match="or take the image out of the dataset"):
        read_mask_folder(root, ("cell",))
    (root / "images" / "1.png").unlink()
    assert len(read_mask_folder(root, ("cell",))) == 1
