"""Fine-tuned networks behind FastAPI, as people usually write it; serving.py compares with it.

`/predict?task=3` asks the fourth network of `--tasks`.
"""

from __future__ import annotations

import argparse
import io

import uvicorn
from fastapi import FastAPI, UploadFile
from networks import ENGINES, Network, network_of, transform_of  # type: ignore[import-not-found]  # in this folder
from PIL import Image


def create_app(networks: list[Network], backbone: str, labels: list[str]) -> FastAPI:
    transform = transform_of(backbone)
    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/predict")
    def predict(file: UploadFile, task: int = 0) -> dict[str, dict[str, float]]:
        image = Image.open(io.BytesIO(file.file.read())).convert("RGB")
        scores = networks[task](transform(image)[None])[0]
        return {"scores": dict(zip(labels, scores.tolist(), strict=True))}

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8702)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--engine", default="torch", choices=list(ENGINES))
    parser.add_argument("--tasks", type=int, default=1, help="networks in memory")
    options = parser.parse_args()
    labels = ["no", "yes"]
    networks = [
        network_of(options.engine, options.backbone, len(labels), options.threads) for _ in range(options.tasks)
    ]
    uvicorn.run(create_app(networks, options.backbone, labels), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
