"""`lensmount audit ...`: who did what on a server."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_note, print_table
from lensmount_client._cli.tokens import seconds_of
from lensmount_client._errors import InvalidInput
from lensmount_client._show.table import Table
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
        table.add_row(when, record.tenant, record.actor, record.action, record.target or "", status)
    print_table(table)


@app.command()
@with_options
def export(
    since: Since = "90d",
    after: Annotated[
        str | None, typer.Option(metavar="END", help="Resume where an earlier export ended, as it said on stderr.")
    ] = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="jsonl or csv.")] = "jsonl",
    *,
    server: ServerOptions,
) -> None:
    """Print all records as lines of JSON or CSV, for a file: lensmount audit export > audit.jsonl.

    At its end, and if it is interrupted, it says on stderr how to resume: with --after END, and >> for the file.
    """
    if form not in ("jsonl", "csv"):
        raise InvalidInput(f"--format: found {form!r}, expected jsonl or csv. Fix: --format csv")
    began = moment_of(since) if after is None else None
    write = _writer(form, with_header=after is None)
    more = True
    with server.client() as client:
        try:
            while more:
                page = client.audit_page(began, after=after)
                write(page.records)
                after, more = page.end or after, page.next is not None
        finally:
            if after is not None:
                print_note(f"To resume from here: lensmount audit export --after {after} --format {form}")


def _writer(form: str, *, with_header: bool) -> Callable[[Iterable[AuditRecord]], None]:
    """What writes records to stdout."""
    csv_writer = csv.DictWriter(sys.stdout, [field.name for field in fields(AuditRecord)])
    if form == "csv" and with_header:
        csv_writer.writeheader()

    def write(records: Iterable[AuditRecord]) -> None:
        rows = map(_row, records)
        if form == "jsonl":
            sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            csv_writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
        sys.stdout.flush()  # the note below must not come before what it says is written

    return write


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
