"""Train one adapter: an image folder in, an adapter file with its own training record out."""

from __future__ import annotations

from dataclasses import replace

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter, write_adapter
from lensmount_adapters.backbone.load import choose_device, load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.checkpoint import checkpoint_path, checkpoint_settings
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require
from lensmount_adapters.training.loop import Listener, Progress, TrainingLoop, silent, steps_of
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.result import TrainingResult, manifest_of, on_threads, result_of, score_parts
from lensmount_adapters.training.schedule import automatic_epochs
from lensmount_adapters.training.search import SearchCandidate, Trial, search
from lensmount_adapters.training.task import TrainingData, load_training_data
from lensmount_adapters.training.trainable import own_random_state

__all__ = ["Listener", "Progress", "TrainingResult", "choose_device", "silent", "train", "weights_from"]


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
        task = load_training_data(config, backbone)
        trials: tuple[Trial, ...] = ()
        if config.auto:
            config, trials = _choose(config, backbone, task, listener)
        run = TrainingLoop(config, backbone, Classification(config, task), [trial.to_json() for trial in trials])
        interrupted = run.go(listener)
        return _write(run, task, interrupted)


def _choose(
    config: TrainingConfig, backbone: Backbone, task: TrainingData, listener: Listener
) -> tuple[TrainingConfig, tuple[Trial, ...]]:
    """The config that short trials favour; what a checkpoint to resume from was trained with is kept."""
    if config.resume:
        kept = checkpoint_settings(checkpoint_path(config.out))
        return SearchCandidate(kept["method"], kept["rank"], kept["targets"]).of(config), ()

    def measure(short: TrainingConfig) -> tuple[float, float]:
        trial = replace(short, out=config.out.with_name(f"{config.out.name}.trial"), cache_trunk="off")
        run = TrainingLoop(trial, backbone, Classification(trial, task), [])
        try:
            interrupted = run.go(lambda progress: listener(replace(progress, done=None, phase="searching")))
        finally:
            checkpoint_path(trial.out).unlink(missing_ok=True)
        last = run.history[-1]
        if interrupted or last.validation_loss is None or last.validation_balanced_accuracy is None:
            raise TrainingError("interrupted while trying methods: nothing is written")
        return last.validation_loss, last.validation_balanced_accuracy

    epochs = automatic_epochs(steps_of(config, len(task.train))) if config.epochs is None else config.epochs
    return search(config, backbone, len(task.folder.classes), epochs, measure)


def _write(run: TrainingLoop, task: TrainingData, interrupted: bool) -> TrainingResult:
    """Write the best epoch; its temperature and metrics are those of the file's own bytes, admitted like any upload."""
    config, dtype = run.config, FILE_DTYPES[run.config.file_dtype]
    manifest = manifest_of(run, interrupted)
    manifest, judged = score_parts(run, task, manifest, admit(dump_adapter(manifest, run.best, dtype), run.backbone))
    digest = write_adapter(config.out, manifest, run.best, dtype)
    return result_of(run, task, manifest, digest, judged, interrupted)
