"""`lensmount predict ...`."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lensmount_client import _errors as e
from lensmount_client._async_client import AsyncClient
from lensmount_client._cli.options import DEFAULT_URL, Insecure, Json, Token, Url
from lensmount_client._cli.results_file import ResultsFile, row_of
from lensmount_client._cli.terminal import cell, described, print_error, print_json, print_note, print_table
from lensmount_client._client import Client
from lensmount_client._files.paths import find_images
from lensmount_client._resources.many import Outcome, adapter_list

BAR_FROM = 4  # images; fewer are done before a bar has been read
SHOWN_ROWS = 20  # of a run that is saved with --out

# These say something about the run, not about one image: the next image would meet them again.
ENDS_THE_RUN = (
    e.AdapterMismatch,
    e.Conflict,
    e.Forbidden,
    e.Gone,
    e.InvalidReference,
    e.InvalidRequest,
    e.MethodNotAllowed,
    e.NotFound,
    e.ServerUnreachable,
    e.Unauthorized,
    e.UnexpectedResponse,
)


def predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES", help='Files, folders (all images in them), patterns ("*.png").'),
    ],
    adapter: Annotated[
        str,
        typer.Option("--adapter", "-a", metavar="NAME[,NAME]", help="name, name@3, name:alias; several with commas."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Save to .csv or .jsonl, line by line. Images already there are skipped.",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, metavar="N", help="Best classes to ask for.")] = 5,
    concurrency: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Requests under way at a time.")] = 8,
    overlay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the masks of a segmentation adapter over one image: overlay.png."),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Label images.

    With --out, the same command again goes on where it was and tries failed images once more.

    Exit status: 0 all labelled, 1 some failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    try:
        adapters = adapter_list([name.strip() for name in adapter.split(",")])
        paths = list(dict.fromkeys(path for where in images for path in find_images(where)))
        if overlay is not None:
            with Client(url, token=token, insecure=insecure) as one:
                draw(one, paths, adapters, overlay, json)
            return
        client = AsyncClient(url, token=token, insecure=insecure)
        results = ResultsFile(out) if out else None
    except e.CannotWrite as error:  # nothing has begun: this --out cannot be meant
        print_error(str(error))
        raise typer.Exit(2) from error
    with ExitStack() as stack:
        run = Run(adapters, stack.enter_context(results) if results else None, keep_all=json or not results)
        todo = [path for path in paths if not run.is_done(path)]
        run.skipped = len(paths) - len(todo)
        try:
            asyncio.run(run.go(todo, client, top_k, concurrency))
        finally:
            run.report(json, out)
    if run.failures:
        raise typer.Exit(1)


def draw(client: Client, paths: list[str], adapters: list[str], overlay: Path, json: bool) -> None:
    """Segment one image under one adapter, write the overlay and say what was found."""
    if len(paths) != 1 or len(adapters) != 1:
        raise e.InvalidInput(f"--overlay: found {len(paths)} images and {len(adapters)} adapters, expected one of each")
    found = client.segment(paths[0], adapters[0])
    found.overlay(overlay)
    rows = [{"label": mask.label, "regions": mask.count, "area": mask.area} for mask in found.masks]
    if json:
        print_json({"file": paths[0], "overlay": str(overlay), "masks": rows})
        return
    table = Table("label", "regions", "pixels", "share")
    for mask in found.masks:
        share = mask.area / (found.size[0] * found.size[1])
        table.add_row(*map(cell, (mask.label, str(mask.count), str(mask.area), f"{share:.1%}")))
    print_table(table)
    print_note(f"Wrote {overlay}")


@dataclass
class Run:
    """One call of the command: what it has done so far, on screen and on disk."""

    adapters: list[str]
    results: ResultsFile | None
    keep_all: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Outcome] = field(default_factory=list)
    labelled: int = 0
    skipped: int = 0

    def is_done(self, path: str) -> bool:
        return self.results is not None and all((path, name) in self.results.done for name in self.adapters)

    async def go(self, paths: list[str], client: AsyncClient, top_k: int, concurrency: int) -> None:
        """Raises the first error that would meet every image."""
        async with client:
            outcomes = client.predict_many(
                paths, self.adapters, top_k=top_k, concurrency=concurrency, progress=len(paths) >= BAR_FROM
            )
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    if isinstance(outcome.error, ENDS_THE_RUN):
                        raise outcome.error
                    self.take(outcome)

    def take(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            if not self.failures or self.failures[-1].error is not outcome.error:  # one error, many adapters
                self.failures.append(outcome)
            return
        row = row_of(outcome)
        if self.results is not None and (row["file"], row["adapter"]) not in self.results.done:
            self.results.append(row)
        self.labelled += 1
        if self.keep_all or len(self.rows) < SHOWN_ROWS:
            self.rows.append(row)

    def report(self, json: bool, out: Path | None) -> None:
        if json:
            print_json({"results": self.rows, "failures": self._failures(), "skipped": self.skipped})
        elif self.rows:
            print_table(self._table())
        if out:
            hidden = self.labelled - len(self.rows)
            more = f", {hidden} of them not shown" if hidden else ""
            skipped = f", {self.skipped} images were already there" if self.skipped else ""
            print_note(f"{out}: {self.labelled} rows added{more}{skipped}")
        if self.failures:
            print_error(f"{len(self.failures)} failed:")
        for outcome in self.failures:
            assert outcome.error is not None, "only outcomes with an error are failures"
            print_error(f"  {outcome.input!s}: {described(outcome.error)}")

    def _failures(self) -> list[dict[str, Any]]:
        return [
            {
                "file": str(outcome.input),
                "code": outcome.error.code,
                "message": str(outcome.error),
                "request_id": outcome.error.request_id,
            }
            for outcome in self.failures
            if outcome.error is not None
        ]

    def _table(self) -> Table:
        several = len(self.adapters) > 1
        table = Table("file", *(["adapter"] if several else []), "label", "score", "other classes")
        table.columns[-2].justify = "right"
        for row in self.rows:
            (_, score), *others = row["scores"].items()
            rest = ", ".join(f"{label} {value:.1%}" for label, value in others)
            adapter = [row["adapter"]] if several else []
            table.add_row(*map(cell, (row["file"], *adapter, row["label"], f"{score:.1%}", rest)))
        return table
