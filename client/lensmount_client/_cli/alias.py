"""`lensmount adapters alias|protect|stats`: what a name stands for, and how it is used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.terminal import print_json, print_line, print_table
from lensmount_client._errors import InvalidInput
from lensmount_client._show.table import Facts
from lensmount_client._types.results import AdapterInfo, AliasTrust


@with_options
def set_alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name on the server.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="For example prod; requests then use NAME:prod.")],
    version: Annotated[
        int | None,
        typer.Option(
            "--version",
            min=1,
            metavar="N",
            help="The version it points to; by default the newest, or with thresholds the one it points to already.",
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias; the version stays.")] = False,
    accept_confidence: Annotated[
        float | None,
        typer.Option(metavar="SCORE", min=0, max=1, help="Accept answers from this score on, for NAME:ALIAS."),
    ] = None,
    unfamiliar_percentile: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0, max=100, help="Images are unfamiliar from this percentile on."),
    ] = None,
    own_thresholds: Annotated[
        bool, typer.Option("--own-thresholds", help="Return to the thresholds in the adapter's file.")
    ] = False,
    *,
    server: ServerOptions,
) -> None:
    """Point NAME:ALIAS to a version of an adapter, from the next request on.

    The two thresholds replace those in the adapter's file, for this alias. They stay when the alias moves.
    """
    thresholds = (accept_confidence, unfamiliar_percentile)
    given = thresholds != (None, None)
    if remove and (version is not None or given or own_thresholds):
        raise InvalidInput("found --remove with another option, expected it alone. Fix: leave the other option out")
    if own_thresholds and given:
        raise InvalidInput("found --own-thresholds with a threshold, expected one of them. Fix: leave one out")
    trust = AliasTrust(*thresholds) if given or own_thresholds else None
    with server.client() as client:
        if remove:
            client.adapters.unalias(name, alias)
            pointed = None
        else:
            number = version or _version_of(client.adapters.get(name), alias, trust)
            pointed = client.adapters.alias(name, alias, number, trust=trust)
    if server.json:
        kept = asdict(pointed.trust) if pointed and pointed.trust else None
        print_json({"name": name, "alias": alias, "version": pointed and pointed.version, "trust": kept})
    elif pointed is None:
        print_line(f"removed {name}:{alias}")
    else:
        print_line(f"{name}:{alias} now points to {name}@{pointed.version}{_threshold_text(pointed.trust)}")


@with_options
def protect_alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name on the server.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="For example prod.")],
    off: Annotated[bool, typer.Option("--off", help="Protect it no longer.")] = False,
    *,
    server: ServerOptions,
) -> None:
    """Let only administrators move or remove NAME:ALIAS, or delete its version. Needs a token with the scope admin."""
    with server.client() as client:
        aliases = client.adapters.get(name).aliases
        if alias not in aliases:
            raise InvalidInput(f"found no alias {alias} of {name}. Fix: lensmount adapters alias {name} {alias}")
        client.adapters.alias(name, alias, aliases[alias], protected=not off)
    if server.json:
        print_json({"name": name, "alias": alias, "protected": not off})
    else:
        print_line(f"{name}:{alias} is {'protected no longer' if off else 'protected'}")


@with_options
def show_stats(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The adapter's name on the server.")],
    *,
    server: ServerOptions,
) -> None:
    """Show how you and others of your tenant used an adapter since the server started."""
    with server.client() as client:
        stats = client.adapters.stats(name)
    if server.json:
        print_json(jsonable(stats))
        return
    facts = Facts()
    facts.add("requests", ", ".join(f"{count} with status {status}" for status, count in stats.requests.items()) or "0")
    facts.add("images", str(stats.images))
    facts.add("decisions", ", ".join(f"{count} {decision}" for decision, count in stats.decisions.items()))
    facts.add("mean time", "" if stats.mean_ms is None else f"{stats.mean_ms:g} ms")
    facts.add("last used", "" if stats.last_used is None else f"{stats.last_used:%Y-%m-%d %H:%M:%S} UTC")
    facts.add("since", f"{stats.since:%Y-%m-%d %H:%M:%S} UTC")
    print_table(facts)


def _version_of(info: AdapterInfo, alias: str, trust: AliasTrust | None) -> int:
    """New thresholds alone do not move an alias."""
    return info.version if trust is None else info.aliases.get(alias, info.version)


def _threshold_text(trust: AliasTrust | None) -> str:
    values = {} if trust is None else asdict(trust)
    return "".join(f", {word.replace('_', ' ')} {value:g}" for word, value in values.items() if value is not None)
