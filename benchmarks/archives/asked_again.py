"""An archive that is asked again: the second adapter against the first, and a batch against decode and engine alone.

The script starts `lensmount serve` with a new state folder. It labels a folder with `client.batch`, and a dataset with
a job, in rounds. Each round forgets what the trunk gave, so its first adapter computes everything. The second adapter
is a corrected version of the first: the same layers with other weights. "alone" is a process that decodes the same
images in as many threads and gives them to the engine, without HTTP, rows or anything kept.

Each ratio is of wall time and of the processor time of the server's process, which other work on the machine changes
less. Memory is the server's, a tenth through the first pass and at its end.

    python -m benchmarks.archives.asked_again [--data ../shared/data/malaria-nih] [--images 2000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from benchmarks.shared import machine
from benchmarks.shared.process import Memory, free_port, running
from PIL import Image

from lensmount_adapters import admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Factors
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.inputs.prepare import prepare
from lensmount_client import Client
from lensmount_service.build import open_parts
from lensmount_service.settings import Settings

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "adapters" / "zoo" / "malaria.safetensors"
TARGETS = {"default targets": None, "last eighth": ("blocks.6.0.conv_pw", "blocks.6.0.conv_pwl", "conv_head")}
BATCH, AHEAD = 16, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/malaria-nih"))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.alone:
        print(alone(options.alone))
        return
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), options)
    print("\n| figure | min | median | max |\n|---|---:|---:|---:|")
    for name, values in measured.items():
        print(f"| {name} | {min(values):.2f} | {statistics.median(values):.2f} | {max(values):.2f} |")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    images, state = folder / "images", folder / "state"
    draw_images(options.data, images, options.images)
    port = free_port()
    command = [sys.executable, "-m", "lensmount_client", "serve", "--port", str(port), "--state", str(state)]
    measured: dict[str, list[float]] = {}
    with running(command, port, "/health/ready", folder / "server.log") as server, Client(server.url) as client:
        for name, targets in TARGETS.items():
            for number in (1, 2):
                path = folder / f"{name.split()[0]}-{number}.safetensors"
                path.write_bytes(draw_adapter(targets, number))
                client.adapters.push(path, path.stem)
        client.datasets.push(images, "archive")
        for number in range(options.rounds + 1):
            found = one_round(client, server.pid, folder, options.images)
            for name, value in found.items() if number else ():  # the first round compiles programs
                measured.setdefault(name, []).append(value)
    return measured


def one_round(client: Client, pid: int, folder: Path, count: int) -> dict[str, float]:
    images, state, found = folder / "images", folder / "state", {}
    by_itself = float(
        subprocess.run(
            [sys.executable, "-m", "benchmarks.archives.asked_again", "--alone", str(images)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
    )
    for name, targets in TARGETS.items():
        stem = name.split()[0]
        shutil.rmtree(state / "trunk", ignore_errors=True)
        memory: list[int] = []
        first = timed(pid, partial(label, client, images, f"{stem}-1", folder, pid, memory))
        second = timed(pid, partial(label, client, images, f"{stem}-2", folder, pid, []))
        found[f"{name}: first / second adapter, wall"] = first[0] / second[0]
        found[f"{name}: first / second adapter, processor"] = first[1] / second[1]
        found[f"{name}: first adapter, images/s"] = count / first[0]
        found[f"{name}: second adapter, images/s"] = count / second[0]
        if targets is None:  # those of the adapter that is measured alone
            found["folder / (decode + engine) alone"] = count / first[0] / by_itself
        found[f"{name}: memory at the end / after a tenth"] = memory[-1] / memory[0]
        kept = [path.stat().st_size for path in (state / "trunk").rglob("*") if path.is_file()]
        found[f"{name}: bytes on disk of an image"] = sum(kept) / max(1, len(kept))
    shutil.rmtree(state / "trunk", ignore_errors=True)
    first, second = (timed(pid, lambda n=n: client.jobs.predict("archive", f"default-{n}").wait()) for n in (1, 2))  # type: ignore[misc]
    found["dataset: first / second adapter, wall"] = first[0] / second[0]
    found["dataset: first / second adapter, processor"] = first[1] / second[1]
    found["dataset: job / (decode + engine) alone"] = count / first[0] / by_itself
    found["(decode + engine) alone, images/s"] = by_itself
    return found


def label(client: Client, images: Path, adapter: str, folder: Path, pid: int, memory: list[int]) -> None:
    out = folder / "out.jsonl"

    def note(done: int, total: int | None) -> None:
        if total and ((not memory and done >= total / 10) or done == total):
            memory.append(Memory.of(pid).pss)

    client.batch(images, adapter, out, progress=note)
    out.unlink()


def timed(pid: int, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of the process's processor time."""
    started, before = time.perf_counter(), processor_s(pid)
    work()
    return time.perf_counter() - started, processor_s(pid) - before


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alone(images: Path) -> float:
    """Images per second of decoding and the engine, with the threads of a server."""
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state=Path(folder), zoo=False)
        with open_parts(settings) as parts, parts.engine as engine:
            adapter = admit(draw_adapter(None, 1), engine.backbone)
            engine.runner.prepare(adapter)
            rate(paths[: 8 * BATCH], adapter, parts.engine, settings.threads)  # compiles programs
            engine.runner.settle()
            return rate(paths, adapter, parts.engine, settings.threads)


