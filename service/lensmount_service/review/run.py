"""The process that reviews one dataset: `python -m lensmount_service.review.run`, with its order as JSON on stdin.

It has its own copy of the backbone and the lowest priority, so that predictions neither share memory with it nor wait
for it. Each line that it prints is a JSON object: {"phase", "done", "total"}, and at its end {"review"} or
{"error", "code"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SECONDS = 0.5  # between two lines of progress


def main() -> None:
    order = json.load(sys.stdin)
    try:
        review = _review(order, _teller(os.getppid()))
    except ModuleNotFoundError as error:
        _print(
            {
                "error": f"a review needs the package {error.name} on the server. "
                'Fix: pip install "lensmount[train]" there',
                "code": "store_unavailable",
            }
        )
    except Exception as error:  # the process's boundary: whatever it is, the server must hear of it
        code = getattr(error, "code", "internal_error")
        _print({"error": str(error) if hasattr(error, "code") else type(error).__name__, "code": code})
    else:
        _print({"review": review})


def _review(order: dict[str, Any], tell: Callable[[str, int, int], None]) -> dict[str, Any]:
    import sklearn  # noqa: F401  # before the pass of the backbone, which takes minutes
    import torch

    from lensmount_adapters.light_timm import import_timm

    import_timm()
    from lensmount_adapters.backbone.load import load_backbone, weights_from
    from lensmount_adapters.data.dataset import read_folder
    from lensmount_adapters.inputs.limits import ImageLimits
    from lensmount_adapters.quality.review import check_size, review_folder

    os.nice(19)
    torch.set_num_threads(1)
    limits = ImageLimits(order["max_image_bytes"], order["max_pixels"])
    folder = read_folder(Path(order["archive"]), order["group_regex"], limits=limits)
    check_size(len(folder))
    backbone = load_backbone(order["backbone"], weights_from(order["weights"]))
    return {
        **review_folder(folder, backbone, tell).to_json(),
        "backbone": backbone.ref.model_dump(mode="json"),
    }


def _teller(parent: int) -> Callable[[str, int, int], None]:
    last = 0.0

    def tell(phase: str, done: int, total: int) -> None:
        nonlocal last
        if os.getppid() != parent:  # the server is gone
            sys.exit(1)
        if done == total or time.monotonic() - last > _SECONDS:
            last = time.monotonic()
            _print({"phase": phase, "done": done, "total": total})

    return tell


def _print(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
