"""Folders of images with masks: values become one mask per label, and a mask that does not fit is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.masks.folder import MaskFolder, read_mask_folder
from lensmount_adapters.masks.report import check_masks

VALUES = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)  # [height, width]


def draw(root: Path, *masks: np.ndarray) -> Path:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, values in enumerate(masks):
        Image.fromarray(np.full((2, 3, 3), 40 * number, np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(values).save(root / "masks" / f"{number}.png")
    return root


def masks_of(folder: MaskFolder) -> np.ndarray:
    return folder.masks(folder.samples[0], folder.image(folder.samples[0]).size)


def test_with_several_labels_each_value_is_one_label(tmp_path: Path) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", VALUES), ("cell", "dust"))

    assert masks_of(folder).tolist() == [
        [[False, True, False], [False, False, True]],
        [[False, False, True], [True, False, False]],
    ]


def test_with_one_label_every_value_above_zero_is_that_label(tmp_path: Path) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", VALUES * 100), ("cell",))

    assert masks_of(folder).tolist() == [[[False, True, True], [True, False, True]]]


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (VALUES + 1, ("cell", "dust"), "found the value 3, expected at most 2"),
        (VALUES.T, ("cell",), "found 2 x 3 with 1 channel.*expected one channel of 3 x 2"),
        (np.eye(3, dtype=np.uint8)[VALUES] * 255, ("cell",), "found 3 x 2 with 3 channel.* such as #0000ff, #00ff00"),
    ],
    ids=["a value without a label", "another size", "colour"],
)
def test_a_mask_that_does_not_fit_is_refused_by_name(
    values: np.ndarray, labels: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    folder = read_mask_folder(draw(tmp_path / "d", values), labels)

    with pytest.raises(DatasetError, match=rf"masks/0\.png: {message}"):
        masks_of(folder)


def test_the_index_selects_images_by_a_column(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES, VALUES, VALUES)
    (root / "index.csv").write_text("file,kind\n0.png,red\n1.png,blue\n2.png,red\n")

    folder = read_mask_folder(root, ("cell",), "kind=red")

    assert [sample.image for sample in folder.samples] == ["images/0.png", "images/2.png"]
    with pytest.raises(DatasetError, match="expected COLUMN=VALUE"):
        read_mask_folder(root, ("cell",), "red")


def test_the_digest_changes_with_an_image_and_with_a_mask(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    digests = {read_mask_folder(root, ("cell",)).digest}
    for path in ("images/0.png", "masks/0.png"):
        (root / path).write_bytes((root / path).read_bytes() + b"\0")
        digests.add(read_mask_folder(root, ("cell",)).digest)

    assert len(digests) == 3


def test_a_joined_mask_is_the_union_of_its_files_and_its_digest_covers_each(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    (root / "masks" / "0.png").unlink()
    (root / "masks" / "0").mkdir()
    for value in (1, 2):
        Image.fromarray(np.where(value == VALUES, 255, 0).astype(np.uint8)).save(root / "masks" / "0" / f"{value}.png")
    folder = read_mask_folder(root, ("cell",))

    assert masks_of(folder).tolist() == [(VALUES > 0).tolist()]
    assert folder.samples[0].mask_files == ("masks/0/1.png", "masks/0/2.png")
    (root / "masks" / "0" / "2.png").write_bytes((root / "masks" / "0" / "1.png").read_bytes())
    assert read_mask_folder(root, ("cell",)).digest != folder.digest


def test_a_zip_file_has_the_same_masks_and_digest_as_its_folder(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES, VALUES[::-1].copy())
    (root / "index.csv").write_text("file;kind\n0.png;red\n1.png;blue\n", "utf-16")
    folder = read_mask_folder(root, ("cell", "dust"))
    for top in ("", "top/"):
        with zipfile.ZipFile(tmp_path / "d.zip", "w") as file:
            file.writestr("__MACOSX/._d", b"junk")
            for path in sorted(root.rglob("*.*")):
                file.write(path, top + path.relative_to(root).as_posix())
            file.writestr("__MACOSX/images/._0.png", b"junk")

        zipped = read_mask_folder(tmp_path / "d.zip", ("cell", "dust"))

        assert zipped.digest == folder.digest
        assert masks_of(zipped).tolist() == masks_of(folder).tolist()
        assert len(read_mask_folder(tmp_path / "d.zip", ("cell", "dust"), "kind=red")) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_image_and_mask_are_turned_together(orientation: int, suffix: str, tmp_path: Path) -> None:
    root, exif = draw(tmp_path / "d"), Image.Exif()
    exif[274] = orientation
    mask = np.zeros((32, 32), np.uint8)  # square, so that nothing but the orientation tells how it is shown
    mask[3:9, 5:28] = 255
    pixels = Image.fromarray(mask).convert("RGB")
    pixels.save(root / "images" / f"0.{suffix}", exif=exif)
    Image.fromarray(mask).save(root / "masks" / "0.png", exif=exif)
    folder = read_mask_folder(root, ("cell",))

    shown = np.asarray(folder.image(folder.samples[0]))[..., 0] >= 128
    upright = ImageOps.exif_transpose(Image.open(root / "masks" / "0.png"))
    assert masks_of(folder)[0].tolist() == shown.tolist() == (np.asarray(upright) > 0).tolist()


def test_an_image_without_a_mask_and_a_mask_without_an_image_are_each_named(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES, VALUES)
    (root / "masks" / "1.png").rename(root / "masks" / "2.png")

    with pytest.raises(DatasetError, match=r"no mask for 1\.png, .*Fix: draw it .*no image fits masks/2\.png"):
        read_mask_folder(root, ("cell",))
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(root / "masks" / "1.png")  # the advice: an all-black one
    folder = read_mask_folder(root, ("cell",))
    assert folder.notes == ("1 mask(s) belong to no image and are not used: masks/2.png",)
    assert not folder.masks(folder.samples[1], (3, 2)).any()


def test_a_folder_or_an_index_that_is_not_there_is_refused_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"found no such folder.*Fix: check the path"):
        read_mask_folder(tmp_path / "none", ("cell",))
    root = draw(tmp_path / "d", VALUES)
    (root / "table.csv").write_text("file,kind\n0.png,red\n")
    with pytest.raises(DatasetError, match=r"no readable index.csv.*Fix: save .* \(found table\.csv\)"):
        read_mask_folder(root, ("cell",), "kind=red")
    (root / "table.csv").rename(root / "Index.CSV")
    assert len(read_mask_folder(root, ("cell",), "kind=red")) == 1


@pytest.mark.parametrize("layout", ["{kind}/{part}/{number}.png", "{part}/{kind}/{number}.png"])
def test_parts_that_folders_state_are_taken_as_stated(layout: str, tmp_path: Path) -> None:
    drawn, root = draw(tmp_path / "d", VALUES, VALUES[::-1].copy(), VALUES), tmp_path / "parts"
    for kind in ("images", "masks"):
        for number, part in enumerate(("train", "val", "train")):
            target = root / layout.format(kind=kind, part=part, number=number)
            target.parent.mkdir(parents=True, exist_ok=True)
            (drawn / kind / f"{number}.png").rename(target)

    folder = read_mask_folder(root, ("cell",))

    assert {sample.image[-5]: sample.part for sample in folder.samples} == {
        "0": "train", "1": "validation", "2": "train",
    }  # fmt: skip
    assert folder.notes == ("The parts of the split are taken as stated (train: 2, validation: 1)",)


def test_parts_without_one_to_train_on_are_drawn_again_with_a_note(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES, VALUES)
    for kind in ("images", "masks"):
        for number, part in enumerate(("val", "test")):
            (root / kind / part).mkdir()
            (root / kind / f"{number}.png").rename(root / kind / part / f"{number}.png")

    folder = read_mask_folder(root, ("cell",))

    assert folder.parts() == [None, None]
    assert folder.notes == (
        "The split is drawn at random, because no image is stated for training (validation: 1, test: 1)",
    )


def test_files_of_one_class_each_are_refused_and_the_joined_mask_of_the_advice_is_read(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    for name, value in (("cup", 1), ("disc", 2)):
        Image.fromarray(np.where(value == VALUES, 255, 0).astype(np.uint8)).save(root / "masks" / f"0_{name}.png")
    (root / "masks" / "0.png").unlink()
    with pytest.raises(DatasetError, match=r"no mask for 0\.png.*join them into one mask in which value i is the i-th"):
        read_mask_folder(root, ("cup", "disc"))

    Image.fromarray(VALUES).save(root / "masks" / "0.png")
    assert masks_of(read_mask_folder(root, ("cup", "disc"))).tolist() == [
        (VALUES == 1).tolist(),
        (VALUES == 2).tolist(),
    ]


def test_polygons_are_refused_and_the_drawing_of_the_advice_is_read(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "a.json").write_text(
        '{"shapes": [{"label": "cell", "points": [[4, 4], [20, 4], [20, 15], [4, 15]]}]}'
    )
    with pytest.raises(
        DatasetError, match=r"Polygons in JSON .*Fix|Fix: .*Polygons in JSON files, as LabelMe"
    ) as caught:
        read_mask_folder(tmp_path / "d", ("cell",))
    assert "ImageDraw.Draw(mask).polygon(points, fill=1)" in str(caught.value)

    mask = Image.new("L", (30, 20))
    ImageDraw.Draw(mask).polygon([(4, 4), (20, 4), (20, 15), (4, 15)], fill=1)
    mask.save(tmp_path / "d" / "a_mask.png")
    folder = read_mask_folder(tmp_path / "d", ("cell",))
    assert folder.masks(folder.samples[0], (30, 20)).sum() == 17 * 12


def test_the_voc_border_counts_as_nothing_by_its_value_and_by_a_table(tmp_path: Path) -> None:
    root = draw(tmp_path / "d")
    values = np.kron(np.array([[0, 0, 255, 15, 15]], np.uint8), np.ones((8, 6), np.uint8))
    mask = Image.fromarray(values)
    mask.putpalette([0, 0, 0, *[192, 128, 128] * 254, 224, 224, 192])
    Image.new("RGB", mask.size).save(root / "images" / "0.png")
    mask.save(root / "masks" / "0.png")
    for table in (None, "name,r,g,b\nperson,192,128,128\nvoid,224,224,192\n"):
        if table:
            (root / "class_dict.csv").write_text(table)
        folder = read_mask_folder(root, ("person",))
        found = folder.mask(folder.samples[0], mask.size)
        assert found.labels.tolist() == [(values == 15).tolist()]
        assert found.ignored is not None
        assert found.ignored.tolist() == (values == 255).tolist()
        assert "1 of 1 mask(s) have pixels that count as nothing" in check_masks(folder)[0]


def test_a_pixel_of_a_joined_mask_is_ignored_where_no_file_has_a_label(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    (root / "masks" / "0.png").unlink()
    (root / "masks" / "0").mkdir()
    for number, row in enumerate([[0, 1, 255], [255, 0, 1]]):
        pixels = np.array([row, [0, 1, 1]], np.uint8)
        Image.fromarray(np.kron(pixels, np.ones((4, 4), np.uint8))).save(root / "masks" / "0" / f"{number}.png")
    Image.new("RGB", (12, 8)).save(root / "images" / "0.png")

    folder = read_mask_folder(root, ("cell",))
    found = folder.mask(folder.samples[0], (12, 8))

    assert found.labels[0, ::4, ::4].tolist() == [[False, True, True], [False, True, True]]
    assert found.ignored is not None
    assert found.ignored[::4, ::4].tolist() == [[True, False, False], [False, False, False]]


def test_an_image_that_is_in_two_stated_parts_is_noted(tmp_path: Path) -> None:
    for part in ("train", "val"):
        draw(tmp_path / "d" / part, VALUES, VALUES)
    Image.new("RGB", (3, 2), (0, 0, 9)).save(tmp_path / "d" / "val" / "images" / "1.png")

    notes = read_mask_folder(tmp_path / "d", ("cell",)).notes

    assert notes[1] == (
        "1 image(s) are in two parts of the split, with the same mask: train/images/0.png and val/images/0.png"
    )


def test_the_limits_of_images_hold_for_images_and_masks_and_raising_them_works(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", VALUES)
    low, high = ImageLimits(max_pixels=5), ImageLimits(max_pixels=6)
    folder = read_mask_folder(root, ("cell",), limits=low)

    with pytest.raises(DatasetError, match=r"images/0\.png: found an image of 3 x 2, .* or raise max_pixels"):
        folder.image(folder.samples[0])
    with pytest.raises(DatasetError, match=r"masks/0\.png: found 3 x 2, .* or raise max_pixels of the training's"):
        check_masks(folder)
    short = read_mask_folder(root, ("cell",), limits=ImageLimits(max_image_bytes=50))
    with pytest.raises(DatasetError, match=r"images/0\.png: found \d+ bytes, expected at most 50.*max_image_bytes"):
        short.image(short.samples[0])

    raised = read_mask_folder(root, ("cell",), limits=high)
    assert raised.image(raised.samples[0]).size == (3, 2)
    assert check_masks(raised) == ()
    assert raised.digest == folder.digest
