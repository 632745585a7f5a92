"""Open Inference Protocol over gRPC and HTTP against `POST /predict`: latency of one client, throughput of 32.

One server answers all. Contenders take turns in each round; the client of a contender is a process of its own, as its
users would write it: httpx for /predict, tritonclient for the others. Goals (docs/oip.md): the p50 of gRPC with binary
tensors at most that of a raw /predict; 32 streams of mixed adapters at least 0.9 of /predict's images per second.

    python benchmarks/protocols.py [--duration 5] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from shared import machine, process, results  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

SAMPLES = Path(__file__).parents[1] / "samples"
ADAPTERS = ("malaria", "smoking", "histology")
MANY = 32
Ask = Callable[[str], Awaitable[Any]]


def image() -> bytes:
    return next(iter(sorted(SAMPLES.glob("*.png")))).read_bytes()


async def timed(ask: Ask, adapters: tuple[str, ...], seconds: float) -> list[float]:
    took, ends = list[float](), time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        await ask(adapters[len(took) % len(adapters)])
        took.append(time.perf_counter() - started)
    return took


async def many(make: Callable[[], Awaitable[Ask]], clients: int, seconds: float) -> list[float]:
    asks = [await make() for _ in range(clients)]
    adapters = ADAPTERS if clients > 1 else ADAPTERS[:1]
    every = await asyncio.gather(
        *(
            timed(ask, adapters[k % len(adapters) :] + adapters[: k % len(adapters)], seconds)
            for k, ask in enumerate(asks)
        )
    )
    return [each for took in every for each in took]


async def predict(http: int, grpc: int, clients: int, seconds: float) -> list[float]:
    import httpx

    body = image()

    async def make() -> Ask:
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{http}", timeout=60)

        async def ask(adapter: str) -> None:
            (await client.post(f"/predict?adapter={adapter}", content=body)).raise_for_status()

        return ask

    return await many(make, clients, seconds)


async def oip_http(http: int, grpc: int, clients: int, seconds: float) -> list[float]:
    import tritonclient.http.aio as triton

    tensor = triton.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image()], dtype=object))

    async def make() -> Ask:
        client = triton.InferenceServerClient(f"127.0.0.1:{http}")

        async def ask(adapter: str) -> None:
            await client.infer(adapter, [tensor])

        return ask

    return await many(make, clients, seconds)


async def oip_grpc(http: int, grpc: int, clients: int, seconds: float) -> list[float]:
    import tritonclient.grpc.aio as triton

    tensor = triton.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image()], dtype=object))

    async def make() -> Ask:
        client = triton.InferenceServerClient(f"127.0.0.1:{grpc}")

        async def ask(adapter: str) -> None:
            await client.infer(adapter, [tensor])

        return ask

    return await many(make, clients, seconds)


async def oip_streams(http: int, grpc: int, clients: int, seconds: float) -> list[float]:
    """Each client has one stream, and sends the next request when the last one is answered."""
    import tritonclient.grpc.aio as triton

    tensor = triton.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image()], dtype=object))

    async def make() -> Ask:
        client = triton.InferenceServerClient(f"127.0.0.1:{grpc}")
        requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def sent() -> AsyncIterator[dict[str, Any]]:
            while True:
                yield await requests.get()

        answers = client.stream_infer(sent()).__aiter__()

        async def ask(adapter: str) -> None:
            await requests.put({"model_name": adapter, "inputs": [tensor]})
            _, error = await answers.__anext__()
            if error is not None:
                raise error

        return ask

    return await many(make, clients, seconds)


CONTENDERS = {
    "/predict": predict,
    "/v2 over HTTP, binary": oip_http,
    "/v2 over gRPC, binary": oip_grpc,
    "/v2 over gRPC streams": oip_streams,
}


def asked(name: str, http: int, grpc: int, clients: int, seconds: float) -> list[float]:
    command = [sys.executable, __file__, "--ask", name, "--http", str(http), "--grpc", str(grpc)]
    command += ["--clients", str(clients), "--duration", str(seconds)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, start_new_session=True
    )
    took: list[float] = json.loads(done.stdout)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each visit")
    parser.add_argument("--rounds", type=int, default=5)
    for name in ("--ask",):
        parser.add_argument(name, choices=list(CONTENDERS), help=argparse.SUPPRESS)
    for name in ("--http", "--grpc", "--clients"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        took = asyncio.run(CONTENDERS[options.ask](options.http, options.grpc, options.clients, options.duration))
        json.dump(took, sys.stdout)
        sys.stdout.flush()
        os._exit(0)  # open streams would keep the process
    print(machine.describe(), flush=True)
    p50: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    rate: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        http, grpc = process.free_port(), process.free_port()
        command = [sys.executable, "-m", "lensmount_client", "serve", "--log-level", "warning", "--port", str(http)]
        command += ["--grpc-port", str(grpc), "--state", str(Path(folder) / "state")]
        with process.running(command, http, "/health/ready", Path(folder) / "log"):
            for name in CONTENDERS:
                asked(name, http, grpc, MANY, 2.0)
            for _ in range(options.rounds):
                for name in CONTENDERS:
                    p50[name].append(1e3 * statistics.median(asked(name, http, grpc, 1, options.duration)))
                    rate[name].append(len(asked(name, http, grpc, MANY, options.duration)) / options.duration)
    first = next(iter(CONTENDERS))
    rows = []
    for name in CONTENDERS:
        rows.append(results.Row.of(f"p50 of one client, {name}", p50[name], "ms"))
        rows.append(results.Row.of(f"images/s of {MANY} clients, {name}", rate[name], "1/s"))
        if name != first:
            rows.append(results.ratios(f"p50 of one client, {name} / {first}", p50[name], p50[first]))
            rows.append(results.ratios(f"images/s of {MANY} clients, {name} / {first}", rate[name], rate[first]))
    results.show(rows)


if __name__ == "__main__":
    main()
