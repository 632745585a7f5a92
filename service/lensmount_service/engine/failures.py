"""What is kept of an exception of a forward pass, and what the callers whose images failed are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from lensmount_adapters.errors import SwapError
from lensmount_adapters.runners.runner import by_adapter
from lensmount_service.engine.memory import is_device_lost, is_out_of_memory
from lensmount_service.engine.scheduler import QueuedImage
from lensmount_service.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """What is kept of an exception: no traceback, whose frames hold the tensors of the failed pass."""

    kind: str
    text: str
    of_swap: bool
    out_of_memory: bool
    device_lost: bool

    @classmethod
    def of(cls, error: Exception) -> Failure:
        text = str(error)
        return cls(
            type(error).__name__, text, isinstance(error, SwapError), is_out_of_memory(error), is_device_lost(error)
        )

    @property
    def of_adapter(self) -> bool:
        """Whether the adapter is to blame, and neither a switch nor the memory."""
        return not self.of_swap and not self.out_of_memory

    def parts_of(self, batch: list[QueuedImage[T]]) -> tuple[list[list[QueuedImage[T]]], bool]:
        """The parts in which a failed batch is run again, and whether they are halves. One part: it is not run again.

        It is run one adapter at a time, so that a faulty one does not fail the others; then one tenant at a time, so
        that the images of one do not fail those of another; then, if memory was short, in halves until they fit.
        """
        parts = [[batch[row] for row in rows] for _, rows in by_adapter(batch)]
        if len(parts) == 1:
            tenants = {item.tenant: None for item in batch}
            parts = [[item for item in batch if item.tenant == tenant] for tenant in tenants]
        if self.out_of_memory and len(parts) == 1 and len(batch) > 1:
            half = (len(batch) + 1) // 2
            return [batch[:half], batch[half:]], True
        return parts, False

    def told(self, digest: str, images: int) -> Unavailable:
        """The error for the callers of these images of one adapter."""
        if self.of_swap:
            return Unavailable(f"adapter {digest}: {self.text}. Fix: try again", code="swap_failed", retry_after_s=1)
        if self.out_of_memory:
            return Unavailable(
                f"found too little memory for {images} image{'s' * (images > 1)} of adapter {digest} at once. "
                "Fix: try again later, or serve with a smaller --max-batch",
                code="out_of_memory",
                retry_after_s=1,
            )
        return Unavailable(
            f"adapter {digest}: the forward pass failed ({self.kind}). Fix: try again, with smaller batches",
            code="forward_failed",
            retry_after_s=1,
        )
