from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import CannotWrite, InvalidInput
from lensmount_client._cli.results_file import COLUMNS, FIRST_COLUMNS, ResultsFile
from lensmount_client._files.labels import read_rows

NASTY = ['a,"b".png', "line\nbreak.png", "=1+1.png", "é\udcff.png", "'x';.png"]


def row(file: str) -> dict[str, Any]:
    values = (file, "malaria:prod", "para", 0.75, {"para": 0.75, "un": 0.25}, 3, "sha256:0", "sha256:f", "r-1")
    return dict(zip(COLUMNS, (*values, "uncertain", ["para", "un"], 37.5, None), strict=True))


ABSTAINED: dict[str, Any] = {"label": None, "score": None, "scores": {}, "abstained": "=not sure"}
UNKNOWN = {"decision": None, "set": None, "percentile": None}


@pytest.fixture(params=["results.csv", "results.jsonl", "RESULTS.CSV"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_rows_are_found_again_with_any_file_name(path: Path) -> None:
    for file in NASTY:
        with ResultsFile(path) as results:
            results.append(row(file))
    with ResultsFile(path) as results:
        assert results.done == {(file, "malaria:prod") for file in NASTY}


def test_a_kill_at_any_byte_loses_at_most_the_last_row(path: Path) -> None:
    with ResultsFile(path) as results:
        for file in NASTY[:3]:
            results.append(row(file))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with ResultsFile(path) as results:
            kept = len(results.done)
            for file in NASTY[kept:3]:
                results.append(row(file))
        assert path.read_bytes() == whole, f"killed after byte {length}"


FORMULAS = ["=1+1.png", "+ve", "-ve", "@x", "'=x", "''+y", "\t=z"]


def test_no_cell_begins_a_formula_and_every_name_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    names = [*FORMULAS, "'plain'", "cat"]
    with ResultsFile(path) as results:
        for number, name in enumerate(names):
            results.append(row(f"{number}.png") | {"label": name} if number else row(name) | {"label": "x"})

    with path.open(newline="") as file:
        cells = [cell for read in csv.reader(file) for cell in read]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    with ResultsFile(path) as results:
        assert ("=1+1.png", "malaria:prod") in results.done
    labels = [found.label for found in read_rows("labels.csv", path.read_bytes())]
    assert labels == ["x", *(name.strip() for name in names[1:])]


def test_each_row_is_on_disk_as_soon_as_it_is_appended(path: Path) -> None:
    with ResultsFile(path) as results:
        results.append(row("a.png"))
        assert b"a.png" in path.read_bytes()


def test_csv_is_what_the_csv_module_reads(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with ResultsFile(path) as results:
        results.append(row(NASTY[1]))
    with path.open(newline="") as file:
        (read,) = csv.DictReader(file)
    assert (read["file"], read["version"], read["digest"]) == (NASTY[1], "3", "sha256:0")
    assert json.loads(read["scores"]) == {"para": 0.75, "un": 0.25}
    assert (read["decision"], json.loads(read["set"]), read["percentile"]) == ("uncertain", ["para", "un"], "37.5")


def test_a_row_without_a_label_has_empty_cells_and_is_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with ResultsFile(path) as results:
        results.append(row("a.png") | ABSTAINED)
        results.append(row("b.png") | UNKNOWN)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["label"], first["score"], first["scores"], first["abstained"]) == ("", "", "{}", "'=not sure")
    assert (second["decision"], second["set"], second["percentile"], second["abstained"]) == ("", "", "", "")
    with ResultsFile(path) as results:
        assert results.done == {("a.png", "malaria:prod"), ("b.png", "malaria:prod")}


def test_a_file_of_before_trust_is_continued_with_its_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(",".join(FIRST_COLUMNS) + "\na.png,malaria:prod,para,0.75,{},3,sha256:0,sha256:f,r-1\n")
    with ResultsFile(path) as results:
        assert results.done == {("a.png", "malaria:prod")}
        results.append(row("b.png"))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(read) for read in rows] == [FIRST_COLUMNS] * 2
    assert [read["file"] for read in rows] == ["a.png", "b.png"]


def test_jsonl_is_one_object_per_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ResultsFile(path) as results:
        results.append(row("a.png"))
        results.append(row("b.png"))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row("a.png"), row("b.png")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("other.csv", "name,age\nx,3\n"),
        ("other.jsonl", '{"name": "x"}\n'),
        ("other.jsonl", "[]\n"),
        ("other.jsonl", "no json\n"),
    ],
)
def test_a_file_that_is_not_a_results_file_is_refused_and_unchanged(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match="choose another --out"):
        ResultsFile(tmp_path / name)
    assert (tmp_path / name).read_text() == content


def test_suffix_and_folder_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.csv or \.jsonl"):
        ResultsFile(tmp_path / "results.xlsx")
    with pytest.raises(CannotWrite, match="No such file"):
        ResultsFile(tmp_path / "none" / "results.csv")
