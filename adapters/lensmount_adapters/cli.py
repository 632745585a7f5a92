"""`lensmount train`, `evaluate` and `sizes`: the functions of training and evaluation, with a terminal around them."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lensmount_adapters.evaluation import Evaluation
    from lensmount_adapters.training import Progress, TrainingResult


def train(
    data: Annotated[
        Path,
        typer.Option(help="Folder with one folder of images for each class, or with a manifest.csv; or a zip of one."),
    ],
    name: Annotated[str, typer.Option(help="The adapter's name, as requests will give it: malaria.")],
    out: Annotated[Path, typer.Option(help="The adapter file to write: malaria.safetensors.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="The frozen network below: any timm name, such as resnet34, a ViT at another size (NAME@448), or clip."
        ),
    ] = "tf_efficientnet_lite0",
    weights: Annotated[
        str | None,
        typer.Option(
            help="The backbone's weights: a safetensors FILE, 'hub' or 'random:SEED'; clip: FOLDER or hub:OWNER/NAME."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="What is trained: lora (low-rank deltas), lora-tucker, bias, norm, head (the last layer alone), "
            "or several joined by '+': lora+norm."
        ),
    ] = "lora",
    rank: Annotated[int, typer.Option(min=1, help="Rank of the low-rank deltas: higher learns more, file grows.")] = 8,
    alpha: Annotated[
        float | None, typer.Option(help="Strength of the deltas, alpha/rank.  (default: twice rank)")
    ] = None,
    init_std: Annotated[
        float | None, typer.Option(help="Draw A from N(0, STD^2), such as 0.01.  (default: Kaiming uniform)")
    ] = None,
    init_b_std: Annotated[
        float, typer.Option(min=0, help="Draw B from N(0, STD^2); 0 starts at the backbone itself.")
    ] = 0.0,
    head: Annotated[
        str,
        typer.Option(
            help="linear, mlp:256 (hidden layers of these widths with BatchNorm, LeakyReLU and dropout; mlp:512,256), "
            "cosine, cosine:512, or text (cosine that starts from --prompts)."
        ),
    ] = "linear",
    prompts: Annotated[
        Path | None, typer.Option(help="TOML file with templates and descriptions of the classes, for --head text.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="Regular expression for the layers to train, such as 'layer4'.  (default: by backbone)"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="How often every training image is seen.  (default: 12, more if images are few)"),
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Train on only this many images of each class.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same split, same result.")] = 0,
    size: Annotated[
        int | None,
        typer.Option(min=16, max=1024, help="Side of the network's input in pixels.  (default: the backbone's)"),
    ] = None,
    resize: Annotated[
        str, typer.Option(help="squash (the whole picture), crop (its centre) or pad (the whole, with black borders).")
    ] = "squash",
    depth: Annotated[
        int | None,
        typer.Option(min=1, max=512, help="Of backbones of volumes: slices of the network's input.  (default: 16)"),
    ] = None,
    depth_resize: Annotated[
        str, typer.Option(help="How a volume gets there: resample (linearly) or crop (the middle, or zeros around it).")
    ] = "resample",
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Intensities from black to white: -160 240.  (default: percentiles of each volume)"),
    ] = None,
    augment: Annotated[
        str,
        typer.Option(
            help="How training images vary: photo, microscopy (any orientation), tissue (also crops and stains), none."
        ),
    ] = "photo",
    group_regex: Annotated[
        str | None,
        typer.Option(
            help="Regular expression that finds the patient, slide or source in a file name (its first group); "
            "images of one are never both trained on and tested on."
        ),
    ] = None,
    val_fraction: Annotated[float, typer.Option(min=0, max=0.9, help="Share kept to choose the best epoch.")] = 0.15,
    test_fraction: Annotated[float, typer.Option(min=0, max=0.9, help="Share kept to measure the result.")] = 0.15,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one step.")] = 32,
    lr: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 4e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="AdamW's weight decay.")] = 0.01,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.9, help="Share of each label spread over all.")] = 0.1,
    class_weights: Annotated[
        str, typer.Option(help="balanced (a rare class counts as much as a common one) or none.")
    ] = "balanced",
    mixup: Annotated[float, typer.Option(min=0, help="Blend pairs of images (Beta parameter); 0 for none.")] = 0.0,
    cutmix: Annotated[float, typer.Option(min=0, help="Paste parts of images (Beta parameter); 0 for none.")] = 0.0,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many epochs without a better validation.")
    ] = None,
    orientations: Annotated[
        int,
        typer.Option(help="Average answers over 1, 2 (mirrored), 4 (turned) or 8 orientations, in serving as well."),
    ] = 1,
    cache_trunk: Annotated[
        str,
        typer.Option(
            help="Compute the frozen part once for a few varied views of each image and keep it on disk while "
            "training: on, off, or auto, where it saves time."
        ),
    ] = "auto",
    views: Annotated[int, typer.Option(min=1, help="How many views of each image --cache-trunk keeps.")] = 4,
    auto: Annotated[
        bool, typer.Option("--auto", help="Choose method, rank and targets by short trials on the validation part.")
    ] = False,
    max_file_bytes: Annotated[int | None, typer.Option(min=1, help="Largest adapter file that --auto tries.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time for --auto's trials.")] = None,
    average: Annotated[
        float, typer.Option(min=0, max=0.9999, help="Decay of the moving average that is kept; 0: the last step.")
    ] = 0.98,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or auto: whichever runs faster here.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.  (default: all cores)")] = None,
    file_dtype: Annotated[str, typer.Option(help="Number format of the file: fp16, bf16 or fp32.")] = "fp16",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole epoch of a broken-off run.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for card.md, report.html and metrics.  (default: OUT without suffix, '-report')"),
    ] = None,
    license_: Annotated[str, typer.Option("--license", help="Licence of the adapter, kept in the file.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Train an adapter on a folder of images.

    Splits the images into training, validation and test parts, trains, keeps the best epoch, writes one small file
    and a report beside it.
    Ctrl-C ends the training early and keeps the best so far.
    """
    from lensmount_adapters.config import TrainingConfig
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.prompts import read_prompts
    from lensmount_adapters.report import write_run_report
    from lensmount_adapters.training import train as run

    try:
        config = TrainingConfig(
            data=data,
            name=name,
            out=out,
            backbone=backbone,
            weights=weights,
            method=method,
            rank=rank,
            alpha=alpha,
            init_std=init_std,
            init_b_std=init_b_std,
            head=head,
            prompts=None if prompts is None else read_prompts(prompts),
            targets=targets,
            epochs=epochs,
            shots=shots,
            seed=seed,
            size=size,
            resize=resize,  # type: ignore[arg-type]  # TrainingConfig judges the word
            depth=depth,
            depth_resize=depth_resize,  # type: ignore[arg-type]  # TrainingConfig judges the word
            window=window,
            augment=augment,
            group_regex=group_regex,
            validation_fraction=val_fraction,
            test_fraction=test_fraction,
            batch_size=batch_size,
            learning_rate=lr,
            weight_decay=weight_decay,
            label_smoothing=label_smoothing,
            class_weights=class_weights,  # type: ignore[arg-type]  # TrainingConfig judges the word
            mixup=mixup,
            cutmix=cutmix,
            patience=patience,
            orientations=orientations,  # type: ignore[arg-type]  # TrainingConfig judges the number
            cache_trunk=cache_trunk,  # type: ignore[arg-type]  # TrainingConfig judges the word
            views=views,
            auto=auto,
            max_file_bytes=max_file_bytes,
            max_seconds=max_seconds,
            average=average,
            precision=precision,
            device=device,
            threads=threads,
            file_dtype=file_dtype,
            license=license_,
            resume=resume,
        )
        with progress_bar(quiet=json) as listener:
            result = run(config, listener)
        folder = report or out.with_name(f"{out.stem}-report")
        parts = result.judged
        written = write_run_report(
            folder, result.manifest, result.digest, result.size_bytes, parts, result.folder.read, notes=result.notes
        )
    except LensmountError as error:
        fail(error, json)
    _show_training(result, written, json)


