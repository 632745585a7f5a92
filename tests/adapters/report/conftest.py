"""Shared by the tests of reports: a trust block that promises something of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_adapters.adapter.trust import Trust


@pytest.fixture
def promises() -> Trust:
    """Of the labels "no" and "yes"; the second has too few images for sets."""
    figures = {"ece": 0.02, "adaptive_ece": 0.03, "brier": 0.1, "log_loss": 0.2}
    intervals: dict[str, Any] = {f"{name}_interval": [value / 2, 2 * value] for name, value in figures.items()}
    return Trust.model_validate(
        {
            "calibration": {"images": 90, "source": "part", "temperature": 1.25, **figures, **intervals},
            "conformal": {"coverage": 0.95, "method": "lac", "thresholds": [0.4, None], "images": [40, 12]},
            "selective": {"accuracy": 0.99, "threshold": 0.8, "share": 0.7, "images": 90},
            "operating": {"positive": "yes", "kind": "sensitivity", "value": 0.98, "threshold": 0.3, "images": 60},
            "familiarity": {
                "space": f"sha256:{64 * 'a'}|blocks.4|mean+std",
                "images": 90,
                "quantiles": [0.5 * step for step in range(101)],
                "flag": 99.0,
            },
        }
    )
