"""Hyper-parameters that nobody asks for by accident: each row is refused with its code before a job is queued."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from lensmount_adapters.groups.group_search import search_names
from lensmount_service.jobs import bounds

if TYPE_CHECKING:
    from tests.service.bad_inputs.conftest import Ask

pytestmark = pytest.mark.usefixtures("no_jobs_left")

INVALID = "invalid_request"
NAN, INF = float("nan"), float("inf")
BESIDE_A_NUMBER: tuple[Any, ...] = (True, "3", [3], {"3": 3}, "", "NaN", [], {}, 10**400)


def tried(kind: str, name: str, *values: Any) -> dict[str, tuple[str, Any]]:
    return {f"{kind} {name} {str(value)[:20]}": (name, value) for value in values}


OPTIONS: dict[str, tuple[str, Any]] = {
    **tried("HYP-01", "learning_rate", 0, -1, NAN, INF, 1e9, 1e308, 1e-300, -0.0, 5e-324, *BESIDE_A_NUMBER),
    **tried("HYP-02", "epochs", 0, -1, 10**9, 1.5, 2**63, 2**64, -(2**63), NAN, 3.0, *BESIDE_A_NUMBER),
    **tried("HYP-03", "batch_size", 0, -1, 10**6, 1.5, *BESIDE_A_NUMBER),
    **tried("HYP-03", "rank", 0, 10**6, 257, *BESIDE_A_NUMBER),
    **tried("HYP-03", "size", 0, 15, 10**5, 1025, *BESIDE_A_NUMBER),
    **tried("HYP-03", "depth", 0, 513, *BESIDE_A_NUMBER),
    **tried("HYP-03", "views", 0, 1001, *BESIDE_A_NUMBER),
    **tried("HYP-03", "shots", 0, -1, 100_001, *BESIDE_A_NUMBER),
    **tried("HYP-03", "workers", 10_000),
    **tried("HYP-03", "threads", 10_000),
    **tried("HYP-03", "max_pixels", 10**18),
    **tried("HYP-03", "max_file_bytes", 0, 2**31, *BESIDE_A_NUMBER),
    **tried("HYP-03", "priority", -101, 101, *BESIDE_A_NUMBER),
    **tried("HYP-03", "max_attempts", 0, 11, *BESIDE_A_NUMBER),
    **tried("HYP-04", "seed", -1, 2**64, 2**53, "seed", *BESIDE_A_NUMBER),
    **tried("HYP-05", "optimizer", "adam", "os.system"),
    **tried("HYP-05", "scheduler", "cosine"),
    **tried("HYP-05", "__class__", "x", {"__init__": {}}),
    **tried("HYP-05", "method", "magic", "lora+magic", "__import__('os')", "lora\0", 1, ["lora"], "l" * 65),
    **tried("HYP-05", "augment", "wild", "PHOTO", "photo ", None, 1),
    **tried(
        "HYP-05", "head", "mlp:0", "mlp:99999999", "mlp:1,1,1,1,1,1,1,1", "cosine:100000", "mlp:1e3", "text", "mlp:"
    ),
    **tried("HYP-05", "precision", "float64", "float8", "bf17", 16),
    **tried("HYP-05", "file_dtype", "auto", "int8", "torch.float32"),
    **tried("HYP-05", "resize", "stretch", "", None),
    **tried("HYP-05", "orientations", 3, 0, 16, True, "8"),
    **tried("HYP-05", "auto", 1, "true", "yes", [True]),
    **tried("HYP-05", "force", 1, "false"),
    **tried("HYP-05", "cache_trunk", "maybe", True),
    **tried("HYP-05", "targets", "(", "(?P<a>x)(?P<a>y)", "[", "*", "a" * 513, "nothing like a layer", "layer4\u202e"),
    **tried("HYP-05", "group_regex", "(", "a{99999999999}", "(?<=a+)b", "b" * 513, "patient_([0-9]+)"),
    **tried("HYP-05", "prompts", {"templates": []}, {"templates": ["{}"], "classes": {}}, "a photo of {}", []),
    # numbers that float32 has not, or that contradict each other
    **tried("HYP-01", "alpha", 0, -1, 1e-40, 5e-38, 10_001, 1e308, *BESIDE_A_NUMBER),
    **tried("HYP-01", "init_std", 0, 1e-300, 11, *BESIDE_A_NUMBER),
    **tried("HYP-01", "weight_decay", -1e-9, 1e-310, 2, *BESIDE_A_NUMBER),
    **tried("HYP-01", "mixup", -1, 1e-300, 11, *BESIDE_A_NUMBER),
    **tried("HYP-01", "cutmix", -0.5, 5e-324, *BESIDE_A_NUMBER),
    **tried("HYP-01", "average", 1, 1.0, -1e-9),
    **tried("HYP-01", "warmup", 1, 2.5, -1),
    **tried("HYP-01", "label_smoothing", 1, -1, NAN),
    **tried("HYP-01", "validation_fraction", 1, 0.9, -0.1, NAN),
    **tried("HYP-01", "test_fraction", 1, 0.99, INF),
    **tried("HYP-01", "coverage", 0.49, 1, 0),
    **tried("HYP-01", "sensitivity", 0, 1, 0.5),  # the last one without `positive`
    **tried("HYP-01", "prevalence", 0, 1, -INF, 0.5),
    **tried("HYP-01", "margin", -1, 1.1, NAN),
    **tried("HYP-01", "canary", -1, 100.1, NAN, INF, "10", True),
    **tried("HYP-01", "max_seconds", 0, -1, 10**9, 1e-40),
    **tried(
        "HYP-01",
        "window",
        *([1, 0], [0, 0], [0], [0, 1, 2], [NAN, 1], [0, INF], [-1e308, 1e308], [0, 1e300], [-3e38, 3e38]),
        *([1.0, 1.00000000001], ["0", "1"], [True, 2], "01", 5, {}, [[0, 1]]),
    ),
}


@pytest.mark.parametrize("row", OPTIONS)
def test_a_bad_option_of_a_job_is_refused_before_it_is_queued(
    api: TestClient, ask: Ask, refused: Any, row: str
) -> None:
    name, value = OPTIONS[row]

    answer = ask(api, **{name: value})
    expected = {"group_regex patient": "dataset_invalid"}.get(row[7:26], INVALID)
    if answer.status_code == 400:  # a number of hundreds of digits
        expected = "bad_request"
    elif name.endswith("_fraction") and answer.json()["code"] == "dataset_too_small":
        expected = "dataset_too_small"
    refused(api, answer, answer.status_code if answer.status_code == 400 else 422, expected)
    assert api.get("/jobs").json() == {"jobs": []}
    assert "Traceback" not in answer.text


KEPT: dict[str, dict[str, Any]] = {
    "the smallest": {"learning_rate": 2e-38, "epochs": 1, "batch_size": 1, "rank": 1, "alpha": 2e-38, "seed": 0},
    "the largest": {"learning_rate": 1, "batch_size": 1024, "rank": 256, "alpha": 10_000, "seed": 2**53 - 1},
    "a whole number for a float": {"learning_rate": 1, "mixup": 2, "window": [-1000, 1000]},
    "minus zero where zero may be": {"weight_decay": -0.0, "mixup": -0.0},
    "an expression that selects layers": {"targets": "layer[34]\\.0\\.conv1$"},
}


@pytest.mark.parametrize("case", KEPT)
def test_a_value_at_the_end_of_its_range_is_taken(api: TestClient, ask: Ask, case: str) -> None:
    answer = ask(api, **KEPT[case])

    assert answer.status_code == 201, answer.text
    api.delete(f"/jobs/{answer.json()['id']}")


def test_hyp_05_an_expression_that_would_search_for_years_is_refused_and_the_advice_works(
    api: TestClient, ask: Ask, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "search_names", partial(search_names, cpu_s=1))
    answer = ask(api, targets="(.+)+(.+)+(.+)+!")
    refused(api, answer, 422, INVALID)
    assert "Fix: write it without a repetition in a repetition" in answer.json()["detail"]

    assert ask(api, targets=".+conv1").status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 1000, "size": 1024},
        {"epochs": 1000, "size": 256},
        {"epochs": 1, "views": 1000, "cache_trunk": "on", "size": 512},
    ],
)
def test_hyp_06_a_job_over_the_budget_is_refused_and_the_advice_works(
    api: TestClient, ask: Ask, refused: Any, fields: dict[str, Any]
) -> None:
    answer = ask(api, **fields)
    refused(api, answer, 422, INVALID)
    assert "Fix: ask for fewer `epochs`, `views` or `shots`, or a smaller `size`" in answer.json()["detail"]

    assert ask(api, **fields | {"epochs": 10, "views": 4}).status_code == 201
