"""`lensmount adapters compose`: make a new adapter from several on one backbone."""

from __future__ import annotations

import json as json_format
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.cli.made_adapter import FILE_OPTIONS, SIZE_OPTIONS, Making, checked, file_to_write
from lensmount_adapters.cli.terminal import fail
from lensmount_adapters.options.option import Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lensmount_adapters.adapter.adapter import Adapter
    from lensmount_adapters.adapter.manifest import Manifest
    from lensmount_adapters.backbone.model import Backbone
    from lensmount_adapters.compose.compose import Composed
    from lensmount_adapters.compose.merging import Merging
    from lensmount_adapters.training.comparison import Comparison

OPTIONS = (
    Option("head", "str", "", unset="the first", help="The adapter whose head, labels and preprocessing to take."),
    Option("method", "str", "", default="linear", help="linear: the weighted sum, exactly; or ties or dare."),
    Option("density", "float", "", default=0.5, help="The share of values that ties and dare keep."),
    Option("seed", "int", "", default=0, help="The seed of the values that dare drops."),
    *SIZE_OPTIONS,
    Option("name", "str", "", unset="those of the adapters", help="The new adapter's name."),
    Option("weights", "str", "", unset="as trained", help="The backbone's weights: FILE, 'hub' or 'random:SEED'."),
    *FILE_OPTIONS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Making):
    """The options of the command."""

    head: str | None
    method: str
    density: float
    seed: int


@dataclass(frozen=True, slots=True)
class Weighted:
    """One `FILE:WEIGHT` of the command line."""

    path: Path
    weight: float

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".safetensors")


@with_options(OPTIONS, before="json")
def compose(
    adapters: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER:WEIGHT...",
            help="Adapter files, or names on a server (--url): a.safetensors:0.7 malaria:0.3.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
    **options: Any,
) -> None:
    """Make a new adapter from several on one backbone: their weighted sum, or merged by TIES or DARE."""
    from lensmount_adapters.atomic import write_atomic
    from lensmount_adapters.errors import LensmountError

    try:
        asked = Asked(**options)
        parts = [weighted(text) for text in adapters]
        name = checked(asked.name or "-".join(part.name.partition("@")[0].partition(":")[0] for part in parts)[:64])
        out = file_to_write(name, asked.out, [part.path for part in parts])
        composed, comparison = _composed(parts, name, asked)
        write_atomic(out, composed.data)
    except LensmountError as error:
        fail(error, json)
    _show(out, composed, comparison, json)


def weighted(text: str) -> Weighted:
    """`FILE:0.7`, or `FILE` with a weight of 1."""
    from lensmount_adapters.errors import TrainingError

    file, _, number = text.rpartition(":")
    try:
        found = Weighted(Path(file), float(number)) if file else Weighted(Path(text), 1.0)
    except ValueError:
        found = Weighted(Path(text), 1.0)
    if not math.isfinite(found.weight):
        raise TrainingError(f"found the weight {number} in {text!r}, expected a number. Fix: {file}:0.5")
    if not found.path.is_file():
        raise TrainingError(
            f"found no file {found.path}, expected an adapter file. Fix: check the path, or download the adapter with "
            "`lensmount adapters pull NAME`"
        )
    return found


def _composed(parts: Sequence[Weighted], name: str, asked: Asked) -> tuple[Composed, Comparison | None]:
    from lensmount_adapters.adapter.admission import admit
    from lensmount_adapters.adapter.file import parse_adapter
    from lensmount_adapters.backbone.load import load_backbone, weights_from
    from lensmount_adapters.compose.compose import Source
    from lensmount_adapters.compose.compose import compose as run

    merging = _merging(asked)
    budget, dtype = asked.budget(), asked.dtype()
    files = [part.path.read_bytes() for part in parts]
    manifests = [parse_adapter(file).manifest for file in files]
    _check_backbones(parts, manifests)
    head = _head(parts, manifests, asked.head)
    recorded = manifests[head].training.get("weights")
    weights = asked.weights or (recorded if isinstance(recorded, str) else None)
    backbone = load_backbone(manifests[0].backbone.name, weights_from(weights), asked.device)
    sources = [Source(part.name, part.weight, admit(file, backbone)) for part, file in zip(parts, files, strict=True)]
    composed = run(sources, backbone, name, head=head, merging=merging, budget=budget, dtype=dtype)
    if asked.data is None:
        return composed, None
    return composed, _compare(composed, sources[head].adapter, backbone, asked.data)


