"""Admission checks everything before anything changes: each bad file has its error, and the backbone is unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone, Limits, admit, load_backbone
from lensmount_adapters.errors import (
    AdapterError,
    AdapterInvalid,
    AdapterMalformed,
    AdapterTooLarge,
    BackboneMismatch,
)

CONV = "blocks.1.0.conv_exp"  # [64, 16, 3, 3]
DEPTHWISE = "blocks.3.0.conv_dw"  # [128, 1, 3, 3], groups 128
NORM = "blocks.0.0.bn1"  # BatchNorm, 16 channels
BIASED = "blocks.3.0.se.conv_reduce"  # a convolution with a bias


# Changes to a valid adapter. Each takes the parts and breaks them; the table has the expected error

Break = Callable[[Any], object]


def tensor(name: str, value: torch.Tensor) -> Break:
    return lambda parts: parts.tensors.update({name: value})


def without(*names: str) -> Break:
    return lambda parts: [parts.tensors.pop(name) for name in names]


def element(name: str, value: float, index: int) -> Break:
    def change(parts: Any) -> None:
        parts.tensors[name].view(-1)[index] = value

    return change


def manifest(path: str, value: object) -> Break:
    def change(parts: Any) -> None:
        *parents, last = path.split("/")
        node = parts.manifest
        for key in parents:
            node = node[key]
        node[last] = value

    return change


def no_manifest(path: str) -> Break:
    def change(parts: Any) -> None:
        *parents, last = path.split("/")
        node = parts.manifest
        for key in parents:
            node = node[key]
        del node[last]

    return change


def both(*changes: Break) -> Break:
    return lambda parts: [change(parts) for change in changes]


def scaled(factor: float) -> Break:
    def change(parts: Any) -> None:
        for name in (f"{CONV}.lora_A.weight", f"{CONV}.lora_B.weight"):
            parts.tensors[name].fill_(factor)

    return change


def swapped(parts: Any) -> None:
    A, B = f"{CONV}.lora_A.weight", f"{CONV}.lora_B.weight"
    parts.tensors[A], parts.tensors[B] = parts.tensors[B], parts.tensors[A]


def no_effect(parts: Any) -> None:
    for name in parts.tensors:
        if "lora_B" in name:
            parts.tensors[name].zero_()


A, B = f"{CONV}.lora_A.weight", f"{CONV}.lora_B.weight"
SHAPE, INCOMPLETE, UNKNOWN = "adapter_shape_mismatch", "adapter_incomplete", "adapter_unknown_target"
REFUSED: dict[str, tuple[Break, type[AdapterError], str]] = {
    "lora_A without lora_B": (without(B), AdapterInvalid, INCOMPLETE),
    "lora_B without lora_A": (without(A), AdapterInvalid, INCOMPLETE),
    "lora_mid alone": (
        both(without(A, B), tensor(f"{CONV}.lora_mid.weight", torch.ones(4, 4, 3, 3))),
        AdapterInvalid,
        INCOMPLETE,
    ),
    "two ranks in one layer": (tensor(A, torch.ones(5, 16, 3, 3)), AdapterInvalid, SHAPE),
    "another rank than the manifest's": (manifest(f"modules/{CONV}/rank", 5), AdapterInvalid, SHAPE),
    "factors the manifest does not know": (no_manifest(f"modules/{CONV}"), AdapterInvalid, INCOMPLETE),
    "a module without its factors": (without(A, B), AdapterInvalid, INCOMPLETE),
    "rank 0 in the tensors": (
        both(tensor(A, torch.ones(0, 16, 3, 3)), tensor(B, torch.ones(64, 0, 1, 1))),
        AdapterMalformed,
        "empty_tensor",
    ),
    "rank 0 in the manifest": (manifest(f"modules/{CONV}/rank", 0), AdapterInvalid, "manifest_invalid"),
    "a rank over the limit": (
        both(
            tensor(A, torch.ones(300, 16, 3, 3)),
            tensor(B, torch.ones(64, 300, 1, 1)),
            manifest(f"modules/{CONV}/rank", 300),
        ),
        AdapterTooLarge,
        "rank_too_large",
    ),
    "factors of one dimension": (tensor(B, torch.ones(64)), AdapterInvalid, SHAPE),
    "factors of five dimensions": (tensor(B, torch.ones(64, 4, 1, 1, 1)), AdapterInvalid, SHAPE),
    "A and B swapped": (swapped, AdapterInvalid, SHAPE),
    "another kernel": (tensor(A, torch.ones(4, 16, 5, 5)), AdapterInvalid, SHAPE),
    "a depthwise A of half the groups": (
        tensor(f"{DEPTHWISE}.lora_A.weight", torch.ones(256, 1, 3, 3)),
        AdapterInvalid,
        SHAPE,
    ),
    "a mid of another rank": (tensor(f"{CONV}.lora_mid.weight", torch.ones(4, 5, 3, 3)), AdapterInvalid, SHAPE),
    "a bias delta of another length": (tensor(f"{BIASED}.bias.delta", torch.ones(9)), AdapterInvalid, SHAPE),
    "an unknown layer": (tensor("blocks.9.0.conv.lora_A.weight", torch.ones(4, 16, 1, 1)), AdapterInvalid, UNKNOWN),
    "an unknown parameter": (tensor(f"{CONV}.bias.delta", torch.ones(64)), AdapterInvalid, UNKNOWN),
    "an unknown factor": (tensor(f"{CONV}.lora_C.weight", torch.ones(4, 4)), AdapterInvalid, UNKNOWN),
    "an unknown suffix": (tensor(f"{CONV}.lora_A.bias", torch.ones(4)), AdapterInvalid, UNKNOWN),
    "an extra tensor": (tensor("notes", torch.ones(1)), AdapterInvalid, UNKNOWN),
    "an extra tensor in the head": (tensor("head.scale", torch.ones(1)), AdapterInvalid, UNKNOWN),
    "a count of batches in the head": (tensor("head.num_batches_tracked", torch.ones(1)), AdapterInvalid, UNKNOWN),
    "a backbone weight": (tensor(f"{CONV}.weight", torch.ones(64, 16, 3, 3)), AdapterInvalid, UNKNOWN),
    "a full delta for a convolution": (
        tensor(f"{CONV}.weight.delta", torch.ones(64, 16, 3, 3)),
        AdapterInvalid,
        UNKNOWN,
    ),
    "factors for a BatchNorm": (
        both(tensor(f"{NORM}.lora_A.weight", torch.ones(4, 1)), tensor(f"{NORM}.lora_B.weight", torch.ones(16, 4))),
        AdapterInvalid,
        UNKNOWN,
    ),
    "factors and a full delta for one tensor": (
        both(
            tensor(f"{NORM}.lora_A.weight", torch.ones(4, 1)),
            tensor(f"{NORM}.lora_B.weight", torch.ones(16, 4)),
            tensor(f"{NORM}.weight.delta", torch.ones(16)),
        ),
        AdapterInvalid,
        "adapter_invalid",
    ),
    "a name with ../": (tensor("../../etc/passwd", torch.ones(1)), AdapterInvalid, UNKNOWN),
    **{
        f"{value} in {name}, element {index}": (element(name, value, index), AdapterInvalid, "adapter_not_finite")
        for value in (float("nan"), float("inf"), float("-inf"))
        for name in (A, B, "head.weight", "head.bias")
        for index in (0, -1)
    },
    "finite factors whose product overflows": (scaled(1e20), AdapterInvalid, "adapter_not_finite"),
    "a delta of a thousand times the weight": (scaled(30.0), AdapterInvalid, "adapter_norm_limit"),
    "a variance below zero": (
        tensor(f"{NORM}.running_var.delta", -2 * torch.ones(16)),
        AdapterInvalid,
        "adapter_invalid",
    ),
    "no effect": (no_effect, AdapterInvalid, "adapter_no_effect"),
    **{
        f"alpha {alpha!r}": (manifest(f"modules/{CONV}/alpha", alpha), AdapterInvalid, "manifest_invalid")
        for alpha in (0, -1.0, float("nan"), float("inf"), 1e30, "8", None, True)
    },
    "an unknown scaling flag": (manifest(f"modules/{CONV}/rslora", True), AdapterInvalid, "manifest_invalid"),
    "fewer head rows than labels": (manifest("labels", ["a", "b", "c"]), AdapterInvalid, "head_mismatch"),
    "no head": (without("head.weight", "head.bias"), AdapterInvalid, "head_missing"),
    "half a head": (without("head.bias"), AdapterInvalid, "head_missing"),
    "a head for other features": (tensor("head.weight", torch.ones(2, 7)), AdapterInvalid, "head_mismatch"),
    **{
        f"labels {str(labels)[:20]}": (manifest("labels", labels), AdapterInvalid, "manifest_invalid")
        for labels in ([], ["a", "a"], ["", "b"], ["a\n", "b"], ["x" * 257, "b"], "ab", [1, 2], ["a\ud800", "b"])
    },
    "100,001 labels": (
        manifest("labels", [str(i) for i in range(100_001)]),
        AdapterTooLarge,
        "adapter_header_too_large",
    ),
    "10,001 labels": (manifest("labels", [str(i) for i in range(10_001)]), AdapterInvalid, "manifest_invalid"),
    "another backbone's fingerprint": (
        manifest("backbone/fingerprint", "sha256:" + "0" * 64),
        BackboneMismatch,
        "backbone_mismatch",
    ),
    "another backbone's name": (manifest("backbone/name", "resnet34"), BackboneMismatch, "backbone_mismatch"),
    "no fingerprint": (no_manifest("backbone/fingerprint"), AdapterInvalid, "manifest_invalid"),
    **{
        f"fingerprint {text[:14]!r}": (manifest("backbone/fingerprint", text), AdapterInvalid, "manifest_invalid")
        for text in (
            "sha256:" + "0" * 63,
            "sha256:" + "A" * 64,
            "../" + "0" * 64,
            "0" * 64,
            "sha256:" + "0" * 64 + "\n",
        )
    },
    "no preprocessing": (no_manifest("preprocessing"), AdapterInvalid, "manifest_invalid"),
    "no mean": (no_manifest("preprocessing/mean"), AdapterInvalid, "manifest_invalid"),
    "a std of 0": (manifest("preprocessing/std", [0.5, 0.0, 0.5]), AdapterInvalid, "manifest_invalid"),
    "a size of 10^6": (manifest("preprocessing/size", [10**6, 10**6]), AdapterInvalid, "manifest_invalid"),
    "an unknown resize": (manifest("preprocessing/resize", "stretch"), AdapterInvalid, "manifest_invalid"),
    "an unknown field": (manifest("is_admin", True), AdapterInvalid, "manifest_invalid"),
    "a schema from the future": (manifest("schema_version", 3), AdapterInvalid, "manifest_invalid"),
    "an upper-case name": (manifest("name", "Malaria"), AdapterInvalid, "manifest_invalid"),
    "a path for a name": (manifest("name", "../malaria"), AdapterInvalid, "manifest_invalid"),
    "an unknown head": (manifest("head", {"kind": "magic"}), AdapterInvalid, "manifest_invalid"),
    "an mlp head that ends in the wrong width": (
        manifest("head", {"kind": "mlp", "layers": [{"type": "linear", "in_features": 256, "out_features": 3}]}),
        AdapterInvalid,
        "head_mismatch",
    ),
    "an mlp head of 10^12 weights": (
        manifest(
            "head",
            {
                "kind": "mlp",
                "layers": [
                    {"type": "linear", "in_features": 256, "out_features": 10**6},
                    {"type": "linear", "in_features": 10**6, "out_features": 10**6},
                    {"type": "linear", "in_features": 10**6, "out_features": 2},
                ],
            },
        ),
        AdapterInvalid,
        "head_missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("nothing_moves")
def test_it_refuses(name: str, parts: Any, backbone: Backbone) -> None:
    change, error, code = REFUSED[name]
    change(parts)
    with pytest.raises(AdapterError) as caught:
        admit(parts.dump(), backbone)
    assert type(caught.value) is error
    assert caught.value.code == code
    assert ". Fix: " in str(caught.value)
    assert len(str(caught.value)) < 700  # a hostile name or value is not echoed at length


def test_a_file_over_the_limit_is_refused_unread(parts: Any, backbone: Backbone) -> None:
    data = parts.dump()
    with pytest.raises(AdapterTooLarge, match=rf"found {len(data)} bytes, expected at most 1000\. Fix: "):
        admit(data, backbone, Limits(max_file_bytes=1000))


def test_more_classes_than_the_limit_are_refused(parts: Any, backbone: Backbone) -> None:
    with pytest.raises(AdapterTooLarge, match=r"2 labels.*\. Fix: "):
        admit(parts.dump(), backbone, Limits(max_classes=1))


def test_adp_32_weights_that_overflow_float16_are_refused_by_a_float16_backbone(
    draw_adapter: Callable[..., Any],
) -> None:
    """200 * 200 * rank 2 = 80,000, beyond float16's 65,504; float32 can represent it."""
    files = {}
    for dtype in (torch.float32, torch.float16):
        backbone = load_backbone("test_efficientnet", "random:0", dtype=dtype)
        parts = draw_adapter(backbone, rank=2, modules=CONV.replace(".", r"\."))
        parts.manifest["modules"][CONV]["alpha"] = 2.0
        parts.tensors[A].fill_(200.0)
        parts.tensors[B].fill_(200.0)
        files[dtype] = parts.dump()
        limits = Limits(max_delta_ratio=1e9)
        if dtype is torch.float32:
            assert admit(files[dtype], backbone, limits).deltas
        else:
            with pytest.raises(AdapterInvalid, match="overflow float16") as caught:
                admit(files[dtype], backbone, limits)
            assert caught.value.code == "adapter_overflow"
            assert backbone.changed() == []
    assert files[torch.float32] == files[torch.float16]  # the fingerprint does not depend on the serving dtype


