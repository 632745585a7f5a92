"""What an adapter's scores must be, by plain torch and without a runner; and an app that listens on a port."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
import uvicorn

from lensmount_adapters import Backbone, Preprocessing, decode_image, parse_adapter, preprocess
from lensmount_service.web.transport import KEEP_ALIVE_S

if TYPE_CHECKING:
    from fastapi import FastAPI


def scores_by_hand(backbone: Backbone, data: bytes, images: Sequence[bytes]) -> torch.Tensor:
    """[images, classes]: plain torch on a copy of the network, float64 deltas, one image at a time."""
    file = parse_adapter(data)
    network = copy.deepcopy(backbone.module)
    weights = dict(network.named_parameters())
    with torch.no_grad():
        for module, factors in file.manifest.modules.items():
            A, B = (file.tensors[f"{module}.lora_{part}.weight"].double() for part in "AB")
            weight = weights[f"{module}.weight"]
            delta = (factors.alpha / factors.rank) * torch.einsum("or,ri->oi", B.flatten(1), A.flatten(1))
            weight.copy_((weight.double() + delta.view(weight.shape)).float())
        x = [
            preprocess(decode_image(image), cast(Preprocessing, file.manifest.preprocessing))[None] for image in images
        ]
        features = torch.cat([network(one) for one in x])
        return torch.softmax(features @ file.tensors["head.weight"].T + file.tensors["head.bias"], dim=1)


def smallest_difference(scores: Sequence[torch.Tensor]) -> float:
    """How far the answers of the two adapters that are nearest to each other are apart: the largest score's difference.

    `scores` has [images, classes] of each adapter.
    """
    pairs = ((one, other) for number, one in enumerate(scores) for other in scores[:number])
    return min(float((one - other).abs().amax(dim=1).min()) for one, other in pairs)


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The URL of the app on a port of its own."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_keep_alive=int(KEEP_ALIVE_S))
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
