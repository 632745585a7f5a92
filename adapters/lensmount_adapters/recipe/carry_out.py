"""Carry out a recipe: train each of its runs on each of its image sets, and add a JSON line for each finished run.

A run that has a line with the same settings is not trained again, so an interrupted recipe resumes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lensmount_adapters.backbone.load import load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError, DatasetError, TrainingError
from lensmount_adapters.machine import choose_device
from lensmount_adapters.options.json_values import as_json
from lensmount_adapters.recipe.helix import write_helices
from lensmount_adapters.recipe.masks import base_weights, carry_out_masks
from lensmount_adapters.recipe.recipe import ImageSet, Recipe, RecipeRun, choose
from lensmount_adapters.report.context import CardTexts, ReportContext
from lensmount_adapters.report.write import write_run_report
from lensmount_adapters.training.checkpoint import with_full_words
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.fine_tune import fine_tune
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.run_report import context_of
from lensmount_adapters.training.train_adapter import Listener, silent, train
from lensmount_adapters.training.train_masks import SegmentationResult
from lensmount_adapters.training.zero_shot import zero_shot

LINES = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run. `metrics` are of the test part, `share` is trained / (backbone + added) parameters."""

    run: str
    kind: str
    images: str
    seed: int
    settings: dict[str, Any]
    weights: str
    fingerprint: str
    metrics: dict[str, Any]
    trained_parameters: int
    share: float
    file: str
    file_bytes: int
    digest: str
    seconds: float
    threads: int
    epochs: int
    best_epoch: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which of the recipe's runs to train, and on which image sets; an empty choice selects all."""

    data: Path
    out: Path
    weights: str | None = None
    runs: Sequence[str] = ()
    images: Sequence[str] = ()
    seeds: int = 1
    threads: int | None = None
    device: str = "auto"
    changes: Mapping[str, Any] | None = None

    def trainings(self, recipe: Recipe) -> list[tuple[RecipeRun, ImageSet, int]]:
        """Every run, image set and seed, in order. Raises TrainingError (unknown names) or DatasetError (no folder)."""
        runs = choose(self.runs, {run.name: run for run in recipe.runs}, f"run of {recipe.name}")
        if recipe.runs[0].kind == "base" and recipe.runs[0] not in runs:
            runs.insert(0, recipe.runs[0])  # the others need its weights; a finished one is not trained again
        sets = choose(self.images, {images.folder: images for images in recipe.images}, f"image set of {recipe.name}")
        for images in sets:
            if images.generate is not None:
                generate(images.generate, self.data / images.folder)
            elif not (self.data / images.folder).is_dir():
                raise DatasetError(
                    f"found no folder {self.data / images.folder}, expected the images of the recipe {recipe.name}. "
                    f"Fix: give --data DIR, where DIR holds {images.folder}/, or choose another set with --images"
                )
        return [(run, images, seed) for images in sets for seed in range(self.seeds) for run in runs]


Watch = Callable[[str], AbstractContextManager[Listener]]


