"""GET /: the web page. Its few files contain no data; the page fetches what it shows from the API."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Request, Response

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/style.css": ("style.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/element.js": ("element.js", "text/javascript; charset=utf-8"),
    "/page/api.js": ("api.js", "text/javascript; charset=utf-8"),
    "/page/adapters.js": ("adapters.js", "text/javascript; charset=utf-8"),
    "/page/datasets.js": ("datasets.js", "text/javascript; charset=utf-8"),
    "/page/review.js": ("review.js", "text/javascript; charset=utf-8"),
    "/page/image_card.js": ("image_card.js", "text/javascript; charset=utf-8"),
    "/page/explanation.js": ("explanation.js", "text/javascript; charset=utf-8"),
    "/page/labelling.js": ("labelling.js", "text/javascript; charset=utf-8"),
    "/page/masks.js": ("masks.js", "text/javascript; charset=utf-8"),
    "/page/trust.js": ("trust.js", "text/javascript; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    # Trusted Types forbid innerHTML and similar, so labels and file names can only become text.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # cached, but revalidated by its ETag, so that the page always fits its server
}


@functools.cache  # no route of it depends on the app
def page_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in FILES.items():
        data = files("lensmount_service").joinpath("page", name).read_bytes()
        router.add_api_route(path, served(data, media_type, HEADERS), methods=["GET", "HEAD"])
    return router


def served(data: bytes, media_type: str, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    """A route that answers with these bytes, or with 304 if the browser already has them."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**headers, "ETag": etag}

    async def serve(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if etag in known or known.strip() == "*":
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=media_type, headers=headers)

    return serve
