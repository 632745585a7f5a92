"""A job's events as lines of text for people to read."""

from __future__ import annotations

from collections.abc import Iterable

from lensmount_service.jobs.records import Event, iso


def log_lines(events: Iterable[Event]) -> str:
    """One line per event, in the order given."""
    return "".join(f"{iso(event.at)} {_line(event)}\n" for event in events)


def _line(event: Event) -> str:
    data = event.data
    if event.kind == "log":
        return f"{data.get('level', 'info')}: {data.get('message', '')}"
    if event.kind == "epoch":
        figures = (
            f"{name.replace('_', ' ')} {data[name]:.4f}"
            for name in ("loss", "accuracy", "validation_loss", "validation_balanced_accuracy")
            if isinstance(data.get(name), float | int)
        )
        return f"epoch {data['epoch']}: {', '.join(figures)} ({data.get('seconds', 0):.1f} s)"
    error = data.get("error")
    reason = f": {error['message']} ({error['code']})" if error else ""
    attempt = f", attempt {data['attempt']}" if data.get("attempt") else ""
    return f"{data['state']}{attempt}{reason}"
