"""The headers of every answer that limit what a browser does with it. What a route says itself stays."""

from __future__ import annotations

from starlette.types import Message

HEADERS: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",  # a browser takes a file for what the header says
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",  # frame-ancestors, also for routes with a policy of their own
    "Referrer-Policy": "no-referrer",  # paths have names of adapters and datasets
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # answers are private; the page's files say otherwise
}
_RAW = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


def harden(message: Message) -> None:
    """Add to a `http.response.start` the headers that it lacks."""
    present = {name.lower() for name, _ in message["headers"]}
    message["headers"] = [*message["headers"], *(header for header in _RAW if header[0] not in present)]
