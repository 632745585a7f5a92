"""What each method of the gRPC service answers: the same as its twin under /v2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lensmount_client._version import __version__
from lensmount_service.access.identity import Identity
from lensmount_service.access.policy import POLICY, Need
from lensmount_service.errors import DeadlineExceeded
from lensmount_service.oip import repository
from lensmount_service.oip.converted import answer_of, parameters_of, request_of
from lensmount_service.oip.inference import Inference
from lensmount_service.oip.messages import message
from lensmount_service.oip.models import config_of, metadata_of, reference_of, require_ready
from lensmount_service.oip.rest import EXTENSIONS
from lensmount_service.rollouts.choice import Keys
from lensmount_service.routes import health
from lensmount_service.routes.context import TenantContext
from lensmount_service.web.bodies import off_loop

_MODEL = "/v2/models/{name}"
NEEDS: dict[str, Need | None] = {
    "ServerLive": None,
    "ServerReady": None,
    "ServerMetadata": POLICY["GET", "/v2"],
    "ModelReady": POLICY["GET", f"{_MODEL}/ready"],
    "ModelMetadata": POLICY["GET", _MODEL],
    "ModelConfig": POLICY["GET", f"{_MODEL}/config"],
    "ModelStatistics": POLICY["GET", f"{_MODEL}/stats"],
    "ModelInfer": POLICY["POST", f"{_MODEL}/infer"],
    "ModelStreamInfer": POLICY["POST", f"{_MODEL}/infer"],
    "RepositoryIndex": POLICY["POST", "/v2/repository/index"],
    "RepositoryModelLoad": POLICY["POST", "/v2/repository/models/{name}/load"],
    "RepositoryModelUnload": POLICY["POST", "/v2/repository/models/{name}/unload"],
}
"""What a caller of each method needs, as for its twin under /v2. None: not even a token."""

WRITES = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
PREDICTION = "ModelInfer"
IN_STREAMS = "ModelStreamInfer"  # whose requests are those of ModelInfer, one after the other


@dataclass(slots=True)
class Call:
    """One call: its method, its headers, and who calls.

    `target` and `http_status` are what the log and the audit log say of it.
    """

    method: str
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    target: str | None = None
    http_status: int = 499  # until it ends: the client is gone

    def keys(self) -> Keys:
        return Keys(self.request_id, "" if self.identity is None else self.identity.key, self.headers)


class Servicer:
    """`await servicer.answers["ModelInfer"](call, request)` is the message that answers; it raises our own errors."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self.answers: dict[str, Callable[[Call, Any], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _server_live(self, call: Call, asked: Any) -> Any:
        await health.live(self._inference.context)
        return message("ServerLiveResponse")(live=True)

    async def _server_ready(self, call: Call, asked: Any) -> Any:
        await health.require_ready(self._inference.context)
        return message("ServerReadyResponse")(ready=True)

    async def _server_metadata(self, call: Call, asked: Any) -> Any:
        return message("ServerMetadataResponse")(name="lensmount", version=__version__, extensions=EXTENSIONS)

    async def _model_ready(self, call: Call, asked: Any) -> Any:
        await require_ready(self._seen(call), reference_of(asked.name, asked.version))
        return message("ModelReadyResponse")(ready=True)

    async def _model_metadata(self, call: Call, asked: Any) -> Any:
        found = await metadata_of(self._seen(call), reference_of(asked.name, asked.version))
        return message("ModelMetadataResponse")(**found)

    async def _model_config(self, call: Call, asked: Any) -> Any:
        found = await config_of(self._seen(call), reference_of(asked.name, asked.version))
        del found["dynamic_batching"]  # which says nothing, and which our description of the messages leaves out
        return message("ModelConfigResponse")(config=found)

    async def _model_statistics(self, call: Call, asked: Any) -> Any:
        model = reference_of(asked.name, asked.version) if asked.name else None
        return message("ModelStatisticsResponse")(model_stats=await self._inference.shown(self._seen(call), model))

    async def _model_infer(self, call: Call, asked: Any) -> Any:
        seen, inference = self._seen(call), self._inference
        model = reference_of(asked.model_name, asked.model_version)
        snapshot = await inference.resolve(seen, model, call.keys)
        with inference.counted(seen, snapshot):
            ready = await off_loop(asked.ByteSize(), lambda: inference.asked(snapshot, request_of(asked)))
            timeout_s = inference.timeout_s(ready.request.parameters)
            try:
                async with asyncio.timeout(timeout_s) as scope:
                    answer = await inference.infer(seen, ready, call.request_id, timeout_s)
            except TimeoutError as error:
                if not scope.expired():
                    raise
                raise DeadlineExceeded.after(timeout_s) from error
        return answer_of(answer)

    async def _repository_index(self, call: Call, asked: Any) -> Any:
        seen = self._seen(call)
        rows = await asyncio.to_thread(lambda: repository.index_of(seen, only_ready=asked.ready))
        return message("RepositoryIndexResponse")(models=rows)

    async def _load(self, call: Call, asked: Any) -> Any:
        call.target = asked.model_name[:200]
        await repository.load(self._seen(call), asked.model_name, parameters_of(asked.parameters))
        return message("RepositoryModelLoadResponse")()

    async def _unload(self, call: Call, asked: Any) -> Any:
        call.target = asked.model_name[:200]
        await repository.unload(self._seen(call), asked.model_name)
        return message("RepositoryModelUnloadResponse")()

    def _seen(self, call: Call) -> TenantContext:
        assert call.identity is not None  # the method needs one
        return self._inference.context.seen_by(call.identity)
