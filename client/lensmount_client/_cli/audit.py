"""`lensmount audit ...`: who did what on a server."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import cell, print_json, print_table
from lensmount_client._cli.tokens import seconds_of
from lensmount_client._errors import InvalidInput
from lensmount_client._types.access import AuditRecord

app = typer.Typer(name="audit", no_args_is_help=True)

Since = Annotated[str, typer.Option(metavar="TIME", help="How far back: 12h, 90d, or a time such as 2026-01-31.")]
Actor = Annotated[str | None, typer.Option(metavar="NAME", help="Only what this token did.")]
Action = Annotated[str | None, typer.Option(metavar="ROUTE", help='Only this, such as "PUT /adapters/{name}".')]


@app.command("list")
@with_options
def list_records(since: Since = "1d", actor: Actor = None, action: Action = None, *, server: ServerOptions) -> None:
    """List who did what, oldest first. Needs the scope admin."""
    with server.client() as client:
        records = client.audit(moment_of(since), actor=actor, action=action)
    if server.json:
        print_json({"records": [_row(record) for record in records]})
        return
    table = Table("time", "tenant", "actor", "action", "target", "status")
    for record in records:
        status = str(record.status) + (f" ({record.count} times)" if record.count > 1 else "")
        when = record.time.strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(*map(cell, (when, record.tenant, record.actor, record.action, record.target or "", status)))
    print_table(table)


@app.command()
@with_options
def export(
    since: Since = "90d",
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="jsonl or csv.")] = "jsonl",
    *,
    server: ServerOptions,
) -> None:
    """Print all records as lines of JSON or CSV, for a file: lensmount audit export > audit.jsonl."""
    if form not in ("jsonl", "csv"):
        raise InvalidInput(f"--format: found {form!r}, expected jsonl or csv. Fix: --format csv")
    with server.client() as client:
        records = client.audit(moment_of(since))
    if form == "jsonl":
        sys.stdout.writelines(json.dumps(_row(record)) + "\n" for record in records)
        return
    writer = csv.DictWriter(sys.stdout, [field.name for field in fields(AuditRecord)])
    writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in _row(record).items()} for record in records)


def moment_of(text: str) -> datetime:
    """`moment_of("90d")`, or of a date or time; UTC if it names no zone. Raises InvalidInput."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC) - timedelta(seconds=seconds_of(text, "--since"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(record: AuditRecord) -> dict[str, Any]:
    return {**asdict(record), "time": record.time.isoformat()}


def _harmless(value: Any) -> Any:
    """A refused caller chooses the target: a spreadsheet must not take it for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") and value != "-" else value
