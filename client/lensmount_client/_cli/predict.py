"""`lensmount predict ...`."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from lensmount_client import _errors as e
from lensmount_client._advice import for_command_line
from lensmount_client._async_client import AsyncClient
from lensmount_client._cli.explain import draw_explanation
from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.results_file import ResultsFile, row_of
from lensmount_client._cli.terminal import described, plural, print_error, print_json, print_note, print_table
from lensmount_client._files.listing import counted
from lensmount_client._files.paths import find_images
from lensmount_client._reference import ALWAYS, checked_decision
from lensmount_client._resources.many import Outcome, adapter_list
from lensmount_client._show.table import Table
from lensmount_client._types.trust import trust_words

BAR_FROM = 4  # images; fewer are done before anybody has read a bar
SHOWN_ROWS = 20  # of a run that --out saves

OverlayFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw the masks of a segmentation adapter over one image: overlay.png."),
]
ExplainFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Colour what speaks for the label of one image: --explain why.png."),
]

# These errors are about the run and not about one image: the next image would fail in the same way.
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


@dataclass(frozen=True)
class Asking:
    """The flags that say how the images are asked for."""

    top_k: Annotated[
        int, typer.Option("--top-k", min=1, metavar="N", help="How many of the best classes to return.")
    ] = 5
    decision: Annotated[
        str,
        typer.Option(
            metavar="always|strict", help="strict: no label for an image of which the adapter cannot be sure."
        ),
    ] = ALWAYS
    concurrency: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Requests in progress at a time.")] = 8
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help='Sent with each image, for a rollout with such a key: "X-Patient: 7".'),
    ] = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name, which the client checks. Raises InvalidInput."""
        found: dict[str, str] = {}
        for text in self.header or []:
            name, colon, value = text.partition(":")
            if not colon or name in found:
                raise e.InvalidInput(
                    f"--header: found {text[:80]!r}, expected NAME:VALUE, and each name once. "
                    'Fix: such as --header "X-Patient: 7"'
                )
            found[name.strip()] = value.strip()
        return found

    def check(self, sends: bool) -> None:
        """Raises InvalidInput for wrong options, or for headers of an answer that `sends` none."""
        checked_decision(self.decision)
        if self.headers and not sends:
            raise e.InvalidInput("--header: found it with --overlay or --explain, which send none. Fix: leave it out")


@with_options
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
            help="Save to .csv or .jsonl, line by line. Images that are already in the file are skipped.",
        ),
    ] = None,
    overlay: OverlayFile = None,
    explain: ExplainFile = None,
    *,
    asking: Asking,
    server: ServerOptions,
) -> None:
    """Label images.

    With --out, a repeated command resumes where the last one stopped, and retries failed images.

    Exit status: 0 all labelled, 1 some failed, 2 wrong usage, 130 stopped with Ctrl-C.
    """
    try:
        adapters = adapter_list([name.strip() for name in adapter.split(",")])
        asking.check(sends=overlay is None and explain is None)
        paths = _paths(images)
        if overlay is not None:
            draw(paths, adapters, overlay, server)
            return
        if explain is not None:
            _require_one_of_each("--explain", paths, adapters)
            draw_explanation(paths[0], adapters[0], explain, server)
            return
        client = AsyncClient(server.url, token=server.token, insecure=server.insecure)
        results = ResultsFile(out) if out else None
    except e.CannotWrite as error:  # nothing has started, so the command line is wrong
        print_error(str(error))
        raise typer.Exit(2) from error
    with ExitStack() as stack:
        run = PredictRun(
            adapters, stack.enter_context(results) if results else None, keep_all=server.json or not results
        )
        remaining = [path for path in paths if not run.is_done(path)]
        run.skipped = len(paths) - len(remaining)
        try:
            asyncio.run(run.run(remaining, client, asking))
        finally:
            run.report(server.json, out)
    if run.failures:
        raise typer.Exit(1)


