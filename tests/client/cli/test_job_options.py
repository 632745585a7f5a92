"""Each flag of `lensmount jobs submit` reaches the server as the option of its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("pushed")


def test_every_option_reaches_the_server_and_omitted_ones_are_not_sent(
    server: Any, lensmount: Any, tmp_path: Path
) -> None:
    from lensmount_client import JobOptions

    texts = tmp_path / "prompts.toml"
    texts.write_text('templates = ["a photo of {}."]\n[classes]\ncat = ["a cat"]\n')

    said = {
        "alias": "prod",
        "canary": 12.5,
        "method": "lora+norm",
        "rank": 4,
        "alpha": 8.0,
        "init_std": 0.01,
        "init_b_std": 0.02,
        "prompts": {"templates": ["a photo of {}."], "classes": {"cat": ["a cat"]}},
        "warmup": 0.2,
        "precision": "bf16",
        "depth": 24,
        "depth_resize": "crop",
        "window": [-160.0, 240.0],
        "file_dtype": "float32",
        "head": "mlp:256",
        "targets": "layer4",
        "epochs": 3,
        "shots": 16,
        "seed": 7,
        "size": 64,
        "resize": "crop",
        "augment": "microscopy",
        "group_regex": "^(.)",
        "validation_fraction": 0.2,
        "test_fraction": 0.1,
        "batch_size": 8,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "class_weights": "none",
        "mixup": 0.2,
        "cutmix": 1.0,
        "average": 0.9,
        "patience": 3,
        "auto": True,
        "max_file_bytes": 10**6,
        "max_seconds": 60.0,
        "orientations": 8,
        "cache_trunk": "off",
        "trunk": "int8",
        "views": 4,
        "description": "cats, not dogs",
        "license": "CC0-1.0",
        "calibration": "part",
        "coverage": 0.9,
        "accept_accuracy": 0.98,
        "positive": "cat",
        "sensitivity": 0.95,
        "specificity": 0.9,
        "prevalence": 0.02,
        "author": "lab 3",
        "intended_use": "pets",
        "limits": "two breeds",
        "priority": -5,
        "max_attempts": 1,
        "margin": 0.05,
        "force": True,
    }
    assert set(said) == set(JobOptions.__annotations__)
    flags = {"validation_fraction": "--val-fraction", "learning_rate": "--lr"}
    arguments = []
    for name, value in said.items():
        arguments.append(flags.get(name, f"--{name.replace('_', '-')}"))
        words = [str(texts)] if name == "prompts" else map(str, value) if isinstance(value, list) else [str(value)]
        arguments += [] if value is True else words
    assert lensmount("jobs", "submit", "--dataset", "pets@1", "--adapter", "cats", *arguments)[0] == 0
    assert lensmount("jobs", "submit", "--dataset", "pets", "--adapter", "cats")[0] == 0
    assert server.training.bodies == [
        {"dataset": "pets@1", "adapter": "cats", **said},
        {"dataset": "pets", "adapter": "cats"},
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--canary", "10"], "found --canary without --alias"),
        (["--canary", "101", "--alias", "prod"], "--canary"),
        (["--canary", "-1", "--alias", "prod"], "--canary"),
    ],
)
def test_a_canary_that_cannot_be_is_refused_before_a_folder_is_uploaded(
    server: Any, lensmount: Any, options: list[str], message: str, tmp_path: Path
) -> None:
    code, _, err = lensmount("jobs", "submit", "--data", str(tmp_path / "pets"), "-d", "new", "-a", "cats", *options)
    assert (code, message in err) == (2, True), err
    assert "new" not in server.training.stored
    assert lensmount("jobs", "submit", "-d", "pets", "-a", "cats", "--canary", "10", "--alias", "prod")[0] == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("templates = [", "found text that is not TOML"),
        ("\udcff", "found text that is not TOML"),
    ],
)
def test_unreadable_prompts_are_reported_before_anything_is_sent(
    server: Any, lensmount: Any, tmp_path: Path, text: str | None, words: str
) -> None:
    texts = tmp_path / "prompts.toml"
    if text is not None:
        texts.write_bytes(text.encode(errors="surrogateescape"))
    code, _, err = lensmount("jobs", "submit", "-d", "pets", "-a", "cats", "--head", "text", "--prompts", str(texts))
    assert code == 2
    assert words in err
    assert server.training.bodies == []
