"""GET /docs: the API in Swagger UI. This server serves every file, so the page works without the internet."""

from __future__ import annotations

import functools
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from lensmount_service.routes.page import HEADERS, served
from lensmount_service.web.openapi import DescribedApp

OWN, SWAGGER_UI = "lensmount_service/docs", "fastapi_offline/static"
FILES = {
    "/docs": (OWN, "docs.html", "text/html; charset=utf-8"),
    "/docs/docs.js": (OWN, "docs.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui-bundle.js": (SWAGGER_UI, "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui.css": (SWAGGER_UI, "swagger-ui.css", "text/css; charset=utf-8"),
}
DESCRIPTION = "/openapi.json"
# As strict as the web page's policy, except for Trusted Types, because Swagger UI writes its icons with innerHTML. It
# shows only the server's own description, which contains no name or label that a client chose.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@functools.cache  # no route of it depends on the app
def docs_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    headers = {**HEADERS, "Content-Security-Policy": POLICY}
    for path, (folder, name, media_type) in FILES.items():
        router.add_api_route(path, served(_read(folder, name), media_type, headers), methods=["GET", "HEAD"])
    router.add_api_route(DESCRIPTION, _describe, methods=["GET", "HEAD"])
    return router


async def _describe(request: Request) -> Response:
    """The description of the API, for /docs and for programs that make clients."""
    app: DescribedApp = request.app
    return Response(await app.described(), media_type="application/json")


@functools.cache
def _read(folder: str, name: str) -> bytes:
    package, _, within = folder.partition("/")
    return files(package).joinpath(within, name).read_bytes()
