"""Train one adapter: an image folder in, an adapter file with its own training record out."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters.adapter import Adapter
from lensmount_adapters.admission import admit
from lensmount_adapters.augment import cut_mix, mix
from lensmount_adapters.auto import Candidate, Trial, search
from lensmount_adapters.backbone import Backbone, load_backbone
from lensmount_adapters.checkpoint import checkpoint_path, checkpoint_settings, load_checkpoint, save_checkpoint
from lensmount_adapters.config import FILE_DTYPES, TrainingConfig, require
from lensmount_adapters.dataset import ImageFolder, digest_of_samples
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.evaluation import answer
from lensmount_adapters.files import dump_adapter, write_adapter
from lensmount_adapters.head_text import head_of
from lensmount_adapters.heads import probabilities
from lensmount_adapters.judged import Judged
from lensmount_adapters.manifest import HeadSpec, Manifest
from lensmount_adapters.metrics import Metrics, measure
from lensmount_adapters.precision import PRECISIONS, choose_precision, precision_name
from lensmount_adapters.schedule import (
    EpochRecord,
    automatic_epochs,
    fit_temperature,
    has_stalled,
    is_best_so_far,
    learning_rate_at,
)
from lensmount_adapters.swap import ExactSwapper
from lensmount_adapters.targets import select_targets
from lensmount_adapters.task import Task, read_task
from lensmount_adapters.trainable import Average, TrainableAdapter, own_random_state
from lensmount_adapters.views import CachedViews, FreshViews, Views, affordable_views

PROBE_IMAGES = 16  # in each pass that compares precisions


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: after each step, and while views of the pictures are computed (`phase` "caching").

    `done` is set on the last step of an epoch, after validation; `seconds_left` is None until it can be estimated.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    done: EpochRecord | None = None
    phase: str = "training"
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The written file and what is known of it; `judged` holds the parts "validation" and "test", where there are any.

    Their figures are those of the file's own contents, read back.
    """

    path: Path
    digest: str
    size_bytes: int
    manifest: Manifest
    judged: Mapping[str, Judged]
    interrupted: bool
    notes: tuple[str, ...]
    folder: ImageFolder

    @property
    def validation(self) -> Metrics | None:
        return self.judged["validation"].metrics if "validation" in self.judged else None

    @property
    def test(self) -> Metrics | None:
        return self.judged["test"].metrics if "test" in self.judged else None

    @property
    def record(self) -> dict[str, Any]:
        return self.manifest.training


Listener = Callable[[Progress], None]


def train(
    config: TrainingConfig, on_progress: Listener | None = None, backbone: Backbone | None = None
) -> TrainingResult:
    """Train an adapter and write it to `config.out`.

    `on_progress` is called after every step. KeyboardInterrupt (Ctrl-C, or raised by `on_progress`) ends the training
    and keeps the best epoch so far; the checkpoint stays, so that `resume=True` goes on from the last whole epoch.
    The same config on the same CPU with the same thread count gives the same tensors, bit for bit; `precision` "auto"
    is the one setting that measures, and the record says what it chose.
    Raises DatasetError, TrainingError, BackboneError.
    """
    with on_threads(config.threads), own_random_state():
        require(config.out.parent.is_dir(), f"no folder {config.out.parent} for the result", "one that exists")
        if backbone is None:
            backbone = load_backbone(config.backbone, weights_from(config.weights), choose_device(config.device))
        require(backbone.name == config.backbone, f"the backbone {backbone.name}", f"{config.backbone} as configured")
        listener = on_progress or silent
        task = read_task(config, backbone)
        trials: tuple[Trial, ...] = ()
        if config.auto:
            config, trials = _choose(config, backbone, task, listener)
        run = Run(config, backbone, task, [trial.to_json() for trial in trials])
        interrupted = run.go(listener)
        return _write(run, interrupted)


