"""The report on a dataset: counts, sizes, copies, near duplicates, and warnings."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lensmount_adapters.data.dataset import list_folder
from lensmount_adapters.data.dataset_archive import DatasetLimits, write_dataset_archive

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder


def report_on(root: Path) -> dict[str, Any]:
    found = write_dataset_archive(list_folder(root), io.BytesIO(), DatasetLimits(max_unreadable_fraction=1))
    json.dumps(found.report, allow_nan=False)
    return found.report


def codes(report: dict[str, Any]) -> set[str]:
    """The codes of the warnings, without the one on the groups in the names of `draw_folder`."""
    return {warning["code"] for warning in report["warnings"]} - {"groups_suspected"}


def nearly(path: Path, target: Path) -> None:
    """The same image in other bytes."""
    Image.open(path).save(target.with_suffix(".jpg"), quality=95)


def state(root: Path, rows: dict[str, str]) -> None:
    """A labels.csv: path -> "label,split" or "label,split,group"."""
    lines = [f"{path},{row}" + ("," if row.count(",") == 1 else "") for path, row in rows.items()]
    (root / "labels.csv").write_text("path,label,split,group\n" + "\n".join(lines))


def test_a_clean_dataset_is_described_without_warnings(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=30)
    Image.open(root / "ant" / "ant_s00_00.png").resize((80, 50)).rotate(90).save(root / "bee" / "wide.jpg")
    (root / "notes.txt").write_text("x")
    (root / ".DS_Store").write_text("x")

    report = report_on(root)

    assert (report["images"], report["classes"]) == (55, {"ant": 24, "bee": 31})
    assert report["sizes"] == {"min": [40, 40], "median": [40, 40], "max": [80, 50]}
    assert report["formats"] == {"JPEG": 1, "PNG": 54}
    assert report["bytes"] == sum(p.stat().st_size for p in root.rglob("*g"))
    assert (report["groups"], report["splits"]) == (0, None)
    assert report["duplicates"] == {"files": 0, "examples": []}
    assert report["near_duplicates"] == {"pairs": 0, "across_splits": 0, "across_classes": 0, "examples": []}
    assert report["unreadable"] == {"files": 0, "examples": []}
    assert report["ignored"] == {"files": 2, "examples": ["notes.txt", ".DS_Store"]}
    assert report["balance"] == {"smallest": "ant", "largest": "bee", "ratio": 1.292}
    assert codes(report) == set()


def test_copies_and_look_alikes_are_counted_apart(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    shutil.copy(root / "ant" / "ant_s00_00.png", root / "ant" / "copy.png")
    nearly(root / "ant" / "ant_s01_02.png", root / "ant" / "near.jpg")

    report = report_on(root)

    assert report["duplicates"] == {"files": 1, "examples": [["ant/ant_s00_00.png", "ant/copy.png"]]}
    assert report["near_duplicates"] == {
        "pairs": 1,
        "across_splits": 0,
        "across_classes": 0,
        "examples": [["ant/ant_s01_02.png", "ant/near.jpg"]],
    }
    assert codes(report) == {"duplicates"}


def test_one_image_under_two_labels_is_a_conflict_as_copy_and_as_look_alike(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    for how in (shutil.copy, nearly):
        root = draw_folder(tmp_path / how.__name__, ant=24, bee=24)
        how(root / "ant" / "ant_s00_00.png", root / "bee" / "same.jpg")
        assert "label_conflict" in codes(report_on(root))


def test_mirrored_and_turned_copies_of_another_label_and_part_are_counted(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    for number, way in enumerate([Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90]):
        image = Image.open(root / "ant" / f"ant_s00_0{number}.png")
        image.transpose(way).save(root / "bee" / f"copy{number}.png")
    nearly(root / "ant" / "ant_s01_02.png", root / "bee" / "same.jpg")
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*g"))
    state(root, {path: f"{path[:3]},{'test' if 'copy' in path else 'train'}" for path in paths})

    said = {warning["code"]: warning["message"] for warning in report_on(root)["warnings"]}

    assert (
        "3 pair(s) of images that look alike and have different labels (2 of them are mirror" in said["label_conflict"]
    )
    assert "2 pair(s) of images in two parts that look alike (2 of them are mirrored" in said["leakage_suspected"]


def test_zip_13_an_image_in_two_stated_parts_is_suspected_of_leaking(draw_folder: DrawFolder, tmp_path: Path) -> None:
    for how in (shutil.copy, nearly):
        root = draw_folder(tmp_path / how.__name__, ant=24, bee=24)
        how(root / "ant" / "ant_s00_00.png", root / "ant" / "same.jpg")
        rows = {p.relative_to(root).as_posix(): f"{p.parent.name},train" for p in sorted(root.rglob("*.*g"))}
        state(root, rows)
        assert "leakage_suspected" not in codes(report_on(root))
        state(root, rows | {"ant/same.jpg": "ant,validation"})
        report = report_on(root)
        assert "leakage_suspected" in codes(report)
        assert report["splits"] == {"train": 48, "validation": 1, "test": 0}


def test_a_group_in_two_stated_parts_is_suspected_of_leaking(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = {
        path: f"{path.split('/', 1)[0]},{'test' if path.endswith('_01.png') else 'train'},{path[:7]}" for path in paths
    }

    state(root, rows)

    assert codes(report_on(root)) == {"leakage_suspected", "cannot_split"}  # each class is one group


def test_small_uneven_classes_and_parts_without_a_class_are_warnings(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=31, bee=3)
    Image.new("RGB", (20, 90), (200, 10, 10)).save(root / "ant" / "tiny.png")
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    state(root, {path: f"{path[:3]},{'test' if path == paths[0] else ''}" for path in paths})

    report = report_on(root)

    assert codes(report) == {
        "imbalanced",
        "few_images",
        "split_incomplete",
        "small_images",
        "blank_images",
        "cannot_split",
    }
    assert report["balance"] == {"smallest": "bee", "largest": "ant", "ratio": 10.667}


def test_hundreds_of_equal_images_in_other_bytes_are_counted_not_listed(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(100):
            image = Image.new("RGB", (64, 64), (9, 9, 9))
            image.putpixel((number % 64, number // 64), (9, 9, 10) if label == "a" else (9, 10, 9))
            image.save(tmp_path / label / f"{number}.png")

    near = report_on(tmp_path)["near_duplicates"]

    assert (near["pairs"], near["across_classes"]) == (200 * 199 // 2, 100 * 100)
    assert len(near["examples"]) == 10
    assert all(first[0] != second[0] for first, second in near["examples"])  # pairs across classes come first


def test_groups_in_names_and_the_leak_of_the_default_split_are_reported(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    report = report_on(draw_folder(tmp_path / "d", ant=24, bee=24))

    messages = {warning["code"]: warning["message"] for warning in report["warnings"]}
    assert "24 groups in 48 images, such as 'ant_s00' and 'ant_s01'" in messages["groups_suspected"]
    assert "(--group-regex '^(" in messages["groups_suspected"]


def test_blank_dark_and_told_by_files_are_reported(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    for path in sorted((root / "bee").iterdir()):
        Image.open(path).convert("L").save(path)
    Image.new("RGBA", (40, 40), (9, 9, 9, 255)).save(root / "ant" / "blank.png")
    Image.eval(Image.open(root / "ant" / "ant_s00_00.png"), lambda value: value // 16).save(root / "ant" / "dark.png")

    report = report_on(root)

    assert codes(report) == {"blank_images", "dark_images", "class_from_metadata"}


def test_a_file_left_by_a_system_is_listed_with_a_printable_name(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    (root / "Icon\r").write_bytes(b"")

    assert report_on(root)["ignored"] == {"files": 1, "examples": ["Icon\\r"]}
