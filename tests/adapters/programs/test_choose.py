"""Which executor is chosen: the one asked for, or the fastest one that this machine has."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.machine import computes_bfloat16
from lensmount_adapters.programs.choose import choose_executor, explain_choice, on_device
from lensmount_adapters.programs.executor import Executor

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "precision"),
    [("eager", "float32"), ("eager", "float16"), ("openvino", "float32")],
)
def test_the_named_executor_is_chosen(name: str, precision: str) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    chosen = choose_executor(name, precision, "cpu", threads=1, cache=None)
    assert (chosen.name, chosen.dtype) == (name, getattr(torch, precision))


def test_auto_measures_once_and_saves_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")

    def race(*_: object) -> Executor:
        raise AssertionError("measured again")

    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", race)
    again = choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")
    assert (again.name, again.dtype) == (first.name, first.dtype)
    with pytest.raises(AssertionError, match="measured again"):
        choose_executor("auto", "auto", "cpu", threads=2, cache=tmp_path / "programs")
    for file in (tmp_path / "programs").glob("executor-*.json"):
        file.write_text('{"executor": "abacus"}')
    with pytest.raises(AssertionError, match="measured again"):
        choose_executor("auto", "auto", "cpu", threads=1, cache=tmp_path / "programs")


def test_auto_tries_no_bfloat16_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False}, raising=False)
    tried: list[torch.dtype] = []

    def race(candidates: Sequence[Executor], device: torch.device) -> Executor:
        tried.extend(candidate.dtype for candidate in candidates)
        return candidates[-1]

    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", race)
    assert choose_executor("auto", "auto", "cpu", threads=1, cache=None).dtype is torch.float32
    assert set(tried) == {torch.float32}


def test_auto_tries_openvino_and_bfloat16_if_both_are_available(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    if not computes_bfloat16(CPU):
        pytest.skip("the CPU has no bfloat16")
    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", lambda candidates, device: candidates[-1])
    chosen = choose_executor("auto", "auto", "cpu", threads=1, cache=None)
    assert (chosen.name, chosen.dtype) == ("openvino", torch.bfloat16)


def test_auto_works_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose_executor("auto", "float32", "cpu", threads=1, cache=None).name in ("eager", "onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose_executor("auto", "float32", "cpu", threads=1, cache=None).name == "eager"
    with pytest.raises(ExecutorUnavailable, match=r"Fix: pip install 'lensmount\[openvino\]'"):
        choose_executor("openvino", "auto", "cpu", threads=1, cache=None)


@pytest.mark.parametrize(("name", "precision"), [("tensorrt", "auto"), ("auto", "int8")])
def test_the_error_for_an_unknown_name_lists_the_known_ones(name: str, precision: str) -> None:
    with pytest.raises(ExecutorUnavailable, match="expected one of auto, eager, openvino") as caught:
        choose_executor(name, precision, "cpu", threads=1, cache=None)
    assert caught.value.code == "executor_unavailable"


def test_cuda_graphs_need_a_cuda_device() -> None:
    with pytest.raises(ExecutorUnavailable, match="found device cpu"):
        choose_executor("cudagraphs", "auto", "cpu", threads=1, cache=None)


def test_the_choice_is_explained_before_and_after_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lensmount_adapters.programs.choose.fastest", lambda candidates, device: candidates[-1])
    monkeypatch.setattr("lensmount_adapters.programs.choose.computes_bfloat16", lambda device: True)
    assert explain_choice("eager", "float32", "cpu", 1, tmp_path) == ("eager float32", "asked for")
    assert explain_choice("eager", "auto", "cpu", 1, tmp_path) == (
        "the fastest of eager float32, eager bfloat16",
        "the first start measures them",
    )
    choose_executor("eager", "auto", "cpu", threads=1, cache=tmp_path)
    assert explain_choice("eager", "auto", "cpu", 1, tmp_path) == (
        "eager bfloat16",
        "the fastest one when it was measured on this machine",
    )


@pytest.fixture
def put_back() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("put_back")
@pytest.mark.parametrize(("precision", "convolutions"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_on_a_gpu_only_tf32_rounds_convolutions_and_nothing_rounds_matrix_products(
    precision: str, convolutions: bool
) -> None:
    word = on_device(precision, torch.device("cuda"))

    assert word == {"float32": "float32", "tf32": "float32", "bf16": "bfloat16"}[precision]
    assert torch.backends.cudnn.allow_tf32 is convolutions
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_tf32_needs_a_gpu() -> None:
    with pytest.raises(ExecutorUnavailable, match="Fix: the precision float32"):
        choose_executor("eager", "tf32", "cpu", threads=1, cache=None)
