"""`lensmount jobs`: what each command prints, sends and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("pushed")
CLI = [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"]
ID = "ab" + "0" * 30


def not_published() -> dict[str, Any]:
    replaced = {"name": "cats", "version": 2, "digest": "sha256:1", "balanced_accuracy": 0.95}
    gate = {
        "passed": False,
        "reason": "found 0.900 balanced accuracy, expected at least 0.940",
        "margin": 0.01,
        "forced": False,
        "balanced_accuracy": 0.9,
        "replaced": replaced,
    }
    return {"state": "succeeded", "result": {"published": False, "adapter": None, "gate": gate, "files": []}}


FAILED = {"state": "failed", "attempt": 3, "error": {"code": "worker_lost", "message": "killed three times"}}
CANCELLED = {"state": "cancelled"}


def test_teach_uploads_trains_and_watches_in_one_command(server: Any, lensmount: Any, pushed: Path) -> None:
    code, out, err = lensmount("teach", str(pushed), "--name", "mine", "--epochs", "3", "--json")
    assert code == 0
    assert server.training.bodies[-1] == {"dataset": "mine@1", "adapter": "mine", "epochs": 3}
    assert json.loads(out)["result"]["published"] is True
    assert "dataset mine@1: 2 images" in err
    code, out, _ = lensmount("teach", str(pushed), "-n", "mine")
    assert code == 0
    assert "published" in out


def test_teach_says_what_is_wrong_before_it_uploads(server: Any, lensmount: Any, pushed: Path) -> None:
    for words, told in (
        ((str(pushed), "--name", "My Task"), "adapter name: found 'My Task'"),
        (("https://example.com/pets.zip", "--name", "mine"), "Fix: download it, then give its path"),
    ):
        code, _, err = lensmount("teach", *words)
        assert code == 2
        assert told in err.replace("\n", " ")
    assert "mine" not in server.training.stored


def test_teach_ends_with_status_3_if_the_gate_refuses(server: Any, lensmount: Any, pushed: Path) -> None:
    server.training.outcome = not_published()
    code, _, err = lensmount("teach", str(pushed), "--name", "mine")
    assert code == 3
    assert "Publish it anyway:" in err


def test_submit_says_how_to_watch(server: Any, lensmount: Any) -> None:
    code, out, err = lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    assert (code, out) == (0, f"job {ID} queued: cats from pets@1\n")
    assert err == "Watch it: lensmount jobs watch ab000000\n"
    code, _, err = lensmount("jobs", "submit", "-d", "pets", "-a", "cats", "--url", server.url + "/")
    assert err == f"Watch it: lensmount jobs watch ac000000 --url {server.url}/\n"


def test_a_key_makes_a_repeated_command_one_job(lensmount: Any) -> None:
    command = ("jobs", "submit", "-d", "pets", "-a", "cats", "--json", "--key", "nightly")
    assert json.loads(lensmount(*command)[1])["id"] == json.loads(lensmount(*command)[1])["id"]


def test_data_is_pushed_first_and_the_job_bound_to_its_version(server: Any, lensmount: Any, pushed: Path) -> None:
    (pushed / "dog" / "c.png").write_bytes(b"new")
    code, _, err = lensmount("jobs", "submit", "--data", str(pushed), "-a", "cats")
    assert code == 0
    assert err.startswith("dataset pets@2: 3 images\n")
    assert lensmount("jobs", "submit", "--data", str(pushed), "--dataset", "zoo", "-a", "cats")[0] == 0
    assert [body["dataset"] for body in server.training.bodies] == ["pets@2", "zoo@1"]


def test_data_with_names_of_two_levels_is_pushed_with_the_depth(server: Any, lensmount: Any, tmp_path: Path) -> None:
    for name in ("lung/aca/1.png", "lung/scc/2.png", "colon/aca/3.png", "colon/scc/4.png"):
        (tmp_path / "lungs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lungs" / name).write_bytes(name.encode())
    command = ("jobs", "submit", "--data", str(tmp_path / "lungs"), "-a", "cats")
    code, _, err = lensmount(*command)
    assert (code, server.training.bodies) == (2, [])
    assert "--class-depth 2" in err
    assert lensmount(*command, "--class-depth", "2")[0] == 0
    assert [body["dataset"] for body in server.training.bodies] == ["lungs@1"]


def test_a_watched_job_ends_with_its_results_and_the_next_commands(server: Any, lensmount: Any) -> None:
    code, out, err = lensmount("jobs", "submit", "-d", "pets", "-a", "cats", "--watch")
    assert code == 0
    for words in (
        *(ID, "succeeded", "published pets@1", "pets@1", "0:00:41"),
        *("balanced accuracy 96.2%, accuracy 96.0%", "passed: there was nothing to replace", "report.html"),
    ):
        assert words in out
    lines = err.splitlines()
    assert lines[:2] == [f"job {ID} queued", f"job {ID} running"]
    assert lines[2] == "epoch 1/3  loss 1.000  accuracy 50.0%  validation  loss 2.000  accuracy 50.0%  0:00:09 left"
    assert "warning: few images" in lines
    assert lines[-2:] == [
        "Try it:         lensmount predict IMAGE --adapter cats",
        "Get its report: lensmount jobs download ab000000 report.html",
    ]


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (None, 0, "Try it"),
        (FAILED, 1, "failed after 3 of 3 attempts: killed three times (worker_lost)"),
        (CANCELLED, 1, "was cancelled (job_cancelled)"),
        (not_published(), 3, "lensmount adapters push adapter.safetensors --name cats"),
    ],
)
@pytest.mark.parametrize("json_too", [False, True])
def test_the_exit_status_shows_the_outcome(
    outcome: dict[str, Any] | None, status: int, words: str, json_too: bool, server: Any, lensmount: Any
) -> None:
    server.training.outcome = outcome or server.training.outcome
    lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    code, out, err = lensmount("jobs", "watch", *(["--json"] if json_too else []))
    assert code == status
    if json_too:
        assert json.loads(out) == server.training.known[ID]
    else:
        assert words in err
    if outcome and outcome["state"] == "succeeded" and not json_too:
        assert "refused: found 0.900 balanced accuracy" in out


def test_watch_gives_up_at_its_timeout(server: Any, lensmount: Any) -> None:
    lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    code, _, err = lensmount("jobs", "watch", "--timeout", "0")
    assert code == 1
    assert "it continues (wait_timeout)" in err


def test_list_show_logs_and_the_shapes_of_json(server: Any, lensmount: Any) -> None:
    assert "lensmount jobs submit" in lensmount("jobs", "list")[1]
    for adapter in ("cats", "dogs"):
        lensmount("jobs", "submit", "-d", "pets", "-a", adapter)
    lensmount("jobs", "watch", "ab")
    code, out, _ = lensmount("jobs", "list")
    assert code == 0
    assert out.index("dogs") < out.index("cats")
    assert all(word in out for word in ("ab000000", "ac000000", "queued", "succeeded", "pets@1", "▁▅█ 100.0%"))
    known = server.training.known
    assert json.loads(lensmount("jobs", "list", "--json")[1]) == {"jobs": [known["ac" + "0" * 30], known[ID]]}
    assert json.loads(lensmount("jobs", "list", "--state", "queued", "--json")[1])["jobs"] == [known["ac" + "0" * 30]]
    assert lensmount("jobs", "list", "--state", "failed")[1] == "No jobs are failed.\n"
    assert lensmount("jobs", "list", "--state", "done")[0] == 2
    code, out, _ = lensmount("jobs", "show", "ab")
    assert all(word in out for word in (ID, "succeeded", "validation accuracy", "▁▅█", "50.0% -> 100.0%"))
    assert json.loads(lensmount("jobs", "show", ID, "--json")[1]) == known[ID]
    assert lensmount("jobs", "logs", "ab") == (0, "started\nended\n", "")
    assert json.loads(lensmount("jobs", "logs", "ab", "--json")[1]) == {"id": ID, "log": "started\nended\n"}


def test_without_an_id_the_newest_job_is_used(server: Any, lensmount: Any) -> None:
    assert "No jobs yet" in lensmount("jobs", "show")[2]
    for adapter in ("cats", "dogs"):
        lensmount("jobs", "submit", "-d", "pets", "-a", adapter)
    assert json.loads(lensmount("jobs", "show", "--json")[1])["adapter"] == "dogs"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "f"], 1, "no job id starts with f. Fix: `lensmount jobs list` shows the ids (job_not_found)"),
        (["show", "f" * 32], 1, "job_not_found"),
        (["show", "a"], 2, "found 2 jobs whose ids start with it"),
        (["show", "../x"], 2, "job id: found '../x'"),
        (["submit", "-a", "cats"], 2, "--data DIR"),
        (["submit", "-d", "none", "-a", "cats"], 1, "dataset_not_found"),
        (["submit", "-d", "pets", "-a", "My Cats"], 2, "adapter name"),
        (["submit", "--data", "{tmp}/pets", "-a", "My Cats"], 2, "adapter name"),
        (["submit", "--data", "{tmp}/none", "-a", "cats"], 2, "no such file or folder"),
        (["retry", "ab"], 1, "job_not_finished"),
        (["download", "ab", "plan.txt", "--out", "{tmp}"], 2, "has no file plan.txt"),
        (["download", "ab", "--out", "{tmp}/pets/cat/a.png"], 2, "this folder cannot be made"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], code: int, message: str, lensmount: Any, tmp_path: Path) -> None:
    for adapter in ("cats", "dogs"):
        lensmount("jobs", "submit", "-d", "pets", "-a", adapter)
    found, out, err = lensmount("jobs", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_cancel_and_retry(server: Any, lensmount: Any) -> None:
    lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    assert lensmount("jobs", "cancel", "ab") == (0, f"job {ID} cancelled\n", "")
    assert lensmount("jobs", "cancel", "ab")[0] == 1
    code, out, err = lensmount("jobs", "retry", "ab")
    assert (code, out) == (0, f"job {ID} queued\n")
    assert "watch" in err
    assert json.loads(lensmount("jobs", "cancel", "ab", "--json")[1])["state"] == "cancelled"
    assert json.loads(lensmount("jobs", "retry", "ab", "--json")[1])["state"] == "queued"


def test_download_takes_all_files_or_those_named(lensmount: Any, tmp_path: Path) -> None:
    lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    out = tmp_path / "new" / "out"
    code, printed, _ = lensmount("jobs", "download", "--out", str(out))
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["adapter.safetensors", "log.txt", "report.html"]
    assert printed.splitlines()[0] == f"{out}/adapter.safetensors  7 B"
    document = json.loads(lensmount("jobs", "download", "ab", "log.txt", "-o", str(tmp_path), "--json")[1])
    assert [file["path"] for file in document["files"]] == [f"{tmp_path}/log.txt"]


def test_the_files_of_a_job_that_has_ended_can_be_deleted(lensmount: Any) -> None:
    lensmount("jobs", "submit", "-d", "pets", "-a", "cats")
    assert lensmount("jobs", "delete-files", "ab")[0] == 1
    lensmount("jobs", "cancel", "ab")
    assert lensmount("jobs", "delete-files", "ab") == (0, f"deleted the files of job {ID}\n", "")
    assert json.loads(lensmount("jobs", "delete-files", "ab", "--json")[1]) == {"id": ID, "files": []}


def hear_ctrl_c() -> None:
    """A test run in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_stops_watching_but_not_the_job(server: Any) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold_the_first_epoch(kind: str) -> None:
        if kind == "epoch":
            reached.set()
            release.wait(timeout=30)

    server.training.hold = hold_the_first_epoch
    command = ["jobs", "submit", "-d", "pets", "-a", "cats", "--watch"]
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
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            release.set()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "The job continues." in err
    assert "lensmount jobs watch ab000000" in err
    assert "lensmount jobs cancel ab000000" in err
    assert server.training.known[ID]["state"] == "running"
