"""The gRPC server next to the HTTP server, on the same event loop and in front of the same engine."""

from __future__ import annotations

import grpc
from fastapi import FastAPI
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from lensmount_service.errors import Unavailable
from lensmount_service.oip.calls import Calls
from lensmount_service.oip.messages import SERVICE, pool
from lensmount_service.oip.receptions import Receptions
from lensmount_service.settings import Settings

MAX_METADATA_BYTES = 16 * 1024


class GrpcServer:
    """`server = GrpcServer(app, Settings(grpc_port=8001))`, `await server.start()`, `await server.stop(30.0)`.

    `port` is the one that it listens on. Raises Unavailable if the port is taken.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._calls = Calls(app, Receptions(settings.body_timeout_s))
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.so_reuseport", 0),  # otherwise two servers share a port, and nobody notices
            ],
            maximum_concurrent_rpcs=settings.max_connections,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _reflect(self._server)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{settings.grpc_port or 0}")
        except RuntimeError as error:
            raise Unavailable(
                f"cannot serve gRPC at {host}:{settings.grpc_port}: the port is taken, or the address is not one of "
                "this machine. Fix: choose another port with --grpc-port, or stop the program that listens there"
            ) from error

    async def start(self) -> None:
        await self._server.start()
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, end streams that wait, and answer what was asked, for at most this long."""
        await self._health.enter_graceful_shutdown()
        self._calls.drain()
        await self._server.stop(timeout_s)


def _reflect(server: grpc.aio.Server) -> None:
    """Let tools such as grpcurl ask for the services and their messages."""
    described = pool()
    for standard in (health_pb2, reflection_pb2):
        described.Add(FileDescriptorProto.FromString(standard.DESCRIPTOR.serialized_pb))
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, described)
