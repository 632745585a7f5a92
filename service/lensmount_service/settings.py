"""The server's settings, read once: flags of `lensmount serve`, then LENSMOUNT_* variables, then these defaults."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lensmount_adapters.dtypes import full_word
from lensmount_service.jobs.lease import LEASE_S, LeaseSeconds

MAX_REQUEST_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things stay; None means for good. `keep_versions`: of each adapter, besides those of aliases."""

    undelete_s: float = 7 * 86_400.0
    keep_versions: int | None = None
    keep_job_files_s: float | None = None  # reports, logs and checkpoints of jobs that ended


class Settings(BaseSettings):
    """`Settings(port=8080, state=Path("/var/lib/lensmount"))`; every field has a LENSMOUNT_ variable."""

    model_config = SettingsConfigDict(env_prefix="LENSMOUNT_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    grpc_port: int | None = Field(default=None, ge=0, le=65535)  # None: no gRPC
    token: SecretStr | None = None
    state: Path = Field(default_factory=lambda: platformdirs.user_data_path("lensmount"))
    database: SecretStr | None = None  # postgresql://...; default: a SQLite file in the state folder
    blobs: SecretStr | None = None  # s3://bucket/prefix for files; default: only the state folder
    blob_bytes: int = Field(default=10 * 2**30, ge=0)  # adapter files cached in the state folder if `blobs` is set
    zoo: bool = True
    undelete_s: float = Field(default=7 * 86_400.0, ge=0)  # how long a delete can be undone; then the space is freed
    keep_versions: int | None = Field(default=None, ge=1)  # of each adapter besides those of aliases; None: all
    keep_job_files_s: float | None = Field(default=None, ge=0)  # after the end of a job; None: for good

    backbone: str = "tf_efficientnet_lite0"
    weights: str | None = None
    device: str = "auto"  # cuda if torch finds a GPU, otherwise cpu
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], BeforeValidator(full_word)] = "float32"
    executor: Literal["auto", "eager", "openvino", "onnxruntime", "compile", "cudagraphs", "autotune", "merged"] = (
        "auto"  # merged: in place on the live weights
    )
    precision: Annotated[  # the executor's arithmetic
        Literal["auto", "int8", "float32", "bfloat16", "float16", "tf32"], BeforeValidator(full_word)
    ] = "auto"
    int8: bool = True  # with precision=auto: int8 trunks for adapters whose record says that they cost nothing
    int8_branches: bool = False  # behind an int8 trunk, hot adapters whose record allows it have their branch in int8
    int8_calibration: Path | None = None  # a folder of images for the ranges of int8 trunks; default: drawn ones
    hot_bytes: int = Field(default=512 * 2**20, ge=0)  # merged weights kept ready; 0 keeps factors only
    swap: Literal["exact", "subtract"] = "exact"  # how executor=merged writes weights
    refresh_after: int = Field(default=100, ge=1)  # switches from one refresh to the next; only for swap=subtract
    threads: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 2) - 1), ge=1)

    max_batch: int = Field(default=16, ge=1, le=1024)
    max_queue: int = Field(default=256, ge=1)
    batch_window_ms: float = Field(default=0.0, ge=0, le=1000)  # how long a batch waits to fill up
    max_turn_s: float = Field(default=0.5, gt=0, le=60)  # of computing, after which an adapter gives way to others
    pinned: str = ""  # comma-separated names whose latest versions stay hot
    request_timeout_s: float = Field(default=60.0, gt=0, le=MAX_REQUEST_TIMEOUT_S)  # for requests without `timeout`
    integrity_age_s: float = Field(default=30.0, ge=0)  # a younger result of GET /integrity is given again
    max_connections: int = Field(default=1000, ge=1)
    head_timeout_s: float = Field(default=10.0, gt=0)  # for the head of a request to arrive
    body_timeout_s: float = Field(default=30.0, gt=0)  # for its body, plus 1 s for each KiB that has arrived
    write_timeout_s: float = Field(default=30.0, gt=0)  # in which a client reads nothing of a response
    max_files: int = Field(default=64, ge=1)  # images in one request
    max_adapters_per_request: int = Field(default=16, ge=1)
    max_request_bytes: int = Field(default=128 * 2**20, ge=1024)
    max_held_bytes: int = Field(default=512 * 2**20, ge=1024)  # bodies in memory, all requests together
    max_json_bytes: int = Field(default=2**20, ge=1024)
    max_image_bytes: int = Field(default=32 * 2**20, ge=1024)
    max_pixels: int = Field(default=40_000_000, ge=1)
    max_volume_bytes: int = Field(default=128 * 2**20, ge=1024)
    max_request_pixels: int = Field(default=640_000_000, ge=1)  # of all images of a request together
    max_voxels: int = Field(default=2**26, ge=1)
    max_adapter_bytes: int = Field(default=64 * 2**20, ge=1024)
    max_dataset_bytes: int = Field(default=4 * 2**30, ge=1024)  # both as sent and unpacked
    max_dataset_files: int = Field(default=100_000, ge=1)
    max_dataset_classes: int = Field(default=1000, ge=2)
    max_upload_chunk_bytes: int = Field(default=16 * 2**20, ge=1024)
    max_unreadable_fraction: float = Field(
        default=0.01, ge=0, le=1
    )  # of a dataset's images; up to this share is skipped
    cache_bytes: int = Field(default=512 * 2**20, ge=0)  # factors and heads kept in memory
    trunk_cache_bytes: int = Field(default=0, ge=0)  # what the trunk gave for images of requests, in memory; 0: off
    trunk_disk_bytes: int = Field(default=4 * 2**30, ge=0)  # the same for archives, in the state folder; 0: off
    export_bytes: int = Field(default=2 * 2**30, ge=0)  # exported adapters kept in the state folder
    lease_s: LeaseSeconds = LEASE_S  # a worker that is silent for longer loses its job
    max_queued_jobs: int = Field(default=10_000, ge=1)
    max_job_pixels: float = Field(default=1e12, gt=0)  # images x epochs x the size of an input, of one job
    max_job_file_bytes: int = Field(default=2**30, ge=1024)  # a checkpoint or a report file
    feedback: Literal["off", "on"] = "off"  # whether POST /feedback keeps images
    feedback_kept_s: float = Field(default=900.0, ge=0)  # how long feedback=on remembers the images of answers
    feedback_kept_bytes: int = Field(default=64 * 2**20, ge=0)  # of these images, which are only in memory
    max_pool_bytes: int = Field(default=4 * 2**30, ge=0)  # of images that wait for labels, all datasets together
    quarantine_after: int = Field(default=3, ge=1)  # failures in a row, after which an adapter is not computed
    scrub_bytes_per_s: int = Field(default=4 * 2**20, ge=0)  # of stored files that are read again; 0 reads none
    scrub_every_s: float = Field(default=86_400.0, ge=0)  # from the start of one reading of all files to the next
    trusted_keys: Path | None = None  # a file with a public key in each line, or a folder of such files: *.pub
    require_signatures: bool = False  # of adapters: store and serve none that no trusted key has signed
    signing_key: Path | None = None  # signs what the server makes itself: jobs, imports, rounding, the zoo
    fetch_hosts: str = ""  # comma-separated hosts and s3://buckets from which adapters may be fetched; default: none
    labelstudio_hosts: str = ""  # comma-separated hosts whose images may be fetched; default: only data: URLs
    oidc_issuer: str | None = None  # an identity provider whose tokens are taken as well; needs the extra oidc
    oidc_audience: str = "lensmount"
    oidc_jwks_url: str | None = None  # default: from the issuer's discovery document
    oidc_scopes_claim: str = "scope"  # may be nested: realm_access.roles
    oidc_scopes: dict[str, str] | None = None  # JSON: values of the claim to scopes; default: lensmount:predict, ...
    oidc_tenant_claim: str | None = None  # default: every caller belongs to oidc_tenant
    oidc_tenant: str = "default"
    audit_bytes: int = Field(default=2**30, ge=32 * 2**20)  # of the audit log; the oldest file is removed first
    with_worker: bool = False
    ray: bool = False  # `lensmount serve` runs several engines on Ray Serve
    replicas: int = Field(default=1, ge=1)  # their number
    drain_timeout_s: float = Field(default=30.0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    def retention(self) -> Retention:
        return Retention(self.undelete_s, self.keep_versions, self.keep_job_files_s)

    def pinned_names(self) -> list[str]:
        return [name.strip() for name in self.pinned.split(",") if name.strip()]

    def held_bytes(self) -> int:
        """`max_held_bytes`, or more if the largest body that is kept in memory would otherwise never fit."""
        largest = (self.max_request_bytes, self.max_image_bytes, self.max_volume_bytes, self.max_adapter_bytes)
        return max(self.max_held_bytes, 2 * max(*largest, self.max_upload_chunk_bytes, self.max_json_bytes))

    def database_url(self) -> str | Path:
        return self.database.get_secret_value() if self.database else self.state / "registry.sqlite3"

    @property
    def arithmetic(self) -> str:
        """The precision of the executor: that of everything except for an int8 trunk."""
        if self.dtype != "float32":
            return self.dtype
        return "auto" if self.precision == "int8" else self.precision

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @model_validator(mode="after")
    def _int8_is_possible(self) -> Settings:
        if self.precision == "int8" and (self.dtype != "float32" or self.executor not in ("auto", "openvino")):
            raise ValueError(
                f"found precision int8 with executor {self.executor} and dtype {self.dtype}, expected openvino and "
                "float32. Fix: leave --executor and --dtype out"
            )
        return self

    @model_validator(mode="after")
    def _identity_is_safe(self) -> Settings:
        if self.token is not None and not self.token.get_secret_value().strip():
            raise ValueError("found an empty token, expected at least 1 character. Fix: set LENSMOUNT_TOKEN")
        for url in (self.oidc_issuer, self.oidc_jwks_url):
            if url is not None and not _is_safe(url):
                raise ValueError(
                    f"found {url}, expected https:// for an identity provider, or http:// on this machine. "
                    "Fix: set LENSMOUNT_OIDC_ISSUER and LENSMOUNT_OIDC_JWKS_URL to https:// addresses"
                )
        return self


def _is_safe(url: str) -> bool:
    """Whether nobody on the network can read or change what is fetched from there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
