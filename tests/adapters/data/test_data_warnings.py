"""Data that cannot mean what it says is warned about, and the warning's advice works."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.data.data_warnings import warnings_about_groups, warnings_about_images
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.data.image_facts import ImageFacts, facts_of
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.inputs.images import decode_image


def facts(image: Image.Image, path: str = "a/1.png", kind: str = "PNG") -> ImageFacts:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return facts_of(buffer.getvalue(), decode_image(buffer.getvalue()), path, path.split("/")[0])


def camera(bits: int, seed: int = 0) -> Image.Image:
    """Values of a camera with this many bits, stored in 16 bits."""
    values = np.random.default_rng(seed).integers(2 ** (bits - 2), 2**bits, (30, 40), dtype=np.uint16)
    return Image.fromarray(values)


def normal(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def codes(images: list[ImageFacts]) -> list[str]:
    return [code for code, _ in warnings_about_images(images)]


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_camera_of_few_bits_in_16_is_dark_and_scaling_cures_it(bits: int) -> None:
    found = warnings_about_images([facts(camera(bits)), facts(normal())])

    assert [code for code, _ in found] == ["dark_images"]
    assert "1 of 2 image(s) are nearly black" in found[0][1]
    assert "1 of them have 16 bits per sample" in found[0][1]
    scaled = Image.fromarray(np.asarray(camera(bits)) * np.uint16(2 ** (16 - bits)))
    assert codes([facts(scaled), facts(normal())]) == []


def test_a_nearly_black_image_of_8_bits_is_dark() -> None:
    assert codes([facts(Image.eval(normal(), lambda value: value // 20)), facts(normal())]) == ["dark_images"]


def test_16_bits_that_are_used_are_not_dark() -> None:
    assert codes([facts(camera(16)), facts(camera(16, 1))]) == []


def test_black_and_white_images_are_blank_and_not_also_dark() -> None:
    assert codes([facts(Image.new("RGB", (40, 30), colour)) for colour in ("black", "white")]) == ["blank_images"]


def test_a_class_that_its_files_give_away_is_named_with_the_counts() -> None:
    images = [facts(normal(n), f"ant/{n}.jpg", "JPEG") for n in range(12)]
    images += [facts(normal(50 + n), f"bee/{n}.png") for n in range(12)]

    found = dict(warnings_about_images(images))

    assert set(found) == {"class_from_metadata"}
    message = found["class_from_metadata"]
    assert "'ant' can be told from the other classes without looking at the image, by the file format alone" in message
    assert "'JPEG' in 12 of 12, 'PNG' in 12 of the 12 others" in message
    again = [facts(normal(n), f"{'ant' if n < 12 else 'bee'}/{n}.png") for n in range(24)]  # all in the same way
    assert codes(again) == []


def draw(root: Path, form: str) -> Path:
    """Six groups of four images in each of two classes."""
    for label in ("hea", "inf"):
        for index in range(24):
            path = root / form.format(c=label, g=index // 4, n=index % 4)
            path.parent.mkdir(parents=True, exist_ok=True)
            normal(index + 100 * (label == "inf")).save(path)
    return root


@pytest.mark.parametrize(
    "form", ["{c}/patient_{g:02d}/{n:03d}.png", "{c}/C{g}P7thin_{n}.png", "{c}/{c}_s{g:02d}_{n}.png"]
)
def test_a_divided_group_is_warned_about_and_the_proposed_expression_keeps_it_together(
    tmp_path: Path, form: str
) -> None:
    root = draw(tmp_path / "d", form)
    folder = read_folder(root)

    found = warnings_about_groups(folder, split_folder(folder, 0))

    assert [code for code, _ in found] == ["groups_suspected"]
    divided = re.search(r"(\d+) of the (\d+) groups of its held-out part also have training images", found[0][1])
    assert divided is not None
    assert (int(divided[1]), int(divided[2])) == divided_by_hand(root, form)
    advice = re.search(r"--group-regex '(.+?)'\)(?: and .*--val-fraction (\S+) --test-fraction (\S+)\))?", found[0][1])
    assert advice is not None
    fractions = [float(value) for value in advice.groups()[1:] if value is not None]
    grouped = read_folder(root, advice[1])
    split = split_folder(grouped, 0, *fractions)  # the advice
    of_group = {part: {grouped.samples[i].group for i in indices} for part, indices in split.parts().items()}
    assert of_group["train"].isdisjoint(of_group["test"] | of_group["validation"])
    assert warnings_about_groups(grouped, split) == []


def test_a_class_of_one_patient_is_named_and_images_of_other_patients_cure_it(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", "{c}/patient_{g:02d}/{n:03d}.png")
    for index, path in enumerate(sorted((root / "hea").rglob("*.png"))):
        path.rename(root / "hea" / "patient_00" / f"moved{index}.png")

    found = warnings_about_groups(read_folder(root), None)

    assert "The images of 'hea' are of fewer than 3 groups" in found[0][1]
    for group in range(1, 6):
        for number in range(4):
            path = root / "hea" / f"patient_2{group}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            normal(1000 + 10 * group + number).save(path)
    for index in range(20):
        (root / "hea" / "patient_00" / f"moved{index}.png").unlink()
    assert "fewer than 3 groups" not in warnings_about_groups(read_folder(root), None)[0][1]


def divided_by_hand(root: Path, form: str) -> tuple[int, int]:
    """Groups of the test part that are also in training, from the numbers that the file names were made of."""
    folder = read_folder(root)
    split = split_folder(folder, 0)
    made = {
        form.format(c=label, g=group, n=number): (label if form.count("{c}") > 1 else "", group)
        for label in ("hea", "inf")
        for group in range(6)
        for number in range(4)
    }
    tested, trained = ({made[folder.samples[index].path] for index in indices} for indices in (split.test, split.train))
    return len(tested & trained), len(tested)


def test_stated_groups_are_not_doubted(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", "{c}/patient_{g:02d}/{n:03d}.png")
    rows = [
        f"{path.relative_to(root).as_posix()},{path.parts[-3]},{path.parts[-2]}" for path in sorted(root.rglob("*.png"))
    ]
    (root / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    folder = read_folder(root)

    assert warnings_about_groups(folder, split_folder(folder, 0)) == []
