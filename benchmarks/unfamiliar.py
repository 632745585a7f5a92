"""How well an adapter tells images unlike its own: the statistics in its file against top score, energy and neighbours.

The pooled activations and logits of each data set are written to one npz a task, which takes minutes; the figures are
then made in seconds. Statistics are fitted on four fifths of each data set, by group; everything is measured on the
last fifth. The script prints the Markdown tables of docs/measurements.md.

    python benchmarks/unfamiliar.py --data ../shared/data --kept build/unfamiliar [--tasks malaria] [--images 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.augmentation.mild import MILD
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.graph.pooling import pooling_of
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.programs.cast import channels_last
from lensmount_adapters.trust.distance import distances
from lensmount_adapters.trust.familiarity import FLAG, Pooled, fit_familiarity

ZOO = Path(__file__).parent.parent / "adapters" / "zoo"
COPIES = ("JPEG 70", "10 % darker", "10 % brighter", "softer")  # in the order of MILD
SPACE = f"sha256:{64 * '0'}|add_3|mean"
BATCH = 8
Array = NDArray[np.float64]
Kept = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Task:
    """A data set, its groups, the shipped adapter that is asked, and the side of its input and of drawn images."""

    folder: str
    groups: str | None
    zoo: str
    size: int
    side: int
    near: tuple[str, ...] = ()  # names of images that are hard to tell


TASKS = {
    "malaria": Task("malaria-nih", r"^(.*?)_?[tT]hin", "malaria", 160, 130, ("gray50",)),
    "smoking": Task("smoking", None, "smoking", 320, 250),
    "histology": Task(
        "histology-lc25000-lung",
        r"^(.+_g\d+)_",
        "histology",
        224,
        224,
        ("stain strong", "stain weak", "hue 70 degrees"),
    ),
    "gray50": Task("malaria-nih-gray50", r"^(.*?)_?[tT]hin", "malaria", 160, 50, ("malaria",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Telling unfamiliar images, measured.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kept", type=Path, required=True, help="folder of the npz files")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--images", type=int, default=400, help="own images per task, at most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.kept.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("tf_efficientnet_lite0")
    for name in options.tasks:
        if not (options.kept / f"{name}.npz").exists():
            np.savez(options.kept / f"{name}.npz", **Collector(backbone, options.data, name, options.images).all())  # type: ignore[arg-type]  # by name
    kept = {name: dict(np.load(options.kept / f"{name}.npz")) for name in options.tasks}
    print(false_alarms(kept), far_and_near(kept), sep="\n")


class Collector:
    """Pooled activations and logits of everything that one task's adapter is asked."""

    def __init__(self, backbone: Backbone, data: Path, name: str, images: int) -> None:
        self.data, self.name, self.task = data, name, TASKS[name]
        self.backbone = backbone
        self.adapter: Adapter = admit((ZOO / f"{self.task.zoo}.safetensors").read_bytes(), backbone)
        rule = self.adapter.manifest.preprocessing
        assert isinstance(rule, Preprocessing)
        self.rule = rule.model_copy(update={"size": (self.task.size, self.task.size)})
        halves = Segments(backbone.module).halves({delta.target.name for delta in self.adapter.deltas})
        assert halves.trunk is not None
        self.trunk = halves.trunk
        self.folder = read_folder(data / self.task.folder, self.task.groups)
        drawn = np.random.default_rng(0).permutation(len(self.folder))[:images]
        self.samples = [self.folder.samples[index] for index in sorted(drawn)]
        parts = split_folder(self.folder, 0, 0.2, 0.2).parts()
        self.tested = np.isin(sorted(drawn), parts["test"])

    def all(self) -> Kept:
        groups = np.unique([sample.group for sample in self.samples], return_inverse=True)[1]
        kept: Kept = {
            "label": np.array([sample.label for sample in self.samples], np.float64),
            "group": groups.astype(np.float64),
            "tested": self.tested.astype(np.float64),
        }
        own = [decode_image(self.folder.read(sample.path)) for sample in self.samples]
        some = [image for image, tested in zip(own, self.tested, strict=True) if tested][:80]
        sets: dict[str, list[Image.Image]] = {"own": own}
        sets |= {name: [change(image) for image in own] for name, change in zip(COPIES, MILD, strict=True)}
        sets |= {"inverted": [ImageOps.invert(image) for image in some]}
        if self.name == "histology":
            sets |= {"stain strong": [stained(image, 1.8, 0.4) for image in some]}
            sets |= {"stain weak": [stained(image, 0.5, 1.6) for image in some]}
            sets |= {"hue 70 degrees": [turned(image) for image in some]}
        for other in TASKS:
            if other != self.name:
                sets[other] = self._opened(self.data / TASKS[other].folder, 250 if other in self.task.near else 80)
        sets |= {"nuclei": self._opened(self.data / "nuclei-dsb2018" / "images", 60)} | drawings(self.task.side)
        for name, images in sets.items():
            pooled, logits = self._computed(images)
            kept |= {f"{name}/pooled": pooled, f"{name}/logits": logits}
        return kept

    def _opened(self, folder: Path, count: int) -> list[Image.Image]:
        paths = sorted(path for path in folder.rglob("*.*g") if path.is_file())
        return [decode_image(paths[n].read_bytes()) for n in np.random.default_rng(0).permutation(len(paths))[:count]]

    def _computed(self, images: Sequence[Image.Image]) -> tuple[Array, Array]:
        vectors: list[Tensor] = []
        logits: list[Tensor] = []
        swapper = ExactSwapper(self.backbone)
        swapper.mount(self.adapter)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                x = channels_last(torch.stack([preprocess(i, self.rule) for i in images[start : start + BATCH]]))
                activations = self.trunk(x)
                vectors.append(pooling_of(self.backbone, activations)(activations))
                logits.append(self.adapter.logits(self.backbone.features(x)))
        swapper.unmount()
        return torch.cat(vectors).double().numpy(), torch.cat(logits).double().numpy()


