"""The training loop: steps, epochs, validation and checkpoints. Data and loss come from an objective (objective.py)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.head_text import head_of
from lensmount_adapters.adapter.heads import Cosine
from lensmount_adapters.adapter.manifest import HeadSpec
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.programs.precision import choose_precision, precision_name, precision_of
from lensmount_adapters.text.text_prototypes import text_head
from lensmount_adapters.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from lensmount_adapters.training.config import TrainingConfig, require
from lensmount_adapters.training.objective import Objective, Validated
from lensmount_adapters.training.schedule import EpochRecord, automatic_epochs, has_stalled, learning_rate_at
from lensmount_adapters.training.trainable import Average, FactorInit, TrainableAdapter
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network

PROBE_IMAGES = 16  # batch size of the passes that compare precisions

Phase: TypeAlias = Literal["searching", "caching", "training", "calibrating"]
PHASES: tuple[Phase, ...] = get_args(Phase)  # "searching" comes first: --auto tries methods before the actual run


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run, reported after each step, and while views of the images are computed (`phase` "caching").

    The phase is "searching" while short trials choose the method that is trained afterwards, and "calibrating" while
    further runs score the training images that they did not see; epochs are then those of all these runs.
    `done` is set on the last step of an epoch, after validation. `seconds_left` is None until it can be estimated.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    done: EpochRecord | None = None
    phase: Phase = "training"
    seconds_left: float | None = None


Listener = Callable[[Progress], None]

Build = Callable[[TrainingConfig, Backbone, HeadSpec, int], TrainableAdapter]
"""Creates what a run trains, for this number of classes."""


def _build_adapter(config: TrainingConfig, backbone: Backbone, head: HeadSpec, classes: int) -> TrainableAdapter:
    return TrainableAdapter(
        backbone,
        select_targets(backbone.name, backbone.targets, config.method, config.targets),
        rank=config.rank,
        alpha=2.0 * config.rank if config.alpha is None else config.alpha,
        head=head,
        classes=classes,
        seed=config.seed,
        init=FactorInit(config.init_std, config.init_b_std),
    )


def _head_spec(config: TrainingConfig, backbone: Backbone, classes: int) -> HeadSpec:
    return head_of(config.head, backbone.feature_dim, classes) if isinstance(config.head, str) else config.head


class TrainingLoop:
    """One training run: `run` trains epoch by epoch; `best` has the tensors of the best epoch.

    `build` creates what is trained; None creates the adapter that the config describes. `trials` are those of `--auto`,
    for the record. With `int8`, its trunk is trained on. Raises TrainingError for a checkpoint that cannot be resumed,
    or a head with BatchNorm and batches of one image.
    """

    def __init__(
        self,
        config: TrainingConfig,
        backbone: Backbone,
        objective: Objective,
        trials: list[dict[str, Any]],
        build: Build | None = None,
        int8: Int8Trunks | None = None,
    ) -> None:
        self.config = config
        self.trials = trials
        self.backbone = backbone
        self.objective = objective
        self.started = time.monotonic()
        self.seconds_before = 0.0
        classes = len(objective.labels)
        text = None if config.prompts is None else text_head(config.weights, config.prompts, objective.labels)
        self.head = _head_spec(config, backbone, classes) if text is None else text.spec
        self.adapter = (build or _build_adapter)(config, backbone, self.head, classes)
        if int8 is not None:
            self.adapter.use_int8(int8)
        if text is not None:
            text.fill(cast(Cosine, self.adapter.head))
        norms = any(isinstance(module, nn.BatchNorm1d) for module in self.adapter.head.modules())
        smallest_batch = objective.images // self.steps
        require(
            smallest_batch > 1 or not norms,
            "a batch of one image for a head with BatchNorm",
            "a batch size of at least 2",
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        torch.manual_seed(config.seed)  # dropout in the head draws from the global generator
        self.optimizer = _optimizer(self.adapter, config)
        self.average = Average(self.adapter, config.average)
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        state = self._resume() if config.resume else {}
        self.precision = state.get("precision") or choose_precision(config.precision, self._probe, self._wait)
        self.feed = objective.feed(self.adapter, self.precision, self.generator, self.epochs, state.get("views"))

    @property
    def network(self) -> Int8Network | None:
        """What computes the features that are trained on; None: the backbone itself."""
        return self.adapter.int8

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch."""
        return steps_of(self.config, self.objective.images)

    @property
    def epochs(self) -> int:
        return automatic_epochs(self.steps) if self.config.epochs is None else self.config.epochs

    def run(self, listener: Listener) -> bool:
        """Train to the last epoch. Returns True if Ctrl-C ended the run early.

        Raises TrainingError if Ctrl-C came before the end of the first epoch, or for a loss that is not finite.
        """
        try:
            self.train_to(self.epochs, listener)
        except KeyboardInterrupt:
            if not self.best:
                raise TrainingError(
                    "interrupted before the first epoch was complete: nothing was learned and nothing is written"
                ) from None
            return True
        return False

    def train_to(self, last: int, listener: Listener) -> None:
        """Train until the end of the epoch `last`, or until the validation score has stalled. Lets Ctrl-C through."""
        for epoch in range(len(self.history) + 1, last + 1):
            if has_stalled(self.history, self.config.patience):
                break
            self._train_epoch(epoch, listener)

    def seconds(self) -> float:
        """Time that the run has taken, with the time before it was resumed."""
        return self.seconds_before + time.monotonic() - self.started

    def _train_epoch(self, epoch: int, listener: Listener) -> None:
        started = time.monotonic()
        last = self.history[-1] if self.history else EpochRecord(0, 0.0, 0.0, None, None)

        def on_progress(done: int, total: int) -> None:
            left = self._seconds_left(0)
            listener(Progress(epoch, self.epochs, 0, self.steps, last.loss, last.accuracy, None, "caching", left))

        self.feed.prepare(epoch, on_progress)
        self.adapter.train()
        order = torch.randperm(self.objective.images, generator=self.generator)
        losses, correct, seen = 0.0, 0.0, 0
        for step, indices in enumerate(order.tensor_split(self.steps), start=1):
            loss, correct_in_batch = self._step(epoch, indices, (epoch - 1) * self.steps + step - 1)
            losses, correct, seen = losses + loss, correct + correct_in_batch, seen + len(indices)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"epoch {epoch}, step {step}: found a loss of {loss}, expected a finite number. "
                    "Fix: use a lower --lr, or --precision float32"
                )
            if step < self.steps:
                left = self._seconds_left(step)
                accuracy = correct / seen
                listener(Progress(epoch, self.epochs, step, self.steps, losses / step, accuracy, seconds_left=left))
        record = self._finish_epoch(epoch, losses / self.steps, correct / seen, started)
        left = self._seconds_left(0)
        listener(
            Progress(
                epoch, self.epochs, self.steps, self.steps, record.loss, record.accuracy, record, seconds_left=left
            )
        )

    def _seconds_left(self, step: int) -> float | None:
        """Seconds until the end of the last epoch, at the speed of the last complete one; None before that."""
        if not self.history:
            return None
        return round(self.history[-1].seconds * (self.epochs - len(self.history) - step / self.steps), 1)

    def _step(self, epoch: int, indices: Tensor, step: int) -> tuple[float, float]:
        """Make one optimiser step; returns the loss and the number of correct predictions."""
        batch = self.feed.batch(epoch, indices)
        logits = self.adapter.logits_of(batch.activations, self.precision)
        loss = self.objective.loss(logits, batch)
        rate = learning_rate_at(step, self.epochs * self.steps, self.config.learning_rate, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        self.average.update()
        return loss.item(), self.objective.correct(logits.detach(), batch)

    def _finish_epoch(self, epoch: int, loss: float, accuracy: float, started: float) -> EpochRecord:
        """Validate the averaged tensors, keep them if they are the best so far, write the checkpoint."""
        candidate = {name: tensor.clone() for name, tensor in self.average.tensors.items()}
        validated = self._validate(candidate) if self.objective.validation_images else None
        record = EpochRecord(
            epoch,
            round(loss, 6),
            round(accuracy, 6),
            round(validated.loss, 6) if validated else None,
            round(validated.score, 6) if validated else None,
            round(time.monotonic() - started, 3),
        )
        self.history.append(record)
        if self.objective.is_best(self.history):
            self.best, self.best_epoch = candidate, epoch
        save_checkpoint(checkpoint_path(self.config.out), self._state())
        return record

    def _validate(self, tensors: dict[str, Tensor]) -> Validated:
        """Evaluate the validation part with `tensors`, then restore the tensors in training."""
        training = {name: tensor.clone() for name, tensor in self.adapter.tensors().items()}
        self.adapter.load(tensors)
        self.adapter.eval()
        try:
            with torch.no_grad():
                logits = [self.adapter.logits_of(x, self.precision).cpu() for x in self.feed.validation()]
                return self.objective.validate(torch.cat(logits))
        finally:
            self.adapter.load(training)
            self.adapter.train()

    def _probe(self, precision: torch.dtype) -> None:
        """One forward and backward pass that changes nothing."""
        images = self.objective.sample(PROBE_IMAGES, self.backbone.device)
        self.adapter.eval()  # so that the statistics of the head do not change
        self.adapter.logits(images, precision).sum().backward()  # type: ignore[no-untyped-call]  # untyped by torch
        self.optimizer.zero_grad()

    @property
    def _on_gpu(self) -> bool:
        return self.backbone.device.type == "cuda"

    def _wait(self) -> None:
        """Return once the GPU has computed what was launched; on a CPU nothing is left to do."""
        if self._on_gpu:
            torch.cuda.current_stream(self.backbone.device).synchronize()

    def _settings(self) -> dict[str, Any]:
        return self.config.hyper_parameters() | {
            "data_digest": self.objective.digest,
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
            "device_generator": torch.cuda.get_rng_state(self.backbone.device) if self._on_gpu else None,
            "precision": precision_name(self.precision),
            "views": self.feed.cached_views,
            "trials": self.trials,
            "seconds": self.seconds(),
        }

    def _resume(self) -> dict[str, Any]:
        """Restore the state of the checkpoint; returns what that run had measured: precision and views."""
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
        if self._on_gpu and state.get("device_generator") is not None:  # dropout draws from it
            torch.cuda.set_rng_state(state["device_generator"], device)
        self.seconds_before = state["seconds"]
        self.trials = state["trials"]
        return {"precision": precision_of(state["precision"]), "views": state["views"]}


def steps_of(config: TrainingConfig, images: int) -> int:
    """Optimiser steps per epoch."""
    return max(1, round(images / config.batch_size))


def silent(progress: Progress) -> None:
    """The listener that ignores progress."""


def _optimizer(adapter: TrainableAdapter, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with weight decay for matrices but not for vectors."""
    parameters = list(adapter.parameters().values())
    matrices = [tensor for tensor in parameters if tensor.ndim > 1]
    vectors = [tensor for tensor in parameters if tensor.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    fused = True if adapter.backbone.device.type == "cuda" else None  # one kernel for all tensors; None: torch chooses
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)