def evaluate(
    adapter: Annotated[Path, typer.Argument(help="The adapter file to judge.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option(help="Folder with one folder of images for each label of the adapter.")],
    split: Annotated[
        str,
        typer.Option(
            help="test: the very images that were kept from training, found again from the adapter's record; "
            "also train, validation; all: every image of the folder."
        ),
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json, metrics.png (confusion matrix, ROC) and report.html.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The backbone's weights: FILE, 'hub' or 'random:SEED'.  (default: as trained)")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Measure an adapter on labelled images: accuracy, per-class figures, AUROC, confusion matrix."""
    from lensmount_adapters.errors import LensmountError, TrainingError
    from lensmount_adapters.evaluation import evaluate as run

    try:
        if split not in ("test", "validation", "train", "all"):
            raise TrainingError(f"found --split {split!r}, expected test, validation, train or all")
        evaluation = run(
            adapter,
            data,
            split=split,  # type: ignore[arg-type]  # checked above
            out=out,
            weights=weights,
            device=device,
        )
    except LensmountError as error:
        fail(error, json)
    _show_evaluation(f"{adapter.name} on the {split} part of {data}", evaluation, json)


def sizes(
    backbone: Annotated[str, typer.Argument(help="The network: any timm name, such as resnet34.")],
    rank: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A rank of the deltas; may be given several times.  (default: 4 8 16)"),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Regular expression for the layers to count.  (default: by backbone)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the table (.md) or draw it (.png, .svg).", dir_okay=False)
    ] = None,
) -> None:
    """Count what LoRA and its CP/Tucker form would store for each layer of a backbone, and where each breaks even."""
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.size_table import size_table

    try:
        table = size_table(backbone, rank or (4, 8, 16), targets)
        typer.echo(table.markdown(), nl=False)
        if out is not None:
            typer.echo(f"\nWrote {table.write(out)}")
    except LensmountError as error:
        fail(error, as_json=False)


def progress_bar(*, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """One bar over all steps with loss, accuracy and time left, on the error stream; a line for each epoch."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    @contextmanager
    def shown() -> Iterator[Callable[[Progress], None]]:
        columns = (
            TextColumn("{task.fields[phase]} {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        bar = Bar(*columns, console=console, disable=quiet)
        task = bar.add_task("training", total=None, phase="epoch", epoch="1", loss=float("nan"), accuracy=0.0)

        def listen(progress: Progress) -> None:
            bar.start()
            bar.update(
                task,
                total=progress.epochs * progress.steps,
                completed=(progress.epoch - 1) * progress.steps + progress.step,
                phase=_PHASES[progress.phase],
                epoch=f"{progress.epoch}/{progress.epochs}",
                loss=progress.loss,
                accuracy=progress.accuracy,
            )
            if progress.done is not None and not quiet:
                console.print(_epoch_line(progress), soft_wrap=True)

        if console.is_terminal and not quiet:
            console.print("Reading the images and measuring the machine ...")
        try:
            yield listen
        finally:
            if bar.live.is_started:
                bar.stop()

    return shown()


_PHASES = {"training": "epoch", "caching": "views of epoch", "searching": "trying methods, epoch"}


def _epoch_line(progress: Progress) -> str:
    done = progress.done
    line = f"epoch {progress.epoch:3d}  loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}"
    if done is None or done.validation_loss is None or done.validation_balanced_accuracy is None:
        return line
    return (
        f"{line}  validation: loss {done.validation_loss:.4f}, "
        f"balanced accuracy {done.validation_balanced_accuracy:.4f}"
    )


def _show_training(result: TrainingResult, report: list[Path], as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report import tables

    if as_json:
        document = {
            "path": str(result.path),
            "digest": result.digest,
            "size_bytes": result.size_bytes,
            "interrupted": result.interrupted,
            "notes": list(result.notes),
            "report": [str(path) for path in report],
            "record": result.record,
        }
        typer.echo(json_format.dumps(document, indent=2, ensure_ascii=False))
        return
    console = Console()
    for note in result.notes:
        console.print(f"Note: {note}", style="yellow", markup=False)
    for part, metrics in (("validation", result.validation), ("test", result.test)):
        if metrics is not None:
            for table in tables(part, metrics):
                console.print(table)
    epochs = result.record["epochs"]
    if result.interrupted:
        console.print(
            f"Interrupted after epoch {epochs['run']} of {epochs['asked']}: the best epoch so far is kept. "
            "The same command with --resume goes on.",
            style="yellow",
        )
    console.print(
        f"Wrote {result.path} ({result.size_bytes / 1e6:.2f} MB, epoch {epochs['best']} of {epochs['run']}, "
        f"{result.record['trainable_parameters']:,} trained parameters, {result.digest})",
        markup=False,
        soft_wrap=True,
    )
    for path in report:
        if path.suffix in (".html", ".md"):
            console.print(f"Wrote {path}", markup=False, soft_wrap=True)


def _show_evaluation(title: str, evaluation: Evaluation, as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report import tables

    if as_json:
        typer.echo(json_format.dumps(evaluation.document, indent=2, ensure_ascii=False))
        return
    console = Console()
    for table in tables(title, evaluation.metrics):
        console.print(table)
    for path in evaluation.written:
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)


def fail(error: Exception, as_json: bool) -> NoReturn:
    """One line on the error stream, or a JSON document; exit status 1."""
    code = getattr(error, "code", "error")
    if as_json:
        typer.echo(json_format.dumps({"error": {"code": code, "message": str(error)}}, ensure_ascii=False))
    else:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201  # the command's own error stream
    raise typer.Exit(1) from error
