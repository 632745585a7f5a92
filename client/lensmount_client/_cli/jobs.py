"""`lensmount jobs ...`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lensmount_client._cli.datasets import push_with_a_bar
from lensmount_client._cli.job_options import options_of, with_job_options
from lensmount_client._cli.job_table import dataset_reference, described_job, outcome, percent
from lensmount_client._cli.options import DEFAULT_URL, Insecure, Json, Token, Url, jsonable, open_client
from lensmount_client._cli.terminal import (
    age,
    cell,
    file_size,
    print_error,
    print_json,
    print_line,
    print_note,
    print_table,
)
from lensmount_client._client import Client
from lensmount_client._errors import InvalidInput, InvalidRequest, JobEnded, JobNotFound, Problem
from lensmount_client._reference import checked_name
from lensmount_client._resources.job import Job
from lensmount_client._show.sparkline import sparkline
from lensmount_client._types.jobs import STATES, JobInfo

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train adapters on the server: submit, watch, cancel, and fetch what came out.",
)

FAILED, NOT_PUBLISHED, INTERRUPTED = 1, 3, 130
REPORT = "report.html"
SHORT_ID = 8
PATIENT_RETRIES = 8  # about 40 s: a server that is started again in the meantime is waited for
SEARCHED_JOBS = 1000  # newest ones, for the first letters of an id

State = StrEnum("State", [(state, state) for state in STATES])  # type: ignore[misc]  # typer reads choices from it


Id = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The job's id or its first letters; by default the newest job."),
]
ThisId = Annotated[str, typer.Argument(metavar="ID", help="The job's id or its first letters.")]


@app.command()
@with_job_options(before="key")
def submit(
    adapter: Annotated[
        str, typer.Option("--adapter", "-a", metavar="NAME", help="The adapter to make, or to make a new version of.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", metavar="NAME[@N]", help="A dataset of the server. This or --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Push this folder first, as --dataset NAME or under its own name."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and watch the training.")] = False,
    key: Annotated[
        str | None,
        typer.Option(
            help="Calls with the same key are one job, however often a script repeats them.", rich_help_panel="Queue"
        ),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
    **said: Any,
) -> None:
    """Train an adapter on the server and publish it.

    The job is kept by the server: it goes on when this command ends. What is not said here is chosen by the server.

    Exit status with --watch: 0 published, 1 failed or cancelled, 2 wrong usage, 3 trained but not published,
    130 stopped with Ctrl-C (the job goes on). Without: 0 submitted.
    """
    options = options_of(said)
    checked_name(adapter)  # before anything is pushed for it
    with open_client(url, token, insecure) as client:
        if data is not None:
            pushed = push_with_a_bar(client.datasets, data, dataset)
            print_note(f"dataset {pushed.reference}: {pushed.images:,} images")
            for warning in pushed.report.warnings:
                print_note(f"warning {warning.message} ({warning.code})")
            dataset = pushed.reference
        if dataset is None:
            raise InvalidInput("expected --dataset NAME, or --data DIR to push a folder first")
        job = client.jobs.submit(dataset, adapter, idempotency_key=key, **options)
    if watch:
        watch_until_it_ends(job.id, json, url, token, insecure)
    if json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} {job.state}: {adapter} from {dataset_reference(job.info)}")
        print_note(f"watch it with: {again('watch', job.id, url)}")


@app.command("list")
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many, the newest first.")] = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """List the jobs of a server, newest first."""
    with open_client(url, token, insecure) as client:
        jobs = client.jobs.list(state and str(state), limit)
    if json:
        print_json({"jobs": [job.info.raw for job in jobs]})
        return
    if not jobs:
        print_line("no jobs" + (f" are {state}" if state else " yet: lensmount jobs submit --data DIR --adapter NAME"))
        return
    table = Table("id", "state", "adapter", "dataset", "outcome", "accuracy", "age")
    for job in jobs:
        info = job.info
        accuracies = [epoch.validation_balanced_accuracy for epoch in info.history]
        texts = (
            info.id[:SHORT_ID],
            info.state,
            info.adapter,
            dataset_reference(info),
            outcome(info).removeprefix("published "),
            f"{sparkline(accuracies, 8)} {percent(accuracies[-1])}" if accuracies else "",
            age(info.created_at),
        )
        table.add_row(*map(cell, texts))
    print_table(table)


@app.command()
def show(
    job_id: Id = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Show one job: its state, its curves, what came out."""
    with open_client(url, token, insecure) as client:
        job = find(client, job_id)
    if json:
        print_json(job.info.raw)
    else:
        print_table(described_job(job.info))


