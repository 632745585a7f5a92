"""The advice about a file of labels, a name, a split or an archive is followed, and what was refused then works."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.field_layouts import without
from tests.layouts import CATS, FLAT, Files, images
from tests.test_layouts import draw

from lensmount_adapters.data.dataset import list_folder, read_folder, read_pixels
from lensmount_adapters.data.dataset_archive import DatasetLimits, write_dataset_archive
from lensmount_adapters.data.labels import MAX_FILE_BYTES, read_rows
from lensmount_adapters.data.split import Split, few_shot, split_samples, split_stated
from lensmount_adapters.data.survey import survey_images
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.rules import Preprocessing

ROW = '{"path": "images/0.png", "label": "x"}\n'
LONG = "p" * 1100

# name of the file, its text, words of its refusal and its advice, and the text that follows the advice
TABLES: dict[str, tuple[str, str | bytes, str, str]] = {
    "an Excel workbook": ("labels.csv", b"PK\x03\x04", "Fix: save it as CSV UTF-8", "path,label\na.png,x\n"),
    "a long line": (
        "labels.csv",
        f"path,label,text\na.png,x,{'t' * 20_000}\n",
        "Fix: leave out the columns that have long texts",
        "path,label\na.png,x\n",
    ),
    "no UTF-8": (
        "labels.csv",
        "path,label\na.png,норма\n".encode("cp1251"),
        "row 2: .*Fix: save it as UTF-8",
        "path,label\na.png,норма\n",
    ),
    "no UTF-16": (
        "labels.csv",
        b"\xff\xfe" + "path,label\na.png,x\n".encode("utf-16-le") + b"\x00\xd8",
        "not UTF-16.*Fix: save it as UTF-8",
        "path,label\na.png,x\n",
    ),
    "a column twice": ("labels.csv", "path,label,label\na,x,y\n", "Fix: rename or remove one", "path,label\na,x\n"),
    "a comma in a cell": (
        "labels.csv",
        "path,label,n\na,x,y, z\n",
        "Fix: put a cell that contains the delimiter into quotes",
        'path,label,n\na,x,"y, z"\n',
    ),
    "a quote that does not end": ("labels.csv", 'path,label\na,"x\n', "Fix: correct its quotes", 'path,label\na,"x"\n'),
    "text in JSON lines": ("labels.jsonl", "path\n", "Fix: write one object per line", ROW),
    "two objects in one line": ("labels.jsonl", ROW.strip() + ROW, "Fix: write one object per line", ROW),
    "a key twice": (
        "labels.jsonl",
        '{"path": "a.png", "label": "x", "label": "y"}\n',
        "a key appears twice.*Fix: write one object per line, with each key once",
        ROW,
    ),
    "a list": (
        "labels.jsonl",
        '["a.png", "x"]\n',
        'Fix: write lines such as {"path": "cats/1.png", "label": "cat"}',
        '{"path": "cats/1.png", "label": "cat"}\n',
    ),
    "a path twice": ("labels.csv", "path,label\na,x\na,y\n", "Fix: remove one of the rows", "path,label\na,x\n"),
    "no rows": ("labels.csv", "path,label\n", "Fix: add a row for each", "path,label\na,x\n"),
    "nothing": ("labels.csv", "", "Fix: write path,label in the first row, and a row", "path,label\na,x\n"),
    "two columns for the label": (
        "labels.csv",
        "path,class,category\na,x,y\n",
        "Fix: rename the one to use to label",
        "path,label,category\na,x,y\n",
    ),
    "boxes": (
        "labels.csv",
        "path,xmin\na,1\n",
        "Fix: write a column label with the one label of each image",
        "path,xmin,label\na,1,x\n",
    ),
    "a column for each label": (
        "labels.csv",
        "path,cat,dog\na,0,1\n",
        "Fix: add a column label with the one label",
        "path,cat,dog,label\na,0,1,dog\n",
    ),
    "other columns": (
        "labels.csv",
        "colour;size\na;x\n",
        "Fix: name the columns so in the first row, separated by commas",
        "path,label\na,x\n",
    ),
    "other keys": (
        "labels.jsonl",
        '{"colour": "a.png"}\n',
        'Fix: name the keys so: {"path": "cats/1.png", "label": "cat"}',
        '{"path": "cats/1.png", "label": "cat"}\n',
    ),
    "no label": ("labels.csv", "path,label\na,\nb,x\n", "Fix: write it, or remove the row", "path,label\nb,x\n"),
    "no path": ("labels.csv", "path,label\n,x\n", "Fix: write it, or remove the row", "path,label\na,x\n"),
    "a rejected row": (
        "labels.jsonl",
        '{"path": "a.png", "label": "x", "answer": "reject"}\n' + ROW,
        "Fix: remove the row",
        ROW,
    ),
    "a long label": (
        "labels.csv",
        f"path,label\na,{'x' * 300}\n",
        "300 characters.*Fix: shorten or rename it",
        "path,label\na,x\n",
    ),
    "an unknown part": (
        "labels.csv",
        "path,label,split\na,x,spare\n",
        "expected train, validation, test or nothing. Fix: write one",
        "path,label,split\na,x,validation\n",
    ),
    "a huge number": (
        "labels.jsonl",
        f'{{"path": "a.png", "label": {"9" * 50}}}\n',
        "Fix: put it in quotes",
        f'{{"path": "a.png", "label": "{"9" * 50}"}}\n',
    ),
    "a label of another type": (
        "labels.jsonl",
        '{"path": "a.png", "label": {"name": "x"}}\n',
        "Fix: write it in quotes, as in 'label': 'a'",
        '{"path": "a.png", "label": "x"}\n',
    ),
    "a control character": (
        "labels.csv",
        'path,label\na,"x\ny"\n',
        "Fix: write it in one line of plain text",
        "path,label\na,x y\n",
    ),
    "a long path": ("labels.csv", f"path,label\n{LONG},x\n", "1100 characters.*Fix: shorten it", "path,label\np,x\n"),
    "an empty path": (
        "labels.csv",
        "path,label\n./,x\n",
        "expected one like cats/1.png. Fix: write the path from the folder of the file of labels on",
        "path,label\ncats/1.png,x\n",
    ),
    "two spellings": ("labels.csv", "path,label\na,x\nb,X\n", "Fix: spell them alike", "path,label\na,x\nb,x\n"),
    "several labels": (
        "labels.csv",
        "path,label\na,x|y\nb,x\n",
        "Fix: keep one label of each image",
        "path,label\na,x\nb,x\n",
    ),
    "a missing value, which is a class": (
        "labels.csv",
        "path,label\na,NaN\nb,x\n",
        "if it is a class, give it another name",
        "path,label\na,nothing\nb,x\n",
    ),
    "a list of Python": (
        "labels.csv",
        "path,label\na,['x']\n",
        "Fix: write the label alone",
        "path,label\na,x\n",
    ),
    "measurements": (
        "labels.csv",
        "path,label\na,0.5\nb,1.25\nc,7\n",
        "Fix: divide the numbers into a few ranges, and write the name of its range",
        "path,label\na,low\nb,low\nc,high\n",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_file_of_labels_that_follows_the_advice_is_read(name: str) -> None:
    file, text, found, mended = TABLES[name]
    with pytest.raises(DatasetError, match=f"(?s){found.replace('{', '[{]')}"):
        read_rows(file, text.encode() if isinstance(text, str) else text)

    assert read_rows(file, mended.encode())


def test_a_huge_file_of_labels_is_read_in_two_halves() -> None:
    row = f"a/{'1' * 60}.png,x\n"
    half = "path,label\n" + "".join(row.replace("a", f"a{n}", 1) for n in range(3))
    with pytest.raises(DatasetError, match="Fix: split the dataset"):
        read_rows("labels.csv", half.encode().ljust(MAX_FILE_BYTES + 1, b"\n"))

    assert len(read_rows("labels.csv", half.encode())) == 3


def renamed(old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {name.replace(old, new): content for name, content in files.items()}


LABELLED = FLAT | {"labels.csv": "path,label\n0.png,cat\n1.png,dog\n"}
EXPORT = (
    '<annotations><image name="images/0.png"><tag label="cat"/></image>'
    '<image name="images/0.png"><tag label="dog"/></image><image name="images/1.png"><tag label="dog"/></image>'
    "</annotations>"
)
LISTED: dict[str, tuple[Files, str, Callable[[Files], Files]]] = {
    "two files of labels": (LABELLED | {"manifest.csv": "x"}, "Fix: keep one of them", without("manifest.csv")),
    "one label": (
        FLAT | {"labels.csv": "path,label\n0.png,cat\n"},
        "Fix: add images of another class",
        lambda files: files | LABELLED,
    ),
    "one label in an export": (
        FLAT | {"annotations.xml": EXPORT.replace("cat", "dog")},
        "Fix: add images of another class",
        lambda files: files | {"annotations.xml": EXPORT.replace('0.png"><tag label="dog"', '0.png"><tag label="cat"')},
    ),
    "two labels in an export": (
        FLAT | {"annotations.xml": EXPORT},
        "found two labels.*Fix: keep one of them",
        lambda files: (
            files | {"annotations.xml": EXPORT.replace('<image name="images/0.png"><tag label="dog"/></image>', "")}
        ),
    ),
    "a row about a text": (
        LABELLED | {"images/n.txt": "x", "labels.csv": "path,label\n0.png,cat\n1.png,dog\nimages/n.txt,dog\n"},
        "Fix: convert it to PNG, or remove the row",
        lambda files: files | {"labels.csv": LABELLED["labels.csv"]},
    ),
    "two control characters": (
        images("cat", "d\x01og"),
        "Fix: rename",
        renamed("\x01", ""),
    ),
}


@pytest.mark.parametrize("name", LISTED)
def test_a_dataset_that_follows_the_advice_is_listed(name: str, tmp_path: Path) -> None:
    files, found, mend = LISTED[name]
    with pytest.raises(DatasetError, match=f"(?s){found}"):
        list_folder(draw(tmp_path / "d", files))

    assert list_folder(draw(tmp_path / "mended", mend(files))).classes == ("cat", "dog")


def test_a_depth_next_to_a_file_of_labels_is_refused_and_leaving_either_out_works(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS | {"labels.csv": "path,label\ncat/0.png,cat\ndog/0.png,dog\n"})
    with pytest.raises(DatasetError, match="Fix: leave one out"):
        list_folder(root, class_depth=1)

    assert len(list_folder(root).files) == 2
    (root / "labels.csv").unlink()
    assert len(list_folder(root, class_depth=1).files) == 4


@pytest.mark.parametrize("restored", [True, False])
def test_a_broken_link_is_refused_and_restoring_or_removing_it_works(restored: bool, tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS)
    (root / "cat" / "x.png").symlink_to(tmp_path / "x.png")
    with pytest.raises(DatasetError, match="Fix: restore what it leads to, or remove the link"):
        list_folder(root)

    if restored:
        draw(tmp_path, {"x.png": None})
    else:
        (root / "cat" / "x.png").unlink()
    assert len(list_folder(root).files) == 4 + restored


@pytest.mark.parametrize(
    ("files", "name", "other", "found"),
    [
        (CATS, "cat/é.png".encode(), "cat/e\u0301.png".encode(), "Unicode form.*Fix: rename one of them"),
        (CATS, b"cat/1.png", b"cat/\xe9.png", "not UTF-8. Fix: rename the file or folder"),
    ],
)
def test_names_on_disk_that_are_refused_are_read_when_they_are_renamed(
    files: Files, name: bytes, other: bytes, found: str, tmp_path: Path
) -> None:
    root = draw(tmp_path / "d", files)
    for each in (name, other):
        Path(str(root), each.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    with pytest.raises(DatasetError, match=f"(?s){found}"):
        list_folder(root)

    odd = Path(str(root), other.decode("utf-8", "surrogateescape"))
    odd.rename(root / "cat" / "another.png")
    assert "cat/another.png" in {file.path for file in list_folder(root).files}


def test_a_path_without_a_folder_is_refused_and_the_right_one_is_read(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", CATS)
    with pytest.raises(DatasetError, match="Fix: correct the path"):
        list_folder(tmp_path / "e")

    assert list_folder(root).classes == ("cat", "dog")


def test_labels_that_an_adapter_does_not_have_are_refused_and_renaming_their_folder_works(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", images("cat", "hound"))
    with pytest.raises(DatasetError, match=r"expected the adapter's labels: cat, dog\. Fix: rename the folders after"):
        read_folder(root, classes=("cat", "dog"))

    (root / "hound").rename(root / "dog")
    assert read_folder(root, classes=("cat", "dog")).counts() == {"cat": 2, "dog": 2}


def test_broken_files_are_refused_when_listed_surveyed_and_packed_and_removing_them_works(tmp_path: Path) -> None:
    root = draw(tmp_path / "d", images("cat", "dog") | {"cat/9.png": "broken"})
    folder, everything = read_folder(root), Split(tuple(range(5)), (), ())
    rule = Preprocessing(size=(16, 16), mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(DatasetError, match="Fix: repair or remove these files"):
        read_pixels(folder, folder.samples, rule)
    with pytest.raises(DatasetError, match="Fix: repair or remove these files"):
        survey_images(folder, everything)
    with pytest.raises(DatasetError, match=r"(?s)Expected at most 1.0%.*Fix: repair or remove these files"):
        write_dataset_archive(list_folder(root), io.BytesIO())

    (root / "cat" / "9.png").unlink()
    folder = read_folder(root)
    assert read_pixels(folder, folder.samples, rule).shape == (4, 3, 16, 16)
    assert survey_images(folder, Split((0, 1, 2, 3), (), ())) is not None
    assert write_dataset_archive(list_folder(root), io.BytesIO()).images == 4


@pytest.mark.parametrize(
    ("files", "limits", "found", "mend"),
    [
        (CATS | {"x/0.png": None}, DatasetLimits(), "Fix: add images", lambda files: files | images("x")),
        (CATS | {"x/0.png": None}, DatasetLimits(), "leave the class out", without("x/")),
        (images("a", "b", "c"), DatasetLimits(max_classes=2), "Fix: leave classes out", without("c/")),
        (images("a", "b", "c"), DatasetLimits(max_classes=2), "or join those that are alike", renamed("c/", "b/c")),
    ],
)
def test_a_dataset_that_cannot_be_packed_is_packed_when_the_advice_is_followed(
    files: Files, limits: DatasetLimits, found: str, mend: Callable[[Files], Files], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=found):
        write_dataset_archive(list_folder(draw(tmp_path / "d", files)), io.BytesIO(), limits)

    mended = list_folder(draw(tmp_path / "mended", mend(files)))
    assert write_dataset_archive(mended, io.BytesIO(), limits).images >= 4


def test_splits_that_are_refused_work_when_the_advice_is_followed() -> None:
    labels = [0, 0, 1, 1]
    with pytest.raises(DatasetError, match="Fix: choose smaller fractions"):
        split_samples(labels, range(4), 0, 0.5, 0.5)
    assert split_samples([*labels] * 5, range(20), 0, 0.25, 0.25).train

    with pytest.raises(DatasetError, match="choose larger fractions or 0 for the part"):
        split_samples(labels, range(4), 0, 0.01, 0)
    assert split_samples(labels, range(4), 0, 0.5, 0).validation
    assert split_samples(labels, range(4), 0, 0, 0).train == (0, 1, 2, 3)
    with pytest.raises(DatasetError, match="Fix: add images"):
        split_samples([0, 1], range(2), 0)
    assert split_samples([0, 1] * 10, range(20), 0).test

    with pytest.raises(DatasetError, match="Fix: state train for some of its images"):
        split_stated(labels, range(4), [None, "test", "test", "test"], ("a", "b"), 0, 0, 0)
    assert split_stated(labels, range(4), [None, "test", "train", "test"], ("a", "b"), 0, 0, 0).train == (0, 2)

    everything = Split((0, 1, 2, 3), (), ())
    with pytest.raises(DatasetError, match="Fix: state a positive number"):
        few_shot(everything, labels, 0, 0)
    with pytest.raises(DatasetError) as caught:
        few_shot(everything, labels, 5, 0)
    advised = re.search(r"Fix: state --shots (\d+), or add images", str(caught.value))
    assert advised is not None
    assert few_shot(everything, labels, int(advised[1]), 0).train == (0, 1, 2, 3)
