"""MONAI's segmentation networks as backbones: images [N, 3, H, W] to maps of features [N, 16, H, W].

They are stock networks of the library with 16 outputs, so that an adapter's head, a 1x1 convolution, replaces their
last layer. Both normalise each image separately (InstanceNorm, MONAI's own choice). So nothing depends on running
statistics, which stay frozen while adapters train.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from lensmount_adapters.errors import BackboneError

FEATURES = 16
SIZE_STEP = 32  # four halvings, and more than one position left for InstanceNorm

CONFIG = MappingProxyType(
    {
        "input_size": (3, 256, 256),
        "size_step": SIZE_STEP,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.0, 0.0, 0.0),  # convolutions pad with 0; if black were not 0, the border would outshine a dim image
        "std": (1.0, 1.0, 1.0),
    }
)


def build(name: str) -> nn.Module:
    """Create the network with new weights. Raises BackboneError if MONAI is not installed."""
    module = NETWORKS[name]()
    module.pretrained_cfg = dict(CONFIG)  # type: ignore[assignment]  # timm's models keep theirs under this name
    return module


def _unet() -> nn.Module:
    """The residual U-Net (Kerfoot et al. 2018, doi:10.1007/978-3-030-12029-0_40) in the size of MONAI's tutorials."""
    channels, strides = (16, 32, 64, 128, 256), (2, 2, 2, 2)
    module: nn.Module = _nets().UNet(2, 3, FEATURES, channels=channels, strides=strides, num_res_units=2)
    return module


def _basic_unet() -> nn.Module:
    """The plain U-Net (Falk et al. 2019, doi:10.1038/s41592-018-0261-2) in MONAI's default size."""

    class BasicUNet(_nets().BasicUNet):  # type: ignore[misc]  # untyped; defined in the function because MONAI is an extra
        """MONAI's layers in their order. A trace fails in MONAI's own blocks, because they check for tensors."""

        def forward(self, x: Tensor) -> Tensor:
            levels = [self.conv_0(x)]
            for down in (self.down_1, self.down_2, self.down_3, self.down_4):
                levels.append(down(levels[-1]))
            x = levels.pop()
            for up in (self.upcat_4, self.upcat_3, self.upcat_2, self.upcat_1):
                x = up.convs(torch.cat([levels.pop(), up.upsample(x)], dim=1))  # of equal size, because of SIZE_STEP
            features: Tensor = self.final_conv(x)
            return features

    return BasicUNet(2, 3, FEATURES, act=("LeakyReLU", {"negative_slope": 0.1}))


NETWORKS = MappingProxyType({"monai_unet": _unet, "monai_basic_unet": _basic_unet})


def _nets() -> Any:
    try:
        from monai.networks import nets
    except ModuleNotFoundError as error:
        raise BackboneError(
            f'MONAI\'s networks need {error.name}, which is not installed. Fix: pip install "lensmount[monai]"'
        ) from error
    return nets