@app.command()
def watch(
    job_id: Id = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Stop watching after so long; the job goes on.")
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Watch a job until it ends. Ctrl-C stops watching, not the job.

    Exit status: 0 published, 1 failed or cancelled, 2 wrong usage, 3 trained but not published, 130 Ctrl-C.
    """
    with open_client(url, token, insecure) as client:
        job = find(client, job_id)
    watch_until_it_ends(job.id, json, url, token, insecure, timeout)


@app.command()
def cancel(
    job_id: ThisId, json: Json = False, url: Url = DEFAULT_URL, token: Token = None, insecure: Insecure = False
) -> None:
    """Cancel a job: at once if it waits, at its next step if it runs."""
    with open_client(url, token, insecure) as client:
        job = find(client, job_id).cancel()
    if json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} " + ("cancelled" if job.ended else "is asked to stop"))


@app.command()
def retry(
    job_id: ThisId, json: Json = False, url: Url = DEFAULT_URL, token: Token = None, insecure: Insecure = False
) -> None:
    """Queue a failed or cancelled job again."""
    with open_client(url, token, insecure) as client:
        job = find(client, job_id).retry()
    if json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} {job.state}")
        print_note(f"watch it with: {again('watch', job.id, url)}")


@app.command()
def logs(
    job_id: Id = None, json: Json = False, url: Url = DEFAULT_URL, token: Token = None, insecure: Insecure = False
) -> None:
    """Print the log of a job."""
    with open_client(url, token, insecure) as client:
        job = find(client, job_id)
        log = job.log()
    if json:
        print_json({"id": job.id, "log": log})
        return
    for line in log.splitlines():
        print_line(line)


@app.command()
def download(
    job_id: Id = None,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Such as report.html; by default all files.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write to.")] = Path(),
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Download what a job left: the adapter, its card and report, metrics, log."""
    with open_client(url, token, insecure) as client:
        job = find(client, job_id)
        wanted = names or [file.name for file in job.files()]
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"--out {out}: cannot be a folder ({error.strerror})") from error
        files = [job.download(name, out) for name in wanted]
    if json:
        print_json({"files": [jsonable(file) | {"path": str(file.path)} for file in files]})
        return
    for file in files:
        print_line(f"{file.path}  {file_size(file.size_bytes)}")
    if not files:
        print_note(f"job {job.id} has left no files yet ({job.state})")


def find(client: Client, text: str | None) -> Job:
    """The job with this id, the one job whose id begins so, or the newest. Raises JobNotFound, InvalidInput."""
    if text is None:
        newest = client.jobs.list(limit=1)
        if not newest:
            raise JobNotFound(_not_found("no jobs yet: lensmount jobs submit --data DIR --adapter NAME"))
        return newest[0]
    try:
        return client.jobs.get(text)
    except (JobNotFound, InvalidRequest):  # the server knows whole ids only
        found = [job for job in client.jobs.list(limit=SEARCHED_JOBS) if job.id.startswith(text)]
        if not found:
            raise JobNotFound(_not_found(f"no job's id begins with {text}: lensmount jobs list")) from None
        if len(found) > 1:
            raise InvalidInput(f"{text}: {len(found)} jobs begin so, such as {found[0].id}; give more of it") from None
        return found[0]


def again(command: str, job_id: str, url: str) -> str:
    """The command line that does this to the same job."""
    return f"lensmount jobs {command} {job_id[:SHORT_ID]}{_where(url)}"


def _where(url: str) -> str:
    known = url in (DEFAULT_URL, os.environ.get("LENSMOUNT_URL"))
    return "" if known else f" --url {url}"


def watch_until_it_ends(
    job_id: str, json: bool, url: str, token: str | None, insecure: bool, timeout_s: float | None = None
) -> None:
    """Leaves by typer.Exit with the exit status of the job."""
    with open_client(url, token, insecure, retries=PATIENT_RETRIES) as client:
        job = client.jobs.get(job_id)
        try:
            job.wait(progress=True, timeout_s=timeout_s)
        except KeyboardInterrupt:
            print_note("stopped watching; the job goes on")
            print_note(f"watch again: {again('watch', job.id, url)}")
            print_note(f"cancel it:   {again('cancel', job.id, url)}")
            raise typer.Exit(INTERRUPTED) from None
        except JobEnded as error:
            print_error(f"{error} ({error.code})")
            if job.state == "failed":
                print_note(f"its log:   {again('logs', job.id, url)}")
                print_note(f"try again: {again('retry', job.id, url)}")
    if json:
        print_json(job.info.raw)
    elif job.state == "succeeded":
        print_table(described_job(job.info, curves=False))
        for hint in _what_next(job.info, url):
            print_note(hint)
    raise typer.Exit(FAILED if job.state != "succeeded" else 0 if job.published else NOT_PUBLISHED)


def _what_next(info: JobInfo, url: str) -> Iterator[str]:
    result = info.result
    fetch = again("download", info.id, url)
    if result is None or result.adapter is None:
        push = f"lensmount adapters push adapter.safetensors --name {info.adapter}{_where(url)}"
        yield f"publish it all the same: {fetch} adapter.safetensors && {push}"
    else:
        yield f"try it:     lensmount predict IMAGE --adapter {info.adapter}{_where(url)}"
    if result is not None and REPORT in result.files:
        yield f"its report: {fetch} {REPORT}"


def _not_found(detail: str) -> Problem:
    return Problem(404, "job_not_found", "Not Found", detail)
