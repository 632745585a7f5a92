"""GET /: the web page. Its few files contain no data; the page fetches what it shows from the API."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

from fastapi import APIRouter, Request, Response

FOLDER = "page"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".txt": "text/plain; charset=utf-8",  # the licences of what others wrote
    ".zip": "application/zip",  # images to try the page with
}


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _walk(item, f"{prefix}{item.name}/")
        elif PurePosixPath(item.name).suffix in MEDIA_TYPES:
            yield f"{prefix}{item.name}", item


FILES = {
    "/" if name == "index.html" else f"/{FOLDER}/{name}": (name, MEDIA_TYPES[PurePosixPath(name).suffix])
    for name, _ in _walk(files("lensmount_service").joinpath(FOLDER), "")
}
"""The path of each file of the folder, its name there and its media type."""
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
        data = files("lensmount_service").joinpath(FOLDER, name).read_bytes()
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
