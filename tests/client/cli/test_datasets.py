from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for name in ("cat/a.png", "cat/b.png", "dog/c.png", "dog/notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_push_shows_the_report_and_its_warnings(server: Any, lensmount: Any, folder: Path) -> None:
    server.training.warnings = [{"code": "label_conflict", "message": "1 pair of [different] labels looks alike"}]
    code, out, err = lensmount("datasets", "push", str(folder))
    assert (code, err) == (0, "")
    for words in (
        *("pets@1", "sha256:", "cat 2", "dog 1", "train 2, test 1", "8 x 8 to 10 x 12, median 9 x 9", "PNG 3"),
        *("2 files", "cat/a.png = cat/b.png", "1 file", "dog/[x].png: truncated", "1 .txt"),
        "warning: 1 pair of [different] labels looks alike (label_conflict)",
    ):
        assert words in out
    assert "near-duplicates" not in out  # there are none
    assert "\N{REPLACEMENT CHARACTER}" not in out


@pytest.mark.parametrize("packed", [False, True])
def test_names_of_two_levels_are_refused_with_a_flag_that_works(lensmount: Any, tmp_path: Path, packed: bool) -> None:
    names = [f"{folder}/{number}.png" for folder in ("lung/aca", "lung/scc", "colon/aca") for number in range(2)]
    for name in names:
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(name.encode())
    source = tmp_path / "d"
    if packed:
        source = tmp_path / "d.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name in names:
                archive.write(tmp_path / "d" / name, name)
    else:
        code, _, err = lensmount("datasets", "push", str(source))
        assert code == 2
        assert "--class-depth 1 or --class-depth 2" in err

    assert lensmount("datasets", "push", str(source), "--class-depth", "2")[0] == 0

    lensmount("datasets", "pull", "d", "--out", str(tmp_path / "back.zip"))
    with zipfile.ZipFile(tmp_path / "back.zip") as archive:
        rows = map(json.loads, archive.read("manifest.jsonl").splitlines())
        assert {row["path"]: row["label"] for row in rows} == {name: name.rpartition("/")[0] for name in names}


def test_json_is_the_object_of_the_api_with_the_files_not_sent(lensmount: Any, folder: Path) -> None:
    pushed = json.loads(lensmount("datasets", "push", str(folder), "--name", "zoo", "--json")[1])
    assert (pushed["name"], pushed["version"], pushed["report"]["formats"]) == ("zoo", 1, {"PNG": 3})
    assert pushed.pop("left_out") == {".txt": 1}
    assert pushed.pop("notes") == []
    assert json.loads(lensmount("datasets", "show", "zoo", "--json")[1]) == pushed
    assert json.loads(lensmount("datasets", "list", "--json")[1]) == {"datasets": [pushed]}


def test_list_show_pull_and_delete(lensmount: Any, folder: Path, tmp_path: Path) -> None:
    assert "lensmount datasets push DIR" in lensmount("datasets", "list")[1]
    lensmount("datasets", "push", str(folder))
    out = lensmount("datasets", "list")[1]
    assert all(word in out for word in ("pets", "cat 2, dog 1", " days"))
    assert "pets@1" in lensmount("datasets", "show", "pets", "--version", "1")[1]
    code, out, _ = lensmount("datasets", "pull", "pets", "--out", str(tmp_path))
    assert (code, out.split()[0]) == (0, f"{tmp_path}/pets.zip")
    assert zipfile.ZipFile(tmp_path / "pets.zip").namelist() == ["cat/a.png", "cat/b.png", "dog/c.png"]
    document = json.loads(lensmount("datasets", "pull", "pets", "--out", str(tmp_path), "--json")[1])
    assert set(document) == {"path", "digest", "size_bytes"}
    assert lensmount("datasets", "delete", "pets") == (0, "deleted pets with all its versions\n", "")
    assert lensmount("datasets", "undelete", "pets") == (0, "pets: version 1 is back\n", "")
    lensmount("datasets", "delete", "pets", "--purge")
    assert lensmount("datasets", "show", "pets")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["push", "{tmp}/none"], 2, "no such file or folder"),
        (["push", "{tmp}/empty"], 2, "expected images"),
        (["push", "{tmp}/pets", "--name", "My Pets"], 2, "dataset name"),
        (["show", "none"], 1, "no dataset is called none (dataset_not_found, request r-2)"),
        (["delete", "none"], 1, "dataset_not_found"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str], code: int, message: str, lensmount: Any, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    found, out, err = lensmount("datasets", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_review_lists_what_to_look_at(server: Any, lensmount: Any, folder: Path) -> None:
    lensmount("datasets", "push", str(folder))

    code, out, _ = lensmount("datasets", "review", "pets")
    scripted = json.loads(lensmount("datasets", "review", "pets", "--json")[1])

    assert code == 0
    for words in ("1 likely wrong labels", "note:", "cat/[b].png", "dog", "0.12", "two parts, two labels"):
        assert words in out
    assert scripted["review"]["labels"][1]["flagged"] is False


def test_draft_says_what_it_is_made_of_and_how_good_it_is(lensmount: Any, folder: Path) -> None:
    lensmount("datasets", "push", str(folder))

    code, out, _ = lensmount("datasets", "draft", "pets", "--adapter", "first")

    assert code == 0
    for words in ("first@1, a first draft", "40 (2 not used)", "cat 20", "0.88 (cross-validation)", "1.2"):
        assert words in out
    made = json.loads(lensmount("datasets", "draft", "pets", "--adapter", "first", "--json")[1])
    assert (made["name"], made["draft"]["balanced_accuracy"]) == ("first", 0.875)


def test_edit_sends_each_change_and_shows_the_new_version(server: Any, lensmount: Any, folder: Path) -> None:
    lensmount("datasets", "push", str(folder))

    code, out, _ = lensmount(
        "datasets", "edit", "pets", "--relabel", "cat/a=1.png=dog", "--exclude", "cat/b.png", "--exclude", "dog/c.png"
    )

    assert code == 0
    assert "pets@1" in out
    assert server.training.edits == [(None, {"relabel": {"cat/a=1.png": "dog"}, "exclude": ["cat/b.png", "dog/c.png"]})]


def test_a_change_without_a_label_is_refused_with_one_that_works(server: Any, lensmount: Any, folder: Path) -> None:
    lensmount("datasets", "push", str(folder))

    code, _, err = lensmount("datasets", "edit", "pets", "--relabel", "cat/1.png")

    assert code == 2
    advice = err.split("Fix: ")[1].split()
    assert lensmount("datasets", "edit", "pets", *advice)[0] == 0
