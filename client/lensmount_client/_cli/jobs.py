"""`lensmount jobs ...`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lensmount_client._cli.datasets import push_with_a_bar
from lensmount_client._cli.job_options import options_of, with_job_options
from lensmount_client._cli.job_table import dataset_reference, described_job, outcome, percent
from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.terminal import (
    age,
    described,
    file_size,
    print_error,
    print_json,
    print_line,
    print_note,
    print_table,
)
from lensmount_client._client import Client
from lensmount_client._errors import InvalidInput, InvalidRequest, JobNotFound, Problem
from lensmount_client._files.paths import make_folder
from lensmount_client._reference import checked_name
from lensmount_client._resources.job import Job
from lensmount_client._show.sparkline import sparkline
from lensmount_client._show.table import Table
from lensmount_client._types.ended import JobEnded
from lensmount_client._types.jobs import STATES, JobInfo

app = typer.Typer(no_args_is_help=True)

FAILED, NOT_PUBLISHED, INTERRUPTED = 1, 3, 130
REPORT = "report.html"
NO_JOBS = "No jobs yet. Submit one: lensmount jobs submit --data DIR --adapter NAME"
SHORT_ID = 8
WATCH_RETRIES = 8  # about 40 s, long enough for the server to restart
SEARCHED_JOBS = 1000  # the newest ones, among which the first letters of an id are looked up

State = StrEnum("State", [(state, state) for state in STATES])  # type: ignore[misc]  # typer reads choices from it


Id = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="The job's id or its first letters; by default the newest job."),
]
ClassDepth = Annotated[
    int | None,
    typer.Option(min=1, max=8, metavar="N", help="How many levels of the folders of DIR name the class."),
]
ThisId = Annotated[str, typer.Argument(metavar="ID", help="The job's id or its first letters.")]


@app.command()
@with_options
@with_job_options(before="key")
def submit(
    adapter: Annotated[
        str,
        typer.Option("--adapter", "-a", metavar="NAME", help="The adapter to create, or to publish a new version of."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", metavar="NAME[@N]", help="A dataset on the server. Give this or --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Upload this folder first, named by --dataset or after the folder."),
    ] = None,
    class_depth: ClassDepth = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch the training until it ends.")] = False,
    key: Annotated[
        str | None,
        typer.Option(help="Submitting again with the same key does not make a second job.", rich_help_panel="Queue"),
    ] = None,
    *,
    server: ServerOptions,
    **options: Any,
) -> None:
    """Train an adapter on the server and publish it.

    The job continues on the server when this command ends. Omitted options use the server's defaults.

    Exit status with --watch: 0 published, 1 failed or cancelled, 2 wrong usage, 3 trained but not published,
    130 stopped with Ctrl-C (the job continues). Without --watch: 0 submitted.
    """
    training_options = options_of(options)
    checked_name(adapter)  # before a folder is uploaded for it
    with server.client() as client:
        if data is not None:
            dataset = pushed_first(client, data, dataset, class_depth)
        if dataset is None:
            raise InvalidInput(
                "found neither --dataset nor --data. Fix: --dataset NAME, or --data DIR to upload a folder"
            )
        job = client.jobs.submit(dataset, adapter, idempotency_key=key, **training_options)
    if watch:
        watch_until_it_ends(job.id, server)
    if server.json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} {job.state}: {adapter} from {dataset_reference(job.info)}")
        print_note(f"Watch it: {again('watch', job.id, server)}")


@with_options
@with_job_options(before="class_depth")
def teach(
    data: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder with one folder of images per class, or a zip of one."),
    ],
    name: Annotated[
        str, typer.Option("--name", "-n", metavar="NAME", help="The name of the adapter, and of its dataset.")
    ],
    class_depth: ClassDepth = None,
    *,
    server: ServerOptions,
    **options: Any,
) -> None:
    """Turn a folder of images into a live adapter.

    Uploads the images, trains, and watches until the adapter is live: `lensmount jobs submit --data DIR --watch` in
    short. The server needs a worker: `lensmount serve --with-worker`. Omitted options use the server's defaults.

    Exit status: 0 live, 1 failed or cancelled, 2 wrong usage, 3 trained but not published, 130 stopped with Ctrl-C (the
    job continues).
    """
    training_options = options_of(options)
    checked_name(name)  # before a folder is uploaded for it
    with server.client() as client:
        job = client.jobs.submit(pushed_first(client, data, name, class_depth), name, **training_options)
    watch_until_it_ends(job.id, server)


def pushed_first(client: Client, data: Path, name: str | None, class_depth: int | None) -> str:
    """Upload a folder and print what the server found in it. Returns the dataset's `name@version`."""
    pushed = push_with_a_bar(client.datasets, data, name, class_depth)
    print_note(f"dataset {pushed.reference}: {pushed.images:,} images")
    for warning in pushed.report.warnings:
        print_note(f"warning: {warning.message} ({warning.code})")
    return pushed.reference


@app.command("list")
@with_options
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show at most this many, the newest first.")] = 20,
    *,
    server: ServerOptions,
) -> None:
    """List the jobs of a server, newest first."""
    with server.client() as client:
        jobs = client.jobs.list(state and str(state), limit)
    if server.json:
        print_json({"jobs": [job.info.raw for job in jobs]})
        return
    if not jobs:
        print_line(f"No jobs are {state}." if state else NO_JOBS)
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
        table.add_row(*texts)
    print_table(table)


@app.command()
@with_options
def show(
    job_id: Id = None,
    *,
    server: ServerOptions,
) -> None:
    """Show one job: its state, curves and results."""
    with server.client() as client:
        job = find(client, job_id)
    if server.json:
        print_json(job.info.raw)
    else:
        print_table(described_job(job.info))


