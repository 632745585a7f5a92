"""Requests per second, latency and memory of one server: ours, LitServe and plain FastAPI, on the same images.

Each round starts the servers one after the other, in an order that rotates. Each runs alone in its own process
and is loaded with 1 and with 16 connections (the load tool of `lensmount bench`). Images are JPEGs of 250 pixels, sent
as multipart forms. All servers have the same backbone, EfficientNet-Lite0, at 224 pixels, and decode the images:

    ours      `lensmount serve` on a fresh state folder with the shipped adapters; requests go to `histology`, or a mix
    litserve  one whole network with its classifier in PyTorch, float32; batches of up to 4 within 2 ms, which was
              better than 1 or 16 on this machine (peers/litserve_server.py)
    fastapi   the same network behind a plain `def` route, which FastAPI runs in a pool of threads: with 16 connections
              it computes on all cores (peers/fastapi_server.py)

After `--only`, a peer's name may end in `-openvino`, `-onnxruntime` or `-onnxruntime-int8`: it then runs its network
with that instead of PyTorch (peers/networks.py). With `--tasks 16`, each server has 16 networks, or ours 16 adapters,
and requests are spread over them.

`--threads` sets the number of arithmetic threads of each server. Ratios are taken within a round. Each round also times
decoding and the bare engine call without HTTP (peers/bare.py).

    python benchmarks/serving.py [--rounds 3] [--duration 10] [--threads 1] [--connections 1 16] [--results]
    python benchmarks/serving.py --tasks 16 --only ours litserve-openvino fastapi-openvino
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from shared import process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

from lensmount_adapters.adapter.file import dump_adapter, parse_adapter
from lensmount_client import Client
from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Target
from lensmount_client._bench.summary import Figures, Summary

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
SIDE = 250
QUALITY = 90
MB = 1e6
ENGINES = ("", "-openvino", "-onnxruntime", "-onnxruntime-int8")  # of peers/networks.py; "" is PyTorch


@dataclass(frozen=True)
class Contender:
    """How one server is started on a port with its own folder, its readiness path, and which URLs are requested."""

    name: str
    command: Callable[[int, Path], list[str]]
    ready: str
    targets: Sequence[Target]
    prepare: Callable[[str], object] = lambda url: None  # once the server is ready


@dataclass(frozen=True)
class Visit:
    """The figures of one server in one round."""

    figures: dict[int, Figures]  # by connections
    rss: float
    pss: float


def main() -> None:
    options = parse()
    contenders = contenders_of(options)
    bodies = [Body.multipart(jpeg, f"{number}.jpg") for number, jpeg in enumerate(images())]
    sizes = [len(body.content) for body in bodies]
    print(
        f"{results.described()}\n{len(bodies)} JPEGs of {SIDE} px, {min(sizes):,} to {max(sizes):,} bytes; "
        f"{options.threads} threads; {options.rounds} rounds of {options.duration:g} s"
    )
    visits: dict[str, list[Visit]] = {contender.name: [] for contender in contenders}
    bare_ms: list[float] = []
    for turn in range(options.rounds):
        bare_ms.append(bare(options))
        first = turn % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            visits[contender.name].append(visit(contender, bodies, options))
    print()
    results.show(absolute(visits, options.connections))
    print()
    rows = compared(visits, options.connections)
    if "ours" in visits and 1 in options.connections:
        one = latencies(visits["ours"], 1, "p50")
        rows.append(
            results.ratios("p50 over HTTP, 1 connection / bare engine call + decode", one, bare_ms, goal="at most 1.5")
        )
    results.finish("serving", rows, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=10.0, metavar="S")
    parser.add_argument("--warmup", type=float, default=5.0, metavar="S", help="before each measurement")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--adapters", nargs="+", default=["histology"], help="adapters of our server; those of 224 px are comparable"
    )
    parser.add_argument(
        "--mix", type=Mix, default=Mix.uniform, choices=list(Mix), help="how requests are spread over our adapters"
    )
    parser.add_argument("--serve-options", default="", help="more options of `lensmount serve`, in one string")
    parser.add_argument("--litserve-batch", type=int, default=4, help="max_batch_size of LitServe")
    parser.add_argument("--tasks", type=int, default=1, help="networks or adapters in each server")
    peers = [f"{kind}{engine}" for kind in ("litserve", "fastapi") for engine in ENGINES]
    parser.add_argument(
        "--only", nargs="+", default=["ours", "litserve", "fastapi", "litserve-openvino"], choices=["ours", *peers]
    )
    results.add_option(parser)
    return parser.parse_args()


def contenders_of(options: argparse.Namespace) -> list[Contender]:
    threads = ["--threads", str(options.threads)]

    def ours(port: int, folder: Path) -> list[str]:
        serve = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--state", str(folder)]
        return [*serve, "--log-level", "warning", *threads, *shlex.split(options.serve_options)]

    def peer(script: str, *more: str) -> Callable[[int, Path], list[str]]:
        tasks = ["--tasks", str(options.tasks)]
        return lambda port, _: [sys.executable, str(PEERS / script), "--port", str(port), *threads, *tasks, *more]

    tasks = range(options.tasks)
    names = options.adapters if options.tasks == 1 else [f"task-{task}" for task in tasks]
    adapters = [Target(name, f"/predict?adapter={name}") for name in names]
    batch = ("--max-batch", str(options.litserve_batch))
    routes = {
        "litserve": [Target(f"network {task}", f"/predict/{task}" if task else "/predict") for task in tasks],
        "fastapi": [Target(f"network {task}", f"/predict?task={task}") for task in tasks],
    }
    push = partial(push_tasks, options.adapters[0], names) if options.tasks > 1 else lambda url: None
    chosen = []
    for name in options.only:
        kind, _, engine = name.partition("-")
        if kind == "ours":
            chosen.append(Contender(name, ours, "/health/ready", adapters, push))
        elif kind == "litserve" and importlib.util.find_spec("litserve") is None:
            print('LitServe is not installed and is skipped. Fix: pip install "lensmount[bench]"', file=sys.stderr)
        else:
            command = peer(f"{kind}_server.py", "--engine", engine or "torch", *(batch if kind == "litserve" else ()))
            chosen.append(Contender(name, command, "/health", routes[kind]))
    return chosen


def push_tasks(adapter: str, names: Sequence[str], url: str) -> None:
    """Other adapters with the same layers: the zoo's, with another head."""
    file = parse_adapter((ROOT / "adapters" / "zoo" / f"{adapter}.safetensors").read_bytes())
    manifest = file.manifest.model_copy(update={"trust": None})
    layers = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("trust")}
    with Client(url) as client, tempfile.TemporaryDirectory(prefix="lensmount-bench-") as folder:
        for number, name in enumerate(names):
            changed = {key: tensor * (1 + number / 1000) if "head" in key else tensor for key, tensor in layers.items()}
            path = Path(folder) / f"{name}.safetensors"
            path.write_bytes(dump_adapter(manifest, changed))
            client.adapters.push(path, name)


