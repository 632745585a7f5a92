"""`lensmount serve --ray`: starts Ray and the replicas, and opens the door at the address of the settings.

The door runs in this process behind the server's own transport, so that its limits hold as on one server, and a request
passes no proxy of Ray.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # the server calls nobody
    "RAY_raylet_start_wait_time_s": "180",  # Ray gives up after 60 s, which a busy machine takes
    "RAY_SERVE_ENABLE_TASK_EVENTS": "0",  # of each call, for a dashboard that is not started
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # otherwise Ray copies the project under `uv run`
}
for _name, _value in RAY_VARIABLES.items():
    os.environ.setdefault(_name, _value)  # before Ray is imported, which reads some of them then

import ray  # noqa: E402  # see above
import structlog  # noqa: E402
from ray import serve as ray_serve  # noqa: E402
from ray.serve.handle import DeploymentHandle  # noqa: E402
from starlette.types import ASGIApp  # noqa: E402

from lensmount_service.errors import Unavailable  # noqa: E402
from lensmount_service.ray.application import NAME, Scale, engine, open_door  # noqa: E402
from lensmount_service.settings import Settings  # noqa: E402
from lensmount_service.startup import Tell, own_url, say_nothing  # noqa: E402
from lensmount_service.worker.supervisor import WorkerProcess  # noqa: E402

log = structlog.get_logger(__name__)

OBJECT_STORE_BYTES = 256 * 2**20  # bodies of requests pass through it; the least that Ray accepts is 75 MiB


LAST_S = 30.0  # from the end of the drain of door and replicas to the end of the process


class Listen(Protocol):
    """`server.listen`, which the command passes on."""

    def __call__(
        self, app: ASGIApp, settings: Settings, bound: socket.socket, after_s: float, tell: Tell, url: str
    ) -> None: ...


def serve(settings: Settings, bound: socket.socket, listen: Listen, tell: Tell = say_nothing) -> None:
    """Serve until SIGINT or SIGTERM, finish accepted requests, end the replicas, return.

    Raises Unavailable if Ray or the replicas cannot start.
    """
    host, port = bound.getsockname()[:2]
    url = own_url(host, port)
    worker_token = secrets.token_urlsafe(32)
    scale = Scale(settings.replicas)
    tell("Starting Ray ...")
    with running(settings, scale, worker_token, tell) as replicas:
        door = open_door(replicas, settings)
        log.info("serving", url=f"http://{host}:{port}", replicas=scale.replicas, state=str(settings.state))
        worker = WorkerProcess(settings, url, token=worker_token) if settings.with_worker else None
        with worker or contextlib.nullcontext():
            listen(door, settings, bound, 2 * settings.drain_timeout_s + LAST_S, tell, url)


@contextmanager
def running(
    settings: Settings, scale: Scale, worker_token: str, tell: Tell = say_nothing
) -> Iterator[DeploymentHandle[Any]]:
    """The replicas, in the cluster of RAY_ADDRESS or in one that ends with this process."""
    elsewhere = bool(os.environ.get("RAY_ADDRESS"))
    cpus = scale.cpus if scale.cpus is not None else settings.threads
    local: dict[str, Any] = {
        "num_cpus": max(os.cpu_count() or 1, int(cpus * (scale.max_replicas or scale.replicas)) + 1),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    try:
        ray.init(namespace="serve", log_to_driver=settings.log_level == "debug", **({} if elsewhere else local))
    except Exception as error:  # of many kinds, and each means that Ray did not start
        raise Unavailable(f"Ray did not start: {error}. Fix: ray stop --force, then try again") from error
    try:
        ray_serve.start(proxy_location="Disabled")
        tell(f"Starting {scale.replicas} replicas; the first start compiles programs ...")
        try:
            yield ray_serve.run(engine(settings, scale, worker_token), name=NAME, route_prefix=None)
        except RuntimeError as error:
            raise Unavailable(f"the replicas did not start: {error}") from error
        finally:
            ray_serve.delete(NAME)  # lets replicas finish what they accepted
            if not elsewhere:
                ray_serve.shutdown()
    finally:
        ray.shutdown()