def _choose(
    config: TrainingConfig, backbone: Backbone, task: Task, listener: Listener
) -> tuple[TrainingConfig, tuple[Trial, ...]]:
    """The config that short trials favour; what a checkpoint to resume from was trained with is kept."""
    if config.resume:
        kept = checkpoint_settings(checkpoint_path(config.out))
        return Candidate(kept["method"], kept["rank"], kept["targets"]).of(config), ()

    def measure(short: TrainingConfig) -> tuple[float, float]:
        trial = replace(short, out=config.out.with_name(f"{config.out.name}.trial"), cache_trunk="off")
        run = Run(trial, backbone, task, [])
        try:
            interrupted = run.go(lambda progress: listener(replace(progress, done=None, phase="searching")))
        finally:
            checkpoint_path(trial.out).unlink(missing_ok=True)
        last = run.history[-1]
        if interrupted or last.validation_loss is None or last.validation_balanced_accuracy is None:
            raise TrainingError("interrupted while trying methods: nothing is written")
        return last.validation_loss, last.validation_balanced_accuracy

    epochs = automatic_epochs(_steps(config, task)) if config.epochs is None else config.epochs
    return search(config, backbone, len(task.folder.classes), epochs, measure)


def _steps(config: TrainingConfig, task: Task) -> int:
    """Optimiser steps in an epoch."""
    return max(1, round(len(task.train_labels) / config.batch_size))


Build = Callable[[TrainingConfig, Backbone, HeadSpec, int], TrainableAdapter]


def _adapter(config: TrainingConfig, backbone: Backbone, head: HeadSpec, classes: int) -> TrainableAdapter:
    return TrainableAdapter(
        backbone,
        select_targets(backbone.name, backbone.targets, config.method, config.targets),
        rank=config.rank,
        alpha=2.0 * config.rank if config.alpha is None else config.alpha,
        head=head,
        classes=classes,
        seed=config.seed,
        std=config.init_std,
    )


