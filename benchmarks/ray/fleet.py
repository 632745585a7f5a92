"""A server and a door with replicas, each in processes of its own, with the same adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from benchmarks.shared import process
from prometheus_client.parser import text_string_to_metric_families

from lensmount_adapters.adapter.file import dump_adapter, parse_adapter

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "samples" / "cell-parasitized.png").read_bytes()
TITLE = b"ray::ServeReplica:lensmount:Engine"  # of a replica's process


@contextmanager
def serving(folder: Path, adapters: int, replicas: int) -> Iterator[tuple[process.Server, process.Server]]:
    """One server, and a door with `replicas`; both have `adapters` adapters in memory.

    Each engine has one thread, so that a core is not shared by the threads of one engine.
    """
    files = [_file(number) for number in range(adapters)]
    ray = ["--ray", "--replicas", str(replicas)]
    with ExitStack() as stack:
        servers = []
        for name, options in (("bare", []), ("ray", ray)):
            port = process.free_port()
            state = ["--state", str(folder / name), "--port", str(port), "--threads", "1"]
            command = [sys.executable, "-m", "lensmount_client", "serve", *state, *options]
            log = folder / f"{name}.log"
            servers.append(stack.enter_context(process.running(command, port, "/health/ready", log)))
            with httpx.Client(base_url=servers[-1].url, timeout=300) as client:
                for number, data in enumerate(files):
                    client.put(f"/adapters/task{number}", content=data).raise_for_status()
                    client.post(f"/predict?adapter=task{number}", content=IMAGE).raise_for_status()
        yield servers[0], servers[1]


def figure(url: str, name: str) -> float:
    """The sum of a metric over all labels and replicas."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=60).text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def replicas() -> list[int]:
    """The processes of the replicas that run on this machine."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _title(folder).startswith(TITLE)]


def _title(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def _file(number: int) -> bytes:
    """The zoo's malaria adapter with another head, so another digest."""
    file = parse_adapter((ROOT / "adapters" / "zoo" / "malaria.safetensors").read_bytes())
    layers = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("trust")}
    changed = {name: tensor * (1 + number / 1000) if "head" in name else tensor for name, tensor in layers.items()}
    return dump_adapter(file.manifest.model_copy(update={"trust": None}), changed)
