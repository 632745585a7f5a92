"""The model in training: a frozen backbone with weights `W = W0 + delta`, and a head. Only delta and head learn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lensmount_adapters.adapter.heads import build_head, head_tensors
from lensmount_adapters.adapter.manifest import Factors, HeadSpec
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.decomposed import Decomposed, decomposed, magnitude_name
from lensmount_adapters.delta.initial import fresh_additive, fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.delta.targets import Selection
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.fast_convolutions.conv3d import SlicewiseConv3d
from lensmount_adapters.fast_convolutions.depthwise import UnstridedDepthwise
from lensmount_adapters.graph.fold import fold_batch_norms, out_of_place
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.machine import choose_device
from lensmount_adapters.programs.cast import channels_last
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network

# Milliseconds per image for EfficientNet-Lite0's trunk in bfloat16 on one core, with 1, 4, 16 and 32 images per pass:
# 5.3, 3.0, 3.6, 5.2 at 160 pixels; 18.7, 23.7, 38, 42 at 384 pixels.
PIECE_PIXELS = 150_000
PIECE_WEIGHTS = 1_000_000


@dataclass(frozen=True, slots=True)
class FactorInit:
    """The standard deviations of the initial factors A and B, as `fresh_low_rank` takes them.

    `a_std` None draws A Kaiming uniform. `b_std` 0 makes B zero, so that training starts at the backbone itself.
    """

    a_std: float | None = None
    b_std: float = 0.0


class TrainableAdapter:
    """Deltas and a head as trainable leaves. The backbone's own tensors are read and never written.

    >>> adapter = TrainableAdapter(backbone, selection, rank=8, alpha=16.0, head=LinearHead(), classes=2, seed=0)
    >>> adapter.logits(images, torch.float32).sum().backward()     # doctest: +SKIP

    `trunk` is frozen (None if the first layer is trained); `branch` follows it at the layer `cut`. Every step computes
    the branch's weights again in float32 and passes them to the branch for one call. BatchNorm stays in eval mode, so
    the model that is trained is the model that is served. After `use_int8` the trunk computes in int8 as on a server.
    """

    def __init__(
        self,
        backbone: Backbone,
        selection: Selection,
        *,
        rank: int,
        alpha: float,
        head: HeadSpec,
        classes: int,
        seed: int,
        init: FactorInit | None = None,
    ) -> None:
        self.backbone = backbone
        self.modules: dict[str, Factors] = {}
        fresh = self._fresh(selection, rank, alpha, torch.Generator().manual_seed(seed), init or FactorInit())
        self.factors = {
            name: tensor.to(backbone.device).requires_grad_()
            for delta in fresh
            for name, tensor in delta.tensors().items()
        }
        self.deltas = self._read()
        self.bases = backbone.base(delta.target.name for delta in self.deltas)
        if selection.dora:
            self.deltas = tuple(self._decomposed(delta) for delta in self.deltas)
        names = {delta.target.name for delta in self.deltas}
        self.trunk, self.branch, self.cut = _halves(backbone, names)
        self.int8: Int8Network | None = None
        with isolated_random_state(backbone.device):
            torch.manual_seed(seed)
            self.head = build_head(head, backbone.feature_dim, classes).to(backbone.device)

    def use_int8(self, trunks: Int8Trunks) -> None:
        """Compute the trunk in int8 from now on. Raises BackboneError if this backbone has none at the cut."""
        self.int8 = Int8Network(self.backbone, trunks, {delta.target.name for delta in self.deltas})

    def activations(self, images: Tensor, precision: torch.dtype) -> Tensor:
        """Preprocessed images [N, 3, (D,) H, W] to the input of the branch: the trunk's output, without gradients.

        Returns the float32 images if the first layer is trained. On CPU the trunk runs on pieces that fit the caches.
        """
        images = channels_last(images.to(self.backbone.device))
        if self.trunk is None:
            return images
        if self.int8 is not None:
            return self.int8.trunk(images).to(precision)
        with torch.no_grad(), self._autocast(precision), self._slicewise():
            pieces = [self.trunk(piece) for piece in torch.split(images, self._images_per_piece(images))]
        return torch.cat(pieces).to(precision)

    def logits_of(self, activations: Tensor, precision: torch.dtype) -> Tensor:
        """`activations` to float32 logits [N, classes]. The head is in the mode of `train()` or `eval()`."""
        live = {d.target.name: d.merged(self.bases[d.target.name]) for d in self.deltas}
        unstrided = UnstridedDepthwise(enabled=precision is torch.bfloat16 and self.backbone.device.type == "cpu")
        with self._autocast(precision), unstrided, self._slicewise():
            features: Tensor = functional_call(self.branch, live, (activations,))  # [N, feature_dim]
        logits: Tensor = self.head(features.float())
        return logits

    def logits(self, images: Tensor, precision: torch.dtype) -> Tensor:
        """Preprocessed images [N, 3, H, W] to float32 logits [N, classes]."""
        return self.logits_of(self.activations(images, precision), precision)

    def parameters(self) -> dict[str, Tensor]:
        """The tensors that the optimiser changes, by their names in the adapter file."""
        heads = {f"head.{name}": tensor for name, tensor in self.head.named_parameters() if tensor.requires_grad}
        return self.factors | heads

    def tensors(self) -> dict[str, Tensor]:
        """The tensors in training: parameters and the head's statistics, detached but not copied."""
        return {name: tensor.detach() for name, tensor in (self.factors | head_tensors(self.head)).items()}

    def stored(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`tensors()` of any step as the adapter file stores them: DoRA's magnitudes become row scales."""
        stored = dict(tensors)
        for delta in self.deltas:
            if isinstance(delta, Decomposed):
                (inner,) = self._read({name: tensors[name] for name in delta.inner.tensors()})
                magnitude = stored.pop(magnitude_name(delta.target))
                stored |= Decomposed(delta.target, inner, magnitude).stored(self.bases[delta.target.name]).tensors()
        return stored

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values into the tensors in place, so that the optimiser keeps its leaves."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])

    def count(self) -> int:
        """The number of trainable parameters."""
        return sum(tensor.numel() for tensor in self.parameters().values())

    def train(self) -> None:
        self.head.train()

    def eval(self) -> None:
        self.head.eval()

    def _autocast(self, precision: torch.dtype) -> torch.autocast:
        return torch.autocast(self.backbone.device.type, precision, enabled=precision is torch.bfloat16)

    def _slicewise(self) -> SlicewiseConv3d:
        return SlicewiseConv3d(enabled=self.backbone.device.type == "cpu")

    def _images_per_piece(self, images: Tensor) -> int:
        """Images per pass of the trunk. On CPU: few large maps, but enough to make up for reading the weights."""
        if images.device.type != "cpu" or self.trunk is None:
            return max(1, len(images))
        weights = sum(tensor.numel() for tensor in self.trunk.parameters())
        return max(1, PIECE_PIXELS // images[0, 0].numel(), min(32, weights // PIECE_WEIGHTS))

    def _read(self, factors: Mapping[str, Tensor] | None = None) -> tuple[Delta, ...]:
        """The deltas, as views of the leaves in `factors`."""
        scales = {module: each.scale for module, each in self.modules.items()}
        return read_deltas(self.backbone.targets, self.factors if factors is None else factors, scales)

    def _decomposed(self, delta: Delta) -> Delta:
        """Give a low-rank delta a magnitude per output, which is trained too."""
        if delta.rank is None:
            return delta
        made = decomposed(delta, self.bases[delta.target.name])
        self.factors[magnitude_name(delta.target)] = made.magnitude.requires_grad_()
        return made

    def _fresh(
        self, selection: Selection, rank: int, alpha: float, generator: torch.Generator, init: FactorInit
    ) -> list[Delta]:
        """Initial deltas of the selected tensors; fills `modules`."""
        deltas: list[Delta] = []
        for target in selection.low_rank:
            # a rank above full rank would only waste bytes; alpha shrinks with the rank, so that the scale is the same
            full_rank = min(target.out_features // target.groups, torch.Size(target.shape[1:]).numel())
            used_rank = min(rank, full_rank)
            self.modules[target.module] = Factors(rank=used_rank, alpha=alpha * used_rank / rank)
            scale = self.modules[target.module].scale
            pointwise = all(k == 1 for k in target.shape[2:])
            if selection.tucker and not pointwise and target.layer == "conv":
                deltas.append(fresh_tucker(target, used_rank, scale, generator, init.a_std, init.b_std))
            else:
                deltas.append(fresh_low_rank(target, used_rank, scale, generator, init.a_std, init.b_std))
        return deltas + [fresh_additive(target) for target in selection.additive]


def _halves(backbone: Backbone, adapted: set[str]) -> tuple[nn.Module | None, nn.Module, str]:
    """Trunk, branch and the layer of the cut, rewritten to train quickly. An untraceable model is all branch."""
    try:
        halves = Segments(backbone.module).halves(adapted)
    except BackboneError:
        return None, backbone.module, ""
    trunk = None if halves.trunk is None else fold_batch_norms(halves.trunk)
    return trunk, out_of_place(fold_batch_norms(halves.branch, adapted)), halves.at


def isolated_random_state(device: torch.device | str) -> AbstractContextManager[None]:
    """Inside, the global generators may be seeded and used; afterwards their state is restored.

    Those of the CPU and of this device: on a CPU no GPU is touched.
    """
    device = torch.device(choose_device(str(device)))
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


class Average:
    """The exponential moving average of the trained tensors (Polyak averaging), which varies less than the last step.

    The decay grows from 0.1 to `decay` as `(1 + t) / (10 + t)`, so that early steps lose their weight quickly.
    """

    def __init__(self, adapter: TrainableAdapter, decay: float) -> None:
        self._adapter = adapter
        self._decay = decay
        self.steps = 0
        self.tensors = {name: tensor.clone() for name, tensor in adapter.tensors().items()}

    def update(self) -> None:
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        for name, tensor in self._adapter.tensors().items():
            self.tensors[name].lerp_(tensor, 1 - decay)
