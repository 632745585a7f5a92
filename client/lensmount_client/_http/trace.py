"""The trace that a request belongs to: the caller's active span, or the one that the environment names.

OpenTelemetry is never imported here. A program that uses it has imported it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")


def trace_headers(environ: Mapping[str, str] = os.environ, modules: Mapping[str, Any] = sys.modules) -> dict[str, str]:
    """`traceparent` and `tracestate` of W3C Trace Context, or nothing.

    TRACEPARENT and TRACESTATE are OpenTelemetry's variables for programs that others start, such as steps of a build.
    """
    current = getattr(modules.get("opentelemetry.trace"), "get_current_span", None)
    context = None if current is None else current().get_span_context()
    if context is not None and context.is_valid:
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        state = context.trace_state.to_header()
    else:
        parent, state = environ.get("TRACEPARENT", ""), environ.get("TRACESTATE", "")
    if not _TRACEPARENT.fullmatch(parent):
        return {}
    return {"traceparent": parent} | ({"tracestate": state} if _TRACESTATE.fullmatch(state) else {})
