"""One attempt at one job: fetch the data, train, compare with the current version, send the files, publish."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.programs.int8 import available
from lensmount_adapters.report.write import write_run_report
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.run_report import context_of
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_adapters.training.train_adapter import Progress, train
from lensmount_adapters.trunks.calibration import drawn_calibration, folder_calibration
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_service.errors import JobConflict, NotFound, ServiceError
from lensmount_service.jobs.files import CHECKPOINT, MEDIA_TYPES
from lensmount_service.jobs.log import log_lines
from lensmount_service.jobs.phases import AfterTraining
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.worker_verbs import JobQueue
from lensmount_service.store.keys import name_of
from lensmount_service.tracing.span import stage
from lensmount_service.worker.checkpoint_sender import CheckpointSender
from lensmount_service.worker.gate import NewAdapter, OldAccuracy, Replaced, Resolved, Verdict, accuracy_of, decide
from lensmount_service.worker.heartbeat import Heartbeat
from lensmount_service.worker.server_client import ServerClient, ServerRefused
from lensmount_service.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

GATE_ROUNDS = 5  # how many comparisons at most, if a new version appears during each of them
T = TypeVar("T")


class JobAttempt:
    """`JobAttempt(settings, jobs, lease, backbone, server, heartbeat).run()` ends the job, or raises why it did not."""

    def __init__(
        self,
        settings: WorkerSettings,
        jobs: JobQueue,
        lease: Lease,
        backbone: Backbone,
        server: ServerClient,
        heartbeat: Heartbeat,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._lease = lease
        self._request = lease.job.request
        self._backbone = backbone
        self._server = server
        self._heartbeat = heartbeat
        self._headers = {"Lensmount-Lease": lease.token}
        self._folder = work_folder(settings, lease)
        self._listener = _Listener(self)
        self._compared: Path | None = None  # the file that the gate compared with

    def run(self) -> None:
        """Raises LensmountError, ServerRefused, ServerAway, ServiceError, JobCancelled, WorkerStopping."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with stage("fetch"):
                data = self._dataset()
            with stage("train"):
                result = self._train(data)
            self._finish(data, result)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add_log_line(self, level: str, message: str) -> None:
        """Add a line to the job's log."""
        self.durably(lambda: self._jobs.add_event(self._lease, "log", {"level": level, "message": message}))

    def durably(self, write: Callable[[], T]) -> T:
        """Do a write of the job table; if the database is away, repeat it for `retry_for_s` seconds."""
        deadline = time.monotonic() + self._settings.retry_for_s
        while True:
            try:
                return write()
            except (JobConflict, NotFound):
                raise
            except ServiceError:
                self._heartbeat.check()
                if time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.2, 1.0))

    def _dataset(self) -> Path:
        """Put the dataset's archive into this job's folder, from the cache if it is there already."""
        pin = self._request.dataset
        cached = self._settings.folder / "datasets" / f"{pin.digest.removeprefix('sha256:')}.zip"
        archive = self._folder / f"{name_of(pin.name)}@{pin.version}.zip"
        cached.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            hardlink_or_copy(cached, archive)
            os.utime(cached)
            return archive
        started = time.monotonic()
        self._server.fetch(
            f"/datasets/{pin.name}/file",
            archive,
            params={"digest": pin.digest},
            headers=self._headers,
            digest=pin.digest,
        )
        with contextlib.suppress(OSError):  # training works without a cache
            fresh = cached.with_name(f".{self._lease.token}.tmp")
            hardlink_or_copy(archive, fresh)
            fresh.replace(cached)
            _prune(cached.parent, self._settings.cache_bytes)
        size, seconds = archive.stat().st_size, time.monotonic() - started
        self.add_log_line("info", f"fetched {pin.name}@{pin.version}: {size:,} bytes in {seconds:.1f} s")
        return archive

    def _train(self, data: Path) -> TrainingResult:
        out = self._folder / "adapter.safetensors"
        resume, int8 = self._fetch_checkpoint(checkpoint_path(out)), self._int8()
        path = f"/jobs/{self._lease.id}/files/{CHECKPOINT}"
        with CheckpointSender(
            checkpoint_path(out), lambda checkpoint: self._server.send(path, checkpoint, headers=self._headers)
        ) as sender:
            self._listener.sender = sender
            if resume:
                try:
                    return train(self._config(data, out, resume=True), self._listener, self._backbone, int8)
                except TrainingError as error:
                    if self._listener.has_trained:
                        raise
                    self.add_log_line("warning", f"the checkpoint does not fit, starting from the first epoch: {error}")
                    checkpoint_path(out).unlink(missing_ok=True)
            return train(self._config(data, out, resume=False), self._listener, self._backbone, int8)

    def _fetch_checkpoint(self, target: Path) -> bool:
        """Fetch the checkpoint of an earlier attempt; False if there is none."""
        try:
            self._server.fetch(f"/jobs/{self._lease.id}/files/{CHECKPOINT}", target, headers=self._headers)
        except ServerRefused as refused:
            if refused.code != "file_not_found":
                raise
            return False
        self.add_log_line("info", "resuming from the checkpoint of an earlier attempt")
        return True

    def _int8(self) -> Int8Trunks | None:
        """The int8 trunks that the adapter is scored on, as the server makes them; None if it is not."""
        settings = self._settings
        if not (settings.int8 and available()) and self._request.hyper_parameters.get("trunk") != "int8":
            return None
        folder = settings.int8_calibration
        return Int8Trunks(
            drawn_calibration() if folder is None else folder_calibration(folder), settings.state / "programs"
        )

    def _config(self, data: Path, out: Path, resume: bool) -> TrainingConfig:
        return TrainingConfig(
            **self._request.hyper_parameters,
            data=data,
            name=self._request.adapter,
            out=out,
            backbone=self._backbone.name,
            weights=self._settings.weights,
            device=self._settings.device,
            threads=self._settings.threads,
            max_image_bytes=self._settings.max_image_bytes,
            max_pixels=self._settings.max_pixels,
            resume=resume,
        )

    def _finish(self, data: Path, result: TrainingResult) -> None:
        self._heartbeat.check()
        for note in result.notes:
            self.add_log_line("warning", note)
        adapter = result.path.read_bytes()
        for _ in range(GATE_ROUNDS):
            self._set_phase("judging")
            with stage("evaluate"):
                verdict = self._pass_gate(data, result)
            self._set_phase("reporting")
            with stage("report"):
                outcome = _outcome(result, verdict, self._send_files(result, verdict))
            if not verdict.passed:
                self.durably(partial(self._jobs.finish, self._lease, "succeeded", outcome))
                return
            self.durably(partial(self._jobs.store_outcome, self._lease, outcome))
            self._set_phase("publishing")
            try:
                with stage("publish", digest=result.digest):
                    self._publish(adapter)
                return
            except ServerRefused as refused:
                if refused.code != "gate_stale":
                    raise
        raise TrainingError(
            f"found a new version of {self._request.adapter} after each comparison with the current one, "
            f"{GATE_ROUNDS} times. Fix: publish the versions of one adapter one after the other"
        )

    def _pass_gate(self, data: Path, result: TrainingResult) -> Verdict:
        """Compare the new adapter with the version that it would replace, and log the verdict."""
        part = "test" if result.test is not None else "validation"
        metrics = result.test or result.validation
        candidate = NewAdapter(result.manifest, part, metrics.balanced_accuracy if metrics else None)
        old = self._replaced()
        accuracy: OldAccuracy = None
        self._compared = None
        if old is not None:
            target = self._folder / "replaced.safetensors"
            self._server.fetch(
                f"/adapters/{old.name}/file", target, params={"version": str(old.version)}, headers=self._headers
            )
            accuracy = accuracy_of(target.read_bytes(), candidate, data, self._backbone)
            self._compared = None if accuracy is None or isinstance(accuracy, Resolved) else target
        verdict = decide(candidate, old, accuracy, self._request.margin, self._request.force)
        self.add_log_line("info" if verdict.passed else "warning", f"gate {_passed(verdict)}: {verdict.reason}")
        return verdict

    def _replaced(self) -> Replaced | None:
        """The version that the alias, or the name without one, points at today."""
        try:
            entry = self._server.get(f"/adapters/{self._request.adapter}", self._headers)
        except ServerRefused as refused:
            if refused.code != "adapter_not_found":
                raise
            return None
        if self._request.alias is None:
            return Replaced(entry["name"], entry["version"], entry["digest"])
        version = entry["aliases"].get(self._request.alias)
        if version is None:
            return None
        current = self._server.get(f"/adapters/{self._request.adapter}/versions/{version}", self._headers)
        return Replaced(current["name"], current["version"], current["digest"])

    def _send_files(self, result: TrainingResult, verdict: Verdict) -> list[str]:
        """Send the adapter, the report on it and the log; returns the names of the files."""
        report = self._folder / "report"
        written = write_run_report(
            report,
            result.manifest,
            result.digest,
            result.size_bytes,
            result.scored,
            result.folder.read,
            replace(context_of(result, self._backbone, self._compared), gate=verdict.to_json()),
        )
        events = self.durably(lambda: self._jobs.events(self._lease.id))[1]
        log_file = report / "log.txt"
        log_file.write_text(log_lines(events), encoding="utf-8")
        paths = {path.name: path for path in (result.path, *written, log_file) if path.name in MEDIA_TYPES}
        for name, path in paths.items():
            self._server.send(f"/jobs/{self._lease.id}/files/{name}", path, headers=self._headers)
        return [name for name in MEDIA_TYPES if name in paths]

    def _publish(self, adapter: bytes) -> None:
        params = {"job": self._lease.id} | ({"alias": self._request.alias} if self._request.alias else {})
        entry = self._server.send(f"/adapters/{self._request.adapter}", adapter, params=params, headers=self._headers)
        log.info("job published", job=self._lease.id, adapter=entry["name"], version=entry["version"])

    def _set_phase(self, phase: AfterTraining) -> None:
        self._heartbeat.check()
        self._heartbeat.progress = {**(self._heartbeat.progress or {}), "phase": phase, "seconds_left": None}

    def on_epoch(self, record: EpochRecord, seconds: float) -> None:
        data = {**asdict(record), "seconds": round(seconds, 3)}
        self.durably(lambda: self._jobs.add_event(self._lease, "epoch", data))

    def on_progress(self, progress: dict[str, Any]) -> None:
        self._heartbeat.progress = progress
        self._heartbeat.check()


