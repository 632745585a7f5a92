"""`lensmount rollouts ...`: try a new version while the present one serves, and keep or drop it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_line, print_note, print_table
from lensmount_client._client import Client
from lensmount_client._errors import InvalidInput
from lensmount_client._reference import Reference
from lensmount_client._show.rollout import described_rollout, rollout_line
from lensmount_client._types.rollouts import RolloutReport

app = typer.Typer(no_args_is_help=True)

INTERRUPTED = 130
WATCH_RETRIES = 8  # about 40 s, long enough for the server to restart
NONE = "No rollouts now. Start one: lensmount rollouts start NAME:ALIAS --canary VERSION --percent 10"
RULES = ("errors", "not_finite", "uncertain", "unfamiliar", "p99", "worse_on_labels", "after")
SWITCHES = ("worse_on_labels",)  # rules without a number

Target = Annotated[str, typer.Argument(metavar="NAME:ALIAS", help="For example malaria:prod.")]


@app.command()
@with_options
def start(
    target: Target,
    canary: Annotated[
        int | None, typer.Option(min=1, metavar="VERSION", help="The version that answers some of the requests.")
    ] = None,
    percent: Annotated[
        float | None, typer.Option(min=0, max=100, metavar="PERCENT", help="With --canary: how many, such as 10.")
    ] = None,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="What stays on one side: request, client or header:NAME.")
    ] = "request",
    shadow: Annotated[
        int | None, typer.Option(min=1, metavar="VERSION", help="A version that computes along; nobody sees it.")
    ] = None,
    sample: Annotated[
        float, typer.Option(min=0, max=1, metavar="PART", help="With --shadow: of how many images, 1 for all.")
    ] = 1.0,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help=f"Change a rule for rolling back, such as p99=3 or p99=off. Rules: {', '.join(RULES)}.",
        ),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Leave NAME:ALIAS at its version, and try another one on some of its requests.

    Start again with the same versions to change the percentage or another option. The server rolls back by itself if
    the new version breaks a rule.
    """
    name, alias = _parts(target)
    with server.client() as client:
        report = client.rollouts.start(
            name,
            alias,
            canary=canary,
            percent=percent,
            key=key,
            shadow=shadow,
            sample=sample,
            rules=_rules(rule or []),
        )
    if server.json:
        print_json(report.raw)
        return
    print_line(rollout_line(report))
    print_note(f"Watch it: lensmount rollouts status {target} --watch{server.url_flag}")


@app.command()
@with_options
def status(
    target: Annotated[
        str | None, typer.Argument(metavar="[NAME[:ALIAS]]", help="By default all rollouts.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again until it ends.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="With --watch: how often to look.")
    ] = 2.0,
    *,
    server: ServerOptions,
) -> None:
    """Show what both versions of a rollout did, and what speaks against the new one."""
    reference = None if target is None else Reference.parse(target)
    if watch and (reference is None or reference.alias is None or server.json):
        raise InvalidInput(
            "found --watch without NAME:ALIAS or with --json, expected one rollout to draw. "
            "Fix: lensmount rollouts status malaria:prod --watch"
        )
    if reference is not None and reference.alias is not None:
        name, alias = _parts(target or "")
        if watch:
            with server.client(retries=WATCH_RETRIES) as client:
                _watch(lambda: client.rollouts.status(name, alias), every)
            return
        with server.client() as client:
            report = client.rollouts.status(name, alias)
        if server.json:
            print_json(report.raw)
        else:
            print_table(described_rollout(report))
        return
    with server.client() as client:
        reports = _all(client) if reference is None else client.rollouts.list(_plain(reference))
    if server.json:
        print_json({"rollouts": [report.raw for report in reports]})
        return
    for report in reports:
        print_line(rollout_line(report))
    if not reports:
        print_line(NONE)


@app.command()
@with_options
def promote(target: Target, *, server: ServerOptions) -> None:
    """Point NAME:ALIAS at its new version: the canary, or without one the shadow. The rollout ends."""
    _end(target, server, lambda client: client.rollouts.promote)


@app.command()
@with_options
def rollback(target: Target, *, server: ServerOptions) -> None:
    """End a rollout. NAME:ALIAS stays at its stable version."""
    _end(target, server, lambda client: client.rollouts.rollback)


def _end(target: str, server: ServerOptions, verb: Callable[[Client], Callable[[str, str], RolloutReport]]) -> None:
    name, alias = _parts(target)
    with server.client() as client:
        report = verb(client)(name, alias)
        version = client.adapters.get(name).aliases.get(alias)
    if server.json:
        print_json(report.raw)
    else:
        print_line(f"{target} now points to {name}@{version}")


def _watch(look: Callable[[], RolloutReport], every_s: float) -> None:
    """Draw the report until the rollout has ended; without a terminal, print it each time that it changed."""
    report = look()
    console = Console()
    try:
        if console.is_terminal:
            with Live(described_rollout(report), console=console, auto_refresh=False) as live:
                while report.rollout is not None:
                    time.sleep(every_s)
                    report = look()
                    live.update(described_rollout(report), refresh=True)
            return
        print_table(described_rollout(report))
        while report.rollout is not None:
            time.sleep(every_s)
            before, report = report, look()
            if report.raw != before.raw:
                print_table(described_rollout(report))
    except KeyboardInterrupt:
        print_note("Stopped watching. The rollout continues.")
        raise typer.Exit(INTERRUPTED) from None


def _all(client: Client) -> list[RolloutReport]:
    names = [info.name for info in client.adapters.list() if info.rollouts]
    return [report for name in names for report in client.rollouts.list(name)]


def _parts(target: str) -> tuple[str, str]:
    """ "malaria:prod" as its name and its alias. Raises InvalidInput."""
    reference = Reference.parse(target)
    if reference.alias is None:
        raise InvalidInput(
            f"found {target!r}, expected NAME:ALIAS, because a rollout belongs to an alias. "
            f"Fix: {reference.name}:prod; `lensmount adapters list` shows the aliases"
        )
    return reference.name, reference.alias


def _plain(reference: Reference) -> str:
    if reference.version is not None or reference.digest is not None:
        raise InvalidInput(f"found a version, expected NAME or NAME:ALIAS. Fix: {reference.name}")
    return reference.name


def _rules(texts: Sequence[str]) -> dict[str, Any] | None:
    """None without any, so that the server's own rules hold."""
    return dict(map(_rule, texts)) or None


def _rule(text: str) -> tuple[str, Any]:
    name, found, value = (part.strip() for part in text.partition("="))
    if found and value in ("on", "off"):
        return name, value == "on" if name in SWITCHES or value == "on" else None
    try:
        number = json.loads(value)
    except ValueError:
        number = None
    if not found or not isinstance(number, int | float):
        raise InvalidInput(
            f"--rule: found {text[:80]!r}, expected NAME=VALUE with a number, on or off. Fix: --rule p99=3"
        )
    return name, number
