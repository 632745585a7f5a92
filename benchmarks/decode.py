"""How long it takes to decode a JPEG and a PNG of 250 pixels, against another checkout of the adapters.

    python benchmarks/decode.py OTHER_CHECKOUT

Both decoders run in this process and take turns, so that a busy machine slows both alike.
"""

from __future__ import annotations

import importlib
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROUNDS, CALLS = 61, 20
SIZE = 250


def decoder_of(checkout: Path) -> Callable[[bytes], Any]:
    """Import `decode_image` from a checkout, next to one that is already imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lensmount_adapters"]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout / "adapters"))
    try:
        decode: Callable[[bytes], Any] = importlib.import_module("lensmount_adapters.inputs.images").decode_image
    finally:
        del sys.path[0]
    return decode


def files() -> dict[str, bytes]:
    coarse = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    found: dict[str, bytes] = {}
    for kind, options in {"JPEG": {"quality": 90}, "PNG": {}}.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found[kind] = buffer.getvalue()
    return found


def milliseconds(decode: Callable[[bytes], Any], data: bytes) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        decode(data)
    return (time.perf_counter() - start) / CALLS * 1000


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main(other: Path) -> None:
    here = decoder_of(Path(__file__).parent.parent)
    before = decoder_of(other)
    print(f"processor: {processor()}; {ROUNDS} rounds of {CALLS} calls, the two in turn")
    print("| file | before, ms | now, ms | now / before: min | median | max |\n|---|---|---|---|---|---|")
    for kind, data in files().items():
        pairs = [(milliseconds(before, data), milliseconds(here, data)) for _ in range(ROUNDS)]
        ratios = sorted(now / then for then, now in pairs)
        then, now = (statistics.median(values) for values in zip(*pairs, strict=True))
        spread = f"{ratios[0]:.2f} | {statistics.median(ratios):.3f} | {ratios[-1]:.2f}"
        print(f"| {kind} {SIZE} x {SIZE}, {len(data) // 1024} kB | {then:.3f} | {now:.3f} | {spread} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