class _Listener:
    """Progress callback of `train`: reports progress and aborts training once the lease is lost."""

    def __init__(self, attempt: JobAttempt) -> None:
        self._attempt = attempt
        self.sender: CheckpointSender | None = None
        self.has_trained = False
        self._epoch_started = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self.has_trained = self.has_trained or progress.phase == "training"
        self._attempt.on_progress(
            {
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "step": progress.step,
                "steps": progress.steps,
                "loss": _finite(progress.loss),
                "accuracy": _finite(progress.accuracy),
                "seconds_left": _finite(progress.seconds_left),
                "phase": progress.phase,
            }
        )
        if progress.done is not None:
            now = time.monotonic()
            self._attempt.on_epoch(progress.done, now - self._epoch_started)
            self._epoch_started = now
            if self.sender is not None:
                self.sender.offer()


def work_folder(settings: WorkerSettings, lease: Lease) -> Path:
    """The folder of one attempt. Its name holds job and lease, so that folders of dead workers can be recognised."""
    return settings.folder / "jobs" / f"{lease.id}-{lease.token}"


def _outcome(result: TrainingResult, verdict: Verdict, names: list[str]) -> dict[str, Any]:
    return {
        "published": False,
        "adapter": None,
        "gate": verdict.to_json(),
        "digest": result.digest,
        "size_bytes": result.size_bytes,
        "seconds": result.record["seconds"],
        "metrics": _metrics(result),
        "files": names,
    }


def _metrics(result: TrainingResult) -> dict[str, Any]:
    parts = {"validation": result.validation, "test": result.test}
    return {part: metrics.to_json() for part, metrics in parts.items() if metrics is not None}


def _passed(verdict: Verdict) -> str:
    return "passed" if verdict.passed else "not passed, nothing is published"


def _finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return round(value, 6) if value is not None and math.isfinite(value) else None


def hardlink_or_copy(source: Path, target: Path) -> None:
    """Give the bytes a second name, which pruning the cache keeps; a copy if the file system has no hard links."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _prune(folder: Path, cache_bytes: int) -> None:
    """Delete the archives that have not been used for longest, until the others fit in `cache_bytes`."""
    newest_first = sorted(((path.stat().st_mtime, path) for path in folder.glob("*.zip")), reverse=True)
    total = 0
    for _, path in newest_first:
        total += path.stat().st_size
        if total > cache_bytes:
            path.unlink(missing_ok=True)