def generate(kind: str, folder: Path) -> None:
    """Draw a folder of inputs if it does not exist; it is written completely or not at all. Raises DatasetError."""
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        GENERATORS[kind](part)
        part.rename(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written ({error.strerror}). Fix: choose another --data DIR") from error


GENERATORS: dict[str, Callable[[Path], None]] = {"helix": write_helices}


def carry_out(recipe: Recipe, plan: Plan, watch: Watch = lambda title: nullcontext(silent)) -> list[RunResult]:
    """Train the runs of the plan that are not finished yet; returns the results of all its runs, in order.

    Writes into `plan.out`: `RUN-IMAGES-sSEED.safetensors`, a folder `...-report` next to each, as `lensmount train`
    does, and `runs.jsonl`. The context manager `watch(title)` is entered around each training and yields its listener.
    Raises TrainingError, DatasetError or BackboneError. KeyboardInterrupt becomes TrainingError; finished runs stay.
    """
    weights = plan.weights or _weights(recipe)
    trainings = [
        (run, images, _config(recipe, plan, run, images, seed, weights)) for run, images, seed in plan.trainings(recipe)
    ]
    original = load_backbone(recipe.backbone, weights_from(weights), choose_device(plan.device))
    backbone, base = original, None
    plan.out.mkdir(parents=True, exist_ok=True)
    results: list[RunResult] = []
    for run, images, config in trainings:
        if run.kind == "base":
            backbone, base = original, config.out
        elif base is not None:
            config = replace(config, weights=str(base_weights(base)))
        result = _find(plan.out, run, images, config, backbone)
        if result is None:
            with watch(f"{run.name} on {images.folder}, seed {config.seed}") as listener:
                result = _carry_out_one(recipe, run, images, config, backbone, base, listener)
            with (plan.out / LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        if run.kind == "base":
            backbone = load_backbone(recipe.backbone, base_weights(config.out), backbone.device)
        results.append(result)
    return results


def _weights(recipe: Recipe) -> str:
    """The first of the recipe's sources that is available; whether the hub can be reached is not checked here."""
    always = ("hub", "pypi", "random:")
    available = [source for source in recipe.weights if source.startswith(always) or Path(source).exists()]
    if not available:
        raise BackboneError(
            f"found none of the weights of {recipe.name}: {', '.join(recipe.weights)}. "
            "Fix: give --weights FILE.safetensors, or --weights hub"
        )
    return available[0]


def _config(recipe: Recipe, plan: Plan, run: RecipeRun, images: ImageSet, seed: int, weights: str) -> TrainingConfig:
    out = plan.out / f"{run.name}-{images.folder}-s{seed}.safetensors"
    fields_of_run = {"seed": seed, "threads": plan.threads, "device": plan.device, "weights": weights}
    try:
        return recipe.config(run, images, plan.data, out, plan.changes, **fields_of_run)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _carry_out_one(
    recipe: Recipe,
    run: RecipeRun,
    images: ImageSet,
    config: TrainingConfig,
    backbone: Backbone,
    base: Path | None,
    listener: Listener,
) -> RunResult:
    if config.masks:
        masks, metrics = carry_out_masks(config, backbone, base, listener)
        _require_complete(masks.interrupted)
        return _result(run, images, config, backbone, masks, metrics)
    if run.kind == "zero-shot":
        result = zero_shot(config, backbone)
    elif run.modules is not None:
        result = fine_tune(config, run.modules, backbone, listener)
    else:
        result = train(config, listener, backbone)
    _require_complete(result.interrupted)
    texts = CardTexts(title=recipe.title, origin=images.origin, command=f"`lensmount recipe {recipe.name}`")
    folder = config.out.with_name(f"{config.out.stem}-report")
    is_adapter = run.modules is None  # otherwise a network was trained as a whole, and no method explains it
    context = context_of(result, backbone) if is_adapter else ReportContext(notes=result.notes)
    write_run_report(
        folder, result.manifest, result.digest, result.size_bytes, result.scored, result.folder.read,
        replace(context, texts=texts),
    )  # fmt: skip
    if result.test is None:
        raise TrainingError(
            f"found no test part of {images.folder}, expected one to measure on. Fix: set test_fraction above 0"
        )
    return _result(run, images, config, backbone, result, result.test.to_json())


def _require_complete(interrupted: bool) -> None:
    if interrupted:
        raise TrainingError(
            "interrupted: the finished runs are kept. Fix: run the same command again to continue with this one"
        )


def _result(
    run: RecipeRun,
    images: ImageSet,
    config: TrainingConfig,
    backbone: Backbone,
    result: TrainingResult | SegmentationResult,
    metrics: dict[str, Any],
) -> RunResult:
    record = result.record
    trained = record["trainable_parameters"]
    added = record["head_parameters"] if run.kind in ("full", "base") else trained
    return RunResult(
        run=run.name,
        kind=run.kind,
        images=images.folder,
        seed=config.seed,
        settings=_settings(config),
        weights=str(config.weights),
        fingerprint=backbone.fingerprint,
        metrics=as_json(metrics),
        trained_parameters=trained,
        share=trained / (record["backbone_parameters"] + added),
        file=result.path.name,
        file_bytes=result.size_bytes,
        digest=result.digest,
        seconds=record["seconds"],
        threads=record["threads"],
        epochs=record["epochs"]["run"],
        best_epoch=record["epochs"]["best"],
    )


def _find(
    folder: Path, run: RecipeRun, images: ImageSet, config: TrainingConfig, backbone: Backbone
) -> RunResult | None:
    """The last line of the same run with the same settings on the same backbone."""
    wanted = (run.name, run.kind, images.folder, config.seed, _settings(config), backbone.fingerprint)
    return next(
        (
            line
            for line in reversed(list(_lines(folder / LINES)))
            if (line.run, line.kind, line.images, line.seed, with_full_words(line.settings), line.fingerprint) == wanted
        ),
        None,
    )


def _lines(path: Path) -> Iterator[RunResult]:
    """The results in the file; a line that was written only in part is skipped."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield RunResult(**json.loads(line))
        except (ValueError, TypeError):
            continue


def _settings(config: TrainingConfig) -> dict[str, Any]:
    settings: dict[str, Any] = as_json(config.hyper_parameters())
    return settings
