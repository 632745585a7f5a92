"""A worker's settings, read once: flags of `lensmount worker`, then LENSMOUNT_* variables, then these defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lensmount_service.jobs.lease import LEASE_S, LeaseSeconds


class WorkerSettings(BaseSettings):
    """`WorkerSettings(server="http://127.0.0.1:8000")`; a setting that the server has too is read from its variable."""

    model_config = SettingsConfigDict(env_prefix="LENSMOUNT_", frozen=True, extra="ignore", populate_by_name=True)

    server: str = "http://127.0.0.1:8000"
    token: SecretStr | None = None
    state: Path = Field(default_factory=lambda: platformdirs.user_data_path("lensmount"))
    database: SecretStr | None = None

    backbone: str = "tf_efficientnet_lite0"
    weights: str | None = None
    device: str = Field(
        default="auto", validation_alias=AliasChoices("device", "LENSMOUNT_WORKER_DEVICE", "LENSMOUNT_DEVICE")
    )
    gpu_share: float = Field(  # of a GPU's memory that this worker may take
        default=1.0, gt=0, le=1, validation_alias=AliasChoices("gpu_share", "LENSMOUNT_WORKER_GPU_SHARE")
    )
    threads: int = Field(
        default_factory=lambda: max(1, (os.cpu_count() or 2) - 1),
        ge=1,
        validation_alias=AliasChoices("threads", "LENSMOUNT_WORKER_THREADS"),  # LENSMOUNT_THREADS is the server's
    )
    int8: bool = True  # record what an int8 trunk costs each new adapter, where NNCF is installed
    int8_calibration: Path | None = None  # the folder that the server has
    max_image_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_pixels: int = Field(default=40_000_000, ge=1)
    nice: int = Field(default=10, ge=0, le=19)  # a server on the same cores takes precedence

    lease_s: LeaseSeconds = LEASE_S
    poll_s: float = Field(default=0.5, gt=0, le=60)  # seconds between two looks of a worker without a job
    retry_for_s: float = Field(  # how long requests to a server that is away are repeated
        default=600.0,
        ge=0,
        validation_alias=AliasChoices(  # the names with "patience" are older
            "retry_for_s", "LENSMOUNT_RETRY_FOR_S", "patience_s", "LENSMOUNT_PATIENCE_S"
        ),
    )
    cache_bytes: int = Field(
        default=8 * 2**30, ge=0, validation_alias=AliasChoices("cache_bytes", "LENSMOUNT_WORKER_CACHE_BYTES")
    )
    once: bool = False  # end when no job is left
    parent: int | None = None  # end with this process
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @property
    def beat_s(self) -> float:
        return min(5.0, self.lease_s / 5)

    @property
    def folder(self) -> Path:
        return self.state / "worker"

    def database_url(self) -> str | Path:
        return self.database.get_secret_value() if self.database else self.state / "registry.sqlite3"

    @field_validator("server")
    @classmethod
    def _is_http(cls, server: str) -> str:
        if "://" not in server:
            server = f"http://{server}"
        if not server.startswith(("http://", "https://")):
            raise ValueError(f"found the server {server!r}, expected http://HOST:PORT")
        return server.rstrip("/")