@app.command()
@with_options
def watch(
    job_id: Id = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Stop watching after this many seconds; the job continues."),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Watch a job until it ends. Ctrl-C stops only the watching; the job continues.

    Exit status: 0 published, 1 failed or cancelled, 2 wrong usage, 3 trained but not published, 130 Ctrl-C.
    """
    with server.client() as client:
        job = find(client, job_id)
    watch_until_it_ends(job.id, server, timeout)


@app.command()
@with_options
def cancel(job_id: ThisId, *, server: ServerOptions) -> None:
    """Cancel a job: a queued one at once, a running one at its next step."""
    with server.client() as client:
        job = find(client, job_id).cancel()
    if server.json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} " + ("cancelled" if job.ended else "will stop at its next step"))


@app.command("delete-files")
@with_options
def delete_files(job_id: ThisId, *, server: ServerOptions) -> None:
    """Delete the files of a job that has ended; what it published stays."""
    with server.client() as client:
        job = find(client, job_id)
        job.delete_files()
    if server.json:
        print_json({"id": job.id, "files": []})
    else:
        print_line(f"deleted the files of job {job.id}")


@app.command()
@with_options
def retry(job_id: ThisId, *, server: ServerOptions) -> None:
    """Queue a failed or cancelled job again."""
    with server.client() as client:
        job = find(client, job_id).retry()
    if server.json:
        print_json(job.info.raw)
    else:
        print_line(f"job {job.id} {job.state}")
        print_note(f"Watch it: {again('watch', job.id, server)}")


@app.command()
@with_options
def logs(job_id: Id = None, *, server: ServerOptions) -> None:
    """Print the log of a job."""
    with server.client() as client:
        job = find(client, job_id)
        log = job.log()
    if server.json:
        print_json({"id": job.id, "log": log})
        return
    for line in log.splitlines():
        print_line(line)


@app.command()
@with_options
def download(
    job_id: Id = None,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="For example report.html; by default all files.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write to.")] = Path(),
    *,
    server: ServerOptions,
) -> None:
    """Download the files of a job: the adapter, its card and report, metrics, log."""
    with server.client() as client:
        job = find(client, job_id)
        wanted = names or [file.name for file in job.files()]
        make_folder(out, "--out")
        files = [job.download(name, out) for name in wanted]
    if server.json:
        print_json({"files": [jsonable(file) | {"path": str(file.path)} for file in files]})
        return
    for file in files:
        print_line(f"{file.path}  {file_size(file.size_bytes)}")
    if not files:
        print_note(f"Job {job.id} has no files yet ({job.state}).")


def find(client: Client, text: str | None) -> Job:
    """The job with this id, the only job whose id starts with it, or the newest. Raises JobNotFound, InvalidInput."""
    if text is None:
        newest = client.jobs.list(limit=1)
        if not newest:
            raise JobNotFound(_not_found(NO_JOBS))
        return newest[0]
    try:
        return client.jobs.get(text)
    except (JobNotFound, InvalidRequest):  # the server finds complete ids only
        matching = [job for job in client.jobs.list(limit=SEARCHED_JOBS) if job.id.startswith(text)]
        if not matching:
            detail = f"no job id starts with {text}. Fix: `lensmount jobs list` shows the ids"
            raise JobNotFound(_not_found(detail)) from None
        if len(matching) > 1:
            raise InvalidInput(
                f"{text}: found {len(matching)} jobs whose ids start with it, expected one. "
                f"Fix: give more of the id, such as {matching[0].id}"
            ) from None
        return matching[0]


def again(command: str, job_id: str, server: ServerOptions) -> str:
    """The command line for the same job and server."""
    return f"lensmount jobs {command} {job_id[:SHORT_ID]}{server.url_flag}"


def watch_until_it_ends(job_id: str, server: ServerOptions, timeout_s: float | None = None) -> None:
    """Watch a job to its end. Raises typer.Exit with the exit status that stands for the outcome."""
    with server.client(retries=WATCH_RETRIES) as client:
        job = client.jobs.get(job_id)
        try:
            job.wait(progress=True, timeout_s=timeout_s)
        except KeyboardInterrupt:
            print_note("Stopped watching. The job continues.")
            print_note(f"Watch again: {again('watch', job.id, server)}")
            print_note(f"Cancel it:   {again('cancel', job.id, server)}")
            raise typer.Exit(INTERRUPTED) from None
        except JobEnded as error:
            print_error(described(error))
            if job.state == "failed":
                print_note(f"Show its log: {again('logs', job.id, server)}")
                print_note(f"Try again:    {again('retry', job.id, server)}")
    if server.json:
        print_json(job.info.raw)
    elif job.state == "succeeded":
        print_table(described_job(job.info, curves=False))
        for hint in _what_next(job.info, server):
            print_note(hint)
    done = job.published or job.info.kind == "predict"
    raise typer.Exit(FAILED if job.state != "succeeded" else 0 if done else NOT_PUBLISHED)


def _what_next(info: JobInfo, server: ServerOptions) -> Iterator[str]:
    result = info.result
    fetch = again("download", info.id, server)
    if info.kind == "predict":
        yield f"Get the rows: {fetch} results.jsonl"
        return
    if result is None or result.adapter is None:
        push = f"lensmount adapters push adapter.safetensors --name {info.adapter}{server.url_flag}"
        yield f"Publish it anyway: {fetch} adapter.safetensors && {push}"
    else:
        yield f"Try it:         lensmount predict IMAGE --adapter {info.adapter}{server.url_flag}"
    if result is not None and REPORT in result.files:
        yield f"Get its report: {fetch} {REPORT}"


def _not_found(detail: str) -> Problem:
    return Problem(404, "job_not_found", "Not Found", detail)