def rate(paths: list[Path], adapter: Adapter, engine: object, threads: int) -> float:
    rule = adapter.manifest.preprocessing
    started, window = time.perf_counter(), deque[list[Future[object]]]()
    with ThreadPoolExecutor(max(2, threads)) as pool:
        decoded = pool.map(lambda path: prepare(path.read_bytes(), {rule}).inputs[rule], paths)
        for chunk in chunks(decoded):
            window.append(engine.submit_many([(adapter, image) for image in chunk]))  # type: ignore[attr-defined]
            while len(window) >= AHEAD:
                for future in window.popleft():
                    future.result()
        for futures in window:
            for future in futures:
                future.result()
    return len(paths) / (time.perf_counter() - started)


def chunks(images: Iterator[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    chunk = []
    for image in images:
        chunk.append(image)
        if len(chunk) == BATCH:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def draw_adapter(modules: tuple[str, ...] | None, seed: int) -> bytes:
    """The zoo's adapter with changed factors, or one of other modules."""
    backbone = load_backbone("tf_efficientnet_lite0")
    known, draw = admit(ZOO.read_bytes(), backbone), torch.Generator().manual_seed(seed)
    chosen = modules or tuple(dict.fromkeys(d.target.module for d in known.deltas if d.rank is not None))
    tensors = {f"head.{name}": tensor for name, tensor in known.head.state_dict().items()}
    for module in chosen:
        for key, tensor in fresh_low_rank(backbone.targets[f"{module}.weight"], 8, 1.0, draw).tensors().items():
            tensors[key] = tensor if "lora_A" in key else 0.05 * torch.randn(tensor.shape, generator=draw)
    factors = {module: Factors(rank=8, alpha=8.0) for module in chosen}
    manifest = known.manifest.model_copy(update={"modules": factors, "method": "lora", "trust": None})
    return dump_adapter(manifest, tensors)


def draw_images(data: Path, folder: Path, count: int) -> None:
    """As many different images as wanted: those of the data, cut by a few pixels."""
    draw, sources = (
        random.Random(0),
        sorted(path for path in data.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg")),
    )
    for number in range(count):
        source = sources[number % len(sources)]
        target = folder / source.parent.name / f"{number:05}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            left, top = draw.randrange(4), draw.randrange(4)
            image.convert("RGB").crop(
                (left, top, image.width - draw.randrange(4), image.height - draw.randrange(4))
            ).save(target)


if __name__ == "__main__":
    main()
