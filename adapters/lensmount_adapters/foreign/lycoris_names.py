"""Names in LyCORIS and kohya files: `<prefix>_<path with "_" for ".">.<part>`, and the spelling of diffusers.

Flattening loses where the dots were, so the names are read with a table of the backbone's own paths. A file has one
prefix, such as `lycoris`, `lora_unet` or `lora_te`; any other that fits all its names in one way is accepted as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.suggestion import did_you_mean

PREFIXES = ("lycoris", "lora_unet", "lora_te", "lora_te1", "lora_te2", "lora", "")
ALIASES = {
    "lora_A.weight": "lora_down.weight",
    "lora_B.weight": "lora_up.weight",
    "lora.down.weight": "lora_down.weight",
    "lora.up.weight": "lora_up.weight",
    "lora_linear_layer.down.weight": "lora_down.weight",
    "lora_linear_layer.up.weight": "lora_up.weight",
    "lora_magnitude_vector": "dora_scale",
}
"""The spellings of diffusers, and LyCORIS' names for the same tensors."""

NAMES_SHOWN = 8


def grouped(tensors: Mapping[str, Tensor], parts: Iterable[str], paths: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Return the file's tensors as path of the backbone -> part -> tensor.

    `parts` are the known last pieces of a name, such as "lora_up.weight"; `paths` the backbone's modules. Raises
    AdapterInvalid (`adapter_unknown_target`) with all names that belong to no module, or to more than one.
    """
    by_stem: dict[str, dict[str, Tensor]] = {}
    known = {*parts, *ALIASES}
    unknown = []
    for name, tensor in tensors.items():
        stem, part = _split(name, known)
        if not stem:
            unknown.append(name)
            continue
        by_stem.setdefault(stem, {})[ALIASES.get(part, part)] = tensor
    if unknown:
        raise AdapterInvalid(
            f"found {_listed(unknown)}, expected names such as lycoris_<module>.lora_up.weight. "
            "Fix: import the file as LyCORIS or kohya's scripts wrote it",
            code="adapter_unknown_target",
        )
    table = _flattened(paths)
    prefix = _prefix(by_stem, table)
    found = {stem: _readings(stem, table.get(_without(stem, prefix), [])) for stem in by_stem}
    _check(found, prefix, table)
    return {path: by_stem[stem] for stem, (path,) in found.items()}


def _split(name: str, parts: set[str]) -> tuple[str, str]:
    """("lycoris_layer1_0_conv1", "lora_up.weight"); the longest known part counts. ("", name) if none is known."""
    pieces = name.split(".")
    for start in range(1, len(pieces)):
        if (part := ".".join(pieces[start:])) in parts:
            return ".".join(pieces[:start]), part
    return "", name


def _flattened(paths: Iterable[str]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for path in paths:
        table.setdefault(path.replace(".", "_"), []).append(path)
    return table


def _without(stem: str, prefix: str) -> str:
    """The flattened path, or "" if the stem has another prefix."""
    flat = stem.replace(".", "_")
    if not prefix:
        return flat
    return flat.removeprefix(f"{prefix}_") if flat.startswith(f"{prefix}_") else ""


def _prefix(stems: Iterable[str], table: Mapping[str, list[str]]) -> str:
    """The prefix with which the most names are paths of the backbone. Raises AdapterInvalid if two fit equally well."""
    counts: Counter[str] = Counter()
    for stem in stems:
        pieces = stem.replace(".", "_").split("_")
        counts.update("_".join(pieces[:at]) for at in range(len(pieces)) if "_".join(pieces[at:]) in table)
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most]
    usual = [prefix for prefix in PREFIXES if prefix in best]
    if len(best) > 1 and not usual:
        raise AdapterInvalid(
            f"found names that begin with {best[0]!r} or with {best[1]!r}, and both readings give modules of the "
            "backbone, expected one reading. Fix: rename the tensors so that they begin with lycoris_<module>",
            code="adapter_unknown_target",
        )
    return (usual or best or ["lycoris"])[0]


def _readings(stem: str, paths: list[str]) -> list[str]:
    """Of the paths that the stem may stand for, the one that it spells with dots, if there is one."""
    return [path for path in paths if f".{stem}".endswith(f".{path}")] or paths


def _check(found: Mapping[str, list[str]], prefix: str, table: Mapping[str, list[str]]) -> None:
    if twice := next(((stem, paths) for stem, paths in found.items() if len(paths) > 1), None):
        raise AdapterInvalid(
            f"found {twice[0]!r}, which stands for both {twice[1][0]} and {twice[1][1]} of the backbone, expected one "
            "module. Fix: convert the file to the names of diffusers, which keep the dots",
            code="adapter_unknown_target",
        )
    if lost := [stem for stem, paths in found.items() if not paths]:
        near = did_you_mean(_without(lost[0], prefix) or lost[0], table)
        behind = f" behind the prefix '{prefix}_'" if prefix else ""
        raise AdapterInvalid(
            f"found {_listed(lost)}, expected modules of the backbone{behind}.{near} Fix: import the file for the "
            "backbone that it was trained on",
            code="adapter_unknown_target",
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:120]) for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