def visit(contender: Contender, bodies: Sequence[Body], options: argparse.Namespace) -> Visit:
    port = process.free_port()
    with tempfile.TemporaryDirectory(prefix="lensmount-bench-") as folder:
        command, log = contender.command(port, Path(folder) / "state"), Path(folder) / "log.txt"
        environment = {"OMP_NUM_THREADS": str(options.threads)}
        with process.running(command, port, contender.ready, log, environment) as server:
            figures = {}
            contender.prepare(server.url)
            for connections in options.connections:
                load = Load(
                    server.url,
                    contender.targets,
                    bodies,
                    connections=connections,
                    duration_s=options.duration,
                    warmup_s=options.warmup,
                    mix=options.mix,
                )
                summary = Summary.of(load.run())
                if summary.all.failed or summary.all.latency is None:
                    raise SystemExit(
                        f"{contender.name}: {summary.all.errors} {summary.messages}\n{log.read_text()[-2000:]}"
                    )
                figures[connections] = summary.all
                print(
                    f"{contender.name:17} {connections:3} connections: {summary.all.per_s:7.1f} requests/s, "
                    f"p50 {summary.all.latency.p50:.1f} ms, p95 {summary.all.latency.p95:.1f} ms",
                    flush=True,
                )
            memory = server.memory()
    return Visit(figures, memory.rss / MB, memory.pss / MB)


def bare(options: argparse.Namespace) -> float:
    """The median time in ms of one image without HTTP."""
    with tempfile.TemporaryDirectory(prefix="lensmount-bench-") as folder:
        files = [Path(folder) / f"{number}.jpg" for number in range(len(images()))]
        for file, jpeg in zip(files, images(), strict=True):
            file.write_bytes(jpeg)
        command = [sys.executable, str(Path(__file__).parent / "peers" / "bare.py"), *map(str, files)]
        command += ["--adapter", options.adapters[0], "--threads", str(options.threads)]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    p50 = float(json.loads(done.stdout)["p50"])
    print(f"bare                     : p50 {p50:.1f} ms", flush=True)
    return p50


def absolute(visits: dict[str, list[Visit]], connections: Sequence[int]) -> list[results.Row]:
    rows = []
    for name, found in visits.items():
        for count in connections:
            where = f"{name}, {count} connections"
            rows.append(results.Row.of(f"{where}, requests", [one.figures[count].per_s for one in found], "1/s"))
            for percentile in ("p50", "p95"):
                rows.append(results.Row.of(f"{where}, {percentile}", latencies(found, count, percentile), "ms"))
        rows.append(results.Row.of(f"{name}, memory (PSS of all its processes)", [one.pss for one in found], "MB"))
        rows.append(results.Row.of(f"{name}, memory (RSS of all its processes)", [one.rss for one in found], "MB"))
    return rows


def compared(visits: dict[str, list[Visit]], connections: Sequence[int]) -> list[results.Row]:
    rows: list[results.Row] = []
    for name in visits.keys() - {"ours"} if "ours" in visits else ():
        ours, peer = visits["ours"], visits[name]
        for count in connections:
            where = f"{count} connections"
            rates = [[one.figures[count].per_s for one in found] for found in (ours, peer)]
            rows.append(results.ratios(f"requests/s, ours / {name}, {where}", *rates))
            for percentile in ("p50", "p95"):
                below = latencies(ours, count, percentile)
                rows.append(
                    results.ratios(f"{percentile}, {name} / ours, {where}", latencies(peer, count, percentile), below)
                )
        rows.append(results.ratios(f"PSS, {name} / ours", [one.pss for one in peer], [one.pss for one in ours]))
    return sorted(rows, key=lambda row: row.what)


def latencies(visits: Sequence[Visit], connections: int, percentile: str) -> list[float]:
    return [float(getattr(one.figures[connections].latency, percentile)) for one in visits]


def images() -> list[bytes]:
    """The sample images, each as a square JPEG."""
    encoded = []
    for path in sorted((ROOT / "samples").glob("*.[jp][pn]g")):
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
        encoded.append(buffer.getvalue())
    return encoded


if __name__ == "__main__":
    main()
