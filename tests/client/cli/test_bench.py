"""`lensmount bench` on a small server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lensmount_client._bench.summary import Figures, Latency, Summary
from lensmount_client._cli.bench import summary_table
from lensmount_client._cli.terminal import print_table

CLI = [sys.executable, "-c", "from lensmount_client._cli.main import main; main()"]
QUICK = ("--duration", "0.3", "--warmup", "0")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"%d" % number)
    return tmp_path


@pytest.fixture(autouse=True)
def _service_time(server: Any) -> None:
    """Each image takes 40 ms: of a server that answers at once, the tool says that it measures itself as well."""
    server.gate = lambda image: time.sleep(0.04)


def test_the_table_has_a_row_for_each_adapter_and_one_for_all(server: Any, lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), *QUICK, "--url", server.url)
    assert code == 0
    for word in ("malaria", "smoking", "all", "per s", "p50", "p90", "p95", "p99", "max"):
        assert word in out
    assert err == "8 connections, zipf over 2 adapters, 3 images, 0.3 s after 0 s of warm-up\n"
    assert set(server.images) == {b"0", b"1", b"2"}


def test_json_is_all_there_is_on_stdout(server: Any, lensmount: Any, images: Path) -> None:
    arguments = ("-a", "smoking,malaria:prod", "--mix", "uniform", "--rate", "100", "--json", "--seed", "5")
    code, out, _ = lensmount("bench", str(images), *arguments, *QUICK, "--url", server.url)
    document = json.loads(out)
    assert code == 0
    assert (document["loop"], document["rate"], document["connections"]) == ("open", 100, 256)
    assert set(document["adapters"]) == {"smoking", "malaria:prod"}
    assert document["requests"] == sum(one["requests"] for one in document["adapters"].values()) == len(server.images)
    assert document["errors"] == {}
    assert 0 < document["latency_ms"]["p50"] <= document["latency_ms"]["max"]


def test_figures_stay_whole_in_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    worst = Figures(1_000_000, {"queue_full": 999_999}, 12_345.6, Latency(10_000, 20_000, 30_000, 59_999, 60_000))
    names = [f"adapter-with-name-{number}" for number in range(3)]
    print_table(summary_table(Summary(worst, dict.fromkeys(names, worst), {}, 0.1)))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("1,000,000" in line and "12,346" in line and "59,999" in line for line in lines) == 4


def test_mix_one_requests_only_the_first_adapter(server: Any, lensmount: Any, images: Path) -> None:
    arguments = ("--mix", "one", "--connections", "2", "--json", "--url", server.url)
    code, out, err = lensmount("bench", str(images), *arguments, *QUICK)
    assert code == 0
    assert set(json.loads(out)["adapters"]) == {"malaria"}
    assert err.startswith("2 connections, malaria, 3 images")


def test_failures_are_counted_by_code_shown_once_and_are_exit_status_1(
    server: Any, lensmount: Any, images: Path
) -> None:
    (images / "1.png").write_bytes(b"bad")
    code, out, err = lensmount("bench", str(images), "-a", "malaria", *QUICK, "--json", "--url", server.url)
    document = json.loads(out)
    assert code == 1
    assert set(document["errors"]) == {"image_truncated"}
    assert document["errors"]["image_truncated"] == pytest.approx(document["requests"] / 3, abs=1)
    failed = document["errors"]["image_truncated"]
    assert err.splitlines()[1:] == [f"{failed} image_truncated: the image ends after 3 bytes"]

    code, out, err = lensmount("bench", str(images), "-a", "malaria,none", *QUICK, "--url", server.url)
    assert code == 1
    assert "adapter_not_found: no adapter is called none" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "no such file"),
        (["{images}", "-a", "Malaria"], "expected name"),
        (["{images}", "--mix", "gauss"], "--mix"),
        (["{images}", "--rate", "0"], "--rate"),
        (["{images}", "--connections", "0"], "--connections"),
        (["{images}", "--url", "ftp://nope"], "base_url"),
        ([], "IMAGES"),
    ],
)
def test_wrong_usage_is_exit_status_2_and_sends_nothing(
    server: Any, lensmount: Any, images: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    code, out, err = lensmount("bench", *(argument.format(images=images) for argument in arguments))
    assert (code, out, server.images) == (2, "", [])
    assert message in err


def test_an_unreachable_server_is_reported_once_before_the_load(lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), "-a", "malaria", "--url", "http://127.0.0.1:1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "start one with `lensmount serve`" in err


def test_a_server_without_adapters_has_nothing_to_measure(server: Any, lensmount: Any, images: Path) -> None:
    server.files.clear()
    code, _, err = lensmount("bench", str(images), "--url", server.url)
    assert code == 2
    assert "no adapter that is ready" in err


def hear_ctrl_c() -> None:
    """A test run in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_at_once_even_while_responses_are_missing(server: Any, images: Path) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold(image: bytes) -> None:
        reached.set()
        release.wait(timeout=60)

    server.gate = hold
    command = ["bench", str(images), "--duration", "60", "--url", server.url]
    with subprocess.Popen([*CLI, *command], stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c) as process:
        try:
            assert reached.wait(timeout=30)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
            release.set()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_run_that_measured_nothing_is_a_failure(server: Any, lensmount: Any, images: Path) -> None:
    code, out, err = lensmount("bench", str(images), "--rate", "0.001", *QUICK, "--url", server.url)
    assert code == 1
    assert "no request started in the measured time" in err
    assert "all" in out
