"""The application: its lifespan runs the engine, and it ends the jobs whose last worker is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import opentelemetry.metrics
import opentelemetry.trace
import pytest
from fastapi.testclient import TestClient

from lensmount_service import app
from lensmount_service.build import Parts
from lensmount_service.errors import Unavailable
from lensmount_service.jobs.records import DatasetPin, JobRequest

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, Until


@pytest.fixture
def parts(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.setattr(app, "REAP_S", 0.01)
    with make_parts() as parts:
        yield parts


def test_the_engine_runs_from_the_start_of_the_app_to_its_end(
    parts: Parts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    assert not parts.engine.accepting
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1)).raise_for_status()
        assert client.post("/predict?adapter=cells", content=make_png()).status_code == 200
        assert parts.engine.accepting
        assert not parts.training.stopping.is_set()
    assert parts.training.stopping.is_set()
    assert not parts.engine.accepting


def test_a_job_whose_last_worker_is_gone_ends_without_another_worker(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(app, "REAP_S", 0.1)
    with make_parts(lease_s=0.5) as parts:
        jobs, fingerprint = parts.training.jobs, parts.engine.backbone.fingerprint
        pin = DatasetPin("cells", 1, "sha256:" + "d" * 64)
        job, _ = jobs.submit(JobRequest(pin, "malaria", fingerprint, max_attempts=1))
        with TestClient(parts.app, base_url="http://127.0.0.1"):
            assert jobs.claim("w", fingerprint) is not None
            until(lambda: jobs.get(job.id).state == "failed")
        error = jobs.get(job.id).error
    assert error is not None
    assert error[0] == "worker_lost"


def test_a_database_that_is_away_for_a_moment_does_not_end_the_search_for_lost_jobs(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    asked = []

    def away() -> None:
        asked.append("reap")
        raise Unavailable("the database is away", code="store_unavailable")

    monkeypatch.setattr(parts.training.jobs, "reap", away)
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        until(lambda: len(asked) >= 3)
        assert client.get("/health/live").status_code == 200


def test_fastapi_records_nothing_by_itself(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would tell a collector the path of each request, and what was wrong in it."""
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")  # ours are off as well
    with make_parts() as parts:
        monkeypatch.delenv("OTEL_TRACES_EXPORTER")
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            client.get("/limits")
    assert type(opentelemetry.trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
    assert type(opentelemetry.metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"


def test_a_path_with_a_slash_at_its_end_is_not_found_and_the_answer_says_so(parts: Parts) -> None:
    with TestClient(parts.app, base_url="http://127.0.0.1", follow_redirects=False) as client:
        paths = [path for path in client.get("/openapi.json").json()["paths"] if path != "/"]
        assert len(paths) > 40
        for path in [*paths, "/docs"]:
            answer = client.post(f"{path}/", content=b"x" * 100)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
            assert "Fix: leave out the slash at the end" in answer.json()["detail"], path
        for path in ("/nothing/", "/nothing"):
            assert "slash" not in client.get(path).json()["detail"]
