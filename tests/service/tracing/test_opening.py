"""Traces are off until a standard variable asks for them; test_packages.py shows that nothing is imported before."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lensmount_service import logs
from lensmount_service.settings import Settings
from lensmount_service.tracing import opening
from lensmount_service.tracing.opening import ENDPOINTS, open_tracer, wanted
from lensmount_service.tracing.tracer import NoTracer

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.fixture(autouse=True)
def _warnings_are_logged() -> Iterator[None]:
    logs.configure(Settings(log_level="info"))
    yield
    logs.configure(Settings(log_level="error"))  # as for all other tests


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "lab"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}, False),
    ],
)
def test_the_standard_variables_say_whether_there_are_traces(environ: dict[str, str], expected: bool) -> None:
    assert wanted(environ) is expected


def test_another_exporter_is_a_warning_with_a_fix_that_works() -> None:
    with capture_logs() as lines, open_tracer("lensmount", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "zipkin"}) as tracer:
        assert isinstance(tracer, NoTracer)
    (line,) = lines
    name, _, value = line["fix"].split()[1].partition("=")
    assert wanted({**ENDPOINT, name: value})


def test_without_its_packages_a_server_serves_without_traces_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lensmount_service.tracing.otel", None)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with capture_logs() as lines, open_tracer("lensmount", ENDPOINT) as tracer:
        assert isinstance(tracer, NoTracer)
    assert len(lines) == 1
    assert 'pip install "lensmount[otel]"' in lines[0]["fix"]


def test_a_size_that_makes_no_sense_and_a_protocol_that_is_not_spoken_are_warnings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason='needs OpenTelemetry: pip install "lensmount[otel]"')
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with capture_logs() as lines, open_tracer("lensmount", {**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) as made:
        assert isinstance(made, NoTracer)
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
    assert "http/protobuf" in lines[0]["fix"]
    assert "max_queue_size" in lines[1]["reason"]


def test_the_end_is_waited_for_at_most_a_bound() -> None:
    assert opening.FLUSH_S <= 2.0  # a worker has five seconds after SIGTERM, three of them for its step


def test_the_variables_in_the_docs_are_those_of_the_library() -> None:
    pytest.importorskip("opentelemetry.sdk", reason='needs OpenTelemetry: pip install "lensmount[otel]"')
    from opentelemetry import environment_variables as of_the_api
    from opentelemetry.sdk import environment_variables as of_the_sdk

    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bOTEL_[A-Z_]+", page))
    assert {*ENDPOINTS, "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME"} <= named
    assert named <= {*vars(of_the_api), *vars(of_the_sdk)}
