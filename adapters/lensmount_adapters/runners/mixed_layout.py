"""What adapters change in a branch: the layout that a mixed branch must have room for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.kinds import Delta, LowRank, Tucker
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.graph.sites import owners, sites_of


@dataclass(frozen=True, slots=True)
class Layout:
    """What adapters change, by module name: `weights`, the `gains` of norms, and `shifts`, which is all that is added.

    >>> layout = Layout.of(branch, malaria.deltas) | Layout.of(branch, smoking.deltas)     # doctest: +SKIP

    Names are sorted, so equal layouts have equal reprs in every process.
    """

    weights: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()

    @classmethod
    def of(cls, branch: FunctionalBranch, deltas: Iterable[Delta]) -> Layout | None:
        """What these deltas change in the branch, or None if they cannot be mixed.

        A ConvTranspose cannot be mixed, nor a leaf that the trace did not take apart, nor a layer that the images do
        not reach (a network of position biases), nor a parameter that no layer owns. A weight without groups needs
        factors: a whole matrix or kernel, or a scaled one, cannot be mixed. Without any delta there is nothing to mix.
        """
        deltas = tuple(deltas)
        if not deltas or not branch.covers(deltas):
            return None
        modules = owners(branch)
        sites = sites_of(branch, {modules[delta.target.module] for delta in deltas})
        if sites is None:
            return None
        weights, gains, shifts = set[str](), set[str](), set[str]()
        for delta in deltas:
            module, parameter = modules[delta.target.module], delta.target.name.rpartition(".")[2]
            if delta.target.layer in (Layer.LINEAR, Layer.CONV) and parameter == "weight":
                if sites[module].groups == 1 and not isinstance(delta, LowRank | Tucker):
                    return None
                weights.add(module)
                continue
            shifts.add(module)
            unfolded = delta.target.layer is Layer.BATCH_NORM and module == delta.target.module
            if unfolded or parameter in ("weight", "running_var"):  # the shift of an unfolded norm contains its gain
                gains.add(module)
        return cls(tuple(sorted(weights)), tuple(sorted(gains)), tuple(sorted(shifts)))

    def __or__(self, other: Layout) -> Layout:
        """What either changes."""
        pairs = zip(self._parts, other._parts, strict=True)
        return Layout(*(tuple(sorted({*ours, *theirs})) for ours, theirs in pairs))

    def covers(self, other: Layout) -> bool:
        """Whether a branch of this layout has room for everything that the other changes."""
        return all(set(theirs) <= set(ours) for ours, theirs in zip(self._parts, other._parts, strict=True))

    @property
    def modules(self) -> frozenset[str]:
        return frozenset().union(*self._parts)

    @property
    def _parts(self) -> tuple[tuple[str, ...], ...]:
        return self.weights, self.gains, self.shifts
