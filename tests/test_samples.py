"""samples/draw.py draws exactly the committed sample images, and they are small enough to commit."""

import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).parent.parent / "samples"
IMAGES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix in {".png", ".jpg"})
LEAVES = sorted(path.relative_to(SAMPLES).as_posix() for path in (SAMPLES / "train").rglob("*.*"))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all sample images, drawn again by the script."""
    folder = tmp_path_factory.mktemp("drawn")
    script = [sys.executable, "-W", "error", str(SAMPLES / "draw.py"), "--out", str(folder)]
    subprocess.run(script, check=True, timeout=300, capture_output=True)
    return folder


def test_the_script_draws_exactly_the_committed_files(drawn: Path) -> None:
    found = [path.relative_to(drawn).as_posix() for path in drawn.rglob("*") if path.is_file()]
    assert sorted(found) == sorted(IMAGES + LEAVES)


@pytest.mark.parametrize("name", [name for name in IMAGES + LEAVES if name.endswith(".png")])
def test_a_png_drawn_again_has_the_same_pixels(drawn: Path, name: str) -> None:
    assert np.array_equal(pixels(drawn / name), pixels(SAMPLES / name))


@pytest.mark.parametrize("name", [name for name in IMAGES if name.endswith(".jpg")])
def test_a_jpeg_drawn_again_differs_at_most_by_what_another_jpeg_library_rounds(drawn: Path, name: str) -> None:
    again, committed = pixels(drawn / name).astype(int), pixels(SAMPLES / name).astype(int)
    assert np.abs(again - committed).max() <= 4


def test_the_samples_are_small() -> None:
    sizes = {name: (SAMPLES / name).stat().st_size for name in IMAGES}
    assert {name: size for name, size in sizes.items() if size > 100_000} == {}
    assert sum(sizes.values()) < 400_000


def test_the_training_set_is_small_and_balanced() -> None:
    assert sum((SAMPLES / name).stat().st_size for name in LEAVES) < 400_000
    trees = Counter(Path(name).parent.name for name in LEAVES)
    assert trees == {"birch": 20, "maple": 20, "oak": 20}
    assert len({pixels(SAMPLES / name).tobytes() for name in LEAVES}) == 60
    assert {pixels(SAMPLES / name).shape for name in LEAVES} == {(96, 96, 3)}


def test_the_leaves_to_ask_about_are_not_in_the_training_set() -> None:
    trained = {pixels(SAMPLES / name).tobytes() for name in LEAVES}
    for tree in ("birch", "maple", "oak"):
        assert pixels(SAMPLES / f"leaf-{tree}.png").tobytes() not in trained


def test_the_mean_colour_alone_does_not_tell_the_trees_apart() -> None:
    """A nearest-mean classifier on mean colours is right on under 60 % of the very images it was fitted to."""
    names = np.array([Path(name).parent.name for name in LEAVES])
    colours = np.array([pixels(SAMPLES / name).reshape(-1, 3).mean(axis=0) for name in LEAVES])
    trees = sorted(set(names))
    means = np.array([colours[names == tree].mean(axis=0) for tree in trees])
    nearest = np.linalg.norm(colours[:, None] - means, axis=2).argmin(axis=1)
    assert np.mean(np.array(trees)[nearest] == names) < 0.6


def test_the_readme_names_every_sample() -> None:
    text = (SAMPLES / "README.md").read_text()
    assert [name for name in IMAGES if f"`{name}`" not in text] == []


def test_outside_the_cell_a_blood_cell_image_is_black() -> None:
    for name in IMAGES:
        if name.startswith("cell-"):
            picture = pixels(SAMPLES / name)
            corners = picture[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert not corners.any()
            assert picture[picture.shape[0] // 2, picture.shape[1] // 2].min() > 80


def test_the_page_has_the_training_set() -> None:
    page = SAMPLES.parent / "service/lensmount_service/page/samples/leaves.zip"
    with zipfile.ZipFile(page) as archive:
        found = {f"train/{name}": archive.read(name) for name in archive.namelist()}
    assert found == {name: (SAMPLES / name).read_bytes() for name in LEAVES}, "Fix: make samples"
