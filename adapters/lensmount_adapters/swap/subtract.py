"""Merge by adding and unmerge by subtracting in place, for devices without memory for pristine clones.

It does `live += delta` to mount and `live -= delta` to remove. Rounding leaves a remainder each time (docs/decisions.md
has the measured drift), so after `refresh_after` switches the changed tensors are read again from the weights file.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.kinds import Delta, Sum
from lensmount_adapters.delta.scaled import Scaled
from lensmount_adapters.errors import SwapError


class SubtractingSwapper:
    """Never the default. Set `Reread` as the backbone's source of pristine values; otherwise clones are made anyway.

    >>> backbone.pristine = Reread(lambda: load_backbone().tensors)     # doctest: +SKIP
    >>> swapper = SubtractingSwapper(backbone, refresh_after=100)       # doctest: +SKIP

    Not exact: after a switch the weights depend on what was mounted before. Use `ExactSwapper` wherever its clones fit.
    """

    def __init__(self, backbone: Backbone, refresh_after: int = 100) -> None:
        self._backbone = backbone
        self._refresh_after = refresh_after
        self._mounted: Adapter | None = None
        self._touched: set[str] = set()
        self.switches = 0

    @property
    def mounted(self) -> Adapter | None:
        return self._mounted

    def mount(self, adapter: Adapter) -> bool:
        if self._mounted is not None and self._mounted.digest == adapter.digest:
            return False
        self.unmount()
        self.switches += 1
        if self.switches % self._refresh_after == 0:
            self.refresh()
        self._touched.update(delta.target.name for delta in adapter.deltas)
        self._add(adapter, 1)
        self._mounted = adapter
        return True

    def unmount(self) -> None:
        before, self._mounted = self._mounted, None
        if before is not None:
            self._add(before, -1)

    def refresh(self) -> None:
        """Read every tensor that was ever changed from the weights again. They are exact until the next switch."""
        with torch.no_grad():
            for name, base in self._backbone.base(self._touched).items():
                self._backbone.tensors[name].copy_(base)

    def _added(self, delta: Delta) -> Tensor:
        if not isinstance(delta, Scaled):
            return cast(Sum, delta).dense()
        base = self._backbone.base([delta.target.name])[delta.target.name]  # read again: a scale depends on it
        return delta.merged(base) - base.float()

    def _add(self, adapter: Adapter, sign: int) -> None:
        try:
            with torch.no_grad():
                for delta in adapter.deltas:
                    live = self._backbone.tensors[delta.target.name]
                    live.add_(self._added(delta).to(live.dtype), alpha=sign)
        except BaseException as error:
            self.refresh()
            if isinstance(error, Exception):
                action = "merging" if sign > 0 else "subtracting"
                raise SwapError(f"{action} {adapter.manifest.name} failed; the base is read again") from error
            raise
