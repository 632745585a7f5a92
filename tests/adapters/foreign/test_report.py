"""The report on an import, as text and as plain values."""

from __future__ import annotations

import json

from lensmount_adapters.foreign.report import Matched, MatchReport

REPORT = MatchReport(
    tool="PEFT",
    method="LoRA",
    labels=tuple(map(str, range(20))),
    stored_as="float32",
    share=0.5,
    error=3e-8,
    matched=(Matched("up", "low-rank", 4, 3e-8, ("up.lora_A.weight",)),),
    ignored={"n_averaged": "a counter"},
    notes=("stripped the prefix 'module.' from names",),
)


def test_the_text_names_what_was_ignored_and_what_cannot_be_proved() -> None:
    lines = str(REPORT).splitlines()

    assert lines[0].startswith("PEFT LoRA: 1 modules, 50.0% of the file's numbers matched")
    assert "and others" in lines[1]
    assert lines[2] == "ignored n_averaged: a counter"
    assert "compare the accuracy with the original" in lines[-1]


def test_the_report_is_plain_json() -> None:
    document = json.loads(json.dumps(REPORT.as_json()))

    assert document["matched"][0] == {
        "module": "up",
        "form": "low-rank",
        "rank": 4,
        "error": 3e-8,
        "tensors": ["up.lora_A.weight"],
    }
