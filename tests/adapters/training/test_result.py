"""The result of a run: figures of the parts that were scored, and what happens to its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult, on_threads, result_of

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged, DrawManifest

LABELS = ["oak", "elm"]


def made(config: TrainingConfig, manifest: Any, scored: Any, interrupted: bool) -> TrainingResult:
    loop: Any = SimpleNamespace(config=config)
    data: Any = SimpleNamespace(folder=SimpleNamespace(notes=("a note",)))
    return result_of(loop, data, manifest, "sha256:" + "1" * 64, scored, interrupted)


@pytest.mark.parametrize("interrupted", [True, False])
def test_only_a_run_that_was_interrupted_keeps_its_checkpoint(
    interrupted: bool, config: TrainingConfig, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    config.out.write_bytes(b"twelve bytes")
    checkpoint_path(config.out).write_bytes(b"state")

    result = made(config, draw_manifest(LABELS), {}, interrupted)

    assert checkpoint_path(config.out).exists() == interrupted
    assert (result.size_bytes, result.notes, result.interrupted) == (12, ("a note",), interrupted)


@pytest.mark.parametrize("parts", [(), ("test",), ("validation", "test")])
def test_a_part_without_images_has_no_figures(
    parts: Sequence[str], config: TrainingConfig, draw_manifest: DrawManifest, draw_judged: DrawJudged
) -> None:
    config.out.write_bytes(b"")
    scored = {part: draw_judged(LABELS, images=10, wrong=1) for part in parts}

    result = made(replace(config), draw_manifest(LABELS), scored, interrupted=False)

    assert (result.test is not None, result.validation is not None) == ("test" in parts, "validation" in parts)
    if result.test is not None:
        assert result.test.accuracy == 0.9
    assert result.judged == result.scored == scored  # the old name still works
    assert result.record["epochs"]["run"] == 5


def test_the_number_of_threads_is_restored_even_after_an_error(tmp_path: Path) -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with on_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before
    with on_threads(None):
        assert torch.get_num_threads() == before
