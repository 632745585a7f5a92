"""`lensmount zero-shot`: make an adapter from prompts alone."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from lensmount_adapters.cli.terminal import fail


def zero_shot(
    prompts: Annotated[
        Path, typer.Option(help="TOML file with `templates` and descriptions of each class in a table `classes`.")
    ],
    name: Annotated[str, typer.Option(help="The adapter's name, which requests use: histology.")],
    out: Annotated[Path, typer.Option(help="The adapter file to write: histology.safetensors.")],
    weights: Annotated[str, typer.Option(help="The CLIP: FOLDER or hub:OWNER/NAME, such as hub:vinid/plip.")] = "hub",
    license_: Annotated[str, typer.Option("--license", help="Licence of the adapter, kept in the file.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write an adapter that compares images with texts (CLIP); it needs no training and no images."""
    from lensmount_adapters.backbone.clip import CLIP
    from lensmount_adapters.backbone.load import load_backbone, weights_from
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.text.prompts import read_prompts
    from lensmount_adapters.training.zero_shot import write_zero_shot

    try:
        words = read_prompts(prompts)
        backbone = load_backbone(CLIP, weights_from(weights))
        digest = write_zero_shot(out, name, words, backbone, weights, license=license_)
    except LensmountError as error:
        fail(error, json)
    size = out.stat().st_size
    if json:
        document = {"path": str(out), "digest": digest, "size_bytes": size, "labels": list(words.classes)}
        typer.echo(json_format.dumps(document, indent=2, ensure_ascii=False))
        return
    typer.echo(f"Wrote {out} ({size / 1e6:.2f} MB, {', '.join(words.classes)}, {digest})")
