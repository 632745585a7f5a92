"""From JPEG to tensor: Pillow on every core, as the server does it, and the card's own decoder by torchvision."""

from __future__ import annotations

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from lensmount_adapters import Preprocessing
from lensmount_adapters.inputs.prepare import prepare

from . import goals
from .bench import Bench

RULE = Preprocessing(size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def jpeg(width: int, height: int) -> bytes:
    """A smooth random image at quality 90."""
    colours = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(bench: Bench) -> None:
    data = jpeg(500, 375)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = 8 if bench.dry else 1024
    with ThreadPoolExecutor(workers) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: prepare(data, [RULE]), range(count)))
        rate = count / (time.perf_counter() - started)
    bench.row(f"prepare() of a JPEG of 500 x 375, {workers} threads", rate, "images/s")
    if bench.device.type == "cuda":
        on_the_card(bench, data)
    else:
        bench.remarks.append("the card's decoder needs a GPU")


def on_the_card(bench: Bench, data: bytes) -> None:
    from torchvision.io import ImageReadMode, decode_jpeg

    raw = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for _ in range(64)]
    ms = bench.clock.host_ms(lambda: decode_jpeg(raw, mode=ImageReadMode.RGB, device="cuda"), 10, 2)
    bench.row("decode_jpeg(device='cuda'), 64 at a time", 1e3 * len(raw) / ms, "images/s", goals.DECODE_GPU)
    card = decode_jpeg(raw[0], mode=ImageReadMode.RGB, device="cuda").cpu().int()
    pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).copy()
    difference = float((card - torch.from_numpy(pillow).permute(2, 0, 1).int()).abs().max())
    bench.row("largest difference of a pixel from Pillow", difference, "of 255", goals.PIXEL_DIFFERENCE)
