"""The settings of a run as they took effect: what a default or "auto" meant, in place of an empty value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.options.table import TRAINING_OPTIONS
from lensmount_adapters.report.record import flatten

_DEFAULTS = {option.name: option.unset for option in TRAINING_OPTIONS if option.unset}


def effective_settings(manifest: Manifest) -> dict[str, str]:
    """Every recorded setting with the value that the run used. A setting without any meaning in the run is left out."""
    recorded = _object(manifest.training.get("hyper_parameters"))
    used = _used(manifest, recorded)
    found = {}
    for name, value in recorded.items():
        value = used.get(name, _DEFAULTS.get(name)) if value is None else value
        value = f"{used[name]} (auto)" if value == "auto" and name in used else value
        if value is not None:
            found[name] = value
    return flatten(found)


def effective_split(manifest: Manifest) -> dict[str, str]:
    """The recorded rule of the split, with what a missing value meant."""
    split = _object(manifest.training.get("split"))
    return flatten(
        {
            name: _DEFAULTS.get(name, "none") if value is None else value
            for name, value in split.items()
            if name != "parts"
        }
    )


def _used(manifest: Manifest, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """What the run used for settings that were left open, as far as the file says it."""
    record, rule = manifest.training, manifest.preprocessing
    rank, trunk, calibration = recorded.get("rank"), _object(record.get("trunk")), _object(record.get("calibration"))
    used = {
        "alpha": 2 * rank if type(rank) is int and abs(rank) < 2**53 else None,
        "epochs": _object(record.get("epochs")).get("asked"),
        "targets": f"the backbone's preset: {len(manifest.modules)} layers",
        "size": " x ".join(map(str, rule.size)),
        "window": getattr(rule, "window", None),
        "precision": record.get("precision"),
        "cache_trunk": None if "views" not in trunk else "on" if trunk["views"] else "off",
        "calibration": calibration.get("source") or ("none" if calibration else None),
    }
    return {name: value for name, value in used.items() if value is not None}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
