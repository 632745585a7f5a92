"""What a worker tells the server about a job, without training: for tests of what the page shows meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from lensmount_service.build import Parts

TREES = ("birch", "maple", "oak")
PART = {
    **{"count": 9, "accuracy": 8 / 9, "balanced_accuracy": 8 / 9},
    "classes": [{"label": tree, "count": 3} for tree in TREES],
    "confusion": [[3, 0, 0], [0, 3, 0], [0, 1, 2]],
}


def train(parts: Parts, url: str, adapter: bytes) -> Iterator[None]:
    """Claims the next job and goes through three epochs; after the second `next` the adapter is published."""
    jobs = parts.training.jobs
    lease = jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    for epoch in (1, 2, 3):
        figures = {"loss": 1 / epoch, "validation_loss": 1.1 / epoch, "validation_balanced_accuracy": 1 - 0.3 / epoch}
        jobs.add_event(lease, "epoch", {"epoch": epoch, "accuracy": 0.5, "seconds": 1.0} | figures)
    progress = {"epoch": 3, "epochs": 30, "step": 1, "steps": 1, "loss": 0.3, "accuracy": 0.9, "seconds_left": 12.4}
    jobs.beat(lease, progress | {"phase": "training"})
    yield
    held = {"Lensmount-Lease": lease.token}
    job = httpx.get(f"{url}/jobs/{lease.id}").json()
    httpx.put(f"{url}/jobs/{lease.id}/files/report.html", content=b"<p>report", headers=held).raise_for_status()
    latest = httpx.get(f"{url}/adapters/{job['adapter']}").json()
    gate = {"passed": True, "reason": "", "replaced": {key: latest[key] for key in ("name", "version", "digest")}}
    jobs.store_outcome(lease, {"published": False, "gate": gate, "metrics": {"test": PART}})
    put = httpx.put(f"{url}/adapters/{job['adapter']}?job={lease.id}", content=adapter, headers=held)
    assert put.status_code == 201, put.text
    yield
