"""The replicas behind a handle of Ray Serve, as the door uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from lensmount_service.ray.answering import Answering, ReplicaFailed, ReplicaLost
from lensmount_service.ray.messages import Asked, Piece

log = structlog.get_logger(__name__)

TELL_S = 60.0  # in which the application reads a piece of a body
PAGES_S = 5.0


class RayReplicas:
    """`RayReplicas(serve.get_deployment_handle("Engine", "lensmount"))`."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._answer = handle.options(method_name="answer", stream=True)
        self._tell = handle.options(method_name="tell")
        self._all = handle

    def ask(self, asked: Asked) -> Answering:
        response = self._answer.remote(asked)
        return Answering(asked, _messages(response), response.cancel, self.tell)

    async def tell(self, piece: Piece) -> None:
        try:
            await asyncio.wait_for(self._tell.remote(piece), TELL_S)
        except (RayError, RayServeException, TimeoutError) as error:
            log.warning("a replica took no more of a request", reason=type(error).__name__)

    async def pages(self) -> dict[str, bytes]:
        try:
            return dict(await self._all.broadcast("page").results_async(timeout_s=PAGES_S))
        except (RayError, RayServeException, TimeoutError) as error:
            log.warning("no metrics of all replicas", reason=type(error).__name__)
            return {}


async def _messages(response: Any) -> AsyncGenerator[Any, None]:
    try:
        async for message in response:
            yield message
    except RayActorError as error:
        raise ReplicaLost(type(error).__name__) from error
    except (RayError, RayServeException) as error:
        raise ReplicaFailed(str(error)) from error
