"""A file is version 1 whenever version 1 holds it, and a file that declares version 1 is read by its rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone, Manifest, Preprocessing, admit, dump_adapter, parse_adapter
from lensmount_adapters.errors import AdapterError

ZOO = Path(__file__).parents[3] / "adapters" / "zoo"
CONV = "blocks.1.0.conv_exp"  # [64, 16, 3, 3]
Change = Callable[[Any], object]


def tensor(name: str, value: Tensor) -> Change:
    return lambda parts: parts.tensors.update({name: value})


def factors(rank: int, alpha: float) -> Change:
    def change(parts: Any) -> None:
        parts.manifest["modules"][CONV] = {"rank": rank, "alpha": alpha}
        parts.tensors[f"{CONV}.lora_A.weight"] = torch.full((rank, 16, 3, 3), 1e-3)
        parts.tensors[f"{CONV}.lora_B.weight"] = torch.full((64, rank, 1, 1), 1e-3)

    return change


NEW: dict[str, tuple[Change, str]] = {
    "a full delta of a kernel": (
        lambda parts: (
            [parts.tensors.pop(f"{CONV}.lora_{part}.weight") for part in "AB"],
            parts.manifest["modules"].pop(CONV),
            parts.tensors.update({f"{CONV}.weight.delta": torch.full((64, 16, 3, 3), 1e-3)}),
        ),
        "adapter_unknown_target",
    ),
    "a row scale": (tensor(f"{CONV}.weight.row_scale", torch.ones(64)), "adapter_unknown_target"),
    "a column scale": (tensor(f"{CONV}.weight.column_scale", torch.ones(16)), "adapter_unknown_target"),
    "a negative alpha": (factors(4, -8.0), "manifest_invalid"),
    "an alpha of 0": (factors(4, 0.0), "manifest_invalid"),
    "a title": (lambda parts: parts.manifest.update({"titles": {"no": "Not there"}}), "manifest_invalid"),
}


def written(parts: Any) -> bytes:
    return dump_adapter(Manifest.parse(json.dumps(parts.manifest)), parts.tensors, torch.float32)


@pytest.mark.parametrize("what", NEW)
def test_what_is_new_is_written_as_version_2_and_admitted(what: str, parts: Any, backbone: Backbone) -> None:
    NEW[what][0](parts)
    adapter = admit(written(parts), backbone)
    assert adapter.manifest.schema_version == 2


@pytest.mark.parametrize("what", NEW)
def test_a_file_of_version_1_is_refused_what_is_new_and_the_advice_works(
    what: str, parts: Any, backbone: Backbone
) -> None:
    change, code = NEW[what]
    change(parts)
    assert "schema_version" not in parts.manifest  # 1 is the default
    with pytest.raises(AdapterError, match=r"version 1\. Fix: write the file with \S+write_adapter") as c:
        admit(parts.dump(), backbone)
    assert c.value.code == code
    parts.manifest["schema_version"] = 2
    assert admit(parts.dump(), backbone).manifest.schema_version == 2  # what write_adapter does


@pytest.mark.parametrize(
    "method", ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "mixed", "head"]
)
def test_what_version_1_holds_is_written_as_version_1(
    method: str, backbone: Backbone, draw_adapter: Callable[..., Any]
) -> None:
    parts = draw_adapter(backbone, method)
    parts.manifest["schema_version"] = 2
    assert parse_adapter(written(parts)).manifest.schema_version == 1


@pytest.mark.parametrize("name", ["malaria", "smoking", "histology"])
def test_files_of_the_zoo_stay_what_they_are_when_they_are_written_again(name: str) -> None:
    data = (ZOO / f"{name}.safetensors").read_bytes()
    file = parse_adapter(data)
    assert file.manifest.schema_version == 2  # for the trust block and the titles alone
    plain = {key: tensor for key, tensor in file.tensors.items() if not key.startswith("trust.")}
    silent = file.manifest.model_copy(update={"trust": None, "titles": {}})
    assert parse_adapter(dump_adapter(silent, plain)).manifest.schema_version == 1
    again = parse_adapter(dump_adapter(file.manifest, file.tensors))
    assert again.manifest == file.manifest
    assert again.tensors.keys() == file.tensors.keys()
    for tensor_name, kept in file.tensors.items():
        assert again.tensors[tensor_name].dtype is kept.dtype
        assert torch.equal(again.tensors[tensor_name], kept)


def test_a_rank_of_up_to_the_layer_s_own_is_version_2_and_more_is_refused(draw_adapter: Callable[..., Any]) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 300))
    module.pretrained_cfg = {}  # type: ignore[assignment]  # timm's models carry one
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    big = Backbone("big", module, rule, torch.float32)
    parts = draw_adapter(big, "head")
    parts.manifest["method"] = "lora"
    for rank, version in ((256, 1), (300, 2)):
        parts.manifest["modules"] = {"1": {"rank": rank, "alpha": 1.0}}
        parts.tensors["1.lora_A.weight"], parts.tensors["1.lora_B.weight"] = torch.eye(rank, 768), torch.eye(300, rank)
        assert admit(written(parts), big).manifest.schema_version == version
    parts.manifest |= {"modules": {"1": {"rank": 301, "alpha": 1.0}}, "schema_version": 2}
    parts.tensors["1.lora_A.weight"], parts.tensors["1.lora_B.weight"] = torch.eye(301, 768), torch.eye(300, 301)
    with pytest.raises(
        AdapterError, match=r"1: found rank 301, expected at most 300.*Fix: store the product"
    ) as caught:
        admit(written(parts), big)
    assert caught.value.code == "rank_too_large"
    product = parts.tensors.pop("1.lora_B.weight") @ parts.tensors.pop("1.lora_A.weight") / 301
    parts.manifest["modules"] = {}
    parts.tensors["1.weight.delta"] = product
    assert admit(written(parts), big).deltas  # what the message advises


def test_a_negative_alpha_subtracts_what_a_positive_one_adds(parts: Any, backbone: Backbone) -> None:
    merged = []
    for alpha in (-8.0, 8.0):
        factors(4, alpha)(parts)
        delta = next(d for d in admit(written(parts), backbone).deltas if d.target.module == CONV)
        merged.append(delta.merged(torch.zeros(delta.target.shape)))
    assert torch.equal(merged[0], -merged[1])
    assert merged[1].abs().max() > 0


def test_a_manifest_says_which_tensors_were_kept_in_float32(parts: Any, backbone: Backbone) -> None:
    parts.tensors[f"{CONV}.lora_B.weight"].fill_(1e5)
    parts.tensors[f"{CONV}.lora_A.weight"].fill_(1e-8)
    data = dump_adapter(Manifest.parse(json.dumps(parts.manifest)), parts.tensors)
    file = parse_adapter(data)
    assert f"in which {CONV}.lora_B.weight would overflow" in file.manifest.training["kept_float32"]
    assert file.tensors[f"{CONV}.lora_B.weight"].dtype is torch.float32
    assert file.tensors["head.weight"].dtype is torch.float16
    assert admit(data, backbone).deltas
    assert dump_adapter(file.manifest, file.tensors) == data
