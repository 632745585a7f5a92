"""Before a training run every image is looked at: all broken files are named at once, and odd data are warned about."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps

from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.data.survey import survey_images
from lensmount_adapters.errors import DatasetError

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

SLIDE = r"^(.+_s\d+)_"


def survey(root: Path, group_regex: str | None = SLIDE) -> tuple[str, ...]:
    folder = read_folder(root, group_regex)
    return survey_images(folder, split_folder(folder, 0))


def test_nothing_is_said_about_ordinary_images(draw_folder: DrawFolder, tmp_path: Path) -> None:
    assert survey(draw_folder(tmp_path / "d", ant=24, bee=24)) == ()


def test_broken_files_of_every_part_are_named_at_once_and_removing_them_helps(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", ant=30, bee=30)
    folder = read_folder(root, SLIDE)
    split = split_folder(folder, 0)
    broken = [root / folder.samples[indices[0]].path for indices in split.parts().values()]
    assert len(broken) == 3
    for path in broken:
        path.write_bytes(path.read_bytes()[:200])
    broken.append(root / "bee" / "text.png")
    broken[-1].write_text("this is not an image")

    with pytest.raises(DatasetError, match="4 of 61 images cannot be read:") as caught:
        survey(root, None)

    for path in broken:
        assert path.relative_to(root).as_posix() in str(caught.value)
        path.unlink()
    assert survey(root) == ()


def test_groups_in_names_are_proposed_for_the_actual_split(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)

    notes = survey(root, None)

    assert len(notes) == 1
    assert "24 groups in 48 images, such as 'ant_s00' and 'ant_s01'" in notes[0]
    assert "also have training images" in notes[0]


def test_look_alikes_in_two_parts_are_counted(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    for path in sorted((root / "ant").glob("*.png"))[:12]:
        Image.open(path).save(path.with_name(f"again_s{path.name[5:]}").with_suffix(".jpg"), quality=95)

    notes = survey(root)

    assert any("pair(s) of images in different parts of the split look alike, such as ant/" in note for note in notes)


def test_mirrored_copies_in_two_parts_are_counted_as_such(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    for path in sorted((root / "ant").glob("*.png"))[:12]:
        ImageOps.mirror(Image.open(path)).save(path.with_name(f"again_s{path.name[5:]}"))

    (note,) = (note for note in survey(root) if "in different parts of the split look alike" in note)

    (pairs, turned) = re.findall(r"(\d+) (?:pair|of them are mirrored or turned)", note)
    assert 0 < int(pairs) == int(turned) <= 12


def test_blank_and_dark_images_are_named(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    Image.new("RGB", (40, 40), "white").save(root / "ant" / "ant_s90_0.png")
    values = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
    Image.fromarray(values).save(root / "bee" / "bee_s91_0.png")

    notes = survey(root)

    assert any("1 of 50 image(s) are blank: they have one colour, such as ant/ant_s90_0.png" in note for note in notes)
    assert any("1 of 50 image(s) are nearly black" in note and "bee/bee_s91_0.png" in note for note in notes)


def test_byte_identical_copies_are_no_look_alikes(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    shutil.copy(root / "ant" / "ant_s00_00.png", root / "ant" / "ant_s77_0.png")

    assert survey(root) == ()
