"""Train the shipped adapters on real images and write the card of each from its own training record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import typer
from rich.console import Console
from torch import Tensor

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import METADATA_KEY, dump_adapter, parse_adapter, write_adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.backbone.load import load_backbone, weights_from
from lensmount_adapters.cli.terminal import progress_bar
from lensmount_adapters.report.card import model_card
from lensmount_adapters.report.context import CardTexts
from lensmount_adapters.report.write import tables
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig
from lensmount_adapters.training.evaluate import read_samples, scored_in_both
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.promises import RECORD, promise
from lensmount_adapters.training.result import on_threads, score_parts
from lensmount_adapters.training.train_adapter import train
from lensmount_adapters.training.training_data import load_training_data
from lensmount_adapters.training.unfamiliar import with_familiarity
from lensmount_adapters.trunks.int8 import Int8Trunks

ZOO = Path(__file__).parent
MAX_BYTES = 2_000_000
_LATER = (
    "\n\nIts promises were measured afterwards (`zoo/train.py --promises`): by four networks that were trained as the "
    "file was, on {views} kept views of each image, each without a fourth of the groups."
)


@dataclass(frozen=True)
class Recipe:
    """One shipped adapter: where its images are, how it is trained, and what its card says besides the metrics."""

    name: str
    folder: str
    title: str
    description: str
    origin: str
    group: str
    use: str
    limits: str
    license: str
    settings: dict[str, Any] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)  # for labels that are not words
    shipped: dict[str, Any] = field(default_factory=dict)  # where the shipped file was trained otherwise


# How `make zoo` trains the next files; the card of a shipped file has the command of its own training. The robust
# presets were chosen by cross-validation (docs/measurements.md); histology lost four test images with its own. Kept
# views make four more runs for the promises of the file affordable.
_MANY_VIEWS = {"learning_rate": 2e-3, "cache_trunk": "on", "views": 8, "calibration": "cross"}

RECIPES = (
    Recipe(
        name="malaria",
        folder="malaria-nih",
        title="Malaria parasites in single blood cells",
        description="Is a red blood cell, cropped from a stained thin smear, infected with Plasmodium?",
        origin=(
            "Single cells from Giemsa-stained thin blood smears, photographed at Chittagong Medical College Hospital "
            "and published by the U.S. National Library of Medicine (Rajaraman et al., 2018, doi:10.7717/peerj.4568). "
            "Public domain."
        ),
        group="blood slide (one patient)",
        use="Images of one cropped cell each, about 130 x 130 pixels, black outside the cell, as in the data set.",
        limits=(
            "It has seen one hospital's stain, microscope and phone camera. It classifies single cropped cells; it "
            "neither finds cells in a field of view nor determines species or parasitaemia."
        ),
        license="Apache-2.0 (weights); images public domain (NIH/NLM)",
        settings={
            "group_regex": r"^(.*?)_?[tT]hin",
            "augment": "microscopy-robust",
            "size": 160,
            "epochs": 16,
            "views": 8,
            "batch_size": 16,
            "validation_fraction": 0.1,
            "test_fraction": 0.2,
        },
    ),
    Recipe(
        name="smoking",
        folder="smoking",
        title="People smoking",
        description="Does a photograph show a person who is smoking?",
        origin=(
            "'Smoker Detection' (Khan, 2022, Mendeley Data; described in doi:10.3390/s22030892), photographs of "
            "250 x 250 pixels. CC BY 4.0."
        ),
        group="image",
        use=(
            "Photographs of one or a few people, upper body or closer. The other class was chosen to be hard: people "
            "who drink, cough, phone or use an inhaler."
        ),
        limits=(
            "It misses a cigarette of a few pixels. The images come from web searches and tend to be posed portraits; "
            "near-copies of one image cannot be ruled out. Not for watching people."
        ),
        license="Apache-2.0 (weights); images CC BY 4.0 (Khan 2022)",
        titles={"smoking": "Smoking", "notsmoking": "Not smoking"},
        settings={
            "augment": "photo-robust",
            "resize": "crop",
            "size": 384,
            "epochs": 12,
            "validation_fraction": 0.05,
            **_MANY_VIEWS,
        },
    ),
    Recipe(
        name="histology",
        folder="histology-lc25000-lung",
        title="Lung tissue: adenocarcinoma, squamous cell carcinoma, normal",
        description="Which of three kinds of lung tissue does an H&E-stained tile show?",
        origin=(
            "LC25000 (Borkowski et al., 2019, arXiv:1912.12142), the lung tiles, scaled to 224 x 224 pixels. Freely "
            "downloadable."
        ),
        group="source tile",
        use=(
            "H&E-stained tiles that show one kind of tissue. lung_aca: adenocarcinoma, lung_n: benign lung tissue, "
            "lung_scc: squamous cell carcinoma."
        ),
        limits=(
            "The data set's 15,000 lung tiles are augmented copies of 750 source tiles from few patients of one "
            "laboratory; copies are kept together here, patients cannot be. Other scanners, stains and magnifications "
            "will do worse."
        ),
        license="Apache-2.0 (weights); images LC25000 (Borkowski 2019)",
        titles={
            "lung_aca": "Adenocarcinoma",
            "lung_n": "Normal lung tissue",
            "lung_scc": "Squamous cell carcinoma",
        },
        settings={
            "group_regex": r"^(.+_g\d+)_",
            "augment": "microscopy",
            "method": "lora+norm",
            "resize": "crop",
            "size": 224,
            "epochs": 16,
            "validation_fraction": 0.05,
            **_MANY_VIEWS,
        },
        shipped={"cache_trunk": "off", "views": 4, "calibration": "off"},
    ),
)


def main(
    data: Annotated[Path, typer.Option(help="Folder with malaria-nih/, smoking/ and histology-lc25000-lung/.")],
    only: Annotated[list[str] | None, typer.Option(help="Train only this adapter; can be given several times.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the files and cards.")] = ZOO,
    cards: Annotated[
        bool, typer.Option("--cards", help="Train nothing; write the cards of the existing files again.")
    ] = False,
    promises: Annotated[
        bool, typer.Option("--promises", help="Keep the trained layers of the existing files; measure their promises.")
    ] = False,
    precisions: Annotated[
        bool, typer.Option("--precisions", help="Keep the existing files; record what an int8 trunk costs them.")
    ] = False,
) -> None:
    """Train the zoo: three adapters and their cards."""
    console, int8 = Console(), Int8Trunks()
    for recipe in RECIPES:
        if only and recipe.name not in only:
            continue
        config = TrainingConfig(
            data=data / recipe.folder,
            name=recipe.name,
            out=out / f"{recipe.name}.safetensors",
            description=recipe.description,
            license=recipe.license,
            threads=threads,
            **{"seed": seed, **recipe.settings},
        )
        if promises:
            measure_promises(config)
        elif not cards and not precisions:
            _train(config, console)
        if not cards:
            measure_precisions(config, int8)
        if recipe.titles:
            give_titles(config.out, recipe.titles)
        content = config.out.read_bytes()
        manifest = parse_adapter(content).manifest
        if manifest.training.get(RECORD, {}).get("after_training"):
            config = replace(config, **recipe.shipped)
        text = card(recipe, config, manifest, len(content))
        (out / f"{recipe.name}.md").write_text(text, encoding="utf-8")


def _train(config: TrainingConfig, console: Console) -> None:
    console.print(f"{config.name}: {config.data}", style="bold")
    with progress_bar(quiet=False) as listener:
        result = train(config, listener)
    for table in tables(f"{config.name}, test", result.test) if result.test else []:
        console.print(table)
    if result.size_bytes > MAX_BYTES:
        raise SystemExit(f"{result.path}: found {result.size_bytes} bytes, expected at most {MAX_BYTES}")
    console.print(f"Wrote {result.path} ({result.size_bytes:,} bytes, {result.record['seconds']:.0f} s)")
    if result.interrupted:
        raise SystemExit("interrupted: the file has the best epoch so far, the card is not written")


def give_titles(path: Path, titles: dict[str, str]) -> None:
    """Write the titles of the labels into the file at `path`; its tensors keep their bytes."""
    parsed = parse_adapter(path.read_bytes())
    manifest = parsed.manifest.model_copy(update={"titles": titles, "schema_version": 2})
    write_manifest(path, parsed.tensors, manifest)


def measure_promises(config: TrainingConfig) -> None:
    """Give the file at `config.out` the promises of networks that are trained as it was, each without a fourth.

    Its trained layers stay as they are. Images that it was trained on cannot say how often it is right, so each is
    scored by a network that has not seen it, as with calibration "cross". `config` is that of the file's own training,
    but may keep views. Statistics of the frozen layers and the figures on validation and test are computed again.
    """
    with on_threads(config.threads), progress_bar(quiet=False) as listener:
        backbone, old = load_backbone(config.backbone, weights_from(config.weights)), config.out.read_bytes()
        adapter, parsed = admit(old, backbone), parse_adapter(old)
        data = load_training_data(config, backbone)
        loop = TrainingLoop(config, backbone, Classification(config, data), [])
        loop.best_epoch = parsed.manifest.training["epochs"]["best"]
        promised = promise(loop, data, adapter, parsed.tensors, listener)
        dtype = FILE_DTYPES[config.file_dtype]
        manifest, statistics = with_familiarity(loop, data, promised.manifest, dtype)
        tensors = {**promised.tensors, **statistics}
        facts = {**manifest.training[RECORD], "views": config.views, "after_training": True}
        manifest = manifest.model_copy(update={"training": {**manifest.training, RECORD: facts}})
        manifest, _ = score_parts(loop, data, manifest, admit(dump_adapter(manifest, tensors, dtype), backbone))
        write_adapter(config.out, manifest, tensors, dtype)


def measure_precisions(config: TrainingConfig, int8: Int8Trunks) -> None:
    """Record in the file at `config.out` what int8 costs it on its test part, and the ranges of its branch.

    Its tensors keep their bytes.
    """
    with on_threads(config.threads):
        backbone, content = load_backbone(config.backbone, weights_from(config.weights)), config.out.read_bytes()
        adapter, parsed = admit(content, backbone), parse_adapter(content)
        folder, samples = read_samples(parsed.manifest, config.data, "test")
        _, ranged = read_samples(parsed.manifest, config.data, "train")
        manifest = scored_in_both(parsed.manifest, adapter, backbone, int8, "test", folder, samples, ranged)
        write_manifest(config.out, parsed.tensors, manifest)


def write_manifest(path: Path, tensors: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Write the file again with another manifest."""
    metadata = {METADATA_KEY: Manifest.parse(manifest.dump()).dump()}
    write_atomic(path, safetensors.torch.save(dict(tensors), metadata=metadata))


