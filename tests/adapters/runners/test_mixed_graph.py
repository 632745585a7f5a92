"""The graph of the mixed branch computes each layer wherever it runs, for any batch and image size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone, load_backbone

if TYPE_CHECKING:
    from tests.adapters.runners.conftest import Mixing


MIXABLE = r"(?!head\.|transposed).*"


DrawAdapter = Callable[..., Any]


per_sample = pytest.mark.parametrize("per_sample", [False, True], ids=["concatenated", "per sample"])


class Twice(nn.Module):
    """One convolution and one norm that run twice, and a layer whose input does not depend on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.table = nn.Linear(2, 3)
        self.register_buffer("positions", torch.tensor([[0.5, 1.0]]))
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.relu(self.norm(self.conv(x)))))
        answer: Tensor = x.mean((2, 3)) + self.table(self.positions)
        return answer


@per_sample
def test_batch_and_image_size_change_from_call_to_call(
    per_sample: bool,
    randomised: Callable[[Backbone], Backbone],
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
) -> None:
    backbone = randomised(load_backbone("test_efficientnet", "random:0"))
    drawn = [draw_adapter(backbone, "mixed", seed=seed, modules=MIXABLE, size=0.1) for seed in (1, 2)]
    branch = mixing.branch_for(backbone, drawn, slots=2, per_sample=per_sample)
    factors = branch.pack([mixing.deltas_of(backbone, parts) for parts in drawn])

    for count, size in ((1, 64), (7, 64), (2, 96)):
        images = torch.randn(count, 3, size, size + 32)
        rows = [sample % 2 for sample in range(count)]
        expected = [features64(backbone, drawn[row], images[i : i + 1]) for i, row in enumerate(rows)]
        mixing.assert_close(mixing.answers(branch, images, rows, factors), torch.cat(expected))


@per_sample
def test_a_layer_that_runs_twice_is_mixed_both_times(
    per_sample: bool,
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
    seeded: Callable[[Callable[[], nn.Module]], Backbone],
) -> None:
    backbone = seeded(Twice)
    drawn = [draw_adapter(backbone, method, rank=2, modules="conv|norm") for method in ("lora", "norm", "statistics")]
    branch, images = mixing.branch_for(backbone, drawn, per_sample=per_sample), mixing.images_for(backbone, 3)

    features = mixing.answers(
        branch, images, (0, 1, 2), branch.pack([mixing.deltas_of(backbone, parts) for parts in drawn])
    )

    for sample, parts in enumerate(drawn):
        mixing.assert_close(features[sample : sample + 1], features64(backbone, parts, images[sample : sample + 1]))


@per_sample
def test_a_norm_whose_scale_is_zero_can_be_adapted(
    per_sample: bool,
    every_layer: Callable[..., Backbone],
    draw_adapter: DrawAdapter,
    features64: Callable[..., Tensor],
    mixing: type[Mixing],
) -> None:
    backbone = every_layer()
    nn.init.zeros_(backbone.module.get_submodule("batch_norm2d").weight)  # type: ignore[arg-type]  # typed as a module
    backbone = Backbone(backbone.name, backbone.module, backbone.preprocessing, backbone.dtype)
    norm = draw_adapter(backbone, "norm", modules="conv2d|batch_norm2d")
    lora = draw_adapter(every_layer(), "lora", modules="conv2d|batch_norm2d")  # behind a scale of zero it has no effect
    both = draw_adapter(backbone, "norm", modules="conv2d|batch_norm2d", seed=1)
    both.tensors |= {name: tensor for name, tensor in lora.tensors.items() if "lora" in name}
    both.manifest["modules"] = lora.manifest["modules"]
    branch, images = mixing.branch_for(backbone, [norm, both], per_sample=per_sample), mixing.images_for(backbone, 2)

    features = mixing.answers(
        branch, images, (0, 1), branch.pack([mixing.deltas_of(backbone, parts) for parts in (norm, both)])
    )

    for sample, parts in enumerate((norm, both)):
        mixing.assert_close(features[sample : sample + 1], features64(backbone, parts, images[sample : sample + 1]))
