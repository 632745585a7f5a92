"""Wire the parts into one FastAPI application; nothing here decides anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from lensmount_client._version import __version__
from lensmount_service import problems
from lensmount_service.catalog import Catalog
from lensmount_service.engine import Engine
from lensmount_service.guard import Guard
from lensmount_service.metrics import Metrics
from lensmount_service.routes.adapters import adapters_router
from lensmount_service.routes.health import health_router
from lensmount_service.routes.predict import predict_router
from lensmount_service.settings import Settings

DESCRIPTION = """One frozen backbone stays resident; small adapters click on and off exactly.

`POST /predict?adapter=malaria` labels an image, `PUT /adapters/{name}` uploads an adapter. Errors are
application/problem+json with a stable `code`. Research use only."""


def create_app(engine: Engine, catalog: Catalog, metrics: Metrics, settings: Settings) -> FastAPI:
    """The application. Its lifespan starts the engine and, on the way down, lets it finish what was accepted."""
    decoders = ThreadPoolExecutor(max_workers=max(2, settings.threads), thread_name_prefix="lensmount-decode")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with engine:
            yield
            await asyncio.to_thread(engine.stop, settings.drain_timeout_s)
        decoders.shutdown(cancel_futures=True)

    app = FastAPI(title="Lensmount", version=__version__, description=DESCRIPTION, lifespan=lifespan, redoc_url=None)
    app.add_middleware(Guard, token=settings.token.get_secret_value() if settings.token else None)
    problems.install(app)
    app.include_router(predict_router(engine, catalog, metrics, settings, decoders))
    app.include_router(adapters_router(engine, catalog, settings))
    app.include_router(health_router(engine, catalog, metrics, settings))
    return app
