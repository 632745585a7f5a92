"""One attempt at one job: fetch the data, train, judge, leave the files, publish."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.report.write import write_run_report
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_adapters.training.train_adapter import Progress, train
from lensmount_service.errors import JobConflict, NotFound, ServiceError
from lensmount_service.jobs.files import CHECKPOINT, MEDIA_TYPES
from lensmount_service.jobs.log import log_lines
from lensmount_service.jobs.phases import AfterTraining
from lensmount_service.jobs.records import Lease
from lensmount_service.jobs.table import JobTable
from lensmount_service.worker.checkpoint_sender import CheckpointSender
from lensmount_service.worker.gate import NewAdapter, Replaced, Verdict, accuracy_of, decide
from lensmount_service.worker.heartbeat import Heartbeat
from lensmount_service.worker.server_client import ServerClient, ServerRefused
from lensmount_service.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

GATE_ROUNDS = 5  # how often a version that appears while the gate judges is judged against in turn
T = TypeVar("T")


class JobAttempt:
    """`JobAttempt(settings, jobs, lease, backbone, link, heart).go()` ends the job, or raises why it did not."""

    def __init__(
        self,
        settings: WorkerSettings,
        jobs: JobTable,
        lease: Lease,
        backbone: Backbone,
        link: ServerClient,
        heart: Heartbeat,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._lease = lease
        self._request = lease.job.request
        self._backbone = backbone
        self._link = link
        self._heart = heart
        self._headers = {"Lensmount-Lease": lease.token}
        self._folder = work_folder(settings, lease)
        self._listener = _Listener(self)

    def go(self) -> None:
        """Raises LensmountError, Refused, ServerAway, ServiceError, JobCancelled, WorkerStopping."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            data = self._dataset()
            result = self._train(data)
            self._finish(data, result)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def tell(self, level: str, message: str) -> None:
        """A line for the job's log."""
        self.durably(lambda: self._jobs.tell(self._lease, "log", {"level": level, "message": message}))

    def durably(self, write: Callable[[], T]) -> T:
        """Do a write of the job table, patient with a database that is away for a while."""
        give_up = time.monotonic() + self._settings.patience_s
        while True:
            try:
                return write()
            except (JobConflict, NotFound):
                raise
            except ServiceError:
                self._heart.check()
                if time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0.2, 1.0))

    def _dataset(self) -> Path:
        """The dataset's archive in this job's folder, from the cache where it is there already."""
        pin = self._request.dataset
        cached = self._settings.folder / "datasets" / f"{pin.digest.removeprefix('sha256:')}.zip"
        mine = self._folder / f"{pin.name}@{pin.version}.zip"
        cached.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            hardlink_or_copy(cached, mine)
            os.utime(cached)
            return mine
        started = time.monotonic()
        self._link.fetch(f"/datasets/{pin.name}/file", mine, params={"digest": pin.digest}, digest=pin.digest)
        with contextlib.suppress(OSError):  # no cache is no harm
            fresh = cached.with_name(f".{self._lease.token}.tmp")
            hardlink_or_copy(mine, fresh)
            fresh.replace(cached)
            _prune(cached.parent, self._settings.cache_bytes)
        size = mine.stat().st_size
        self.tell("info", f"fetched {pin.name}@{pin.version}: {size:,} bytes in {time.monotonic() - started:.1f} s")
        return mine

    def _train(self, data: Path) -> TrainingResult:
        out = self._folder / "adapter.safetensors"
        resume = self._fetch_checkpoint(checkpoint_path(out))
        path = f"/jobs/{self._lease.id}/files/{CHECKPOINT}"
        with CheckpointSender(
            checkpoint_path(out), lambda p: self._link.send(path, p, headers=self._headers)
        ) as sender:
            self._listener.sender = sender
            if resume:
                try:
                    return train(self._config(data, out, resume=True), self._listener, self._backbone)
                except TrainingError as error:
                    if self._listener.heard:
                        raise
                    self.tell("warning", f"the checkpoint does not fit, starting anew: {error}")
                    checkpoint_path(out).unlink(missing_ok=True)
            return train(self._config(data, out, resume=False), self._listener, self._backbone)

    def _fetch_checkpoint(self, target: Path) -> bool:
        """Whether an earlier attempt left a checkpoint."""
        try:
            self._link.fetch(f"/jobs/{self._lease.id}/files/{CHECKPOINT}", target, headers=self._headers)
        except ServerRefused as refused:
            if refused.code != "file_not_found":
                raise
            return False
        self.tell("info", "going on from the checkpoint of an earlier attempt")
        return True

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
            resume=resume,
        )

    def _finish(self, data: Path, result: TrainingResult) -> None:
        self._heart.check()
        for note in result.notes:
            self.tell("warning", note)
        adapter = result.path.read_bytes()
        for _ in range(GATE_ROUNDS):
            self._set_phase("judging")
            verdict = self._judge(data, result)
            self._set_phase("reporting")
            outcome = _outcome(result, verdict, self._leave_files(result, verdict))
            if not verdict.passed:
                self.durably(partial(self._jobs.finish, self._lease, "succeeded", outcome))
                return
            self.durably(partial(self._jobs.store_outcome, self._lease, outcome))
            self._set_phase("publishing")
            try:
                self._publish(adapter)
                return
            except ServerRefused as refused:
                if refused.code != "gate_stale":
                    raise
        raise TrainingError(
            f"found a new version of {self._request.adapter} each time the gate had judged, {GATE_ROUNDS} times. "
            "Fix: publish one after the other"
        )

    def _judge(self, data: Path, result: TrainingResult) -> Verdict:
        part = "test" if result.test is not None else "validation"
        metrics = result.test or result.validation
        candidate = NewAdapter(result.manifest, part, metrics.balanced_accuracy if metrics else None)
        old = self._replaced()
        accuracy = None
        if old is not None:
            target = self._folder / "replaced.safetensors"
            self._link.fetch(f"/adapters/{old.name}/file", target, params={"version": str(old.version)})
            accuracy = accuracy_of(target.read_bytes(), candidate, data, self._backbone)
        verdict = decide(candidate, old, accuracy, self._request.margin, self._request.force)
        self.tell("info" if verdict.passed else "warning", f"gate {_passed(verdict)}: {verdict.reason}")
        return verdict

    def _replaced(self) -> Replaced | None:
        """The version behind the alias or the bare name today."""
        try:
            entry = self._link.get(f"/adapters/{self._request.adapter}")
        except ServerRefused as refused:
            if refused.code != "adapter_not_found":
                raise
            return None
        if self._request.alias is None:
            return Replaced(entry["name"], entry["version"], entry["digest"])
        version = entry["aliases"].get(self._request.alias)
        if version is None:
            return None
        found = self._link.get(f"/adapters/{self._request.adapter}/versions/{version}")
        return Replaced(found["name"], found["version"], found["digest"])

    def _leave_files(self, result: TrainingResult, verdict: Verdict) -> list[str]:
        """Send the adapter, the report on it and the log; returns their names."""
        report = self._folder / "report"
        written = write_run_report(
            report,
            result.manifest,
            result.digest,
            result.size_bytes,
            result.judged,
            result.folder.read,
            gate=verdict.to_json(),
            notes=result.notes,
        )
        events = self.durably(lambda: self._jobs.events(self._lease.id))[1]
        log_file = report / "log.txt"
        log_file.write_text(log_lines(events), encoding="utf-8")
        found = {path.name: path for path in (result.path, *written, log_file) if path.name in MEDIA_TYPES}
        for name, path in found.items():
            self._link.send(f"/jobs/{self._lease.id}/files/{name}", path, headers=self._headers)
        return [name for name in MEDIA_TYPES if name in found]

    def _publish(self, adapter: bytes) -> None:
        params = {"job": self._lease.id} | ({"alias": self._request.alias} if self._request.alias else {})
        answer = self._link.send(f"/adapters/{self._request.adapter}", adapter, params=params, headers=self._headers)
        log.info("job published", job=self._lease.id, adapter=answer["name"], version=answer["version"])

    def _set_phase(self, phase: AfterTraining) -> None:
        self._heart.check()
        self._heart.progress = {**(self._heart.progress or {}), "phase": phase, "seconds_left": None}

    def on_epoch(self, record: EpochRecord, seconds: float) -> None:
        data = {**asdict(record), "seconds": round(seconds, 3)}
        self.durably(lambda: self._jobs.tell(self._lease, "epoch", data))

    def on_progress(self, progress: dict[str, Any]) -> None:
        self._heart.progress = progress
        self._heart.check()


class _Listener:
    """What `train` calls after every step: notes where the run stands, and ends it where the job is no more ours."""

    def __init__(self, run: JobAttempt) -> None:
        self._run = run
        self.sender: CheckpointSender | None = None
        self.heard = False
        self._epoch_started = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self.heard = self.heard or progress.phase == "training"
        self._run.on_progress(
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
            self._run.on_epoch(progress.done, now - self._epoch_started)
            self._epoch_started = now
            if self.sender is not None:
                self.sender.offer()


def work_folder(settings: WorkerSettings, lease: Lease) -> Path:
    """Where one attempt works; its name says to whom it belongs, so that what a dead worker leaves can be told."""
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
    """A second name for the bytes, or a copy where the file system has none: no prune can take them away."""
    try:
        target.hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _prune(folder: Path, cache_bytes: int) -> None:
    """Drop the archives not used for longest."""
    found = sorted(((path.stat().st_mtime, path) for path in folder.glob("*.zip")), reverse=True)
    total = 0
    for _, path in found:
        total += path.stat().st_size
        if total > cache_bytes:
            path.unlink(missing_ok=True)
