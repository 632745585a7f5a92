"""The deployments of Ray Serve: `Engine`, with as many replicas as wanted, and `Door` for `serve run`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp

from lensmount_service.access.authenticator import Authenticator
from lensmount_service.access.tokens import TokenStore
from lensmount_service.errors import RequestInvalid
from lensmount_service.ray.calls import RayReplicas
from lensmount_service.ray.door import Door
from lensmount_service.ray.hints import Hints
from lensmount_service.ray.local_only import LocalOnly
from lensmount_service.ray.replica import EngineReplica
from lensmount_service.ray.scaling import PIXELS_EACH, WAITING_EACH, Policy
from lensmount_service.settings import Settings
from lensmount_service.store.database import Database
from lensmount_service.store.registry import Registry

NAME = "lensmount"  # of the application in Ray Serve
QUIET = LoggingConfig(enable_access_log=False)  # the application writes a line for each request
HEALTH_S = 5.0  # between two checks of a replica, so that one that was killed is replaced soon


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas: `replicas`, or from `replicas` to `max_replicas` by the figures of `scaling`."""

    replicas: int = 1
    max_replicas: int | None = None
    waiting_each: float = WAITING_EACH
    pixels_each: float = PIXELS_EACH
    cpus: float | None = None  # of each replica, for Ray's scheduler; default: the engine's threads
    gpus: float | None = None  # default: 1 if the device is cuda, otherwise 0

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Scale:
        """From the arguments of `serve run`, which are texts. Raises RequestInvalid."""
        numbers = ("waiting_each", "pixels_each", "cpus", "gpus")
        kinds: dict[str, Callable[[Any], Any]] = {"replicas": int, "max_replicas": int} | dict.fromkeys(numbers, float)
        values: dict[str, Any] = {}
        for name, text in options.items():
            if name not in kinds:
                raise RequestInvalid(f"found the argument {name}, expected one of {', '.join(sorted(kinds))}")
            try:
                values[name] = kinds[name](text)
            except ValueError as error:
                raise RequestInvalid(f"found {name}={text}, expected a number") from error
        scale = cls(**values)
        if scale.replicas < 1 or (scale.max_replicas is not None and scale.max_replicas < scale.replicas):
            raise RequestInvalid(
                f"found replicas={scale.replicas} and max_replicas={scale.max_replicas}, expected at least 1 replica "
                "and no fewer at most. Fix: replicas=1 max_replicas=4"
            )
        return scale


def built(options: Mapping[str, Any]) -> Application:
    """The application of `serve run lensmount_service.ray:app`: Ray's proxy listens, in front of a door of ours."""
    settings = Settings()
    deployment = serve.deployment(name="Door", max_ongoing_requests=settings.max_connections, logging_config=QUIET)
    door = deployment(serve.ingress(None)(DoorDeployment))
    return door.bind(
        engine(settings, Scale.read({"replicas": settings.replicas} | dict(options)), secrets.token_urlsafe(32)),
        settings,
    )


def engine(settings: Settings, scale: Scale, worker_token: str) -> Application:
    """The replicas. Ray queues nothing in front of them: each has its own bounds, and refuses as one server does."""
    gpus = scale.gpus if scale.gpus is not None else float(settings.device.startswith("cuda"))
    options: dict[str, Any] = {"num_replicas": scale.replicas}
    if scale.max_replicas is not None:
        options = {"autoscaling_config": autoscaling(scale)}
    deployment = serve.deployment(
        name="Engine",
        max_ongoing_requests=settings.max_connections,
        ray_actor_options={"num_cpus": settings.threads if scale.cpus is None else scale.cpus, "num_gpus": gpus},
        health_check_period_s=HEALTH_S,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        logging_config=QUIET,
        request_router_config=RequestRouterConfig(request_router_class="lensmount_service.ray.routing.AffinityRouter"),
        **options,
    )
    return deployment(NamedReplica).bind(settings, worker_token)


def autoscaling(scale: Scale) -> AutoscalingConfig:
    policy = {"waiting_each": scale.waiting_each, "pixels_each": scale.pixels_each}
    return AutoscalingConfig(
        min_replicas=scale.replicas,
        max_replicas=scale.max_replicas or scale.replicas,
        look_back_period_s=10.0,
        metrics_interval_s=2.0,
        upscale_delay_s=10.0,
        downscale_delay_s=300.0,  # a replica that leaves forgets its adapters
        policy=AutoscalingPolicy(policy_function=f"{Policy.__module__}:{Policy.__name__}", policy_kwargs=policy),
    )


class NamedReplica(EngineReplica):
    """An engine under the name that Ray's router knows."""

    async def __init__(self, settings: Settings, worker_token: str) -> None:  # type: ignore[misc]  # Ray awaits it
        await super().__init__(settings, worker_token, serve.get_replica_context().replica_id.unique_id)

    async def __del__(self) -> None:
        """Ray calls this at a shutdown."""
        await self.close()


class DoorDeployment:
    """The door behind Ray's own HTTP proxy."""

    def __init__(self, replicas: DeploymentHandle[Any], settings: Settings) -> None:
        self._door = open_door(replicas, settings)
        self._is_loopback = settings.is_loopback

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return LocalOnly(self._door) if self._is_loopback else self._door


def open_door(replicas: DeploymentHandle[Any], settings: Settings) -> Door:
    """A door with its own connection to the database, which it only reads. Replicas have made its tables."""
    database = Database(settings.database_url())
    first = settings.token.get_secret_value() if settings.token else None
    authenticator = Authenticator(TokenStore(database), first, on_loopback=settings.is_loopback)
    return Door(RayReplicas(replicas), Hints(Registry(database), authenticator), settings)
