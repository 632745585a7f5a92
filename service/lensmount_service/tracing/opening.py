"""Whether traces are wanted, by the standard variables of OpenTelemetry; its library is imported only then."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from lensmount_service.tracing.tracer import NoTracer, Tracer

log = structlog.get_logger(__name__)

FLUSH_S = 1.0  # at the end, for spans that were not sent yet
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP, NONE, HTTP = "otlp", "none", "http/protobuf"


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether an endpoint is named, or `otlp` as the exporter, and nothing turns traces off."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == NONE:
        return False
    if exporter not in ("", OTLP):
        log.warning(
            "no traces: found another exporter in OTEL_TRACES_EXPORTER",
            expected=f"{OTLP} or {NONE}",
            fix=f"set OTEL_TRACES_EXPORTER={OTLP} and send from a collector to where you want them",
        )
        return False
    return exporter == OTLP or any(environ.get(name, "").strip() for name in ENDPOINTS)


@contextmanager
def open_tracer(service: str, environ: Mapping[str, str] = os.environ) -> Iterator[Tracer]:
    """The tracer of a process; at the end it sends what is left, for at most FLUSH_S.

    What hinders traces is a warning in the log: a server without traces serves all the same.
    """
    tracer: Tracer = _made(service, environ) if wanted(environ) else NoTracer()
    try:
        yield tracer
    finally:
        tracer.close(FLUSH_S)


def _made(service: str, environ: Mapping[str, str]) -> Tracer:
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), HTTP)
    if protocol != HTTP:
        log.warning(
            "traces are sent in another protocol than asked for",
            expected=HTTP,
            fix=f"set OTEL_EXPORTER_OTLP_PROTOCOL={HTTP} and the port for it in the endpoint, usually 4318",
        )
    try:
        from lensmount_service.tracing.otel import OpenTelemetryTracer  # its library is an extra

        return OpenTelemetryTracer.of_environment(service, environ)
    except ModuleNotFoundError as error:
        log.warning(
            f"no traces: they need the package {error.name}",
            fix='pip install "lensmount[otel]", or set OTEL_TRACES_EXPORTER=none',
        )
    except (ValueError, OSError) as error:  # OSError: a certificate that cannot be read
        log.warning("no traces: a variable of OpenTelemetry cannot be used", reason=str(error))
    return NoTracer()
