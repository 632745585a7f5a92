"""A server that is killed at any point of an operation finds the state before or after it, and answers again.

`pytest -m soak tests/service/faults` kills at every passage of a point; the usual run at the last one of an operation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.service.faults.killing import small_backbone
from tests.service.faults.operations import OPERATIONS

Run = Callable[..., Any]
ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, draw_adapter: Any) -> Iterator[Run]:
    """`run(do, operation, key, at, state)` runs a part of an operation in a fork and returns what it left."""
    folder, backbone = tmp_path_factory.mktemp("killing"), small_backbone()
    files = []
    for seed in (1, 2):
        files.append(folder / f"{seed}.safetensors")
        files[-1].write_bytes(draw_adapter(backbone, "norm", seed=seed).dump())
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.faults.killing", *map(str, files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["", str(ROOT), *sys.path])},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    orders, answers = process.stdin, process.stdout
    assert json.loads(answers.readline()) == {"ready": True}
    number = 0

    def do(do: str, operation: str, key: str, at: tuple[str, int] | None, state: Path) -> Any:
        nonlocal number
        number += 1
        command = {"do": do, "operation": operation, "key": key, "at": at, "state": str(state)}
        orders.write(json.dumps(command | {"out": str(folder / f"{number}.jsonl")}) + "\n")
        orders.flush()
        return json.loads(answers.readline())

    yield do
    process.kill()
    process.wait()
    orders.close()
    answers.close()


def killed_everywhere(run: Run, state: Path, operation: str, every: bool) -> None:
    counted = run("interrupt", operation, "k0", None, state)
    assert counted["code"] == 0, counted
    points = counted["points"]
    for at, point in enumerate(points):
        if every or point not in points[at + 1 :]:
            killed_once(run, state, operation, f"k{at + 1}", (point, points[: at + 1].count(point)))


def killed_once(run: Run, state: Path, operation: str, key: str, at: tuple[str, int]) -> None:
    interrupted = run("interrupt", operation, key, at, state)
    assert interrupted["code"] == -signal.SIGKILL, (at, interrupted)
    found = run("check", operation, key, at, state)
    assert found["code"] == 0, (at, found)
    assert found["between"] in (interrupted["before"], found["after"]), (at, interrupted, found)
    assert found["again"] < 300 or (found["between"] == found["after"] and found["again"] < 500), (at, found)
    assert (found["missing"], found["orphans"], found["left"], found["sound"]) == ([], [], [], "ok"), (at, found)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_killed_server_finds_the_state_before_or_after(run: Run, tmp_path: Path, operation: str) -> None:
    killed_everywhere(run, tmp_path, operation, every=False)


@pytest.mark.soak
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_server_killed_at_every_passage_finds_the_state_before_or_after(
    run: Run, tmp_path: Path, operation: str
) -> None:
    killed_everywhere(run, tmp_path, operation, every=True)
