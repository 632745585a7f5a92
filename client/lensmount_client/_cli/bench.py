"""`lensmount bench ...`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich import box
from rich.table import Table

from lensmount_client._advice import for_command_line
from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Target
from lensmount_client._bench.summary import Figures, Summary
from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import cell, plural, print_error, print_json, print_note, print_table
from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import find_images, read_file
from lensmount_client._http.settings import Settings
from lensmount_client._resources.many import adapter_list

CLOSED_CONNECTIONS, OPEN_CONNECTIONS = 8, 256
MAX_IMAGES = 1000  # all are held in memory
SHOWN_ADAPTERS = 12
BUSY = 0.5  # of a core: above this, the figures also measure this tool


@dataclass(frozen=True)
class LoadOptions:
    """The flags that shape the load."""

    mix: Annotated[
        Mix,
        typer.Option(
            help="How often each adapter is requested. zipf: the k-th 1/k as often as the first; uniform: all equally "
            "often; one: only the first."
        ),
    ] = Mix.zipf
    connections: Annotated[
        int | None,
        typer.Option(
            "--connections",
            "-c",
            min=1,
            max=1000,
            metavar="N",
            show_default=False,
            help="Requests in progress at a time: each connection sends its next request when the last one is "
            f"answered. With --rate: the maximum. (default: {CLOSED_CONNECTIONS}; with --rate {OPEN_CONNECTIONS})",
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="R",
            help="Requests per second that start at random times, whether or not earlier ones are answered. Latency "
            "counts from when a request should have started.",
        ),
    ] = None
    duration: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds to measure.")] = 10.0
    warmup: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds before that, which do not count.")] = 2.0
    multipart: Annotated[bool, typer.Option("--multipart", help="Send images as web forms do.")] = False
    seed: Annotated[int, typer.Option(help="Same seed, same sequence of adapters and arrivals.")] = 0
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Give up on a request after this many seconds.")
    ] = 60.0

    def load(self, settings: Settings, adapters: list[str], bodies: list[Body]) -> Load:
        return Load(
            settings.base_url,
            [Target(name, f"/predict?adapter={quote(name)}") for name in adapters],
            bodies,
            connections=self.connections or (CLOSED_CONNECTIONS if self.rate is None else OPEN_CONNECTIONS),
            rate=self.rate,
            duration_s=self.duration,
            warmup_s=self.warmup,
            mix=self.mix,
            seed=self.seed,
            token=settings.token,
            timeout_s=self.timeout,
        )


@with_options
def bench(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help='Files, folders (all images in them), patterns ("*.png").'),
    ],
    adapters: Annotated[
        str | None,
        typer.Option(
            "--adapters", "-a", metavar="NAME[,NAME]", help="The adapters to request. (default: all that are ready)"
        ),
    ] = None,
    *,
    options: LoadOptions,
    server: ServerOptions,
) -> None:
    """Load-test a running server.

    Each request has one image and one adapter. The server's own limits apply: a full queue answers queue_full.

    Exit status: 0 all answered, 1 some failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    settings = Settings.resolve(server.url, server.token, insecure=server.insecure)
    names = [name.strip() for name in adapters.split(",")] if adapters is not None else None
    if names is not None:
        adapter_list(names)
    bodies = _bodies(images, options.multipart)
    load = options.load(settings, _ready_adapters(names, server), bodies)
    print_note(_plan(load))
    summary = Summary.of(load.run())
    if server.json:
        print_json(_document(load, summary, options.multipart))
    else:
        print_table(summary_table(summary))
    _print_problems(summary)
    if summary.all.failed or not summary.all.requests:
        raise typer.Exit(1)


def _print_problems(summary: Summary) -> None:
    for code, count in summary.all.errors.items():
        print_error(f"{count:,} {code}: {for_command_line(summary.messages[code])}")
    if summary.busy > BUSY:
        print_note(f"this tool used {summary.busy:.0%} of a core, so the figures also measure the tool")
    if not summary.all.requests:
        print_error("no request started in the measured time. Fix: a longer --duration or a higher --rate")


def _bodies(images: list[str], multipart: bool) -> list[Body]:
    paths = dict.fromkeys(path for where in images for path in islice(find_images(where), MAX_IMAGES + 1))
    if len(paths) > MAX_IMAGES:
        print_note(f"only the first {MAX_IMAGES} images are sent")
    files = ((Path(path).name, read_file(path)) for path in islice(paths, MAX_IMAGES))
    return [Body.multipart(content, name) if multipart else Body.raw(content) for name, content in files]


def _ready_adapters(names: list[str] | None, server: ServerOptions) -> list[str]:
    """The adapters to request. A server that is down or not ready raises here, once, and not in each request."""
    with server.client() as client:
        client.health()
        if names is not None:
            return names
        ready = [info.name for info in client.adapters.list() if info.status == "ready"]
    if not ready:
        raise InvalidInput("the server has no adapter that is ready. Fix: lensmount adapters push FILE.safetensors")
    return ready


def _plan(load: Load) -> str:
    pace = "" if load.rate is None else f"{load.rate:g} requests per second over at most "
    only_one = load.mix is Mix.one or len(load.targets) == 1
    adapters = load.targets[0].name if only_one else f"{load.mix.value} over {len(load.targets)} adapters"
    connections, images = plural(load.connections, "connection"), plural(len(load.bodies), "image")
    return f"{pace}{connections}, {adapters}, {images}, {load.duration_s:g} s after {load.warmup_s:g} s of warm-up"


def summary_table(summary: Summary) -> Table:
    table = Table(
        *("adapter", "requests", "failed", "per s", "p50", "p90", "p95", "p99", "max"),
        box=box.SIMPLE_HEAD,
        caption="latencies in ms, successful requests only",
        caption_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True  # in a narrow terminal names are folded and figures stay complete
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
    """Three significant digits, or all digits before the decimal point."""
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
        "messages": {code: for_command_line(text) for code, text in summary.messages.items()},
    }


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        "requests": figures.requests,
        "errors": dict(figures.errors),
        "requests_per_s": round(figures.per_s, 3),
        "latency_ms": {name: round(ms, 3) for name, ms in asdict(figures.latency).items()} if figures.latency else None,
    }
