"""`lensmount bench ...`."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich import box
from rich.table import Table

from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Target
from lensmount_client._bench.summary import Figures, Summary
from lensmount_client._cli.options import DEFAULT_URL, Insecure, Json, Token, Url, open_client
from lensmount_client._cli.terminal import cell, print_error, print_json, print_note, print_table
from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import find_images, read_file
from lensmount_client._http.settings import Settings
from lensmount_client._resources.many import adapter_list

CLOSED_CONNECTIONS, OPEN_CONNECTIONS = 8, 256
MAX_IMAGES = 1000  # all are held in memory
SHOWN_ADAPTERS = 12
BUSY = 0.5  # of a core: then what is measured is this tool as well


def bench(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help='Files, folders (all images in them), patterns ("*.png").'),
    ],
    adapters: Annotated[
        str | None,
        typer.Option("--adapters", "-a", metavar="NAME[,NAME]", help="Which are asked. (default: all that are ready)"),
    ] = None,
    mix: Annotated[
        Mix,
        typer.Option(help="How often each is: the k-th 1/k as often as the first, all alike, the first alone."),
    ] = Mix.zipf,
    connections: Annotated[
        int | None,
        typer.Option(
            "--connections",
            "-c",
            min=1,
            max=1000,
            metavar="N",
            show_default=False,
            help="Requests under way at a time; the next one goes when one is answered. With --rate: at most so many. "
            f"(default: {CLOSED_CONNECTIONS}; with --rate {OPEN_CONNECTIONS})",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="R",
            help="Arrivals a second at random times, whether or not earlier ones are answered. Latency counts from "
            "when a request should have started.",
        ),
    ] = None,
    duration: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds that are measured.")] = 10.0,
    warmup: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds before, not counted.")] = 2.0,
    multipart: Annotated[bool, typer.Option("--multipart", help="Send images as web forms do.")] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same sequence of adapters and arrivals.")] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="S", help="Give a request up after so long.")] = 60.0,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Load a running server and measure it.

    One request is one image and one adapter. The server's own limits hold: a full queue answers queue_full.

    Exit status: 0 all answered, 1 some failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    settings = Settings.resolve(url, token, insecure=insecure)
    names = [name.strip() for name in adapters.split(",")] if adapters is not None else None
    if names is not None:
        adapter_list(names)
    bodies = _bodies(images, multipart)
    load = Load(
        settings.base_url,
        [Target(name, f"/predict?adapter={quote(name)}") for name in _ready(names, url, token, insecure)],
        bodies,
        connections=connections or (CLOSED_CONNECTIONS if rate is None else OPEN_CONNECTIONS),
        rate=rate,
        duration_s=duration,
        warmup_s=warmup,
        mix=mix,
        seed=seed,
        token=settings.token,
        timeout_s=timeout,
    )
    print_note(_plan(load))
    summary = Summary.of(load.run())
    if json:
        print_json(_document(load, summary, multipart))
    else:
        print_table(_table(summary))
    for code, count in summary.all.errors.items():
        print_error(f"{count:,} {code}: {summary.said[code]}")
    if summary.busy > BUSY:
        print_note(f"this tool took {summary.busy:.0%} of a core: the figures are its own as well")
    if not summary.all.requests:
        print_error("no request fell into the measured time: a longer --duration or a higher --rate")
    if summary.all.failed or not summary.all.requests:
        raise typer.Exit(1)


def _bodies(images: list[str], multipart: bool) -> list[Body]:
    paths = dict.fromkeys(path for where in images for path in islice(find_images(where), MAX_IMAGES + 1))
    if len(paths) > MAX_IMAGES:
        print_note(f"only the first {MAX_IMAGES} images are sent")
    files = ((Path(path).name, read_file(path)) for path in islice(paths, MAX_IMAGES))
    return [Body.multipart(content, name) if multipart else Body.raw(content) for name, content in files]


def _ready(names: list[str] | None, url: str, token: str | None, insecure: bool) -> list[str]:
    """The adapters to ask; a server that is not there or not ready is an error before the load, not under it."""
    with open_client(url, token, insecure) as client:
        client.health()
        if names is not None:
            return names
        ready = [info.name for info in client.adapters.list() if info.status == "ready"]
    if not ready:
        raise InvalidInput("the server has no adapter that is ready. Fix: lensmount adapters push FILE.safetensors")
    return ready


def _plan(load: Load) -> str:
    pace = "" if load.rate is None else f"{load.rate:g} arrivals a second over at most "
    alone = load.mix is Mix.one or len(load.targets) == 1
    asked = load.targets[0].name if alone else f"{load.mix.value} over {len(load.targets)} adapters"
    return (
        f"{pace}{load.connections} connections, {asked}, {len(load.bodies)} images, "
        f"{load.duration_s:g} s after {load.warmup_s:g} s of warm-up"
    )


def _table(summary: Summary) -> Table:
    table = Table(
        *("adapter", "requests", "failed", "per s", "p50", "p90", "p95", "p99", "max"),
        box=box.SIMPLE_HEAD,
        caption="latencies in ms, of the answered ones",
        caption_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True  # where room is short, names are folded and figures stay whole
    few = summary.targets if 1 < len(summary.targets) <= SHOWN_ADAPTERS else {}
    for name, figures in few.items():
        table.add_row(*map(cell, (name, *_cells(figures))))
    if few:
        table.add_section()
    (name,) = summary.targets if len(summary.targets) == 1 else ("all",)
    table.add_row(*map(cell, (name, *_cells(summary.all))))
    return table


def _cells(figures: Figures) -> list[str]:
    latencies = ["-"] * 5 if figures.latency is None else map(_short, asdict(figures.latency).values())
    return [f"{figures.requests:,}", f"{figures.failed:,}", _short(figures.per_s), *latencies]


def _short(value: float) -> str:
    """Three digits that mean something, or all before the point."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _document(load: Load, summary: Summary, multipart: bool) -> dict[str, Any]:
    return {
        "url": load.base_url,
        "loop": "closed" if load.rate is None else "open",
        "connections": load.connections,
        "rate": load.rate,
        "mix": load.mix.value,
        "images": len(load.bodies),
        "multipart": multipart,
        "duration_s": load.duration_s,
        "warmup_s": load.warmup_s,
        "seed": load.seed,
        "tool_share_of_a_core": round(summary.busy, 4),
        **_plain(summary.all),
        "adapters": {name: _plain(figures) for name, figures in summary.targets.items()},
        "messages": dict(summary.said),
    }


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        "requests": figures.requests,
        "errors": dict(figures.errors),
        "requests_per_s": round(figures.per_s, 3),
        "latency_ms": {name: round(ms, 3) for name, ms in asdict(figures.latency).items()} if figures.latency else None,
    }
