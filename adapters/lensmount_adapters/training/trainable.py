"""The model while it trains: the frozen backbone seen through `W = W0 + delta`, and a head; only these two learn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lensmount_adapters.adapter.heads import build_head, head_tensors
from lensmount_adapters.adapter.manifest import Factors, HeadSpec
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.initial import fresh_additive, fresh_low_rank, fresh_tucker
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.delta.targets import Selection
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.fold import fold_batch_norms, out_of_place
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.cast import channels_last
from lensmount_adapters.training.fast_conv3d import SlicewiseConv3d
from lensmount_adapters.training.fast_depthwise import UnstridedDepthwise

# EfficientNet-Lite0's trunk in bfloat16, one core, ms an image with 1, 4, 16, 32 images in a pass: 5.3, 3.0, 3.6, 5.2
# at 160 pixels; 18.7, 23.7, 38, 42 at 384 pixels.
PIECE_PIXELS = 150_000
PIECE_WEIGHTS = 1_000_000


class _Draw(NamedTuple):
    """How the first factors are drawn, as `fresh_low_rank` takes it."""

    generator: torch.Generator
    std: float | None
    b_std: float


class TrainableAdapter:
    """Deltas and head as leaves of the graph; the backbone's own tensors are read and never written.

    >>> adapter = TrainableAdapter(backbone, selection, rank=8, alpha=16.0, head=LinearHead(), classes=2, seed=0)
    >>> adapter.logits(images, torch.float32).sum().backward()     # doctest: +SKIP

    `std` and `b_std` are how A and B are drawn (`fresh_low_rank`).
    `trunk` is frozen (None where the first layer is trained), `branch` follows it at the layer `cut`. Every step
    computes the branch's weights anew in float32 and lends them to it for one call, so BatchNorm stays in eval mode
    and what is trained is what is served.
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
        std: float | None = None,
        b_std: float = 0.0,
    ) -> None:
        self.backbone = backbone
        self.modules: dict[str, Factors] = {}
        draw = _Draw(torch.Generator().manual_seed(seed), std, b_std)
        fresh = self._fresh(selection, rank, alpha, draw)
        self.factors = {
            name: tensor.to(backbone.device).requires_grad_()
            for delta in fresh
            for name, tensor in delta.tensors().items()
        }
        self.deltas = self._read()
        self.bases = backbone.base(delta.target.name for delta in self.deltas)
        self.trunk, self.branch, self.cut = _halves(backbone, {delta.target.name for delta in self.deltas})
        with own_random_state():
            torch.manual_seed(seed)
            self.head = build_head(head, backbone.feature_dim, classes).to(backbone.device)

    def activations(self, images: Tensor, precision: torch.dtype) -> Tensor:
        """Preprocessed images [N, 3, (D,) H, W] to what enters the branch: the trunk's output, without gradients.

        float32 images where the first layer is trained already. On CPU in pieces small enough for the caches.
        """
        images = channels_last(images.to(self.backbone.device))
        if self.trunk is None:
            return images
        with torch.no_grad(), self._autocast(precision), self._slicewise():
            pieces = [self.trunk(piece) for piece in torch.split(images, self._piece(images))]
        return torch.cat(pieces).to(precision)

    def logits_of(self, activations: Tensor, precision: torch.dtype) -> Tensor:
        """`activations` to float32 logits [N, classes]; the head follows `train()` and `eval()`."""
        live = {d.target.name: self.bases[d.target.name] + d.dense() for d in self.deltas}
        unstrided = UnstridedDepthwise(enabled=precision is torch.bfloat16 and self.backbone.device.type == "cpu")
        with self._autocast(precision), unstrided, self._slicewise():
            features: Tensor = functional_call(self.branch, live, (activations,))  # [N, feature_dim]
        logits: Tensor = self.head(features.float())
        return logits

    def logits(self, images: Tensor, precision: torch.dtype) -> Tensor:
        """Preprocessed images [N, 3, H, W] to float32 logits [N, classes]."""
        return self.logits_of(self.activations(images, precision), precision)

    def parameters(self) -> dict[str, Tensor]:
        """What the optimiser moves, by name in the adapter file."""
        heads = {f"head.{name}": tensor for name, tensor in self.head.named_parameters() if tensor.requires_grad}
        return self.factors | heads

    def tensors(self) -> dict[str, Tensor]:
        """The adapter file's tensors: parameters and the head's statistics, detached but not copied."""
        return {name: tensor.detach() for name, tensor in (self.factors | head_tensors(self.head)).items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values in, in place, so that the optimiser keeps its leaves."""
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

    def _piece(self, images: Tensor) -> int:
        """Images in one pass of the trunk: on CPU few large maps, but enough to pay for reading the weights."""
        if images.device.type != "cpu" or self.trunk is None:
            return max(1, len(images))
        weights = sum(tensor.numel() for tensor in self.trunk.parameters())
        return max(1, PIECE_PIXELS // images[0, 0].numel(), min(32, weights // PIECE_WEIGHTS))

    def _read(self) -> tuple[Delta, ...]:
        """The deltas over the leaves in `factors`."""
        scales = {module: factors.scale for module, factors in self.modules.items()}
        return read_deltas(self.backbone.targets, self.factors, scales)

    def _fresh(self, selection: Selection, rank: int, alpha: float, draw: _Draw) -> list[Delta]:
        deltas: list[Delta] = []
        for target in selection.low_rank:
            # a delta of more than full rank would only waste bytes; alpha follows, so that the scale stays
            full = min(target.out_features // target.groups, torch.Size(target.shape[1:]).numel())
            own = min(rank, full)
            self.modules[target.module] = Factors(rank=own, alpha=alpha * own / rank)
            scale = self.modules[target.module].scale
            pointwise = all(k == 1 for k in target.shape[2:])
            if selection.tucker and not pointwise and target.layer == "conv":
                deltas.append(fresh_tucker(target, own, scale, *draw))
            else:
                deltas.append(fresh_low_rank(target, own, scale, *draw))
        return deltas + [fresh_additive(target) for target in selection.additive]


def _halves(backbone: Backbone, adapted: set[str]) -> tuple[nn.Module | None, nn.Module, str]:
    """Trunk, branch and where they meet, rewritten to train quickly; all is branch where it cannot be traced."""
    try:
        halves = Segments(backbone.module).halves(adapted)
    except BackboneError:
        return None, backbone.module, ""
    trunk = None if halves.trunk is None else fold_batch_norms(halves.trunk)
    return trunk, out_of_place(fold_batch_norms(halves.branch, adapted)), halves.at


def own_random_state() -> AbstractContextManager[None]:
    """Inside, the global generators may be seeded and drawn from; afterwards they are as they were."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else [])


class Average:
    """The exponential moving average of the trained tensors (Polyak averaging): steadier than the last step.

    The decay grows from 0.1 to `decay` as `(1 + t) / (10 + t)`, so that early steps are forgotten.
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