class Run:
    """One training run: `go` trains epoch by epoch, `best` holds the tensors of the best one.

    `build` makes what is trained, for `classes` outputs: without it, the adapter that the config asks for.
    """

    def __init__(
        self,
        config: TrainingConfig,
        backbone: Backbone,
        task: Task,
        trials: list[dict[str, Any]],
        build: Build | None = None,
    ) -> None:
        self.config = config
        self.trials = trials
        self.backbone = backbone
        self.task = task
        self.started = time.monotonic()
        self.seconds_before = 0.0
        classes = len(task.folder.classes)
        self.head = head_of(config.head, backbone.feature_dim, classes) if isinstance(config.head, str) else config.head
        self.adapter = (build or _adapter)(config, backbone, self.head, classes)
        norms = any(isinstance(module, nn.BatchNorm1d) for module in self.adapter.head.modules())
        fewest = len(task.train_labels) // self.steps
        require(fewest > 1 or not norms, "a batch of one image for a head with BatchNorm", "a batch size of at least 2")
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)  # dropout in the head draws from the global generator
        self.optimizer = _optimizer(self.adapter, config)
        self.average = Average(self.adapter, config.average)
        self.class_weights = _class_weights(config, task).to(backbone.device)
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        state = self._resume() if config.resume else {}
        self.precision = state.get("precision") or choose_precision(config.precision, self._probe)
        kept = state.get("views")
        self.kept_views = self._affordable_views() if kept is None else kept
        self.views = self._views()
        self.validation = self._validation_views()

    @property
    def steps(self) -> int:
        return _steps(self.config, self.task)

    @property
    def epochs(self) -> int:
        return automatic_epochs(self.steps) if self.config.epochs is None else self.config.epochs

    def go(self, listener: Listener) -> bool:
        """Train to the last epoch; True where Ctrl-C ended it early."""
        try:
            for epoch in range(len(self.history) + 1, self.epochs + 1):
                if has_stalled(self.history, self.config.patience):
                    break
                self._train_epoch(epoch, listener)
        except KeyboardInterrupt:
            if not self.best:
                raise TrainingError(
                    "interrupted before the first epoch was whole: nothing was learned and nothing is written"
                ) from None
            return True
        return False

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _train_epoch(self, epoch: int, listener: Listener) -> None:
        started = time.monotonic()
        last = self.history[-1] if self.history else EpochRecord(0, 0.0, 0.0, None, None)

        def tick(done: int, total: int) -> None:
            listener(
                Progress(epoch, self.epochs, 0, self.steps, last.loss, last.accuracy, None, "caching", self._left(0))
            )

        self.views.prepare(epoch, tick)
        self.adapter.train()
        order = torch.randperm(len(self.task.train_labels), generator=self.generator)
        losses, right, seen = 0.0, 0, 0
        for step, indices in enumerate(order.tensor_split(self.steps), start=1):
            loss, hits = self._step(epoch, indices, (epoch - 1) * self.steps + step - 1)
            losses, right, seen = losses + loss, right + hits, seen + len(indices)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, step {step}: the loss is {loss}. Cure: a lower --lr, or --precision fp32"
                )
            if step < self.steps:
                left = self._left(step)
                listener(Progress(epoch, self.epochs, step, self.steps, losses / step, right / seen, seconds_left=left))
        record = self._finish_epoch(epoch, losses / self.steps, right / seen, started)
        left = self._left(0)
        listener(
            Progress(
                epoch, self.epochs, self.steps, self.steps, record.loss, record.accuracy, record, seconds_left=left
            )
        )

    def _left(self, step: int) -> float | None:
        """Seconds to the last epoch at the pace of the last whole one."""
        if not self.history:
            return None
        return round(self.history[-1].seconds * (self.epochs - len(self.history) - step / self.steps), 1)

    def _step(self, epoch: int, indices: Tensor, step: int) -> tuple[float, int]:
        """One optimiser step; returns the loss and the number of right answers."""
        x = self.views.batch(epoch, indices)
        labels = self.task.train_labels[indices].to(self.backbone.device)
        soft = F.one_hot(labels, len(self.task.folder.classes)).float()  # [N, classes]
        x, soft = mix(x, soft, self.config.mixup, self.generator)
        x, soft = cut_mix(x, soft, self.config.cutmix, self.generator)
        logits = self.adapter.logits_of(x, self.precision)
        loss = F.cross_entropy(logits, soft, self.class_weights, label_smoothing=self.config.label_smoothing)
        rate = learning_rate_at(step, self.epochs * self.steps, self.config.learning_rate, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        self.average.update()
        return loss.item(), int((logits.argmax(1) == labels).sum())

    def _finish_epoch(self, epoch: int, loss: float, accuracy: float, started: float) -> EpochRecord:
        """Validate the averaged tensors, keep them if they are the best so far, write the checkpoint."""
        candidate = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
        metrics = None
        if len(self.task.validation_labels):
            logits, labels = self._validation_logits(candidate), self.task.validation_labels
            metrics = measure(labels, (logits / fit_temperature(logits, labels)).softmax(1), self.task.folder.classes)
        record = EpochRecord(
            epoch,
            round(loss, 6),
            round(accuracy, 6),
            round(metrics.log_loss, 6) if metrics else None,
            round(metrics.balanced_accuracy, 6) if metrics else None,
            round(time.monotonic() - started, 3),
        )
        self.history.append(record)
        if is_best_so_far(self.history, len(self.task.validation_labels)):
            self.best, self.best_epoch = candidate, epoch
        save_checkpoint(checkpoint_path(self.config.out), self._state())
        return record

    def _validation_logits(self, tensors: dict[str, Tensor]) -> Tensor:
        """Logits [N, classes] of the validation part under `tensors`; the tensors in training are put back."""
        training = {name: tensor.clone() for name, tensor in self.adapter.tensors().items()}
        self.validation.prepare(1, _silent_tick)
        self.adapter.load(tensors)
        self.adapter.eval()
        try:
            with torch.no_grad():
                batches = torch.split(torch.arange(len(self.task.validation)), 64)
                found = [self.adapter.logits_of(self.validation.batch(1, i), self.precision).cpu() for i in batches]
                return torch.cat(found)
        finally:
            self.adapter.load(training)
            self.adapter.train()

    def _affordable_views(self) -> int:
        config = self.config
        return affordable_views(
            config.cache_trunk, config.views, self.epochs, self.task.train, self.adapter, self.precision,
            config.out.parent,
        )  # fmt: skip

    def _views(self) -> Views:
        if not self.kept_views:
            return FreshViews(self.task.train, self.adapter, self.precision, self.generator)
        path = self.config.out.with_name(f"{self.config.out.name}.views")
        return CachedViews(self.task.train, self.adapter, self.precision, self.kept_views, self.config.seed, path)

    def _validation_views(self) -> Views:
        if not len(self.task.validation) or not self.kept_views:
            return FreshViews(self.task.validation, self.adapter, self.precision, self.generator)
        path = self.config.out.with_name(f"{self.config.out.name}.validation")
        return CachedViews(self.task.validation, self.adapter, self.precision, 1, self.config.seed, path)

    def _probe(self, precision: torch.dtype) -> None:
        indices = torch.arange(min(PROBE_IMAGES, len(self.task.train)))
        images = self.task.train.draw(indices, torch.Generator().manual_seed(0), self.backbone.device)
        self.adapter.eval()  # statistics of the head stay as they are
        self.adapter.logits(images, precision).sum().backward()  # type: ignore[no-untyped-call]  # untyped by torch
        self.optimizer.zero_grad()

    def _settings(self) -> dict[str, Any]:
        return self.config.hyper_parameters() | {
            "data_digest": self.task.folder.digest,
            "backbone_fingerprint": self.backbone.fingerprint,
        }

    def _state(self) -> dict[str, Any]:
        return {
            "settings": self._settings(),
            "history": [asdict(record) for record in self.history],
            "tensors": self.adapter.tensors(),
            "average": self.average.tensors,
            "average_steps": self.average.steps,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "precision": precision_name(self.precision),
            "views": self.kept_views,
            "trials": self.trials,
            "seconds": self.seconds(),
        }

    def _resume(self) -> dict[str, Any]:
        """Take up the checkpoint's state; returns what was measured then: precision and views."""
        state = load_checkpoint(checkpoint_path(self.config.out), self._settings())
        device = self.backbone.device
        self.adapter.load(state["tensors"])
        self.average.tensors = {name: tensor.to(device) for name, tensor in state["average"].items()}
        self.average.steps = state["average_steps"]
        self.best = {name: tensor.to(device) for name, tensor in state["best"].items()}
        self.best_epoch = state["best_epoch"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_generator"])
        self.seconds_before = state["seconds"]
        self.trials = state["trials"]
        return {"precision": PRECISIONS[state["precision"]], "views": state["views"]}


def _write(run: Run, interrupted: bool) -> TrainingResult:
    """Write the best epoch; its temperature and metrics are those of the file's own bytes, admitted like any upload."""
    config, dtype = run.config, FILE_DTYPES[run.config.file_dtype]
    manifest = manifest_of(run, interrupted)
    manifest, judged = judge(run, manifest, admit(dump_adapter(manifest, run.best, dtype), run.backbone))
    digest = write_adapter(config.out, manifest, run.best, dtype)
    return result_of(run, manifest, digest, judged, interrupted)


def manifest_of(run: Run, interrupted: bool) -> Manifest:
    """What the file will say of itself, but for temperature and metrics, which `judge` adds."""
    config = run.config
    return Manifest(
        name=config.name,
        method=config.method,
        backbone=run.backbone.ref,
        preprocessing=run.task.preprocessing,
        labels=run.task.folder.classes,
        head=run.head,
        modules=run.adapter.modules,
        training=_record(run, interrupted),
        license=config.license,
        description=config.description,
    )


def judge(run: Run, manifest: Manifest, adapter: Adapter) -> tuple[Manifest, dict[str, Judged]]:
    """The parts of the split as `adapter` answers them; the manifest with its temperature and these metrics."""
    logits = {part: _serve(run, adapter, part) for part in ("validation", "test") if run.task.samples(part)}
    if "validation" in logits:
        fitted = fit_temperature(logits["validation"], run.task.validation_labels)
        manifest = manifest.model_copy(update={"head": run.head.model_copy(update={"temperature": fitted})})
    judged = {part: _judge(run, manifest, part, found) for part, found in logits.items()}
    figures = {part: one.metrics.to_json() for part, one in judged.items()}
    return manifest.model_copy(update={"training": {**manifest.training, "metrics": _plain(figures)}}), judged


def result_of(
    run: Run, manifest: Manifest, digest: str, judged: Mapping[str, Judged], interrupted: bool
) -> TrainingResult:
    """What is known of the written file; the checkpoint of a whole run goes."""
    if not interrupted:
        checkpoint_path(run.config.out).unlink(missing_ok=True)
    return TrainingResult(
        path=run.config.out,
        digest=digest,
        size_bytes=run.config.out.stat().st_size,
        manifest=manifest,
        judged=judged,
        interrupted=interrupted,
        notes=run.task.folder.notes,
        folder=run.task.folder,
    )


def _serve(run: Run, adapter: Adapter, part: str) -> Tensor:
    """Logits [N, classes] of a part, merged and answered as a server does."""
    swapper = ExactSwapper(run.backbone)
    swapper.mount(adapter)
    try:
        return answer(
            run.task.folder,
            run.task.samples(part),
            adapter.manifest.preprocessing,
            lambda images: adapter.image_logits(run.backbone, images),
        )
    finally:
        swapper.unmount()


def _judge(run: Run, manifest: Manifest, part: str, logits: Tensor) -> Judged:
    samples = run.task.samples(part)
    truth = torch.tensor([sample.label for sample in samples])
    scores = probabilities(manifest.head, logits)
    return Judged(tuple(s.path for s in samples), truth, scores, measure(truth, scores, manifest.labels))


def _record(run: Run, interrupted: bool) -> dict[str, Any]:
    """The training record: with it and the data, the run can be repeated and the split reproduced."""
    config, folder = run.config, run.task.folder
    parts = {part: run.task.samples(part) for part in run.task.split.parts()}
    return {
        "data": {
            "name": config.data.resolve().name,
            "digest": folder.digest,
            "images": len(folder),
            "classes": folder.counts(),
        },
        "split": {
            "seed": config.seed,
            "validation_fraction": config.validation_fraction,
            "test_fraction": config.test_fraction,
            "group_regex": config.group_regex,
            "groups": len({sample.group for sample in folder.samples}),
            "shots": config.shots,
            "parts": {
                part: {
                    "images": len(samples),
                    "groups": len({sample.group for sample in samples}),
                    "classes": {
                        name: sum(sample.label == index for sample in samples)
                        for index, name in enumerate(folder.classes)
                    },
                    "digest": digest_of_samples(samples),
                }
                for part, samples in parts.items()
            },
        },
        "hyper_parameters": config.hyper_parameters(),
        "weights": config.weights,
        "epochs": {"asked": run.epochs, "run": len(run.history), "best": run.best_epoch},
        "interrupted": interrupted,
        "history": [asdict(record) for record in run.history],
        "precision": precision_name(run.precision),
        "trials": run.trials,
        "trunk": {"cut": run.adapter.cut, "views": run.kept_views},
        "seconds": round(run.seconds(), 1),
        "threads": torch.get_num_threads(),
        "device": str(run.backbone.device),
        "trainable_parameters": run.adapter.count(),
        "head_parameters": sum(parameter.numel() for parameter in run.adapter.head.parameters()),
        "backbone_parameters": sum(p.numel() for p in run.backbone.module.parameters()),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES}
        | {"torch": torch.__version__},  # with the build, such as +cpu
    }


_LIBRARIES = ("lensmount", "torchvision", "timm", "safetensors", "scikit-learn", "pillow")


def _optimizer(adapter: TrainableAdapter, config: TrainingConfig) -> torch.optim.AdamW:
    """Matrices decay, vectors do not."""
    parameters = list(adapter.parameters().values())
    matrices = [tensor for tensor in parameters if tensor.ndim > 1]
    vectors = [tensor for tensor in parameters if tensor.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _class_weights(config: TrainingConfig, task: Task) -> Tensor:
    """[classes], mean 1 over the training images: every class weighs the same in the loss, however rare."""
    classes = len(task.folder.classes)
    if config.class_weights == "none":
        return torch.ones(classes)
    counts = Counter(task.train_labels.tolist())
    return torch.tensor([len(task.train_labels) / (classes * counts[index]) for index in range(classes)])


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON will read them back."""
    plain: dict[str, Any] = _listed(document)
    return plain


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


def weights_from(weights: str | None) -> str | Path | None:
    """The word, or the path of a file, as `load_backbone` takes them."""
    if weights is None or weights == "hub" or weights.startswith("random:"):
        return weights
    return Path(weights)


def choose_device(device: str) -> str:
    """ "auto" is CUDA where there is a device."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Inside, torch computes on so many CPU threads; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def silent(progress: Progress) -> None:
    """Nobody listens."""


def _silent_tick(done: int, total: int) -> None:
    """Nobody listens."""
