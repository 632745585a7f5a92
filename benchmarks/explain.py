"""Whether explanations of the shipped adapters point at what decides, and what they cost a server.

    python benchmarks/explain.py [--data ../shared/data] [--images 100] [--threads 1]
    python benchmarks/explain.py --cost http://127.0.0.1:8000 [--data ../shared/data] [--seconds 20]

The first form prints three tables: deletion and insertion against a random map and a map of the centre (Petsiuk et al.,
arXiv 1806.07421); the rank correlation of maps with those of a network with random weights (Adebayo et al., arXiv
1810.03292); and how often the peak of a parasitised cell's map lies on its darkest part. The second form measures a
running server.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import gaussian_blur

from lensmount_adapters import Adapter, Backbone, admit, decode_image, load_backbone, preprocess
from lensmount_adapters.explain.cam import activation_map
from lensmount_adapters.explain.explainer import METHODS, Explainer
from lensmount_adapters.explain.network import AdaptedNetwork, Network
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_client import Client

ZOO = Path(__file__).parent.parent / "adapters" / "zoo"
FOLDERS = {"malaria": "malaria-nih", "smoking": "smoking", "histology": "histology-lc25000-lung"}
STEPS = 10  # shares of the image that are deleted or inserted, from a tenth to all of it
DARKEST = 0.15  # of the pixels of a cell
GOALS = {"margin": 0.05, "correlation": 0.3, "parasites": 0.8, "cost": 1.15}


@dataclass(frozen=True)
class Item:
    adapter: Adapter
    image: Tensor


def files_of(data: Path, task: str, count: int, label: str | None = None) -> list[Path]:
    """`count` images, equally many from each class, evenly spaced in the order of their names."""
    classes = [data / FOLDERS[task] / label] if label else sorted((data / FOLDERS[task]).iterdir())
    chosen: list[Path] = []
    for folder in (folder for folder in classes if folder.is_dir()):
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        each = min(len(found), -(-count // len(classes)))
        chosen += [found[number * len(found) // each] for number in range(each)]
    return chosen[:count]


def image_of(path: Path, adapter: Adapter) -> Tensor:
    rule = adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    return preprocess(decode_image(path.read_bytes()), rule)


def enlarged(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Values [rows, columns] at each pixel of the input, interpolated as the drawing is."""
    grid = torch.from_numpy(np.asarray(values, np.float32))[None, None]
    return F.interpolate(grid, size=tuple(size), mode="bilinear", align_corners=False)[0, 0].numpy()


# Deletion and insertion


def areas(score: Callable[[Tensor], np.ndarray], image: Tensor, order: np.ndarray) -> tuple[float, float]:
    """The mean score while pixels are covered with 0, the most important first, and while a blurred image gets them.

    The blur of an image of 224 pixels has a sigma of 5 pixels, as in the paper.
    """
    sigma = image.shape[2] / 224 * 5
    blurred = gaussian_blur(image, 4 * round(sigma) + 1, sigma)
    deleted, inserted = [image], [blurred]
    for step in range(1, STEPS + 1):
        chosen = torch.zeros(order.size, dtype=torch.bool)
        chosen[torch.from_numpy(order[: round(step * order.size / STEPS)].copy())] = True
        mask = chosen.view(image.shape[1:])
        deleted.append(torch.where(mask, 0.0, image))
        inserted.append(torch.where(mask, image, blurred))
    scores = score(torch.stack(deleted + inserted))
    return float(np.trapezoid(scores[: STEPS + 1]) / STEPS), float(np.trapezoid(scores[STEPS + 1 :]) / STEPS)


