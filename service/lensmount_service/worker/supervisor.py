"""Keep one worker process running next to the server: restarted if it dies, ended when the server ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import structlog

from lensmount_service.background_thread import BackgroundThread
from lensmount_service.settings import Settings

log = structlog.get_logger(__name__)

EX_CONFIG = 78  # the exit status with which a worker says that the same start would fail again
DELAYS_S = (0.5, 30.0)  # before a restart after a crash: doubles from the first to the second
STEADY_S = 60.0  # a worker that lived this long crashes for a new reason, so the delay starts again at the first
TERMINATE_S = 10.0
BESIDE_A_SERVER = {"LENSMOUNT_WORKER_GPU_SHARE": "0.5"}  # unless the environment says otherwise


class WorkerProcess(BackgroundThread):
    """`with WorkerProcess(settings, "http://127.0.0.1:8000"): ...` keeps one worker for it as a child process."""

    def __init__(
        self, settings: Settings, url: str, command: tuple[str, ...] | None = None, token: str | None = None
    ) -> None:
        super().__init__("lensmount-supervisor")
        self.command = command or (sys.executable, "-m", "lensmount_client", "worker", "--parent", str(os.getpid()))
        self.variables = worker_variables(settings, url, token)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _run(self) -> None:
        """The thread lives as long as the child, because Linux ends the child with the thread that started it."""
        delay_s = DELAYS_S[0]
        while not self._ended.is_set():
            started = time.monotonic()
            self._process = subprocess.Popen(
                self.command,
                env={**BESIDE_A_SERVER, **os.environ, **self.variables},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which ends the worker after itself
            )
            while self._process.poll() is None and not self._ended.wait(0.2):
                pass
            if self._ended.is_set():
                break
            code = self._process.returncode
            if code == EX_CONFIG:
                log.error("worker cannot start; jobs will wait")
                self._ended.wait()
                break
            if time.monotonic() - started > STEADY_S:
                delay_s = DELAYS_S[0]
            log.warning("worker ended, restarting it", exit_code=code, delay_s=delay_s)
            self._ended.wait(delay_s)
            delay_s = min(DELAYS_S[1], delay_s * 2)
        if self._process is not None:
            _terminate(self._process)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker_variables(settings: Settings, url: str, token: str | None = None) -> dict[str, str]:
    """The worker's settings as environment variables, because other users could read a token on a command line."""
    values = {
        "SERVER": url,
        "STATE": str(settings.state),
        "BACKBONE": settings.backbone,
        "WEIGHTS": settings.weights,
        "DEVICE": settings.device,
        "INT8": str(settings.int8).lower(),
        "INT8_CALIBRATION": str(settings.int8_calibration) if settings.int8_calibration else None,
        "LEASE_S": str(settings.lease_s),
        "MAX_IMAGE_BYTES": str(settings.max_image_bytes),
        "MAX_PIXELS": str(settings.max_pixels),
        "LOG_LEVEL": settings.log_level,
        "LOG_FORMAT": settings.log_format,
        "TOKEN": token or (settings.token.get_secret_value() if settings.token else None),
        "DATABASE": settings.database.get_secret_value() if settings.database else None,
    }
    return {f"LENSMOUNT_{name}": value for name, value in values.items() if value is not None}
