"""The page's jobs in a real Chromium: nobody trains, one runs, it fails, it is tried again and cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from tests.service.page.axe import violations

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.service.browser import Listening
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Zip

    from lensmount_service.build import Parts
    from lensmount_service.jobs.records import Lease

HTTP = httpx.Client(timeout=60)


@contextmanager
def leaving(page: Page) -> Iterator[None]:
    """The page follows a job by an open stream, for which a server that stops would wait."""
    try:
        yield
    finally:
        page.goto("about:blank")


def claimed(parts: Parts) -> Lease:
    lease = parts.training.jobs.claim("w", parts.engine.backbone.fingerprint)
    assert lease is not None
    return lease


def test_a_job_is_followed_through_queue_training_failure_retry_and_cancel(
    page: Page, make_parts: MakeParts, make_png: MakePng, zipped: Zip, listening: Listening
) -> None:
    archive = zipped({f"{'ab'[n % 2]}/{n}.png": make_png(n) for n in range(24)})
    with make_parts() as parts, listening(parts.app) as url, leaving(page):
        jobs = parts.training.jobs
        HTTP.put(f"{url}/datasets/cells", content=archive).raise_for_status()
        job = HTTP.post(f"{url}/jobs", json={"dataset": "cells", "adapter": "smears"}).raise_for_status().json()
        page.goto(f"{url}/#/jobs")
        page.get_by_text("Nothing trains: this server has no worker").wait_for()
        page.get_by_text(f"lensmount worker --server {url}").wait_for()
        assert violations(page) == []

        lease = claimed(parts)
        figures = {"loss": 0.7, "accuracy": 0.5, "validation_loss": 0.6, "validation_balanced_accuracy": 0.75}
        jobs.add_event(lease, "epoch", {"epoch": 1, "seconds": 1.0, **figures})
        jobs.add_event(lease, "log", {"level": "warning", "message": "<b>few images</b>"})
        jobs.beat(lease, {"phase": "training", "epoch": 2, "epochs": 4, "step": 1, "steps": 2, "seconds_left": 40.0})
        page.get_by_role("link", name="smears").click()
        page.get_by_text("Training: epoch 2 of 4, about 40 s left").wait_for()
        page.get_by_text("warning: <b>few images</b>").wait_for()
        page.get_by_role("img", name="75.0% right on images kept aside").wait_for()
        meter = page.get_by_role("meter", name="How far it is")
        assert float(meter.get_attribute("aria-valuenow") or 0) == (1 + 1 / 2) / 4
        assert violations(page) == []

        message = "found a delta 673.6 times as large as the weight. Fix: lower the learning rate"
        jobs.finish(lease, "failed", None, ("adapter_norm_limit", message))
        page.get_by_text("Training went out of bounds").wait_for()
        page.get_by_text(message, exact=True).wait_for()
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("The job waits for a worker again.").wait_for()
        assert HTTP.get(f"{url}/jobs/{job['id']}").json()["state"] == "queued"

        page.get_by_role("button", name="Cancel the job").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
        page.locator(".view-head").get_by_text("cancelled").wait_for()
        assert HTTP.get(f"{url}/jobs/{job['id']}").json()["state"] == "cancelled"


def test_the_verdict_of_the_gate_is_told_and_the_files_are_there(
    page: Page, make_parts: MakeParts, make_png: MakePng, zipped: Zip, listening: Listening
) -> None:
    archive = zipped({f"{'ab'[n % 2]}/{n}.png": make_png(n) for n in range(24)})
    reason = "balanced accuracy 0.7000 on the test part, version 1 has 0.9000: worse by more than the margin of 0.01"
    gate = {"passed": False, "reason": reason, "margin": 0.01, "forced": False, "balanced_accuracy": 0.7}
    gate |= {"replaced": {"name": "smears", "version": 1, "digest": "sha256:0", "balanced_accuracy": 0.9}}
    with make_parts() as parts, listening(parts.app) as url, leaving(page):
        HTTP.put(f"{url}/datasets/cells", content=archive).raise_for_status()
        job = HTTP.post(f"{url}/jobs", json={"dataset": "cells", "adapter": "smears"}).raise_for_status().json()
        lease = claimed(parts)
        headers = {"Lensmount-Lease": lease.token}
        HTTP.put(f"{url}/jobs/{job['id']}/files/card.md", content=b"# smears", headers=headers).raise_for_status()
        outcome = {"published": False, "gate": gate, "metrics": {}, "files": ["card.md"]}
        parts.training.jobs.finish(lease, "succeeded", outcome)
        page.goto(f"{url}/#/jobs")
        page.locator("#job-list").get_by_text("not published").wait_for()
        page.get_by_role("link", name="smears").click()
        page.get_by_text(f"The present version keeps answering: {reason}.").wait_for()
        page.get_by_text("the new version is right about 70.0%, version 1 about 90.0%").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download card.md").click()
        assert download.value.path().read_bytes() == b"# smears"
        assert violations(page) == []


def test_a_job_that_labels_a_dataset_shows_its_adapters_and_its_rows(
    page: Page,
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_png: MakePng,
    zipped: Zip,
    listening: Listening,
) -> None:
    archive = zipped({f"{'ab'[n % 2]}/{n}.png": make_png(n) for n in range(24)})
    with make_parts(executor="eager") as parts, listening(parts.app) as url, leaving(page):
        HTTP.put(f"{url}/datasets/cells", content=archive).raise_for_status()
        HTTP.put(f"{url}/adapters/smears", content=make_adapter()).raise_for_status()
        asked = {"kind": "predict", "dataset": "cells", "adapters": ["smears@1"]}
        HTTP.post(f"{url}/jobs", json=asked).raise_for_status()
        page.goto(f"{url}/#/jobs")
        page.get_by_role("link", name="smears").click()
        page.get_by_text("24 images: 24 rows in results.jsonl.").wait_for()
        page.get_by_text("smears@1 (version 1)").wait_for()
        page.get_by_text("one line for each image and adapter").wait_for()
        assert page.get_by_text("Not published").count() == 0
        assert violations(page) == []