def test_a_backbone_of_fixed_size_refuses_another_size(draw_adapter: Callable[..., Any]) -> None:
    backbone = load_backbone("test_vit", "random:0")
    parts = draw_adapter(backbone, modules=r"blocks\.0\..*")
    assert admit(parts.dump(), backbone).deltas
    parts.manifest["preprocessing"]["size"] = [64, 64]
    with pytest.raises(AdapterInvalid, match=r"this size only\. Fix: train at this size") as caught:
        admit(parts.dump(), backbone)
    assert caught.value.code == "preprocessing_mismatch"


@pytest.mark.parametrize("name", ["vgg11", "convnext_atto"])
def test_a_size_that_the_backbone_cannot_compute_is_refused_before_it_is_served(
    draw_adapter: Callable[..., Any], name: str
) -> None:
    backbone = load_backbone(name, "random:0")
    parts = draw_adapter(backbone, method="head")
    parts.manifest["preprocessing"]["size"] = [16, 16]
    with pytest.raises(AdapterInvalid, match="Fix: use a larger size") as caught:
        admit(parts.dump(), backbone)
    assert caught.value.code == "preprocessing_mismatch"
    assert backbone.changed() == []


def test_tucker_factors_for_a_linear_layer_are_refused(draw_adapter: Callable[..., Any]) -> None:
    backbone = load_backbone("test_vit", "random:0")
    parts = draw_adapter(backbone, modules=r"blocks\.0\.attn\.qkv", size=1.0)
    parts.tensors["blocks.0.attn.qkv.lora_mid.weight"] = torch.ones(4, 4)
    with pytest.raises(AdapterInvalid, match=r"expected a convolution\. Fix: ") as caught:
        admit(parts.dump(), backbone)
    assert caught.value.code == SHAPE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "method", ["lora", "lora-shared", "lora-tucker", "bias", "norm", "statistics", "mixed", "head"]
)
@pytest.mark.usefixtures("nothing_moves")
def test_it_admits_every_method_in_every_stored_dtype(
    method: str, dtype: torch.dtype, backbone: Backbone, draw_adapter: Callable[..., Any]
) -> None:
    parts = draw_adapter(backbone, method, rank=2)
    adapter = admit(parts.dump(dtype), backbone)
    stored = {name: tensor for delta in adapter.deltas for name, tensor in delta.tensors().items()}
    assert stored.keys() == {name for name in parts.tensors if not name.startswith("head.")}
    for name, kept in stored.items():
        assert kept.dtype is dtype  # kept in the file's dtype; the arithmetic is in float32
        assert torch.equal(kept, parts.tensors[name].to(dtype))
    assert adapter.manifest.method == method
    head = sum(tensor.numel() for name, tensor in parts.tensors.items() if name.startswith("head."))
    assert adapter.nbytes() == 4 * head + dtype.itemsize * sum(tensor.numel() for tensor in stored.values())


def test_subnormal_numbers_and_minus_zero_are_numbers(parts: Any, backbone: Backbone) -> None:
    parts.tensors["head.weight"].fill_(1e-40)
    parts.tensors["head.bias"].fill_(-0.0)
    assert torch.isfinite(admit(parts.dump(), backbone).scores(torch.ones(1, backbone.feature_dim))).all()


def test_the_digest_is_the_sha256_of_the_file(parts: Any, backbone: Backbone) -> None:
    import hashlib

    data = parts.dump()
    adapter = admit(data, backbone)
    assert adapter.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert adapter.size_bytes == len(data)
