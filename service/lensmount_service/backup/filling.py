"""Gives the object store what only one state folder has: files from before `--blobs` was set, or those of a backup."""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from lensmount_adapters.atomic import write_atomic
from lensmount_service.errors import ServiceError
from lensmount_service.jobs.files import JobFiles
from lensmount_service.pools.pools import Pools
from lensmount_service.store.blobs import Blobs, BlobStore
from lensmount_service.store.datasets import DatasetStore
from lensmount_service.store.registry import Registry

log = structlog.get_logger(__name__)

FILLED = ".filled"  # in the state folder: the object store that has its files, so that a restart lists nothing


def fill_store(
    state: Path,
    url: str,
    adapters: tuple[Registry, Blobs, BlobStore],
    datasets: DatasetStore,
    pools: Pools,
    files: JobFiles,
) -> None:
    """Do so once for each URL. If the object store cannot be used now, the next start tries again."""
    mark, name = state / FILLED, hashlib.sha256(url.encode()).hexdigest()  # a URL may have a password
    try:
        if mark.is_file() and mark.read_text() == name:
            return
        registry, blobs, local = adapters
        counts = {"adapters": 0, "datasets": datasets.files.fill(datasets.digests()), "jobs": files.fill()}
        for digest in (registry.digests() & local.digests()) - blobs.digests():
            blobs.put(local.get(digest))
            counts["adapters"] += 1
        with pools.alone() as needed:
            images = set(needed)
        counts["pools"] = pools.files.fill(images)
        write_atomic(mark, name.encode())
    except (ServiceError, OSError) as error:
        log.warning("object store not filled", reason=str(error))
        return
    if any(counts.values()):
        log.info("files given to the object store", **counts)