def faithfulness(backbone: Backbone, adapter: Adapter, paths: Sequence[Path], threads: int) -> dict[str, float]:
    """Mean insertion less deletion of each kind of map, for the label with the best score."""
    draw, explainer = np.random.default_rng(0), Explainer(backbone)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        runner = SegmentRunner(
            backbone, choose_executor("auto", "auto", backbone.device, threads, Path(cache)), hot_bytes=2**30
        )
        for path in paths:
            image = image_of(path, adapter)
            maps = {name: explainer.explain(adapter, image, name) for name in METHODS if name != "occlusion"}
            label = adapter.manifest.labels.index(maps["cam"].label)

            def score(images: Tensor, label: int = label) -> np.ndarray:
                parts = [
                    runner.scores([Item(adapter, each) for each in part]).scores for part in torch.split(images, 8)
                ]
                return np.array([float(scores[label]) for part in parts for scores in part])

            grids = {name: enlarged(each.values, image.shape[1:]) for name, each in maps.items()}
            shape = maps["cam"].values.shape
            grids["random"] = enlarged(draw.random(shape), image.shape[1:])
            rows, columns = np.indices(image.shape[1:])
            middle = [(side - 1) / 2 for side in image.shape[1:]]
            grids["centre"] = -np.hypot(rows - middle[0], columns - middle[1])
            for name, grid in grids.items():
                deletion, insertion = areas(score, image, np.argsort(-grid.ravel(), kind="stable"))
                found.setdefault(name, []).append(insertion - deletion)
        runner.close()
    return {name: statistics.mean(values) for name, values in found.items()}


