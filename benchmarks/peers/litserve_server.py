"""One fine-tuned network behind LitServe, as in its documentation; serving.py compares with it."""

# No `from __future__ import annotations`: LitServe reads the annotations of decode_request and encode_response.

import argparse
import io
from typing import Any

import litserve
import timm
import timm.data
import torch
from fastapi import Request
from PIL import Image

LABELS = ["no", "yes"]


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # an untyped base class
    def __init__(self, backbone: str, threads: int, **options: Any) -> None:
        super().__init__(**options)
        self.backbone = backbone
        self.threads = threads

    def setup(self, device: str) -> None:
        torch.set_num_threads(self.threads)  # set here because the worker is a separate process
        self.model = timm.create_model(self.backbone, num_classes=len(LABELS)).to(device).eval()
        config = timm.data.resolve_model_data_config(self.model)
        self.transform = timm.data.create_transform(**config, is_training=False)

    def decode_request(self, request: Request):  # type: ignore[no-untyped-def]  # the request is a form by this time
        image = Image.open(io.BytesIO(request["file"].file.read())).convert("RGB")
        return self.transform(image)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            scores: torch.Tensor = self.model(x if x.ndim == 4 else x[None]).softmax(-1)
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
    parser.add_argument("--max-batch", type=int, default=4)
    parser.add_argument("--batch-timeout", type=float, default=0.002, metavar="S")
    options = parser.parse_args()
    batching = {"max_batch_size": options.max_batch, "batch_timeout": options.batch_timeout}
    api = Classifier(options.backbone, options.threads, **(batching if options.max_batch > 1 else {}))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=options.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
