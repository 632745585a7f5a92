"""`client.evaluate`: figures of the answers, compared with scikit-learn and scipy."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from lensmount_client import AdapterNotFound, AsyncClient, Client, Evaluation, InvalidInput
from lensmount_client._resources.evaluation import mean_of, wilson

LABELS = ["cat", "dog", "fox"]


@pytest.fixture
def pets(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server whose images say their answer: b"dog 7" is a dog, b"dim fox 1" is a fox, not surely."""
    asked: list[dict[str, str]] = []

    def predict(query: dict[str, str], image: bytes) -> Any:
        asked.append(query)
        if image.startswith(b"bad"):
            return 422, {"code": "image_truncated", "detail": "the image ends after 3 bytes"}, {}
        answer = image.decode().split()[-2]
        scores = [{"label": answer, "score": 0.8}]
        scores += [{"label": label, "score": 0.1} for label in LABELS if label != answer]
        found = server.prediction("malaria", answer) | {"predictions": scores[: int(query["top_k"])]}
        return 200, server.judged(found, image, query), {}

    monkeypatch.setattr(server, "predict", predict)
    server.asked = asked
    return server


def draw(folder: Path, counts: dict[str, int], seed: int = 0) -> tuple[list[str], list[str]]:
    """A folder with these images; returns the labels and the answers."""
    rng = random.Random(seed)
    truth, answers = [], []
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            answer = rng.choices([label, *LABELS], (6, 1, 1, 1))[0]
            word = rng.choice(("", "dim ", "odd "))
            (folder / label / f"{number:02}.png").write_text(f"{word}{answer} {number}")
            truth.append(label)
            answers.append(answer)
    return truth, answers


def test_the_figures_are_those_of_scikit_learn(pets: Any, tmp_path: Path) -> None:
    truth, answers = draw(tmp_path / "photos", {"cat": 31, "dog": 7, "fox": 19})
    told: list[tuple[int, int | None]] = []

    with Client(pets.url) as client:
        found = client.evaluate("malaria", tmp_path / "photos", progress=lambda *n: told.append(n))

    assert found.labels == tuple(LABELS)
    assert found.confusion == tuple(map(tuple, confusion_matrix(truth, answers, labels=LABELS)))
    assert found.accuracy.value == pytest.approx(accuracy_score(truth, answers))
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, answers))
    recalls = recall_score(truth, answers, labels=LABELS, average=None)
    assert [result.recall.value for result in found.classes] == pytest.approx(list(recalls))
    assert found.images == len(truth)
    assert {label for pair in found.mistakes.values() for label in pair} <= set(LABELS)
    assert len(found.mistakes) == sum(a != b for a, b in zip(truth, answers, strict=True))
    assert told[0] == (1, 57)
    assert told[-1] == (57, 57)


def test_the_decisions_are_counted_with_their_correct_answers(pets: Any, tmp_path: Path) -> None:
    for label, name, content in (
        *(("cat", "1", "cat 1"), ("cat", "2", "dog 1"), ("cat", "3", "dim dog 1")),
        *(("dog", "1", "dim dog 1"), ("dog", "2", "odd dog 1")),
    ):
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / label / f"{name}.png").write_text(content)
    with Client(pets.url) as client:
        found = client.evaluate("malaria", tmp_path / "photos")
    counted = {word: (part.images, part.correct) for word, part in found.decisions.items()}
    assert counted == {"accept": (2, 1), "uncertain": (2, 1), "unfamiliar": (1, 1)}
    assert [result.label for result in found.classes] == ["cat", "dog"]  # no fox was shown
    assert found.balanced_accuracy.value == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (3, 7), (19, 20), (500, 1000)])
def test_the_interval_of_a_share_is_wilsons(correct: int, count: int) -> None:
    expected = binomtest(correct, count).proportion_ci(0.95, "wilson")
    found = wilson(correct, count)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_interval_of_a_mean_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng, held, rounds = random.Random(1), 0, 2000
    shares, counts = (0.95, 0.6, 0.8), (12, 25, 40)
    for _ in range(rounds):
        drawn = [sum(rng.random() < share for _ in range(n)) for share, n in zip(shares, counts, strict=True)]
        found = mean_of([wilson(k, n) for k, n in zip(drawn, counts, strict=True)])
        held += found.low <= sum(shares) / 3 <= found.high
    assert 0.93 <= held / rounds <= 0.98


def test_one_share_alone_keeps_its_interval() -> None:
    one = wilson(4, 9)
    again = mean_of([one])
    assert (again.low, again.value, again.high) == pytest.approx((one.low, one.value, one.high))


