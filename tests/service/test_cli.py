"""A command that cannot start ends at once, with one line that says why and an exit status for supervisors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

FORKS = """
import json, os, sys, traceback
from lensmount_adapters.light_timm import import_timm
from lensmount_client._cli.main import main
import_timm()
from lensmount_service import maintenance, server
from lensmount_service.worker import worker
for arguments in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 2)
        os.close(reading), os.close(writing)
        status = 0
        try:
            main(arguments)
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as file:
        stderr = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(json.dumps([status, stderr]) + "\\n")
"""
SERVE = ["serve", "--backbone", "test_resnet", "--weights", "random:0", "--no-zoo", "--port", "0"]
WORK = ["worker", "--backbone", "test_resnet", "--weights", "random:0"]
CALIBRATE = ["calibrate", "--backbone", "test_resnet", "--weights", "random:0", "--device", "cpu", "--threads", "1"]

WRONG_SETTINGS = {
    "serve at a port beyond all ports": ([*SERVE, "--port", "70000"], "--port"),
    "serve with an unknown dtype": ([*SERVE, "--dtype", "int8"], "--dtype"),
    "work for a server that is not a URL": ([*WORK, "--server", "ftp://localhost:8000"], "expected http://HOST:PORT"),
    "work with a nice beyond 19": ([*WORK, "--nice", "20"], "--nice"),
}
REFUSALS = {
    **WRONG_SETTINGS,
    "serve at another address without a token": ([*SERVE, "--host", "0.0.0.0"], "expected a token"),
    "serve an unknown backbone": ([*SERVE, "--backbone", "resnet34x"], "found no timm model named 'resnet34x'"),
    "serve missing weights": (
        [*SERVE, "--weights", "nowhere.safetensors"],
        "found no weights file nowhere.safetensors",
    ),
    "work with an unknown backbone": ([*WORK, "--backbone", "resnet34x"], "resnet34x"),
    "work with another kind of database": ([*WORK, "--database", "mysql://x"], "expected postgresql://"),
    "calibrate a missing executor": ([*CALIBRATE, "--executor", "cudagraphs"], "Fix"),
    "gc with another kind of database": (["gc", "--database", "mysql://x"], "expected postgresql://"),
    "gc of a URL that is not a store": (["gc", "--blobs", "nonsense"], "expected s3://"),
}
AWAY = [*WORK, "--database", "postgresql://nobody@127.0.0.1:1/none"]  # nobody listens there

Ended = dict[tuple[str, ...], tuple[int, str]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Each command's exit status and stderr. One process imports torch and forks once per command."""
    state = ["--state", str(tmp_path_factory.mktemp("state"))]
    commands = [arguments for arguments, _ in REFUSALS.values()] + [AWAY]
    run = subprocess.run(
        [sys.executable, "-c", FORKS, json.dumps([arguments + state for arguments in commands])],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    return {tuple(arguments): (status, text) for arguments, (status, text) in zip(commands, found, strict=True)}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_wrong_start_ends_at_once_with_one_line(ended: Ended, case: str) -> None:
    arguments, text = REFUSALS[case]
    status, stderr = ended[tuple(arguments)]

    *progress, line = stderr.strip().splitlines()
    assert status == 78
    assert text in line
    assert line.startswith(f"lensmount {arguments[0]}: ")
    assert all(step.endswith(" ...") for step in progress)  # only `lensmount serve` tells its steps
    assert not (progress and (arguments[0] != "serve" or case in WRONG_SETTINGS))


def test_the_exit_status_for_a_database_that_is_away_allows_a_restart(ended: Ended) -> None:
    pytest.importorskip("psycopg")
    status, stderr = ended[tuple(AWAY)]
    assert status == 75
    assert len(stderr.strip().splitlines()) == 1