# Random weights


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values.ravel(), kind="stable"), kind="stable").astype(float)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two maps of one size."""
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def sanity(backbone: Backbone, adapter: Adapter, paths: Sequence[Path]) -> dict[str, float]:
    """The mean rank correlation of the map with that of a random head, random layers as well, and no deltas."""
    network, stranger = Network(backbone), load_backbone(backbone.name, "random:1")
    first = min(delta.target.name for delta in adapter.deltas)  # "blocks.4..."
    late = {name: tensor for name, tensor in stranger.tensors.items() if name >= first or name.startswith("bn2")}
    late = {name: tensor for name, tensor in late.items() if not name.startswith(("bn1", "conv_stem"))}
    labels = len(adapter.manifest.labels)
    own = network.with_adapter(adapter)
    bare, random = AdaptedNetwork(network, adapter, {}), AdaptedNetwork(network, adapter, late)
    found: dict[str, list[float]] = {}
    for path in paths:
        head = torch.nn.Linear(backbone.feature_dim, labels).requires_grad_(False)  # another one for each image
        other = Adapter(adapter.digest, adapter.size_bytes, adapter.manifest, adapter.deltas, head.eval())
        variants = {
            "random head": (own, other),
            "random head and branch": (random, other),
            "no deltas": (bare, adapter),
        }
        turned = own.turned(image_of(path, adapter))
        label = int(own.scores(turned[:1])[0].argmax())
        plain = activation_map(adapter, own.last_maps(turned), label).numpy()
        for name, (varied, judge) in variants.items():
            values = activation_map(judge, varied.last_maps(turned), label).numpy()
            found.setdefault(name, []).append(correlation(plain, values))
            found.setdefault(f"{name}, absolute", []).append(abs(correlation(plain, values)))
    return {name: statistics.mean(values) for name, values in found.items()}


# Parasites


def parasites(backbone: Backbone, adapter: Adapter, paths: Sequence[Path], method: str) -> tuple[float, float, float]:
    """Shares of parasitised cells whose peak lies on the darkest part of the cell: the pixel, and its grid cell.

    A cell is everything that is not black; it is darkest where its green is. The third number is the share that a
    pixel of the cell chosen at random would reach.
    """
    explainer, pixel, cell, chance = Explainer(backbone), [], [], []
    for path in paths:
        image = image_of(path, adapter)
        values = explainer.explain(adapter, image, method, "Parasitized").values
        pixels = image.numpy()
        green = pixels[1]
        inside = pixels.max(0) > pixels.min() + 0.1
        dark = inside & (green <= np.quantile(green[inside], DARKEST))
        grid = np.where(inside, enlarged(values, green.shape), -np.inf)
        pixel.append(bool(dark.ravel()[grid.argmax()]))
        row, column = np.unravel_index(values.argmax(), values.shape)
        height, width = green.shape[0] // values.shape[0], green.shape[1] // values.shape[1]
        block = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        cell.append(bool(dark[block].mean() >= DARKEST))  # darker than the average cell of the grid
        chance.append(float(dark.sum() / inside.sum()))
    return statistics.mean(pixel), statistics.mean(cell), statistics.mean(chance)


# Cost


def percentile(seconds: Sequence[float], share: float) -> float:
    return float(np.quantile(seconds, share) * 1000)


def cost(url: str, data: Path, seconds: float) -> None:
    """The time of a prediction and of its class activation map, in turn; then predictions next to explanations."""
    image = files_of(data, "malaria", 2)[0].read_bytes()
    with Client(url) as client:
        taken: dict[str, list[float]] = {"predict": [], "explain cam": []}
        ways: dict[str, Callable[[], object]] = {
            "predict": lambda: client.predict(image, "malaria"),
            "explain cam": lambda: client.explain(image, "malaria"),
        }
        ends = time.monotonic() + seconds
        for warm in (True, False):
            while time.monotonic() < ends or (warm and len(taken["predict"]) < 30):
                for name, ask in ways.items():
                    started = time.perf_counter()
                    ask()
                    taken[name].append(time.perf_counter() - started)
                if warm and len(taken["predict"]) >= 30:
                    break
            if warm:
                taken, ends = {name: [] for name in ways}, time.monotonic() + seconds
        p50 = {name: percentile(values, 0.5) for name, values in taken.items()}
        print(f"p50: {p50} ms, ratio {p50['explain cam'] / p50['predict']:.3f} (goal {GOALS['cost']})")
        alone = under_load(client, image, seconds, [])
        for methods in (["cam"], ["layercam"], ["occlusion"]):
            beside = under_load(client, image, seconds, methods)
            print(f"p95 of predictions: alone {alone:.2f} ms, with a fifth {methods[0]} {beside:.2f} ms")


def under_load(client: Client, image: bytes, seconds: float, methods: Sequence[str]) -> float:
    """The 95th percentile of predictions one after the other, in ms. Each fifth request is an explanation."""
    taken: list[float] = []
    waiting: list[threading.Thread] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if methods and len(taken) % 4 == 3:
            waiting = [thread for thread in waiting if thread.is_alive()]
            if len(waiting) < 8:  # as many as the server lets wait
                waiting.append(threading.Thread(target=_ask, args=(client, image, methods[len(taken) % len(methods)])))
                waiting[-1].start()
        started = time.perf_counter()
        client.predict(image, "malaria")
        taken.append(time.perf_counter() - started)
    for thread in waiting:
        thread.join()
    return percentile(taken, 0.95)


def _ask(client: Client, image: bytes, method: str) -> None:
    client.explain(image, "malaria", method=method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--images", type=int, default=100, help="of each task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cost", metavar="URL", help="measure this server instead")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of a server")
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.cost, arguments.data, arguments.seconds)
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    backbone = load_backbone()
    for task in FOLDERS:
        adapter = admit((ZOO / f"{task}.safetensors").read_bytes(), backbone)
        paths = files_of(arguments.data, task, arguments.images)
        checked = {name: round(value, 3) for name, value in sanity(backbone, adapter, paths).items()}
        print(f"{task}: rank correlation {checked} (goal below {GOALS['correlation']})", flush=True)
    adapter = admit((ZOO / "malaria.safetensors").read_bytes(), backbone)
    paths = files_of(arguments.data, "malaria", arguments.images, "Parasitized")
    for method in METHODS:
        pixel, cell, chance = parasites(backbone, adapter, paths, method)
        print(f"parasites, {method}: peak pixel {pixel:.2f}, peak cell {cell:.2f}, by chance {chance:.2f}", flush=True)
    for task in FOLDERS:
        adapter = admit((ZOO / f"{task}.safetensors").read_bytes(), backbone)
        paths = files_of(arguments.data, task, arguments.images)
        gains = faithfulness(backbone, adapter, paths, arguments.threads)
        rounded = {name: round(value, 3) for name, value in gains.items()}
        margin = gains["cam"] - max(gains["random"], gains["centre"])
        print(f"{task}: insertion less deletion {rounded}, margin {margin:.3f} (goal {GOALS['margin']})", flush=True)


if __name__ == "__main__":
    main()
