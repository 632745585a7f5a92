"""How large the changes of a foreign adapter may be, checked module by module before all of them are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lensmount_adapters.errors import AdapterTooLarge


@dataclass(slots=True)
class Room:
    """`max_bytes` for the deltas of all modules in float16; without it there is room for any."""

    max_bytes: int | None = None
    taken: int = 0

    def take(self, deltas: Mapping[str, Tensor]) -> None:
        """Count the deltas of one more module. Raises AdapterTooLarge as soon as they are too many."""
        self.taken += 2 * sum(tensor.numel() for tensor in deltas.values())
        if self.max_bytes is not None and self.taken > self.max_bytes:
            raise too_large(f"more than {self.max_bytes}", self.max_bytes)


def too_large(size: str, max_bytes: int) -> AdapterTooLarge:
    """The refusal of changes that are too large even in float16."""
    return AdapterTooLarge(
        f"found changes of {size} bytes in float16, expected at most {max_bytes}: not all are products of small "
        "factors. Fix: merge it with the tool that wrote it, save the whole network, and run "
        f"`lensmount adapters extract FILE --max-bytes {max_bytes}`"
    )
