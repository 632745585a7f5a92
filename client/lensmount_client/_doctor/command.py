"""`lensmount doctor`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from lensmount_client._cli.extras import is_ours, missing_module
from lensmount_client._cli.options import Address, ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_line
from lensmount_client._doctor.finding import Finding, of_all
from lensmount_client._doctor.machine import machine
from lensmount_client._doctor.packages import packages
from lensmount_client._errors import LensmountError, LocalError

MARKS = {"ok": "ok      ", "note": "note    ", "problem": "PROBLEM "}


@with_options
def doctor(
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The state folder of a server on this machine.")
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Show what is installed, how a server would compute here, and how to get what is missing.

    It reads the LENSMOUNT_ variables as `lensmount serve` does, and changes nothing.

    Exit status: 0 nothing keeps Lensmount from working, 1 there are problems.
    """
    findings = [*machine(), *packages(), *_service(state), _answering(server)]
    problems = any(finding.level == "problem" for finding in findings)
    if server.json:
        print_json({"ok": not problems, "findings": [finding._asdict() for finding in findings]})
    else:
        for finding in findings:
            print_line(f"{MARKS[finding.level]} {finding.part:10} {finding.found}")
            if finding.fix:
                print_line(f"{'':20}Fix: {finding.fix}")
        print_line(of_all(findings))
    if problems:
        raise typer.Exit(1)


def _service(state: Path | None) -> list[Finding]:
    """The part that needs the server's package. Without it, the extra `serve` is among the notes already."""
    if missing_module("serve") is not None:
        return []
    try:
        looked = import_module("lensmount_service.doctor").findings(state)
    except ModuleNotFoundError as error:
        if is_ours(error):
            raise
        return [Finding("server", "note", f"{error.name} is missing", "run the server on Linux or macOS")]
    return [Finding(*found) for found in looked]


def _answering(address: Address) -> Finding:
    """Whether a server answers at the address that commands use."""
    try:
        with address.client(retries=0) as client:
            health = client.health()
            backbone = health.report.get("backbone", "an unnamed backbone")
            return Finding("address", "ok", f"{address.url} answers: {health.status}, {backbone}")
    except LocalError as error:
        return Finding("address", "problem", str(error), "correct --url and --token, or LENSMOUNT_URL and _TOKEN")
    except LensmountError as error:
        fix = "give the address of a server that runs with --url or LENSMOUNT_URL, or start one with `lensmount serve`"
        return Finding("address", "note", str(error).partition("; start one")[0], fix)
