"""OpenVINO's models in int8: NNCF measures the ranges of the activations on a few images and inserts the rounding.

It runs in a process of its own, `python -m lensmount_adapters.programs.int8 FOLDER`: the library and what it imports
stay out of a server's memory, and so do its progress bars and its handlers of warnings.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable

FLOAT_CONVOLUTIONS = 2  # the first ones, which stay in float: docs/decisions.md has the figures
SETTINGS = f"nncf mixed preset, fast bias correction, first {FLOAT_CONVOLUTIONS} convolutions in float"
"""How a model is quantised. Whatever is kept of an int8 model is made again with other settings."""

IR, IMAGES, RESULT = "float.xml", "images.npz", "int8.xml"
MOST_S = 900.0  # of quantising; it takes 5 to 20


def available() -> bool:
    """Whether models can be quantised here. Those that were kept need no NNCF."""
    return find_spec("nncf") is not None and find_spec("openvino") is not None


def require_nncf() -> None:
    """Raises ExecutorUnavailable without NNCF."""
    if not available():
        raise ExecutorUnavailable("found no nncf, expected it for int8. Fix: pip install 'lensmount[int8]'")


def quantised(model: Any, images: Sequence[np.ndarray]) -> tuple[bytes, bytes]:
    """The IR, xml and weights, of the model in int8. `images` are inputs such as those to come, each [1, 3, h, w].

    Takes some seconds. Raises ExecutorUnavailable without NNCF, and BackboneError if it cannot quantise the model.
    """
    require_nncf()
    from lensmount_adapters.programs.openvino import import_openvino  # here, because that file may be deleted

    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix="lensmount-int8-") as name:
        folder = Path(name)
        openvino.save_model(model, folder / IR, compress_to_fp16=False)
        np.savez(folder / IMAGES, *images)
        command = [sys.executable, "-m", __name__, name]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=MOST_S, env=_environment())
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (error.stderr or b"").decode(errors="replace").strip().splitlines() or ["nothing"]
            raise BackboneError(
                f"this backbone cannot be quantised: NNCF said {said[-1][:400]!r}. Fix: the precision float32"
            ) from error
        result = folder / RESULT
        return result.read_bytes(), result.with_suffix(".bin").read_bytes()


def _environment() -> dict[str, str]:
    """The process finds the packages that this one found, and NNCF reports nothing to its makers."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "NNCF_CI": "1"}


def _main(folder: Path) -> None:
    from lensmount_adapters.programs.openvino import import_openvino

    openvino = import_openvino()
    import nncf

    model = openvino.Core().read_model(folder / IR)
    with np.load(folder / IMAGES) as stored:
        images = [stored[name] for name in stored.files]
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    kept = nncf.IgnoredScope(names=convolutions[:FLOAT_CONVOLUTIONS])
    result = nncf.quantize(
        model,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        fast_bias_correction=True,
        ignored_scope=kept,
    )
    openvino.save_model(result, folder / RESULT, compress_to_fp16=False)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
