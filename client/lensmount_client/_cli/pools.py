"""`lensmount feedback`, and the commands of `lensmount datasets` for images that wait for labels."""

from __future__ import annotations

import dataclasses
import getpass
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from lensmount_client._cli.options import ServerOptions, with_options
from lensmount_client._cli.terminal import print_json, print_line, print_note, print_table
from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import find_images, make_folder
from lensmount_client._http.download import WholeFile
from lensmount_client._show.table import Table

Name = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name on the server.")]
Who = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who you are, as the labels will show it. Default: your user name.")
]
AdapterName = Annotated[
    str, typer.Option("--adapter", "-a", metavar="NAME", help="name, name@3, name@sha256:... or name:alias.")
]


@with_options
def feedback(
    adapter: AdapterName,
    label: Annotated[str, typer.Option(metavar="LABEL", help="The right label: one of the adapter's.")],
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGE]",
            help="The image whose answer was wrong. Soon after the answer, its --request-id is enough.",
            show_default=False,
        ),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="The request_id of the wrong answer.")
    ] = None,
    who: Who = None,
    *,
    server: ServerOptions,
) -> None:
    """Tell the server the right label of an image. It keeps the image in the pool ADAPTER-feedback.

    The server's operator must allow it with LENSMOUNT_FEEDBACK=on. `lensmount datasets publish ADAPTER-feedback`
    makes a dataset to train on.
    """
    if image is None and request_id is None:
        raise InvalidInput("found no image, expected one. Fix: name its file, or the answer with --request-id ID")
    with server.client() as client:
        kept = client.feedback(image, adapter, label, who=who or _user(), request_id=request_id)
    if server.json:
        print_json(dataclasses.asdict(kept))
    else:
        print_line(f"kept {image or kept.digest} as {kept.label} in {kept.dataset}")


@with_options
def list_pools(*, server: ServerOptions) -> None:
    """List the pools: images that wait for labels, and who has how many reserved."""
    with server.client() as client:
        pools = client.pools.list()
    if server.json:
        print_json({"pools": [dataclasses.asdict(pool) for pool in pools]})
        return
    table = Table("pool", "images", "labelled", "reserved", right=["images", "labelled"])
    for pool in pools:
        held = ", ".join(f"{who} {count:,}" for who, count in pool.held.items())
        table.add_row(pool.name, f"{pool.images:,}", f"{pool.labelled:,}", held)
    print_table(table)


@with_options
def add_unlabelled(
    name: Name,
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="A file, a folder or a pattern such as 'new/*.png'.")],
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="The patient, slide or source of all these images.")
    ] = None,
    who: Who = None,
    *,
    server: ServerOptions,
) -> None:
    """Send images that wait for a label."""
    paths = [Path(images)] if Path(images).is_file() else list(find_images(images))
    with server.client() as client:
        kept = [client.pools.add(name, path, who or _user(), group) for path in paths]
    if server.json:
        print_json({"images": [dataclasses.asdict(image) for image in kept]})
    else:
        print_line(f"{len({image.digest for image in kept})} different images wait for labels in {name}")


@with_options
def next_images(
    name: Name,
    adapter: AdapterName,
    n: Annotated[int, typer.Option("-n", min=1, max=200, metavar="N", help="How many images.")] = 10,
    strategy: Annotated[
        str, typer.Option(metavar="STRATEGY", help="staged, typical, margin, entropy or diverse.")
    ] = "staged",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the images as PNGs into this folder.")
    ] = None,
    who: Who = None,
    *,
    server: ServerOptions,
) -> None:
    """Reserve the images that you label next; nobody else gets them for 15 minutes.

    Label them with `lensmount datasets label NAME DIGEST=LABEL ...`.
    """
    if out is not None:
        make_folder(out, "--out")  # before the images are reserved
    with server.client() as client:
        found = client.pools.next(name, adapter, who or _user(), n, strategy)
        if out is not None:
            for item in found.items:
                with WholeFile(out / f"{item.digest.removeprefix('sha256:')}.png") as file:
                    file.write(client.pools.png(name, item.digest))
                    file.keep()
    if server.json:
        print_json(dataclasses.asdict(found))
        return
    table = Table("digest", "best label", "score")
    for item in found.items:
        best = item.predictions[0]
        table.add_row(item.digest, best.label, f"{best.score:.1%}")
    print_table(table)
    if found.state != "done":
        print_note(f"The adapter has computed {found.done} of {found.total} images. Ask again later.")
    if found.unfamiliar:
        print_note(f"Left out {found.unfamiliar} images unlike those of {found.adapter.name}.")


@with_options
def label_images(
    name: Name,
    labels: Annotated[
        list[str], typer.Argument(metavar="DIGEST=LABEL ...", help="As `lensmount datasets next` names them.")
    ],
    who: Who = None,
    *,
    server: ServerOptions,
) -> None:
    """Label images. Labels are only ever added; your later label for an image replaces your earlier one."""
    given = dict(_pair(text) for text in labels)
    with server.client() as client:
        kept = client.pools.label(name, given, who or _user())
    if server.json:
        print_json({"labels": [dataclasses.asdict(each) for each in kept]})
    else:
        print_line(f"{len(kept)} labels kept in {name}")


@with_options
def publish(
    name: Name,
    base: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A dataset whose images it has as well: NAME or NAME@VERSION."),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Make a version of the labelled images, to train on with `lensmount jobs submit`."""
    with server.client() as client:
        made = client.pools.publish(name, base)
    if server.json:
        print_json({**made.dataset.raw, "labelled": made.labelled, "disputed": list(made.disputed)})
        return
    print_line(f"{made.dataset.reference}  {made.dataset.images:,} images, {made.labelled:,} of them from labels")
    if made.disputed:
        print_note(f"Left out {len(made.disputed)} images about which people disagree.")


COMMANDS: Mapping[str, Callable[..., None]] = {
    "pools": list_pools,
    "unlabelled": add_unlabelled,
    "next": next_images,
    "label": label_images,
    "publish": publish,
}
"""By their names in `lensmount datasets`."""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # as in a container whose user has no name
        raise InvalidInput("found no name of your user, expected one. Fix: give yours with --who NAME") from error


def _pair(text: str) -> tuple[str, str]:
    digest, found, label = text.partition("=")
    if not found:
        raise InvalidInput(f"found {text[:80]!r}, expected DIGEST=LABEL. Fix: write sha256:...=LABEL")
    return digest, label
