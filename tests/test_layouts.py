"""Each layout of a dataset through train's listing, push's packing, the server's admission and predict DIR."""

from __future__ import annotations

import io
import os
import socket
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.field_layouts import FIELD_BAD, FIELD_GOOD
from tests.field_tables import TABLES_BAD, TABLES_GOOD
from tests.layouts import CATS, FLAT, Files, Labels, images
from tests.layouts import GOOD as BASIC
from tests.refused_layouts import BAD, REFUSED_AS_ZIP

from lensmount_adapters.data.dataset import list_folder, read_folder
from lensmount_adapters.data.dataset_archive import write_dataset_archive
from lensmount_adapters.data.listing import SPECIAL
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.data.walk import MAX_PATH_BYTES
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES
from lensmount_adapters.options import copies
from lensmount_adapters.zips.directory import ArchiveLimits
from lensmount_client import InvalidInput
from lensmount_client._files import paths
from lensmount_client._files.dataset_zip import open_archive

ROOT = Path(__file__).parent.parent
GOOD = {**BASIC, **FIELD_GOOD, **TABLES_GOOD}
MENDED = {**FIELD_BAD, **TABLES_BAD}


def image(seed: str) -> bytes:
    """An 8 x 8 image that no other path has."""
    drawn = Image.new("RGB", (8, 8), tuple((hash_of(seed) >> shift) % 256 for shift in (0, 8, 16)))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return file.getvalue()


def hash_of(text: str) -> int:
    value = 17
    for byte in text.encode("utf-8", "surrogateescape"):
        value = (value * 1_000_003 + byte) % 2**32
    return value


def draw(root: Path, files: Files) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
            continue
        data = image(name) if content is None else content
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return root


