"""Switch one adapter on and off in resident weights: `live = base + delta`, undone by copying the base back.

In floating point, adding and then subtracting does not return the base exactly, so nothing is ever subtracted here. A
switch writes `base + new delta` over `base + old delta` in one pass: the bits are the same whatever was mounted before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.pristine import Unwritten
from lensmount_adapters.delta.kinds import Delta, planned
from lensmount_adapters.errors import IntegrityError, SwapError
from lensmount_adapters.faults import fault


class Swapper(Protocol):
    """Puts one adapter at a time on the backbone."""

    @property
    def mounted(self) -> Adapter | None: ...

    def mount(self, adapter: Adapter) -> bool:
        """Mount `adapter`. Returns False if it was mounted already. If it raises SwapError, the base is restored."""
        ...

    def unmount(self) -> None:
        """Return to the base."""
        ...


class ExactSwapper:
    """The default swapper; it restores the base exactly, from pristine clones.

    >>> swapper = ExactSwapper(backbone)       # doctest: +SKIP
    >>> swapper.mount(malaria)                 # doctest: +SKIP
    >>> swapper.mount(smoking)                 # one pass, no unmount between   # doctest: +SKIP
    >>> swapper.unmount()                      # the base again, bit for bit    # doctest: +SKIP

    Only the thread that owns the backbone may call it.
    """

    def __init__(self, backbone: Backbone) -> None:
        """Raises IntegrityError for a backbone that keeps no pristine clones."""
        if isinstance(backbone.pristine, Unwritten):
            raise IntegrityError(f"{backbone.name}: found no pristine clones. Fix: call backbone.keep_clones() first")
        self._backbone = backbone
        self._mounted: Adapter | None = None

    @property
    def mounted(self) -> Adapter | None:
        return self._mounted

    def mount(self, adapter: Adapter) -> bool:
        if self._mounted is not None and self._mounted.digest == adapter.digest:
            return False
        names = [delta.target.name for delta in adapter.deltas]
        bases = self._backbone.base(names)
        before, self._mounted = self._mounted, None
        left_over = set(_names(before.deltas)) - set(names) if before else set()
        try:
            with torch.no_grad():
                live = self._backbone.tensors
                plans = [planned(delta, bases[delta.target.name], live[delta.target.name]) for delta in adapter.deltas]
                for write in plans:
                    fault("swap.write")
                    write()
                fault("swap.restore")
                self._restore(left_over)
        except BaseException as error:
            self._restore({*names, *left_over})
            if isinstance(error, Exception):
                raise SwapError(f"merging {adapter.manifest.name} failed; the base is restored") from error
            raise
        self._mounted = adapter
        return True

    def unmount(self) -> None:
        before, self._mounted = self._mounted, None
        if before is not None:
            self._restore(_names(before.deltas))

    def _restore(self, names: Iterable[str]) -> None:
        with torch.no_grad():
            for name, base in self._backbone.base(names).items():
                self._backbone.tensors[name].copy_(base)


def _names(deltas: Iterable[Delta]) -> list[str]:
    return [delta.target.name for delta in deltas]
