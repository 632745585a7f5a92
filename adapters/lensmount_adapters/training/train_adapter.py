"""Train one adapter, from an image folder to an adapter file with its training record."""

from __future__ import annotations

from dataclasses import replace

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter, write_adapter
from lensmount_adapters.backbone.load import load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.machine import choose_device
from lensmount_adapters.training.checkpoint import checkpoint_path, checkpoint_settings
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require, require_folder_of
from lensmount_adapters.training.evaluate import with_precisions
from lensmount_adapters.training.loop import Listener, Progress, TrainingLoop, silent, steps_of
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.promises import promise
from lensmount_adapters.training.result import TrainingResult, manifest_of, on_threads, result_of, score_parts
from lensmount_adapters.training.schedule import automatic_epochs
from lensmount_adapters.training.search import SearchCandidate, Trial, search
from lensmount_adapters.training.trainable import isolated_random_state
from lensmount_adapters.training.training_data import TrainingData, load_training_data
from lensmount_adapters.training.unfamiliar import with_familiarity
from lensmount_adapters.trunks.int8 import Int8Trunks

__all__ = ["Listener", "Progress", "TrainingResult", "silent", "train"]


def train(
    config: TrainingConfig,
    on_progress: Listener | None = None,
    backbone: Backbone | None = None,
    int8: Int8Trunks | None = None,
) -> TrainingResult:
    """Train an adapter and write it to `config.out`.

    `on_progress` is called after every step. KeyboardInterrupt (Ctrl-C, or raised by `on_progress`) ends the training
    and keeps the best epoch so far. The checkpoint is kept too, so that `resume=True` continues after the last complete
    epoch. The same config on the same CPU with the same thread count gives bit-exact tensors, with one exception:
    `precision` "auto" depends on a time measurement, and the record says what it chose.
    With `int8`, or if the config trains on an int8 trunk, the file records what that trunk costs the adapter.
    Raises DatasetError, TrainingError, BackboneError.
    """
    with on_threads(config.threads), isolated_random_state(backbone.device if backbone else config.device):
        require_folder_of(config.out)
        if backbone is None:
            backbone = load_backbone(config.backbone, weights_from(config.weights), choose_device(config.device))
        require(
            backbone.name == config.backbone, f"the backbone {backbone.name}", f"{config.backbone} as in the config"
        )
        listener = on_progress or silent
        data = load_training_data(config, backbone)
        trials: tuple[Trial, ...] = ()
        if config.auto:
            config, trials = _choose(config, backbone, data, listener)
        int8 = Int8Trunks() if int8 is None and config.trunk == "int8" else int8
        loop = TrainingLoop(
            config,
            backbone,
            Classification(config, data),
            [trial.to_json() for trial in trials],
            int8=int8 if config.trunk == "int8" else None,
        )
        interrupted = loop.run(listener)
        return _write(loop, data, interrupted, listener, int8)


def _choose(
    config: TrainingConfig, backbone: Backbone, data: TrainingData, listener: Listener
) -> tuple[TrainingConfig, tuple[Trial, ...]]:
    """The config that wins short trials, and the trials. A resumed run keeps the choice of its checkpoint instead."""
    if config.resume:
        settings = checkpoint_settings(checkpoint_path(config.out))
        return SearchCandidate(settings["method"], settings["rank"], settings["targets"]).applied_to(config), ()

    def measure(short: TrainingConfig) -> tuple[float, float]:
        trial = replace(short, out=config.out.with_name(f"{config.out.name}.trial"), cache_trunk="off")
        loop = TrainingLoop(trial, backbone, Classification(trial, data), [])
        try:
            interrupted = loop.run(lambda progress: listener(replace(progress, done=None, phase="searching")))
        finally:
            checkpoint_path(trial.out).unlink(missing_ok=True)
        last = loop.history[-1]
        if interrupted or last.validation_loss is None or last.validation_balanced_accuracy is None:
            raise TrainingError("interrupted during the search for a method: nothing was written")
        return last.validation_loss, last.validation_balanced_accuracy

    epochs = automatic_epochs(steps_of(config, len(data.train))) if config.epochs is None else config.epochs
    return search(config, backbone, len(data.folder.classes), epochs, measure)


def _write(
    loop: TrainingLoop, data: TrainingData, interrupted: bool, listener: Listener, int8: Int8Trunks | None
) -> TrainingResult:
    """Write the best epoch. Promises and metrics come from the file's own bytes, admitted like any upload.

    An interrupted run promises nothing; resumed, it does.
    """
    config, dtype = loop.config, FILE_DTYPES[loop.config.file_dtype]
    tensors, manifest = loop.adapter.stored(loop.best), manifest_of(loop, interrupted)
    adapter = admit(dump_adapter(manifest, tensors, dtype), loop.backbone)
    if not interrupted:
        try:
            promised = promise(loop, data, adapter, tensors, listener)
            manifest, statistics = with_familiarity(loop, data, promised.manifest, dtype)
        except KeyboardInterrupt:
            interrupted, manifest = True, manifest_of(loop, True)
        else:
            tensors = {**promised.tensors, **statistics}
        adapter = admit(dump_adapter(manifest, tensors, dtype), loop.backbone)
    manifest, scored = score_parts(loop, data, adapter.manifest, adapter)
    if int8 is not None:
        manifest = with_precisions(manifest, adapter, loop.backbone, data, int8)
    digest = write_adapter(config.out, manifest, tensors, dtype)
    return result_of(loop, data, manifest, digest, scored, interrupted)