def zipped(root: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for parent, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = Path(parent, name)
                archive.write(path, path.relative_to(root).as_posix())
    return target


def labelled(found: Any) -> Labels:
    return {file.path: (file.label, file.split) for file in found.files}


def admitted(archive_path: Path, depth: int | None = None) -> Any:
    """What the server lists of a zip, after it wrote and reopened its canonical archive."""
    listed = list_folder(archive_path, title="the archive", class_depth=depth)
    canonical = archive_path.with_suffix(".canonical.zip")
    with canonical.open("wb") as file:
        write_dataset_archive(listed, file)
    return list_folder(canonical)


def pushed(root: Path, target: Path, depth: int | None) -> dict[str, int]:
    with open_archive(root, class_depth=depth) as archive:
        target.write_bytes(archive.read(0, archive.size_bytes))
        return dict(archive.left_out)


@pytest.mark.parametrize("name", GOOD)
def test_a_layout_gives_the_same_files_classes_and_parts_everywhere(name: str, tmp_path: Path) -> None:
    case = GOOD[name]
    root = draw(tmp_path / "d", case.files)

    trained = list_folder(root, class_depth=case.depth)
    left_out = pushed(root, tmp_path / "pushed.zip", case.depth)
    in_zip = list_folder(zipped(root, tmp_path / "whole.zip"), class_depth=case.depth)

    assert labelled(trained) == case.labels
    assert trained.classes == tuple(sorted({label for label, _ in case.labels.values()}))
    assert labelled(admitted(tmp_path / "pushed.zip")) == case.labels
    assert labelled(in_zip) == case.labels
    assert left_out == dict(trained.left_out) == dict(in_zip.left_out)
    assert in_zip.notes == trained.notes
    if case.left_out is not None:
        assert left_out == case.left_out
    if case.depth is None:
        assert read_folder(tmp_path / "pushed.zip").digest == read_folder(root).digest


@pytest.mark.parametrize("name", GOOD)
def test_predict_takes_the_images_that_train_lists(name: str, tmp_path: Path) -> None:
    case = GOOD[name]
    root = draw(tmp_path / "d", case.files)

    found = {Path(path).relative_to(root).as_posix() for path in paths.find_images(root)}

    listed = list_folder(root, class_depth=case.depth)
    outside = [path for path in listed.ignored if path.endswith(".png")]
    prefix = next((n for n in found if n.endswith(listed.files[0].path)), "").removesuffix(listed.files[0].path)
    assert found == {prefix + file.path for file in listed.files} | set(outside)


@pytest.mark.parametrize("name", BAD)
def test_a_layout_is_refused_by_train_and_push_in_the_same_words(name: str, tmp_path: Path) -> None:
    files, found = BAD[name]
    root = draw(tmp_path / "d", files)
    root.mkdir(exist_ok=True)

    with pytest.raises(DatasetError, match=f"(?s){found}") as of_train:
        list_folder(root)
    with pytest.raises(InvalidInput, match=f"(?s){found}") as of_push:
        open_archive(root)

    assert str(of_push.value) == str(of_train.value)
    assert "Fix: " in str(of_train.value)
    if name not in REFUSED_AS_ZIP:
        with pytest.raises(DatasetError, match=f"(?s){found}"):
            list_folder(zipped(root, tmp_path / "d.zip"))


@pytest.mark.parametrize("name", MENDED)
def test_a_refusal_is_the_same_everywhere_and_its_advice_works(name: str, tmp_path: Path) -> None:
    case = MENDED[name]
    root = draw(tmp_path / "d", case.files)

    with pytest.raises(DatasetError, match=f"(?s){case.found}") as of_train:
        list_folder(root)
    with pytest.raises(InvalidInput) as of_push:
        open_archive(root)
    with pytest.raises(DatasetError) as of_zip:
        list_folder(zipped(root, tmp_path / "d.zip"))

    assert "Fix: " in str(of_train.value)
    assert str(of_push.value) == str(of_train.value)
    if not case.zip_differs:
        assert str(of_zip.value).replace("d.zip: ", "d: ") == str(of_train.value)

    mended = draw(tmp_path / "mended", case.mend(case.files)) if case.mend else root
    listed = list_folder(mended, class_depth=case.depth)
    pushed(mended, tmp_path / "p.zip", case.depth)
    assert listed.classes == case.classes
    assert labelled(list_folder(tmp_path / "p.zip")) == labelled(listed)


def test_the_client_has_the_server_s_list_of_suffixes_and_its_rule() -> None:
    assert set(paths.IMAGE_SUFFIXES) == set(IMAGE_SUFFIXES)
    assert ArchiveLimits().max_name_bytes == MAX_PATH_BYTES
    for name, text in copies.listing_modules().items():
        assert (ROOT / name).read_text() == text, f"{name}: run `make options`"


def test_how_a_layout_was_read_is_said_by_train_by_push_and_in_the_report(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", GOOD["parts in a folder"].files)
    notes = list_folder(root).notes

    with open_archive(root) as archive, (tmp_path / "out.zip").open("wb") as file:
        of_zip = write_dataset_archive(list_folder(zipped(root, tmp_path / "d.zip")), file)

    assert [note.split()[:3] for note in notes] == [["The", "data", "are"], ["The", "parts", "of"]]
    assert archive.notes == notes == tuple(of_zip.report["notes"])


# Links and names that a zip does not have


def test_links_to_files_and_folders_are_followed_and_a_circle_is_left_out(tmp_path: Path) -> None:
    store = draw(tmp_path / "store", images("bird") | {"one.png": None})
    root = draw(tmp_path / "d", CATS)
    (root / "bird").symlink_to(store / "bird")
    (root / "cat" / "linked.png").symlink_to(store / "one.png")
    (root / "dog" / "again").symlink_to(root)
    (root / "old.txt").symlink_to("nowhere.txt")

    listed = list_folder(root)
    left_out = pushed(root, tmp_path / "p.zip", None)

    wanted = {f"{name}/{n}.png" for name in ("bird", "cat", "dog") for n in range(2)} | {"cat/linked.png"}
    assert {file.path for file in listed.files} == wanted
    assert {file.path for file in admitted(tmp_path / "p.zip").files} == wanted
    assert {Path(path).relative_to(root).as_posix() for path in paths.find_images(root)} == wanted
    assert left_out == dict(listed.left_out) == {"links to a folder above them or to nothing": 2}
    assert set(listed.ignored) == {"dog/again", "old.txt"}


def test_pipes_and_sockets_are_counted_and_never_opened(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS)
    os.mkfifo(root / "cat" / "9.png")
    os.mkfifo(root / "labels.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(root, os.O_RDONLY)  # the path of a socket has at most 107 bytes
        listening.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
    counts: Counter[str] = Counter()

    listed = list_folder(root)

    assert len(listed.files) == len(list(paths.find_images(root, counts))) == 4
    assert set(listed.ignored) == {"cat/9.png", "labels.csv", "s"}
    assert dict(listed.left_out) == pushed(root, tmp_path / "p.zip", None) == counts == {SPECIAL: 3}


@pytest.mark.parametrize("name", ["cat/9.png", "bird"])
def test_a_broken_link_is_named_by_train_and_push(name: str, tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS)
    (root / name).symlink_to("nowhere")

    for listing, error in ((list_folder, DatasetError), (open_archive, InvalidInput)):
        with pytest.raises(error, match=rf"broken link \({name}\).*Fix: restore"):
            listing(root)
    (root / name).unlink()  # the advice
    assert len(list_folder(root).files) == 4


def test_names_in_either_unicode_form_are_one_name_and_two_of_them_are_refused(tmp_path: Path) -> None:
    decomposed, whole = "e\u0301le\u0300ve", "\u00e9l\u00e8ve"
    root = draw(tmp_path / "d", images(decomposed, "dog"))

    listed = list_folder(root)
    pushed(root, tmp_path / "p.zip", None)

    assert listed.classes == ("dog", whole)
    assert labelled(admitted(tmp_path / "p.zip")) == labelled(listed)
    assert read_folder(tmp_path / "p.zip").digest == read_folder(root).digest
    draw(root, images(whole))
    for listing, error in ((list_folder, DatasetError), (open_archive, InvalidInput)):
        with pytest.raises(error, match="differ only in their Unicode form"):
            listing(root)


def test_a_name_that_is_no_utf_8_is_refused_at_once(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS)
    try:
        (root / "cat" / "b\udce9.png").write_bytes(image("b"))
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")

    for listing, error in ((list_folder, DatasetError), (open_archive, InvalidInput)):
        with pytest.raises(error, match=r"cat/b.*not UTF-8.*Fix: rename"):
            listing(root)
    with pytest.raises(InvalidInput, match="not UTF-8"):
        list(paths.find_images(root))


def test_a_zip_with_nested_names_is_packed_again_with_the_depth_that_is_asked_for(tmp_path: Path) -> None:
    case = GOOD["two levels, as asked"]
    whole = zipped(draw(tmp_path / "d", case.files), tmp_path / "d.zip")
    with pytest.raises(DatasetError, match="--class-depth 2"):
        admitted(whole)

    pushed(whole, tmp_path / "p.zip", 2)

    assert labelled(admitted(tmp_path / "p.zip")) == case.labels


def test_a_file_of_labels_itself_is_trained_on_and_pushed(tmp_path: Path) -> None:
    rows = "path;label\n" + "".join(f"{n}.png;{'ab'[n % 2]}\n" for n in range(4))
    root = draw(tmp_path / "d", FLAT | {"my labels.csv": rows})

    pushed(root / "my labels.csv", tmp_path / "p.zip", None)

    assert labelled(admitted(tmp_path / "p.zip")) == labelled(list_folder(root / "my labels.csv"))
    assert list_folder(root / "my labels.csv").classes == ("a", "b")


# What push accepts, a job can train

ALIKE = image("the same")
TOLD: dict[str, Files] = {
    "one group for each class": {f"{n}.png": None for n in range(40)}
    | {"labels.csv": "path,label,patient\n" + "".join(f"{n}.png,{'ab'[n % 2]},p{n % 2}\n" for n in range(40))},
    "a class of copies": images("dog", each=20) | {f"cat/{n}.png": ALIKE for n in range(20)},
    "three images of each class": images("cat", "dog", each=3),
    "all images stated as test": images("test/cat", "test/dog", each=20),
    "all images stated as validation": images("val/cat", "val/dog", each=20),
    "one image for training": images("train/cat", "test/cat", "test/dog", each=20) | images("train/dog", each=1),
    "one patient in all parts": {f"{n}.png": None for n in range(40)}
    | {
        "labels.csv": "path,label,patient,split\n"
        + "".join(f"{n}.png,{'ab'[n % 2]},p,{'train' if n < 20 else 'test'}\n" for n in range(40))
    },
}
CAN_TRAIN: dict[str, Files] = {
    "thirty of each class": images("cat", "dog", each=30),
    "all images stated as training": images("train/cat", "train/dog", each=30),
    "a class that the test part lacks": images("train/cat", "train/dog", "val/cat", "val/dog", "test/cat", each=10),
    "a label of 255 letters": images("x" * 255, "dog", each=30),
}


@pytest.mark.parametrize("name", [*TOLD, *CAN_TRAIN])
def test_push_says_so_exactly_if_a_job_with_the_default_options_cannot_split(name: str, tmp_path: Path) -> None:
    root = draw(tmp_path / "d", TOLD.get(name) or CAN_TRAIN[name])
    pushed(root, tmp_path / "p.zip", None)

    with (tmp_path / "stored.zip").open("wb") as file:
        report = write_dataset_archive(list_folder(tmp_path / "p.zip"), file).report

    warned = [warning["message"] for warning in report["warnings"] if warning["code"] == "cannot_split"]
    assert len(warned) == (name in TOLD)
    assert all("Fix: " in message for message in warned)
    stored = read_folder(tmp_path / "stored.zip")
    if warned:
        with pytest.raises(DatasetError):
            split_folder(stored, seed=0)
    else:
        assert set(stored.labels().tolist()) == {stored.samples[index].label for index in split_folder(stored, 0).train}
