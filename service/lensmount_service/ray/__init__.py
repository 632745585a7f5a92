"""Many engines behind one door, on Ray Serve: which replica answers, how a request gets there, and how many there are.

One replica is one whole server without its port. Ray is imported only by `application`, `calls`, `routing` and
`serving`, and outside this room only `lensmount serve --ray` imports one of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = ["app"]


def app(options: dict[str, Any]) -> Application:
    """The application for `serve run lensmount_service.ray:app replicas=2`. Settings come from LENSMOUNT_ variables."""
    from lensmount_service.ray.application import built

    return built(options)
