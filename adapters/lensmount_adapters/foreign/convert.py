"""Turn an adapter of another tool into an adapter file for one backbone, exactly, with a report on every tensor."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import HEAD_ONLY, admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.manifest import Factors, LinearHead, Manifest
from lensmount_adapters.adapter.precision import record_of
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.foreign.head import head_of, labels_of
from lensmount_adapters.foreign.lycoris import other_padding, read_lycoris
from lensmount_adapters.foreign.names import HEAD
from lensmount_adapters.foreign.peft import Reading, read_peft
from lensmount_adapters.foreign.report import UNPROVEN, Matched, MatchReport
from lensmount_adapters.foreign.room import too_large
from lensmount_adapters.foreign.source import Source, read_source
from lensmount_adapters.formulas.parts import merged
from lensmount_adapters.inputs.rules import InputRule

RECORD_BYTES = 32 * 1024  # kept free for the report in the manifest
_RECORDED = 32  # names and notes that the manifest keeps; the report itself has them all


@dataclass(frozen=True, slots=True)
class Converted:
    """The bytes of the adapter file, and what became of the other tool's file."""

    data: bytes
    report: MatchReport


def convert(
    what: Path | bytes | Source,
    backbone: Backbone,
    *,
    name: str,
    labels: Sequence[str] = (),
    preprocessing: InputRule | None = None,
    limits: Limits | None = None,
    origin: str = "",
) -> Converted:
    """Read a folder, a zip file or one file of PEFT, LyCORIS or kohya's scripts as an adapter for the backbone.

    Without `labels` the classes are called by their numbers. `preprocessing` is the backbone's own if it is None.
    `origin` is where the file came from, in the user's words; the manifest keeps it.
    Raises an AdapterError that says what was found, what was expected and how to fix it. Nothing is left out without a
    word: each tensor is part of a delta or of the head, or is listed in the report as ignored.
    """
    source = what if isinstance(what, Source) else read_source(what)
    limits = limits or Limits()
    room = limits.max_file_bytes - RECORD_BYTES
    reading = _checked_read(source, backbone, room)
    head = head_of(reading.head, source.head, backbone, reading.notes)
    classes = labels_of(labels or source.labels, len(head["weight"]), reading.notes)
    tensors, modules = _stored(reading)
    tensors |= {f"head.{part}": tensor for part, tensor in head.items()}
    manifest = _manifest(
        name=name,
        method=_method(source, reading),
        backbone=backbone.ref,
        preprocessing=preprocessing or backbone.preprocessing,
        labels=classes,
        head=LinearHead(),
        modules=modules,
        description=f"Imported from {tool_of(source)}, {reading.method}. {UNPROVEN}.",
    )
    dtype, first = torch.float32, dump_adapter(manifest, tensors, torch.float32)
    if len(first) > room:
        dtype, first = torch.float16, dump_adapter(manifest, tensors, torch.float16)
    if len(first) > room:
        raise too_large(str(len(first)), room)
    report = _report(source, reading, admit(first, backbone, limits), backbone, dtype)
    imported = {**_shortened(report.as_json()), "source": origin, "source_digest": source.digest}
    record = {"import": imported, **record_of(backbone)}
    data = dump_adapter(manifest.model_copy(update={"training": record}), tensors, dtype)
    return Converted(data, report)


def _manifest(**fields: Any) -> Manifest:
    """The manifest. Raises AdapterInvalid (`manifest_invalid`) for what an adapter file cannot hold."""
    try:
        return Manifest(**fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:120] or "labels"
        raise AdapterInvalid(
            f"{where}: {first['msg']}. Fix: give distinct labels of 1 to 256 characters, and a name like cells-2",
            code="manifest_invalid",
        ) from error


