"""Fine-tuned networks behind LitServe, as in its documentation; serving.py compares with it.

Each network of `--tasks` has a route and a process of its own, which is how LitServe serves several.
"""

# No `from __future__ import annotations`: LitServe reads the annotations of decode_request and encode_response.

import argparse
import io
from typing import Any

import litserve
import torch
from fastapi import Request
from networks import ENGINES, network_of, transform_of  # type: ignore[import-not-found]  # in this folder
from PIL import Image

LABELS = ["no", "yes"]


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # an untyped base class
    def __init__(self, engine: str, backbone: str, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self.engine = engine
        self.backbone = backbone
        self.threads = threads

    def setup(self, device: str) -> None:
        # Made here because the worker is a separate process.
        self.network = network_of(self.engine, self.backbone, len(LABELS), self.threads)
        self.transform = transform_of(self.backbone)

    def decode_request(self, request: Request):  # type: ignore[no-untyped-def]  # the request is a form by this time
        image = Image.open(io.BytesIO(request["file"].file.read())).convert("RGB")
        return self.transform(image)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(x if x.ndim == 4 else x[None])
        return scores if x.ndim == 4 else scores[0]

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        return list(output)

    def encode_response(self, output: torch.Tensor):  # type: ignore[no-untyped-def]  # an annotation would make a response model
        return {"scores": dict(zip(LABELS, output.tolist(), strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8701)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--engine", default="torch", choices=list(ENGINES))
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--batch-timeout", type=float, default=0.002, metavar="S")
    options = parser.parse_args()
    batching = {"max_batch_size": options.max_batch, "batch_timeout": options.batch_timeout}
    if options.max_batch == 1:
        batching = {}
    apis = [
        Classifier(options.engine, options.backbone, options.threads, api_path=path, **batching)
        for path in ["/predict", *(f"/predict/{task}" for task in range(1, options.tasks))]
    ]
    server = litserve.LitServer(
        apis if len(apis) > 1 else apis[0], accelerator="cpu", workers_per_device=1, timeout=120
    )
    server.run(host="127.0.0.1", port=options.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