def card(recipe: Recipe, config: TrainingConfig, manifest: Manifest, size_bytes: int) -> str:
    """The adapter's card; all figures are from the file's own training record."""
    measured = manifest.training.get(RECORD, {})
    later = _LATER.format(**measured) if measured.get("after_training") else ""
    texts = CardTexts(
        title=recipe.title,
        notice="Research use only. Not a medical device, not for diagnosis, not for decisions about people.",
        origin=recipe.origin,
        group=recipe.group,
        use=f"{recipe.use} {recipe.limits}",
        command=f"`make zoo`, which for this adapter is\n\n    {command(config)}{later}",
    )
    return model_card(manifest, None, size_bytes, texts=texts)


def command(config: TrainingConfig) -> str:
    """The `lensmount train` command that repeats the run, with every setting that differs from its default."""
    words = ["lensmount", "train", "--data", f"DATA/{config.data.name}", "--name", config.name]
    words += ["--out", f"adapters/zoo/{config.out.name}"]
    for setting in fields(TrainingConfig):
        if setting.name in ("data", "name", "out", "threads", "description") or _is_default(setting, config):
            continue
        words += [_FLAGS.get(setting.name, "--" + setting.name.replace("_", "-")), str(getattr(config, setting.name))]
    return shlex.join(words)


def _is_default(setting: Any, config: TrainingConfig) -> bool:
    return getattr(config, setting.name) == getattr(_DEFAULTS, setting.name)


_DEFAULTS = TrainingConfig(Path(), "x", Path())
_FLAGS = {"learning_rate": "--lr", "validation_fraction": "--val-fraction"}


if __name__ == "__main__":
    typer.run(main)
