"""`lensmount adapters extract`: make an adapter of a network that was fine-tuned as a whole."""

from __future__ import annotations

import json as json_format
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.cli.made_adapter import FILE_OPTIONS, SIZE_OPTIONS, Making, checked, file_to_write
from lensmount_adapters.cli.terminal import fail
from lensmount_adapters.options.option import Option

if TYPE_CHECKING:
    from lensmount_adapters.backbone.model import Backbone
    from lensmount_adapters.changes.budget import Budget
    from lensmount_adapters.extract.checkpoint import Checkpoint
    from lensmount_adapters.extract.extract import Extracted
    from lensmount_adapters.inputs.rules import Preprocessing
    from lensmount_adapters.training.comparison import Comparison

LAYERS_SHOWN = 12
OPTIONS = (
    Option("base", "str", "", metavar="NAME", unset="as the checkpoint says", help="The backbone."),
    Option("weights", "str", "", help="The weights that it was trained from: FILE, 'hub' or 'random:SEED'."),
    *SIZE_OPTIONS,
    Option("labels", "str", "", help="cat,dog or a text file with a label in each line, in the order of the training."),
    Option("name", "str", "", unset="that of the file", help="The adapter's name."),
    Option("key", "str", "", unset="the usual one", help="The entry with the weights, such as state_dict_ema."),
    Option("license", "str", "", default="", help="Licence of the adapter, kept in the file."),
    *FILE_OPTIONS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Making):
    """The options of the command."""

    base: str | None
    labels: str | None
    key: str | None
    license: str


@with_options(OPTIONS, before="json")
def extract(
    finetuned: Annotated[
        Path,
        typer.Argument(
            metavar="FINETUNED",
            help="A checkpoint of timm, Lightning or transformers, a state dict, or a folder with one.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    **options: Any,
) -> None:
    """Make an adapter of a network that was fine-tuned as a whole, by singular values of what changed."""
    from lensmount_adapters.atomic import write_atomic
    from lensmount_adapters.errors import LensmountError

    try:
        asked = Asked(**options)
        out = _out(finetuned, _name(finetuned, asked.name), asked.out)
        extracted, comparison = _extracted(finetuned, asked)
        write_atomic(out, extracted.data)
    except LensmountError as error:
        fail(error, json)
    _show(out, extracted, comparison, json)


def _extracted(finetuned: Path, asked: Asked) -> tuple[Extracted, Comparison | None]:
    from lensmount_adapters.backbone.load import load_backbone, weights_from
    from lensmount_adapters.extract.checkpoint import read_checkpoint
    from lensmount_adapters.extract.extract import Words
    from lensmount_adapters.extract.extract import extract as run

    budget, dtype = _budget(asked), asked.dtype()
    checkpoint = read_checkpoint(finetuned, asked.key)
    backbone = load_backbone(_base(checkpoint, asked.base), weights_from(asked.weights), asked.device)
    words = Words(
        name=_name(finetuned, asked.name),
        labels=_labels(asked.labels),
        preprocessing=_preprocessing(checkpoint),
        weights=asked.weights,
        license=asked.license,
    )
    extracted = run(checkpoint, backbone, budget, words, dtype)
    return extracted, None if asked.data is None else _compare(extracted, backbone, asked.data)


def _budget(asked: Asked) -> Budget:
    from lensmount_adapters.errors import TrainingError

    budget = asked.budget()
    if budget is None:
        raise TrainingError(
            "found no size of the adapter, expected one of --rank, --energy and --max-bytes. Fix: --energy 0.99"
        )
    return budget


def _name(finetuned: Path, name: str | None) -> str:
    usual = re.sub(r"[^a-z0-9._-]+", "-", finetuned.resolve().name.lower().partition(".")[0]).strip("-._")[:64]
    return checked(name or usual)


def _out(finetuned: Path, name: str, out: Path | None) -> Path:
    return file_to_write(name, out, [finetuned, *(finetuned.iterdir() if finetuned.is_dir() else ())])


def _base(checkpoint: Checkpoint, base: str | None) -> str:
    from lensmount_adapters.errors import TrainingError

    if base is None and not checkpoint.arch:
        raise TrainingError(
            f"{checkpoint.file}: found no name of a network in it, expected one. Fix: --base NAME with the network "
            "that was trained, such as --base resnet34"
        )
    return base or checkpoint.arch


def _labels(text: str | None) -> tuple[str, ...]:
    """ "cat,dog", or the lines of a file."""
    if not text:
        return ()
    if Path(text).is_file():
        lines = Path(text).read_text("utf-8-sig").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    return tuple(label.strip() for label in text.split(","))


def _preprocessing(checkpoint: Checkpoint) -> Preprocessing | None:
    """The checkpoint's own, if it names one; None stands for the backbone's."""
    from lensmount_adapters.backbone.load import preprocessing_of

    try:
        return preprocessing_of(checkpoint.preprocessing)
    except (KeyError, ValueError, TypeError):  # not stated, or not as timm states it
        return None


def _compare(extracted: Extracted, backbone: Backbone, data: Path) -> Comparison:
    """The fine-tuned network and its adapter on the same images."""
    from lensmount_adapters.adapter.admission import admit
    from lensmount_adapters.adapter.header import Limits
    from lensmount_adapters.training.answer import predict_samples
    from lensmount_adapters.training.comparison import Images

    images = Images.of(data, extracted.manifest)
    adapter = admit(extracted.data, backbone, Limits(max_file_bytes=max(len(extracted.data), Limits().max_file_bytes)))
    with extracted.fitted.mounted(backbone) as logits:
        before = predict_samples(images.folder, images.samples, extracted.manifest.preprocessing, logits)
    return images.compare(before, images.logits(adapter, backbone))


def _show(out: Path, extracted: Extracted, comparison: Comparison | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    report = extracted.report
    if as_json:
        document = {"path": str(out), **report.to_json(), "comparison": comparison and comparison.to_json()}
        typer.echo(json_format.dumps(document, indent=2, ensure_ascii=False))
        return
    console = Console()
    worst = sorted(report.layers, key=lambda layer: layer.error, reverse=True)[:LAYERS_SHOWN]
    table = Table("layer", "shape", "rank", "change", "error", title="The layers that lose most")
    for layer in worst:
        rank = "all" if layer.rank is None else str(layer.rank)
        change = "" if layer.change is None else f"{layer.change:.2%}"
        table.add_row(layer.name, " x ".join(map(str, layer.shape)), rank, change, f"{layer.error:.2%}")
    if worst:
        console.print(table)
    for note in report.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, soft_wrap=True)
    if comparison is not None:
        console.print(
            f"Accuracy on {comparison.images} images: {comparison.before.accuracy:.4f} of the fine-tuned network, "
            f"{comparison.after.accuracy:.4f} of the adapter; balanced {comparison.before.balanced_accuracy:.4f} and "
            f"{comparison.after.balanced_accuracy:.4f}. {comparison.same_answers:.2%} of the answers are the same.",
            soft_wrap=True,
        )
    console.print(
        f"Wrote {out} ({report.size_bytes / 1e6:.2f} MB, {len(report.layers)} changed tensors, "
        f"{report.error:.2%} of the change of matrices and kernels is left out)",
        markup=False,
        soft_wrap=True,
    )