def _checked_read(source: Source, backbone: Backbone, max_bytes: int) -> Reading:
    """Read the file. What torch refuses in an arithmetic that the checks let through is refused as the file's fault."""
    try:
        return _read(source, backbone, max_bytes)
    except (RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = str(error).partition("\n")[0][:160]
        raise AdapterInvalid(
            f"found tensors or options that do not fit together ({reason}), expected those of one adapter. "
            "Fix: save the adapter again with the tool that wrote it"
        ) from error


def _read(source: Source, backbone: Backbone, max_bytes: int) -> Reading:
    if source.tool == "peft":
        reading = read_peft(source.tensors, source.config, backbone, source.head, max_bytes)
        warned = reading.deltas if reading.method in ("LoHa", "LoKr") else {}
    else:
        read = read_lycoris(source.tensors, backbone, max_bytes)
        methods = sorted({each.method for each in read.values()})
        reading = Reading(", ".join(methods), {path: dict(each.deltas) for path, each in read.items()})
        _spread(reading, source.tensors)
        warned = reading.deltas
    reading.notes += source.notes
    if reading.method == "OFT" and (kernels := [path for path in reading.deltas if _has_kernel(backbone, path)]):
        reading.notes.append(
            f"{', '.join(kernels[:4])}: PEFT computes OFT of a convolution in training as if it had no padding and a "
            "stride of 1, and merges it as its paper says. The merged weights are imported; the network in training "
            "gave other values"
        )
    if warning := other_padding(backbone, warned):
        reading.notes.append(warning)
    return reading


def _has_kernel(backbone: Backbone, path: str) -> bool:
    shape = backbone.targets[f"{path}.weight"].shape if f"{path}.weight" in backbone.targets else ()
    return any(size > 1 for size in shape[2:])


def _spread(reading: Reading, tensors: Mapping[str, Tensor]) -> None:
    """Note which tensors of a LyCORIS file each module took: those whose name holds its path, the longest first."""
    flattened = sorted(((path.replace(".", "_"), path) for path in reading.deltas), key=lambda pair: -len(pair[0]))
    for name in tensors:
        flat = name.replace(".", "_")
        path = next((path for flat_path, path in flattened if f"{flat_path}_" in flat), "")
        reading.sources[path].append(name)


def _stored(reading: Reading) -> tuple[dict[str, Tensor], dict[str, Factors]]:
    """The tensors under their names in an adapter file, and rank and alpha of each module; alpha = rank."""
    tensors: dict[str, Tensor] = {}
    modules: dict[str, Factors] = {}
    for path, deltas in reading.deltas.items():
        for part, tensor in deltas.items():
            tensors[f"{path}.{part}"] = tensor
        if "lora_B.weight" in deltas:
            rank = deltas["lora_B.weight"].shape[1]
            modules[path] = Factors(rank=rank, alpha=float(rank))
    return tensors, modules


def tool_of(source: Source) -> str:
    """The tool that wrote the file, in words."""
    return "PEFT" if source.tool == "peft" else "LyCORIS or kohya's scripts"


def _method(source: Source, reading: Reading) -> str:
    if not reading.deltas:
        return HEAD_ONLY
    words = re.sub(r"[^a-z0-9]+", "-", reading.method.lower()).strip("-")
    return f"{source.tool}-{words}"[:64]


def _report(source: Source, reading: Reading, adapter: Adapter, backbone: Backbone, dtype: torch.dtype) -> MatchReport:
    """Compare each weight as it is served with a merge of the file in float64."""
    served = {delta.target.name: delta for delta in adapter.deltas}
    base = backbone.base(served)
    worst: dict[str, float] = dict.fromkeys(reading.deltas, 0.0)
    for path, deltas in reading.deltas.items():
        for target, exact in _exact(path, deltas, base).items():
            live = served[target].merged(base[target]).to("cpu", torch.float64)
            worst[path] = max(worst[path], float((live - exact).norm() / exact.norm().clamp(min=1e-30)))
    matched = [
        Matched(path, _form(deltas), _rank(deltas), worst[path], tuple(sorted(reading.sources.get(path, ()))))
        for path, deltas in sorted(reading.deltas.items())
    ]
    if reading.head:
        matched.append(Matched("head", "head", None, 0.0, tuple(sorted(reading.sources.get(HEAD, ())))))
    if reading.sources.get(""):
        matched.append(Matched("all", "shared", None, 0.0, tuple(sorted(reading.sources[""]))))
    total = sum(tensor.numel() for tensor in source.tensors.values())
    ignored = sum(source.tensors[name].numel() for name in reading.ignored)
    return MatchReport(
        tool=tool_of(source),
        method=reading.method,
        labels=adapter.manifest.labels,
        stored_as=str(dtype).removeprefix("torch."),
        share=1 - ignored / max(1, total),
        error=max(worst.values(), default=0.0),
        matched=tuple(matched),
        ignored=dict(reading.ignored),
        notes=tuple(reading.notes),
    )


def _exact(path: str, deltas: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The merged tensors of one module in float64."""
    if "delta" in deltas:
        return {path: base[path].to("cpu", torch.float64) + deltas["delta"]}
    exact: dict[str, Tensor] = {}
    if any(part.startswith(("weight.", "lora_")) for part in deltas):
        exact[f"{path}.weight"] = merged(deltas, base[f"{path}.weight"].cpu())
    for part, delta in deltas.items():
        name = f"{path}.{part.removesuffix('.delta')}"
        if part.endswith(".delta") and part != "weight.delta":
            exact[name] = base[name].to("cpu", torch.float64) + delta
    return exact


def _form(deltas: Mapping[str, Tensor]) -> str:
    if any(part.endswith("_scale") for part in deltas):
        return "scaled"
    if "lora_mid.weight" in deltas:
        return "tucker"
    return "low-rank" if "lora_B.weight" in deltas else "full"


def _rank(deltas: Mapping[str, Tensor]) -> int | None:
    return deltas["lora_B.weight"].shape[1] if "lora_B.weight" in deltas else None


def _shortened(report: dict[str, Any]) -> dict[str, Any]:
    """The report as the manifest keeps it: without the labels, which it has, and with a part of long lists."""
    short = {key: value for key, value in report.items() if key not in ("labels", "matched", "ignored")}
    short["modules"] = len(report["matched"])
    short["ignored"] = {name[:120]: reason for name, reason in list(report["ignored"].items())[:_RECORDED]}
    short["notes"] = [note[:400] for note in report["notes"][:_RECORDED]]
    return short
