"""What a server makes before it takes requests, so that the first answer is about as fast as the next ones."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import torch
from PIL import Image
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_service.engine.engine import Engine
from lensmount_service.store.catalog import Catalog

log = structlog.get_logger(__name__)

FIRST = 8  # adapters that are ready when the server is: pinned ones, then the others by name
MOST_S = 20.0  # of waiting for them; the first start on a machine compiles, which takes seconds for each layer cut
_LOOK_S = 0.02  # between two looks at whether the server was told to stop


@asynccontextmanager
async def warmed(catalog: Catalog, engine: Engine, stopping: threading.Event) -> AsyncIterator[None]:
    """Enter once the first adapters have answered an image each; the others follow in the background.

    Whatever fails or takes longer than `MOST_S` is made for the first request that needs it.
    """
    first = asyncio.create_task(asyncio.to_thread(_first, catalog, engine))
    until = time.monotonic() + MOST_S
    while not first.done() and not stopping.is_set() and time.monotonic() < until:
        await asyncio.wait({first}, timeout=_LOOK_S)
    if first.done() and (error := first.exception()) is not None:
        log.warning("adapters not warmed", reason=str(error))
    others = asyncio.create_task(asyncio.to_thread(catalog.warm))
    yield
    first.cancel()
    others.cancel()


def _first(catalog: Catalog, engine: Engine) -> None:
    adapters = catalog.warm(FIRST)
    engine.runner.settle()
    for adapter in adapters:
        work = [(adapter, _image(adapter))]
        (answer,) = engine.submit_many(work, time.perf_counter() + MOST_S, trial=True)
        answer.exception()  # not raised here: the first request will report it


def _image(adapter: Adapter) -> Tensor:
    """An input for the adapter, read from the bytes of a file, because the first use of a decoder imports it."""
    rule = adapter.manifest.preprocessing
    if isinstance(rule, VolumePreprocessing):
        return torch.zeros(rule.input_shape)
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "grey").save(file, "PNG")
    return preprocess(decode_image(file.getvalue()), rule)
