"""One fine-tuned network behind FastAPI, as people usually write it; serving.py compares with it."""

from __future__ import annotations

import argparse
import io

import timm
import timm.data
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image


def create_app(backbone: str, labels: list[str]) -> FastAPI:
    model = timm.create_model(backbone, num_classes=len(labels)).eval()  # random weights are as fast as trained ones
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    def predict(file: UploadFile) -> dict[str, dict[str, float]]:
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB")
        with torch.inference_mode():
            scores = model(transform(image)[None]).softmax(-1)[0]
        return {"scores": dict(zip(labels, scores.tolist(), strict=True))}

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8702)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    uvicorn.run(create_app(options.backbone, ["no", "yes"]), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