def _merging(asked: Asked) -> Merging:
    from lensmount_adapters.compose.merging import Dare, Linear, Ties
    from lensmount_adapters.errors import TrainingError

    match asked.method:
        case "linear":
            return Linear()
        case "ties":
            return Ties(asked.density)
        case "dare":
            return Dare(asked.density, asked.seed)
    raise TrainingError(f"found --method {asked.method!r}, expected linear, ties or dare. Fix: --method linear")


def _check_backbones(parts: Sequence[Weighted], manifests: Sequence[Manifest]) -> None:
    from lensmount_adapters.errors import BackboneMismatch

    first = manifests[0].backbone
    for part, manifest in zip(parts, manifests, strict=True):
        if manifest.backbone.fingerprint != first.fingerprint:
            raise BackboneMismatch(
                f"found {parts[0].name} for {first.name} ({first.fingerprint[:19]}...) and {part.name} for "
                f"{manifest.backbone.name} ({manifest.backbone.fingerprint[:19]}...), expected one backbone. Fix: "
                "train them on the same one"
            )


def _head(parts: Sequence[Weighted], manifests: Sequence[Manifest], name: str | None) -> int:
    """The place of the adapter that `name` means: its file's name without .safetensors, or its own name."""
    from lensmount_adapters.errors import TrainingError

    if name is None:
        return 0
    wanted = Path(name).name.removesuffix(".safetensors")
    places = [place for place, part in enumerate(parts) if part.name == wanted]
    places = places or [place for place, manifest in enumerate(manifests) if manifest.name == wanted]
    if len(places) != 1:
        known = ", ".join(dict.fromkeys(part.name for part in parts))
        raise TrainingError(f"found --head {name!r}, expected one of {known}. Fix: --head {parts[0].name}")
    return places[0]


def _compare(composed: Composed, of_head: Adapter, backbone: Backbone, data: Path) -> Comparison:
    """The adapter whose head it has, alone, and the new one on the same images."""
    from lensmount_adapters.training.comparison import Images

    images = Images.of(data, composed.adapter.manifest)
    return images.compare(images.logits(of_head, backbone), images.logits(composed.adapter, backbone))


def _show(out: Path, composed: Composed, comparison: Comparison | None, as_json: bool) -> None:
    manifest = composed.adapter.manifest
    facts = manifest.training["composed"]
    if as_json:
        document = {
            "path": str(out),
            "digest": composed.adapter.digest,
            "size_bytes": len(composed.data),
            "error": composed.error,
            "notes": list(composed.notes),
            "composed": facts,
            "comparison": comparison and comparison.to_json(),
        }
        typer.echo(json_format.dumps(document, indent=2, ensure_ascii=False))
        return
    for note in composed.notes:
        typer.echo(f"Note: {note}")
    if comparison is not None:
        typer.echo(
            f"Accuracy on {comparison.images} images: {comparison.before.accuracy:.4f} of {facts['head']} alone, "
            f"{comparison.after.accuracy:.4f} of {manifest.name}; balanced {comparison.before.balanced_accuracy:.4f} "
            f"and {comparison.after.balanced_accuracy:.4f}."
        )
    typer.echo(
        f"Wrote {out} ({len(composed.data) / 1e6:.2f} MB: {manifest.description}; {composed.error:.2%} of the merged "
        "change is left out)"
    )
