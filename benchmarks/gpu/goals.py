"""What each figure should be, and the best that physics or published systems allow, on one H100 SXM.

Measured on an H100 80GB HBM3: 798 TFLOP/s dense bfloat16, and a copy of 3.0 TB/s counting bytes read and written.
"""

from __future__ import annotations

from dataclasses import dataclass

H100_FLOPS = 798e12
H100_BYTES_PER_S = 3.0e12


@dataclass(frozen=True, slots=True)
class Goal:
    """One side of a bound, and the `limit`: the best value that is possible or known."""

    at_least: float | None = None
    at_most: float | None = None
    limit: str = ""

    def is_met(self, value: float) -> bool:
        """NaN meets no goal."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"


NONE = Goal()

COPY = Goal(limit="3.0 TB/s on an H100 80GB HBM3")
MATRIX_PRODUCT = Goal(limit="798 TFLOP/s on an H100 80GB HBM3")
PINNED = Goal(limit="about 50 GB/s over PCIe 5")
PAGEABLE = Goal(limit="about 5 GB/s")

SCORE_ERROR = Goal(at_most=0.02, limit="0 is unreachable in bfloat16")
SCORES_MOVED = Goal(at_least=1e-3, limit="below this the check would not notice a missing adapter")
TO_PEER = Goal(at_least=0.9, limit="1: the same kernels")
TO_FLOOR = Goal(limit="1: all arithmetic or all bytes at the card's full speed")
TO_FLOOR_FULL = Goal(at_least=0.25, limit="1; 0.4 would be very good")  # batch 256
CALL_OF_ONE = Goal(at_most=0.5, limit="floor 0.02 ms; a chain of 40 kernels takes about 0.2 ms")
DEVICE_SHARE = Goal(at_least=0.8, limit="1: the host's work is hidden behind the device's")

SWITCH_COLD = Goal(at_most=100, limit="26 us: read 39.5 MB and write 39.5 MB (ResNet34)")
SWITCH_COLD_SMALL = Goal(at_most=40, limit="bound by kernel launches")  # EfficientNet-Lite0
SWITCH_HOT = Goal(at_most=60, limit="26 us by copying; about 0 with one graph per adapter (ResNet34)")
SWITCH_TO_COPY = Goal(at_most=3, limit="1: a copy of the changed weights in bfloat16")
SWITCH_IN_PLACE = Goal(at_most=200, limit="52 us: the same bytes in float32 (ResNet34)")
CHANGED_TENSORS = Goal(at_most=0, limit="0")

MERGE = Goal(at_most=100, limit="39 us: 118 MB at 3.0 TB/s, in float32 read and in bfloat16 written")
KERNEL_ERROR = Goal(at_most=0.02, limit="0 is unreachable in bfloat16")
MANY_TO_ONE = Goal(at_least=0.8, limit="near 1 in Punica and S-LoRA (language models)")
PACK = Goal(limit="0: a table that is read by index")

UPLOAD = Goal(at_most=0.1, limit="0.048 ms: 2.4 MB of uint8 at 50 GB/s")
DECODE_GPU = Goal(at_least=7000, limit="7,834 images/s on one A100 (mean 551 x 676 pixels); an H100 has more decoders")
PIXEL_DIFFERENCE = Goal(at_most=3, limit="0")

LOST = Goal(at_most=0, limit="0")
MEMORY = Goal(at_most=3, limit="1")
FIRST_USE = Goal(at_most=5, limit="below 1 ms where every batch size is captured ahead")
INTEGRITY = Goal(at_most=5, limit="0.028 ms: 85 MB at 3 TB/s (ResNet34)")
HOST_SHARE = Goal(at_most=0.5, limit="0: the host's work is hidden behind the device's")

TESTS_FAILED = Goal(at_most=0, limit="0")
HTTP_RATE = Goal(at_least=3000, limit="bound by the event loop and the GIL of one process, not by the GPU")
HTTP_MANY_TO_ONE = Goal(at_least=0.9, limit="1")
HTTP_FAILED = Goal(at_most=0, limit="0")


def floor_ms(macs: float, weights: float, activations: float, images: int) -> float:
    """The least time of a bfloat16 forward pass on an H100: by arithmetic or by bytes, whichever takes longer.

    Bytes are the weights once and every activation written once and read once. `macs` and `activations` are per image.
    """
    arithmetic_s = 2 * macs * images / H100_FLOPS
    bytes_s = 2 * (weights + 2 * activations * images) / H100_BYTES_PER_S
    return 1e3 * max(arithmetic_s, bytes_s)
