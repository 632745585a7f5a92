"""The request router that Ray runs inside the door: it asks `placement` and nothing else.

Ray's own classes keep the queue lengths, send the request, and try the next replica if one refuses or has ended. Those
for multiplexed models are left out: they wait up to a second for a match and reload models that do not fit.
"""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from lensmount_service.ray.messages import Asked, Piece
from lensmount_service.ray.placement import ranked


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # Ray is not followed by mypy
    """Each request goes to the home of its adapter, unless that is too busy or has lost this request before."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replicas in order, one in each rank, so that Ray takes the first one with room."""
        replicas = {each.replica_id.unique_id: each for each in candidate_replicas}
        if pending_request is None:
            return [list(replicas.values())]
        pending_request.routing_context.should_backoff = True  # after all ranks, instead of asking again at once
        asked = pending_request.args[0] if pending_request.args else None
        if isinstance(asked, Piece):
            return [[replicas[asked.replica]]] if asked.replica in replicas else []
        if not isinstance(asked, Asked):
            return [list(replicas.values())]
        loads = {name: self.replica_queue_len_cache.get(each.replica_id) or 0 for name, each in replicas.items()}
        at_home = asked.digest is not None
        order = ranked(asked.digest or asked.key, loads, asked.tried, at_home=at_home)
        if asked.wanted is not None and asked.wanted in replicas and asked.wanted not in asked.tried:
            order.insert(0, order.pop(order.index(asked.wanted)))
        return [[replicas[name]] for name in order]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """A replica has taken the request. The door holds this very object, so it knows as well."""
        asked = pending_request.args[0] if pending_request.args else None
        if isinstance(asked, Asked):
            asked.tried.append(replica_id.unique_id)
