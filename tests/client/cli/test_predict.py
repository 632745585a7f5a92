from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

CLI = [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.jpg"):
        (folder / name).write_bytes(Path(name).stem.encode())
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_shows_file_label_and_scores(server: Any, lensmount: Any, folder: Path) -> None:
    code, out, err = lensmount("predict", f"{folder}/a.png", "-a", "malaria", "--url", server.url)
    assert (code, err) == (0, "")
    assert all(word in out for word in ("a.png", "75.0%", "other 25.0%"))


def test_json_is_all_there_is_on_stdout(server: Any, lensmount: Any, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"bad")
    code, out, err = lensmount("predict", str(folder), "-a", "malaria,smoking", "--json", "--url", server.url)
    document = json.loads(out)
    assert code == 1
    assert [(Path(r["file"]).name, r["adapter"], r["label"]) for r in document["results"]] == [
        ("a.png", "malaria", "a"),
        ("a.png", "smoking", "a"),
        ("b.png", "malaria", "b"),
        ("b.png", "smoking", "b"),
        ("c.jpg", "malaria", "c"),
        ("c.jpg", "smoking", "c"),
    ]
    (failure,) = document["failures"]
    assert (failure["code"], failure["request_id"]) == ("image_truncated", "r-2")
    assert "bad.png: the image ends after 3 bytes (image_truncated, request r-2)" in err


def test_files_folders_and_patterns_name_each_image_once(server: Any, lensmount: Any, folder: Path) -> None:
    where = [str(folder), f"{folder}/*.png", f"{folder}/./a.png"]
    code, out, _ = lensmount("predict", *where, "-a", "malaria", "--json", "--url", server.url)
    assert code == 0
    assert [Path(row["file"]).name for row in json.loads(out)["results"]] == ["a.png", "b.png", "c.jpg"]


def test_results_are_saved_with_version_and_digest(server: Any, lensmount: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    code, _, err = lensmount("predict", str(folder), "-a", "malaria:prod", "-o", str(out), "--url", server.url)
    assert code == 0
    assert "3 rows added" in err
    first = rows(out)[0]
    assert (first["file"], first["adapter"], first["label"]) == (f"{folder}/a.png", "malaria:prod", "a")
    assert first["version"] == "1"
    assert first["digest"].startswith("sha256:")


def test_a_second_run_skips_finished_images_and_retries_failures(
    server: Any, lensmount: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.jsonl"
    command = ("predict", str(folder), "-a", "malaria", "--out", str(out), "--url", server.url)
    (folder / "b.png").write_bytes(b"bad")
    assert lensmount(*command)[0] == 1
    torn = out.read_bytes()[:-20]  # as after a kill: c.jpg was last
    out.write_bytes(torn)
    (folder / "b.png").write_bytes(b"better")
    server.images.clear()
    code, _, err = lensmount(*command)
    assert code == 0
    assert sorted(server.images) == [b"better", b"c"]
    assert "1 image skipped (already in the file)" in err
    labels = [json.loads(line)["label"] for line in out.read_text().splitlines()]
    assert labels == ["a", "better", "c"]
    assert lensmount(*command)[0] == 0
    assert len(server.images) == 2


def test_another_adapter_in_the_same_file_is_not_skipped(
    server: Any, lensmount: Any, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.csv"
    for adapter in ("malaria", "smoking", "malaria,smoking"):
        lensmount("predict", f"{folder}/a.png", "-a", adapter, "--out", str(out), "--url", server.url)
    assert [row["adapter"] for row in rows(out)] == ["malaria", "smoking"]
    assert len(server.images) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png", "-a", "malaria"], "no such file"),
        (["{folder}", "-a", "Malaria"], "expected name"),
        (["{folder}", "-a", "malaria", "--out", "x.xlsx"], ".csv or .jsonl"),
        (["{folder}", "-a", "malaria", "--out", "none/x.csv"], "cannot be written"),
        (["{folder}", "-a", "malaria", "--url", "ftp://nope"], "base_url"),
        (["{folder}"], "--adapter"),
        (["{folder}", "-a", "malaria", "--top-k", "0"], "--top-k"),
    ],
)
def test_wrong_usage_is_exit_status_2_and_sends_nothing(
    server: Any, lensmount: Any, folder: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    code, out, err = lensmount("predict", *(argument.format(folder=folder) for argument in arguments))
    assert (code, out, server.images) == (2, "", [])
    assert message in err


def test_an_error_common_to_all_images_ends_the_run_with_one_line(server: Any, lensmount: Any, folder: Path) -> None:
    code, out, err = lensmount("predict", str(folder), "-a", "none", "--url", server.url)
    assert (code, out, err) == (1, "", "no adapter is called none (adapter_not_found, request r-2)\n")


def test_names_cannot_steer_the_terminal(server: Any, lensmount: Any, tmp_path: Path) -> None:
    (tmp_path / "[red]\x1b[2Jx.png").write_bytes(b"[bold]label")
    code, out, _ = lensmount("predict", str(tmp_path), "-a", "malaria", "--url", server.url)
    assert code == 0
    assert "\x1b" not in out
    assert "[red]" in out
    assert "[bold]label" in out


def hear_ctrl_c() -> None:
    """A test run in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_cleanly_and_the_next_run_resumes(server: Any, lensmount: Any, tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
    reached, release, out = threading.Event(), threading.Event(), tmp_path / "results.csv"

    def hold_the_fourth(image: bytes) -> None:
        if image == b"3" and not release.is_set():
            reached.set()
            release.wait(timeout=30)

    server.gate = hold_the_fourth
    command = ["predict", str(tmp_path), "-a", "malaria", "--out", str(out), "--concurrency", "1", "--url", server.url]
    with subprocess.Popen(
        [*CLI, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        preexec_fn=hear_ctrl_c,
    ) as process:
        try:
            assert reached.wait(timeout=30)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
            release.set()
    assert process.returncode == 130
    assert "Traceback" not in err
    done = [row["label"] for row in rows(out)]
    assert done == ["0", "1", "2"][: len(done)]
    assert len(done) >= 2

    server.images.clear()
    assert lensmount(*command)[0] == 0
    assert [row["label"] for row in rows(out)] == ["0", "1", "2", "3", "4", "5"]
    assert len(server.images) == 6 - len(done)


@pytest.mark.parametrize("output", [["--out", "{folder}/r.csv"], ["--out", "{folder}/r.jsonl"], ["--json"]])
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_sent_and_renaming_helps(
    server: Any, lensmount: Any, folder: Path, output: list[str]
) -> None:
    odd = folder / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(b"cafe")
    command = ["predict", str(folder), "-a", "malaria", *(word.format(folder=folder) for word in output)]

    code, _, err = lensmount(*command, "--url", server.url)

    assert code == 2
    assert "udce9.png" in err
    assert "found a name that is not UTF-8. Fix: rename the file or folder" in err
    assert not (folder / "r.csv").exists()
    odd.rename(folder / "cafe.png")
    assert lensmount(*command, "--url", server.url)[0] == 0


def test_the_table_and_files_say_what_each_answer_is_worth(
    server: Any, lensmount: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("cell", "dim", "odd"):
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    ask = ("predict", f"{tmp_path}/*.png", "-a", "malaria", "--url", server.url)

    _, out, _ = lensmount(*ask)
    lines = {word: line for line in out.splitlines() for word in ("cell.png", "dim.png", "odd.png") if word in line}
    assert " sure " in lines["cell.png"]
    assert "not sure: dim or other" in lines["dim.png"]
    assert "unlike the images this was trained on" in lines["odd.png"]
    _, out, _ = lensmount(*ask, "--decision", "strict", "--json")
    found = {Path(row["file"]).name: row for row in json.loads(out)["results"]}
    assert [row["label"] for row in found.values()] == ["cell", None, None]
    assert (found["dim.png"]["decision"], found["dim.png"]["set"]) == ("uncertain", ["dim", "other"])
    assert (found["odd.png"]["percentile"], found["odd.png"]["abstained"]) == (99.5, "because of unfamiliar")
    assert lensmount(*ask, "--decision", "strict", "--out", str(tmp_path / "all.csv"))[0] == 0
    saved = [(row["label"], row["score"], row["decision"]) for row in rows(tmp_path / "all.csv")]
    assert sorted(saved) == [("", "", "uncertain"), ("", "", "unfamiliar"), ("cell", "0.75", "accept")]


def test_the_table_has_no_column_for_adapters_that_promise_nothing(server: Any, lensmount: Any, folder: Path) -> None:
    assert "trust" not in lensmount("predict", str(folder), "-a", "smoking", "--url", server.url)[1]
    assert "trust" in lensmount("predict", str(folder), "-a", "smoking,malaria", "--url", server.url)[1]


def test_an_unknown_decision_is_refused_and_its_advice_works(server: Any, lensmount: Any, folder: Path) -> None:
    ask = ("predict", str(folder), "-a", "malaria", "--url", server.url, "--decision")
    code, _, err = lensmount(*ask, "sometimes")
    assert (code, err) == (2, "decision: found 'sometimes', expected 'always' or 'strict'\n")
    assert server.images == []
    assert lensmount(*ask, "strict")[0] == 0


def test_a_prediction_imports_nothing_that_only_other_commands_need(server: Any, folder: Path) -> None:
    heavy = {"torch", "numpy", "PIL", "sklearn", "fastapi", "lensmount_adapters", "lensmount_service"}
    script = (
        "import atexit, sys; from lensmount_client._cli.main import main; "
        f"atexit.register(lambda: print(sorted({heavy} & sys.modules.keys()), file=sys.stderr)); main()"
    )
    command = [sys.executable, "-c", script, "predict", str(folder / "a.png"), "-a", "malaria", "--url", server.url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "[]\n"), ended.stdout


def test_headers_go_with_every_image(server: Any, lensmount: Any, folder: Path) -> None:
    header = ["--header", "X-Patient: 7:b", "--header", "X-Ward:a"]
    code, _, err = lensmount("predict", str(folder), "-a", "malaria", *header, "--url", server.url)
    assert (code, err) == (0, "")
    assert server.patients == ["7:b"] * 3


@pytest.mark.parametrize("header", ["X-Patient", ": 7", "X-Patient:", "Authorization: me", "X-Patient: \x00"])
def test_what_is_no_header_is_wrong_usage(server: Any, lensmount: Any, folder: Path, header: str) -> None:
    code, _, err = lensmount("predict", str(folder), "-a", "malaria", "--header", header, "--url", server.url)
    assert code == 2
    assert "Fix:" in err


def test_headers_are_of_no_use_for_pictures(server: Any, lensmount: Any, folder: Path) -> None:
    asked = ("predict", f"{folder}/a.png", "-a", "malaria", "--explain", "why.png", "--header", "X-Patient: 7")
    code, _, err = lensmount(*asked, "--url", server.url)
    assert (code, "Fix: leave it out" in err) == (2, True)
