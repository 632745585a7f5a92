"""Files of labels: their contents, and that every refusal names its row."""

from __future__ import annotations

import json
import random

import pytest

from lensmount_adapters.data.labels import MAX_FILE_BYTES, part_of, read_rows
from lensmount_adapters.errors import DatasetError


def refusal(name: str, data: bytes | str) -> str:
    with pytest.raises(DatasetError) as caught:
        read_rows(name, data.encode() if isinstance(data, str) else data)
    assert caught.value.code in ("dataset_invalid", "dataset_too_small")
    return str(caught.value)


def test_a_csv_gives_its_rows_with_their_numbers() -> None:
    rows = read_rows(
        "labels.csv",
        b'\xef\xbb\xbfPath, label,group,split,age\r\na/1.png,cat,p1,train,3\r\n\r\n"./a/2,b.png","fine dog",,,\r\n',
    )

    assert [(r.number, r.path, r.label, r.group, r.split) for r in rows] == [
        (2, "a/1.png", "cat", "p1", "train"),
        (4, "a/2,b.png", "fine dog", None, None),
    ]


def test_json_lines_give_the_same_and_numbers_count_as_text() -> None:
    lines = [
        {"path": "a/1.png", "label": 0, "group": 17, "split": "test", "width": 3},
        {"path": "a/2.png", "label": "1", "group": None},
    ]

    rows = read_rows("manifest.jsonl", "\n\n".join(map(json.dumps, lines)).encode())

    assert [(r.number, r.path, r.label, r.group, r.split) for r in rows] == [
        (1, "a/1.png", "0", "17", "test"),
        (3, "a/2.png", "1", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "row", "found"),
    [
        ("", 1, "expected a header"),
        ("colour,size\nx,y\n", 1, "no column path and label"),
        ("file,size\nx,y\n", 1, "separated by commas"),
        ("image,class,category\nx,y,z\n", 1, "columns class and category, and each could be the label"),
        ("path,label,label\nx,y,z\n", 1, "column label twice"),
        ("path,label\na.png,cat\nb.png\n", 3, "found 1 cells, expected the 2"),
        ("path,label\na.png,cat,more\n", 2, "found 3 cells"),
        ("path,label\na.png,\n", 2, "no label"),
        ("path,label\n,cat\n", 2, "no path"),
        ("path,label\na.png,cat\nb.png,Cat\n", 3, "'cat' in row 2: they differ only in upper and lower case"),
        ("path,label\na.png,cat|ring\n", 2, "several labels of one image (cat|ring)"),
        ("path,label\na.png,cat\nhttps://x.org/1.png,dog\n", 3, "web address"),
        ("path,label\na.png,cat\na.png,dog\n", 3, "row 2 already has it"),
        ("path,label\n../a.png,cat\n", 2, "'..' in the path"),
        ("path,label\n..\\a.png,cat\n", 2, "'..' in the path"),
        ("path,label,split\na.png,cat,spare\n", 2, "expected train, validation, test"),
        ("path,label\na.png,c\0t\n", 2, "control character"),
        ('path,label\na.png,"cat\n', 2, "not CSV"),
        ('path,label\na.png,"c"at\n', 2, "not CSV"),
        (f"path,label\na.png,{'x' * 300}\n", 2, "label of 300 characters"),
        (f"path,label\na.png,{'x' * 20_000}\n", 2, "20006 characters in one line"),
        (f"path,label\n{'p' * 2000}.png,x\n", 2, "characters as path"),
    ],
)
def test_zip_11_a_csv_is_refused_with_the_row_named(text: str, row: int, found: str) -> None:
    message = refusal("labels.csv", text)

    assert message.startswith(f"labels.csv, row {row}: ")
    assert found in message


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 5000, "not a JSON object"),
        ('{"path": "a.png", "label": "x", "label": "y"}', "appears twice"),
        ('{"path": "a.png", "label": {"name": "x"}}', "found a label that is not text"),
        ('{"path": "a.png", "label": NaN}', "found no label"),
        ('{"path": "a.png", "label": []}', "found no label"),
        ('{"path": "a.png", "label": "x", "answer": "reject"}', "the answer 'reject' of Prodigy"),
        ('{"path": "a.png", "label": ["x", "y"]}', "several labels of one image (x, y)"),
        ('{"path": ["a.png"], "label": "x"}', "found a path that is not text"),
        ('{"path": "a.png"}', "found no label"),
        ('{"path": true, "label": "x"}', "found a path that is not text"),
        ('{"path": "a.png", "label": "\\ud800"}', "U+D800, half of a character"),
        ('{"path": "a.png", "label": ' + "9" * 5000 + "}", "row 2"),
        ('{"path": "a.png", "label": ' + "9" * 50 + "}", "huge number"),
    ],
)
def test_zip_11_json_lines_are_refused_with_the_row_named(line: str, found: str) -> None:
    message = refusal("manifest.jsonl", f'{{"path": "0.png", "label": "x"}}\n{line}\n')

    assert message.startswith("manifest.jsonl, row 2: ")
    assert found in message