def draw(paths: list[str], adapters: list[str], overlay: Path, server: ServerOptions) -> None:
    """Segment one image with one adapter, write the overlay and print the regions of each label."""
    _require_one_of_each("--overlay", paths, adapters)
    with server.client() as client:
        segmentation = client.segment(paths[0], adapters[0])
    segmentation.overlay(overlay)
    rows = [{"label": mask.label, "regions": mask.count, "area": mask.area} for mask in segmentation.masks]
    if server.json:
        print_json({"file": paths[0], "overlay": str(overlay), "masks": rows})
        return
    table = Table("label", "regions", "pixels", "share", right=["regions", "pixels", "share"])
    for mask in segmentation.masks:
        share = mask.area / (segmentation.size[0] * segmentation.size[1])
        table.add_row(mask.label, str(mask.count), str(mask.area), f"{share:.1%}")
    print_table(table)
    print_note(f"Wrote {overlay}")


def _require_one_of_each(option: str, paths: list[str], adapters: list[str]) -> None:
    if len(paths) != 1 or len(adapters) != 1:
        counts = f"{plural(len(paths), 'image')} and {plural(len(adapters), 'adapter')}"
        raise e.InvalidInput(f"{option}: found {counts}, expected one of each")


def _paths(images: list[str]) -> list[str]:
    """The images in all places, each once. Prints what was left out."""
    left_out: Counter[str] = Counter()
    paths = list(dict.fromkeys(path for where in images for path in find_images(where, left_out)))
    if left_out:
        print_note(f"Files that were left out: {counted(left_out)}")
    return paths


@dataclass
class PredictRun:
    """One run of the command, with its results so far on screen and on disk."""

    adapters: list[str]
    results: ResultsFile | None
    keep_all: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    worth: list[str] = field(default_factory=list)  # what the answer of each row is worth, in words
    failures: list[Outcome] = field(default_factory=list)
    labelled: int = 0
    skipped: int = 0

    def is_done(self, path: str) -> bool:
        return self.results is not None and all((path, name) in self.results.done for name in self.adapters)

    async def run(self, paths: list[str], client: AsyncClient, asking: Asking) -> None:
        """Raise the first error that every other image would meet too."""
        async with client:
            bar = len(paths) >= BAR_FROM
            outcomes = client.predict_many(
                paths,
                self.adapters,
                top_k=asking.top_k,
                decision=asking.decision,
                concurrency=asking.concurrency,
                progress=bar,
                headers=asking.headers,
            )
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    if isinstance(outcome.error, ENDS_THE_RUN):
                        raise outcome.error
                    self.record(outcome)

    def record(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            if (
                not self.failures or self.failures[-1].error is not outcome.error
            ):  # all adapters of an image share its error
                self.failures.append(outcome)
            return
        row = row_of(outcome)
        if self.results is not None and (row["file"], row["adapter"]) not in self.results.done:
            self.results.append(row)
        self.labelled += 1
        if self.keep_all or len(self.rows) < SHOWN_ROWS:
            self.rows.append(row)
            assert outcome.prediction is not None, "an outcome without an error has a prediction"
            self.worth.append(trust_words(outcome.prediction.trust))

    def report(self, json: bool, out: Path | None) -> None:
        if json:
            print_json({"results": self.rows, "failures": self._failures(), "skipped": self.skipped})
        elif self.rows:
            print_table(self._table())
        if out:
            hidden = self.labelled - len(self.rows)
            more = f", {hidden} of them not shown" if hidden else ""
            skipped = f", {plural(self.skipped, 'image')} skipped (already in the file)" if self.skipped else ""
            print_note(f"{out}: {plural(self.labelled, 'row')} added{more}{skipped}")
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
                "message": for_command_line(str(outcome.error)),
                "request_id": outcome.error.request_id,
            }
            for outcome in self.failures
            if outcome.error is not None
        ]

    def _table(self) -> Table:
        several, measured = len(self.adapters) > 1, any(self.worth)
        columns = ["file", *(["adapter"] if several else []), "label", "score", *(["trust"] if measured else [])]
        table = Table(*columns, "other classes", right=["score"])
        for row, worth in zip(self.rows, self.worth, strict=True):
            score = "" if row["score"] is None else f"{row['score']:.1%}"
            rest = ", ".join(f"{label} {value:.1%}" for label, value in list(row["scores"].items())[1:])
            adapter, words = [row["adapter"]] if several else [], [worth] if measured else []
            table.add_row(row["file"], *adapter, row["label"] or "", score, *words, rest)
        return table