def test_damaged_images_are_listed_and_count_in_no_figure(pets: Any, tmp_path: Path) -> None:
    for name, content in {"cat/0.png": "bad", "cat/1.png": "cat 1", "dog/1.png": "dog 1", "dog/2.png": "bad"}.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_text(content)
    with Client(pets.url) as client:
        found = client.evaluate("malaria", tmp_path / "photos")
    assert [(image.path, image.code) for image in found.failed] == [
        ("cat/0.png", "image_truncated"),
        ("dog/2.png", "image_truncated"),
    ]
    assert (found.images, found.accuracy.value) == (2, 1.0)
    assert str(found).startswith("malaria@1: balanced accuracy 100.0%")
    assert str(found).endswith("on 2 images, 2 failed")


def test_all_further_images_ask_the_version_that_answered_first(pets: Any, tmp_path: Path) -> None:
    draw(tmp_path / "photos", {"cat": 3, "dog": 3})
    with Client(pets.url) as client:
        client.evaluate("malaria:prod", tmp_path / "photos")
    assert [query["adapter"] for query in pets.asked] == ["malaria:prod", *["malaria@1"] * 5]
    assert [query["top_k"] for query in pets.asked] == ["10000", *["1"] * 5]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            {"cat/1.png": "cat 1", "doge/1.png": "dog 1"},
            r"found the label 'doge', .*of malaria@1: cat, dog, fox. Did you",
        ),
        ({"cat/1.png": "bad", "dog/1.png": "bad"}, r"no answer to any of them.*cat/1.png: the image ends"),
        ({"cat/1.png": "cat 1"}, "one class folder"),
    ],
)
def test_a_folder_that_cannot_be_compared_is_refused(pets: Any, tmp_path: Path, make: Any, told: str) -> None:
    for name, content in make.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_text(content)
    with Client(pets.url) as client, pytest.raises(InvalidInput, match=told):
        client.evaluate("malaria", tmp_path / "photos")


def test_what_is_no_folder_is_refused_before_any_request(pets: Any, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\5\6" + bytes(18))
    with Client(pets.url) as client:
        for path, told in (
            (tmp_path / "none", "found no such folder"),
            (tmp_path / "a.zip", "Fix: unzip it first"),
            ("https://example.com/photos", "URLs are not fetched. Fix: download it"),
        ):
            with pytest.raises(InvalidInput, match=told):
                client.evaluate("malaria", path)
    assert pets.asked == []


def test_only_the_stated_part_is_asked_about(pets: Any, tmp_path: Path) -> None:
    for part, label in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        (tmp_path / "photos" / part / label).mkdir(parents=True)
        (tmp_path / "photos" / part / label / "1.png").write_text(f"{label} 1")
    with Client(pets.url) as client:
        assert client.evaluate("malaria", tmp_path / "photos", split="test").images == 2
        with pytest.raises(InvalidInput, match=r"of the part 'holdout', expected some. Fix: one of test, train"):
            client.evaluate("malaria", tmp_path / "photos", split="holdout")


def test_an_error_that_is_not_about_an_image_ends_it(pets: Any, server: Any, tmp_path: Path) -> None:
    draw(tmp_path / "photos", {"cat": 3, "dog": 3})

    def predict(query: dict[str, str], image: bytes) -> Any:
        return 404, {"code": "adapter_not_found", "detail": "none"}, {}

    server.predict = predict
    with Client(server.url) as client, pytest.raises(AdapterNotFound):
        client.evaluate("nothing", tmp_path / "photos")


def test_the_async_client_finds_the_same(pets: Any, tmp_path: Path) -> None:
    draw(tmp_path / "photos", {"cat": 9, "dog": 7})
    told: list[tuple[int, int | None]] = []

    async def run() -> Evaluation:
        async with AsyncClient(pets.url) as client:
            return await client.evaluate("malaria", tmp_path / "photos", progress=lambda *n: told.append(n))

    with Client(pets.url) as client:
        assert asyncio.run(run()) == client.evaluate("malaria", tmp_path / "photos")
    assert told[-1] == (16, 16)


def test_the_figures_become_tables(pets: Any, tmp_path: Path) -> None:
    truth, answers = draw(tmp_path / "photos", {"cat": 9, "dog": 7})
    with Client(pets.url) as client:
        found = client.evaluate("malaria", tmp_path / "photos")
    table = found.to_pandas()
    assert list(table["label"]) == ["cat", "dog"]
    assert list(table["recall"]) == [result.recall.value for result in found.classes]
    counts = found.confusion_to_pandas()
    assert counts.loc["cat", "dog"] == sum(pair == ("cat", "dog") for pair in zip(truth, answers, strict=True))
    html = found._repr_html_()
    assert "recall of cat" in html
    assert math.isfinite(found.accuracy.low)
