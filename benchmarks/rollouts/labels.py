"""How many labelled images it takes until a candidate that learned from wrong labels is taken back, and an equal one.

    python -m benchmarks.rollouts.labels --adapters build/rollouts [--live --data ../shared/data] [--results]

train.py makes the adapters and their scores. Each run draws 500 of the images for questions in a random order, answers
them by chance with one of both versions, and looks at the evidence after every tenth label, with the code of the
server. With --live, one worse and one equal candidate are tried on a server of their own: POST /predict and
POST /feedback with each image, until the rollout has ended or after 500 images.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.rollouts.train import LABELS, SET
from benchmarks.shared import results
from fastapi.testclient import TestClient

from lensmount_service import logs
from lensmount_service.build import open_parts
from lensmount_service.rollouts.labelled import compared
from lensmount_service.rollouts.pairs import grade
from lensmount_service.rollouts.rows import Pair
from lensmount_service.rollouts.rules import LEVELS
from lensmount_service.rollouts.sequential import p_value
from lensmount_service.settings import Settings

IMAGES, LOOK = 500, 10
RUNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=Path, default=Path("build/rollouts"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--live", action="store_true")
    results.add_option(parser)
    options = parser.parse_args()
    rows = [
        row for kind in ("worse", "equal") for share in (0.5, 0.1) for row in simulated(options.adapters, kind, share)
    ]
    results.show(rows)
    if options.live:
        tried = [live(options.adapters, options.data / SET, kind) for kind in ("worse-1", "equal-1")]
        results.show(tried)
        rows += tried
    if options.results is not None:
        results.write("rollouts by labels", rows, options.results)


def simulated(folder: Path, kind: str, share: float) -> list[results.Row]:
    """The part of the runs that ended, and after how many labels those did; RUNS of each adapter of a kind."""
    stable = np.load(folder / "stable.npz")
    ended: list[int | None] = []
    for number, file in enumerate(sorted(folder.glob(f"{kind}-*.npz"))):
        candidate = np.load(file)
        for run in range(RUNS):
            order = np.random.default_rng((number, run)).permutation(len(stable["truth"]))[:IMAGES]
            both = [
                (stable["scores"][place].tolist(), candidate["scores"][place].tolist(), int(stable["truth"][place]))
                for place in order
            ]
            ended.append(alarm(pairs_of(both, share, random.Random(run))))
    needed = [count for count in ended if count is not None]
    about = f"{kind} candidate, canary of {100 * share:g} %"
    found = [100 * len(needed) / len(ended)]
    goal = "100" if kind == "worse" else "0"
    made = [results.Row.of(f"{about}: {len(ended)} runs of {IMAGES} labels that ended", found, "%", goal)]
    return made + ([results.Row.of(f"{about}: labels until the end", needed, "labels", "500")] if needed else [])


def pairs_of(both: Sequence[tuple[list[float], list[float], int]], share: float, chance: random.Random) -> list[Pair]:
    return [
        Pair(
            f"sha256:{number}",
            "canary" if chance.random() < share else "stable",
            share,
            len(LABELS),
            grade(stable, truth),
            grade(candidate, truth),
        )
        for number, (stable, candidate, truth) in enumerate(both)
    ]


def alarm(pairs: list[Pair]) -> int | None:
    """After how many labels a rule ends the rollout."""
    for count in range(50, len(pairs) + 1, LOOK):
        found = compared(pairs[:count])
        assert found is not None
        if p_value(found.of_accuracy) <= LEVELS["accuracy"] or p_value(found.of_brier) <= LEVELS["brier"]:
            return count
    return None


def live(folder: Path, images: Path, kind: str) -> results.Row:
    """Labels until the server took the rollout back; IMAGES if it did not."""
    names = [str(name) for name in np.load(folder / "stable.npz")["names"]]
    paths = [path for label in LABELS for path in (images / label).iterdir() if path.name in set(names)]
    random.Random(1).shuffle(paths)
    with tempfile.TemporaryDirectory() as state:
        settings = Settings(state=Path(state), zoo=False, feedback="on", threads=1, log_level="error")
        with open_parts(settings) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
            logs.configure(settings)
            for name in ("stable", kind):
                file = folder / f"{name}.safetensors"
                client.put("/adapters/cells", content=file.read_bytes()).raise_for_status()
            rollout = {"stable": 1, "canary": {"version": 2, "percent": 50}}
            client.put("/adapters/cells/aliases/prod", json=rollout).raise_for_status()
            needed = until_it_ends(client, paths[:IMAGES])
            report = client.get("/adapters/cells/rollouts/prod").json()
            print(kind, needed, report["labelled"] or report["events"][0]["evidence"]["findings"], flush=True)
    goal = "at most 500, ended" if kind.startswith("worse") else "500, not ended"
    return results.Row.of(f"live, {kind}: labels until the end", [needed], "labels", goal)


def until_it_ends(client: TestClient, paths: Sequence[Path]) -> int:
    for number, path in enumerate(paths, 1):
        data = path.read_bytes()
        answer = client.post("/predict?adapter=cells:prod", content=data).raise_for_status().json()
        version = answer["adapter"]["version"]
        of = f"adapter=cells@{version}&label={path.parent.name}&request_id={answer['request_id']}"
        client.post(f"/feedback?{of}&who=reader1", content=data).raise_for_status()
        if number % LOOK == 0 and client.get("/adapters/cells/rollouts/prod").json()["rollout"] is None:
            return number
    deadline = time.monotonic() + 60  # the last labels are computed in the background
    while time.monotonic() < deadline:
        report = client.get("/adapters/cells/rollouts/prod").json()
        if report["rollout"] is None or (report["labelled"] or {}).get("images", 0) >= len(paths):
            break
        time.sleep(0.5)
    return len(paths)


if __name__ == "__main__":
    main()