def test_zip_11_bytes_that_are_not_utf8_are_refused_with_their_row() -> None:
    assert "row 3: found bytes that are not UTF-8" in refusal("labels.csv", b"path,label\na.png,cat\nb.png,\xff\xfe\n")
    assert "row 2: found bytes that are not UTF-16-LE" in refusal(
        "labels.csv", "path,label\na".encode("utf-16") + b"\x00\xd8"
    )


def test_zip_11_a_huge_file_and_one_without_rows_are_refused() -> None:
    assert f"expected at most {MAX_FILE_BYTES}" in refusal("labels.csv", b"x" * (MAX_FILE_BYTES + 1))
    assert "found no rows" in refusal("labels.csv", "path,label\n")
    assert "found no rows" in refusal("manifest.jsonl", "\n\n")


def test_labels_that_a_spreadsheet_would_take_for_formulas_are_labels() -> None:
    rows = read_rows("labels.csv", b"path,label\na.png,-1\nb.png,+ve\nc.png,=pos\nd.png,@home\n-e.png,-ve\n")

    assert [row.label for row in rows] == ["-1", "+ve", "=pos", "@home", "-ve"]


@pytest.mark.parametrize(
    ("stated", "path"),
    [
        ("a\\b.png", "a/b.png"),
        (".\\a\\b.png", "a/b.png"),
        ("./a//b.png", "a/b.png"),
        ("C:\\x\\b.png", "C:/x/b.png"),
        ("/x/b.png", "/x/b.png"),
        ("file:///x/b.png", "/x/b.png"),
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_paths_of_any_system_get_slashes(stated: str, path: str) -> None:
    assert read_rows("labels.csv", f"path,label\n{stated},cat\n".encode())[0].path == path


@pytest.mark.parametrize(
    ("word", "part"),
    [
        *((word, "train") for word in ("train", "Training", "TRAIN", "train_set", "training-data")),
        *((word, "validation") for word in ("val", "Valid", "validation", "dev", "validation set")),
        *((word, "test") for word in ("test", "Testing", "eval", "holdout", "hold-out", "hold_out", "test_images")),
        *((word, None) for word in ("", "trains", "vehicle", "seg_train", "set", "data", "testis", "contest", "1")),
    ],
)
def test_words_name_parts(word: str, part: str | None) -> None:
    assert part_of(word) == part


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("filename,class,patient,set", "a.png,cat,7,train"),
        ("Image_ID;Diagnosis;Patient ID;Split", "a.png;cat;7;training"),
        ("subset\tsubject\tdx\tfile name", "train\t7\tcat\ta.png"),
        ("path,label,group,split,id,class", "a.png,cat,7,train,x,y"),
    ],
)
def test_columns_have_the_names_that_people_use(head: str, line: str) -> None:
    row = read_rows("labels.csv", f"{head}\n{line}\n".encode())[0]

    assert (row.path, row.label, row.group, row.split) == ("a.png", "cat", "7", "train")


@pytest.mark.parametrize("label", ["Carcinoma, NOS", "a/b", "rock; paper", "x, y"])
def test_a_sign_in_one_name_does_not_make_it_several_labels(label: str) -> None:
    rows = f'path,label\n1.png,"{label}"\n2.png,"{label}"\n3.png,"Adenoma, NOS"\n4.png,other\n'

    assert read_rows("labels.csv", rows.encode())[0].label == label


@pytest.mark.parametrize("name", ["labels.csv", "manifest.jsonl"])
def test_mutated_files_give_rows_or_a_refusal_and_nothing_else(name: str) -> None:
    good = {
        "labels.csv": b'path,label,group,split\n"a/1.png",cat,p1,train\nb/2.png,dog,,test\n',
        "manifest.jsonl": b'{"path": "a/1.png", "label": "cat"}\n{"path": "b/2.png", "label": 3, "group": null}\n',
    }[name]
    draw = random.Random(1)
    refusals: list[str] = []
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(data))
            data[at : at + draw.randrange(3)] = draw.choice((b'"', b",", b"\n", b"\0", b"\xff", b"{", b"\\u", b"1e999"))
        try:
            assert all(row.label for row in read_rows(name, bytes(data)))
        except DatasetError as error:
            refusals.append(str(error))

    assert refusals
    assert all(message.startswith(name) for message in refusals)


def test_json_values_that_are_one_label_are_read_as_json_writes_them() -> None:
    values = [True, 1.5, ["x"], False]

    rows = read_rows(
        "manifest.jsonl", "\n".join(json.dumps({"path": f"{n}.png", "label": v}) for n, v in enumerate(values)).encode()
    )

    assert [row.label for row in rows] == ["true", "1.5", "x", "false"]


def test_numbers_that_repeat_are_classes_and_measurements_are_not() -> None:
    doses = "".join(f"{n}.png,{(n % 3) / 2}\n" for n in range(9))

    assert {row.label for row in read_rows("labels.csv", f"path,label\n{doses}".encode())} == {"0.0", "0.5", "1.0"}
    assert "a measurement cannot be a class" in refusal("labels.csv", "path,label\na,0.5\nb,1.25\nc,7\n")
    assert "a measurement cannot be a class" in refusal("labels.csv", "path;label\na;0,5\nb;1,25\nc;-7e3\n")
