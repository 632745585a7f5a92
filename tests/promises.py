"""A fixture for all folders of tests: an adapter file that promises something of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from lensmount_adapters import Backbone, Manifest

DrawTrust = Callable[..., "tuple[Manifest, dict[str, Tensor]]"]


@pytest.fixture(scope="session")
def draw_trust() -> DrawTrust:
    """`draw_trust(backbone, draw_adapter(backbone), width=24, rank=5)`: for `dump_adapter(manifest, tensors)`.

    The parts must have two labels, "no" and "yes".
    """
    return _draw_trust


def _draw_trust(backbone: Backbone, parts: Any, width: int = 24, rank: int = 5) -> tuple[Manifest, dict[str, Tensor]]:
    import torch

    from lensmount_adapters import Manifest
    from lensmount_adapters.adapter.trust_check import Statistics

    random = torch.Generator().manual_seed(4)
    figures = {"ece": 0.02, "adaptive_ece": 0.03, "brier": 0.1, "log_loss": 0.2}
    intervals = {f"{name}_interval": [value / 2, 2 * value] for name, value in figures.items()}
    trust = {
        "calibration": {"images": 90, "source": "part", "temperature": 1.25, **figures, **intervals},
        "conformal": {"coverage": 0.95, "method": "lac", "thresholds": [0.4, None], "images": [40, 12]},
        "selective": {"accuracy": 0.99, "threshold": 0.8, "share": 0.7, "images": 90},
        "operating": {"positive": "yes", "kind": "sensitivity", "value": 0.98, "threshold": 0.3, "images": 60},
        "familiarity": {
            "space": f"{backbone.fingerprint}|blocks_1_0|mean+std",
            "images": 90,
            "quantiles": [0.5 * step for step in range(101)],
            "flag": 99.0,
        },
    }
    document = parts.manifest | {"trust": trust, "head": parts.manifest["head"] | {"temperature": 1.25}}
    statistics = Statistics(
        means=torch.randn(2, width, generator=random).numpy(),
        basis=torch.linalg.qr(torch.randn(width, width, generator=random))[0][:, :rank].T.numpy(),
        scales=torch.linspace(1, 0.1, rank).numpy(),
        residual=0.05,
    )
    return Manifest.parse(json.dumps(document)), {**parts.tensors, **statistics.tensors()}