def stained(image: Image.Image, haematoxylin: float, eosin: float) -> Image.Image:
    """The image with other amounts of its two stains (Ruifrok and Johnston 2001)."""
    vectors = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    density = -np.log10((np.asarray(image, np.float64) + 1) / 256) @ np.linalg.inv(vectors)
    density *= (haematoxylin, eosin, 1)
    return Image.fromarray(np.clip(256 * 10 ** -(density @ vectors) - 1, 0, 255).astype(np.uint8))


def turned(image: Image.Image) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shifted = hue.point([(level + 51) % 256 for level in range(256)])
    return Image.merge("HSV", (shifted, saturation, value)).convert("RGB")


def drawings(side: int) -> dict[str, list[Image.Image]]:
    """Noise of four kinds, one colour, and lines of text at any angle."""
    random = np.random.default_rng(0)

    def noise(kind: int) -> Image.Image:
        grey = random.integers(0, 256, (side, side, 1)).repeat(3, 2)
        normal = random.normal(128, 40, (side, side, 3)).clip(0, 255)
        cloud = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        colour = random.integers(0, 256, (side, side, 3))
        return cloud if kind == 0 else Image.fromarray((colour, grey, normal)[kind - 1].astype(np.uint8))

    def text(number: int) -> Image.Image:
        image = Image.new("L", (side, side), 255)
        for line in range(4 + number % 8):
            letters = "".join(random.choice(list("abcdefghij KLMNOP 0123456789"), 30))
            ImageDraw.Draw(image).text((4, 4 + line * side // 10), letters, fill=0)
        return image.rotate(float(random.uniform(0, 360)), fillcolor=255).convert("RGB")

    levels = [(grey, grey, grey) for grey in range(0, 256, 15)]
    colours = [tuple(random.integers(0, 256, 3).tolist()) for _ in range(22)]
    return {
        "noise": [noise(number % 4) for number in range(40)],
        "blank": [Image.new("RGB", (side, side), colour) for colour in (*levels, *colours)],
        "text": [text(number) for number in range(40)],
    }


@dataclass(frozen=True, slots=True)
class Ways:
    """What tells unfamiliar images, each a function from the name of a set to its scores, higher for unfamiliar."""

    kept: Kept
    copied: bool = True

    def fitted(self) -> tuple[Callable[[str], Array], float]:
        """The distance by statistics of four fifths of the images, and the distance from which on it flags."""
        pooled = self._known()
        familiarity, statistics = fit_familiarity(pooled, int(pooled.label.max()) + 1, SPACE)
        threshold = familiarity.quantiles[round(FLAG)]
        return lambda name: distances(statistics, self.kept[f"{name}/pooled"]), threshold

    def neighbour(self, name: str) -> Array:
        """The distance to the fifth nearest."""
        known, asked = self._known().vectors, self.kept[f"{name}/pooled"]
        return np.array([np.sort(((known - each) ** 2).sum(1))[4] for each in asked])

    def top_score(self, name: str) -> Array:
        logits = self.kept[f"{name}/logits"]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        top: Array = (scores / scores.sum(1, keepdims=True)).max(1)
        return -top

    def energy(self, name: str) -> Array:
        logits = self.kept[f"{name}/logits"]
        energy: Array = -np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) - logits.max(1)
        return energy

    def _known(self) -> Pooled:
        """Own images that are not tested, each with one mild copy, as in training."""
        (known,) = np.nonzero(self.kept["tested"] == 0)
        vectors = [self.kept["own/pooled"][known]]
        if self.copied:
            copies = np.stack([self.kept[f"{name}/pooled"] for name in COPIES])
            vectors.append(copies[np.arange(len(known)) % len(COPIES), known])
        rows = np.tile(known, len(vectors))
        label, group = (self.kept[name].astype(np.int64)[rows] for name in ("label", "group"))
        return Pooled(np.concatenate(vectors), rows, label, group)


def false_alarms(kept: dict[str, Kept]) -> str:
    lines = [f"| own images flagged | n | as they are | {' | '.join(COPIES)} |", "|---|---:" + 5 * "|---:" + "|"]
    for name, task in kept.items():
        tested = task["tested"] == 1
        for copied in (True, False):
            score, threshold = Ways(task, copied).fitted()
            shares = [(score(each)[tested] >= threshold).mean() for each in ("own", *COPIES)]
            row = f"{name}{'' if copied else ', fitted without copies'}"
            lines.append(f"| {row} | {tested.sum()} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines) + "\n"


def far_and_near(kept: dict[str, Kept]) -> str:
    lines = ["| images | by | n | AUROC | FPR at 95 % | flagged |", "|---|---|---:|---:|---:|---:|"]
    for name, task in kept.items():
        ways, tested = Ways(task), task["tested"] == 1
        distance, threshold = ways.fitted()
        near = TASKS[name].near
        others = [key.removesuffix("/pooled") for key in task if key.endswith("/pooled")]
        far = [other for other in others if other not in ("own", *COPIES, *near)]
        by = {"distance": distance, "5th neighbour": ways.neighbour, "top score": ways.top_score, "energy": ways.energy}
        for title, names in ((f"{name}: all that are far", far), *((f"{name}: {each}", [each]) for each in near)):
            for way, score in by.items():
                lines.append(_row(title, way, score("own")[tested], [score(each) for each in names], threshold))
    return "\n".join(lines) + "\n"


def _row(title: str, way: str, own: Array, others: Iterable[Array], threshold: float) -> str:
    """AUROC and false positive rate of the worst set of images, and how many of all are flagged."""
    sets = list(others)
    auroc = min(roc_auc_score(np.repeat([0, 1], [len(own), len(each)]), np.r_[own, each]) for each in sets)
    missed = max(float((each <= np.quantile(own, 0.95)).mean()) for each in sets)
    images = np.concatenate(sets)
    flagged = f"{(images >= threshold).mean():.1%}" if way == "distance" else ""
    return f"| {title} | {way} | {len(images)} | {auroc:.4f} | {missed:.3f} | {flagged} |"


if __name__ == "__main__":
    main()
