"""One temperature, or a scale and a bias per class: compared with the scaling that made the logits and with sklearn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lensmount_adapters.adapter.head_text import head_of
from lensmount_adapters.adapter.heads import build_head, head_tensors
from lensmount_adapters.adapter.manifest import CosineHead, LinearHead
from lensmount_adapters.trust.scaling import Scaling, fit_scaling, fit_temperature, fit_vector


def drawn(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, classes] whose softmax is right as often as it says, and labels [N]."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, classes)) * 2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return logits, (random.random(images)[:, None] > scores.cumsum(1)).sum(1).clip(0, classes - 1)


def log_loss(scaling: Scaling, logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(scaling.scores(logits)[np.arange(len(labels)), labels]).mean())


def test_the_fitted_temperature_is_the_one_that_scaled_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8_000, 3, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)

    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.05)


def test_twenty_correct_predictions_do_not_make_the_scores_certain() -> None:
    labels = torch.tensor([0, 1] * 10)
    logits = torch.nn.functional.one_hot(labels, 2).float() * 4

    confidence = (logits / fit_temperature(logits, labels)).softmax(1).amax(1)
    assert confidence.tolist() == pytest.approx([11 / 12] * 20, abs=0.01)


def test_a_vector_undoes_a_scale_and_a_bias_per_class() -> None:
    logits, labels = drawn(8_000, 3)
    scale, bias = np.array([0.5, 1.0, 2.0]), np.array([0.5, -0.3, 0.2])

    found = fit_vector((logits - bias) / scale, labels)

    assert found.scale == pytest.approx(scale, rel=0.1)
    assert found.bias - found.bias.mean() == pytest.approx(bias - bias.mean(), abs=0.1)


def test_of_two_classes_the_vector_is_platt_scaling_by_scikit_learn() -> None:
    """With classes of opposite logits the only free numbers are a slope and an offset: a logistic regression."""
    logits, labels = drawn(4_000, 2, seed=3)
    margin = (logits[:, 1] - logits[:, 0]) / 2
    found = fit_vector(np.stack([-margin, margin], 1), labels).scores(np.stack([-margin, margin], 1))[:, 1]
    model = LogisticRegression(C=1e6).fit(margin[:, None], labels)
    expected = model.predict_proba(margin[:, None])[:, 1]
    assert np.abs(found - expected).max() < 0.02  # the penalty and the smoothed labels


def test_a_vector_is_chosen_only_where_it_is_clearly_better_on_the_other_folds() -> None:
    logits, labels = drawn(800, 3)
    folds = np.arange(800) % 4
    scaling, apart = fit_scaling(1.7 * logits, labels, folds, LinearHead())
    assert scaling.kind == "temperature"
    assert scaling.temperature == pytest.approx(1.7, rel=0.1)
    assert apart == pytest.approx(scaling.scores(1.7 * logits), abs=0.05)

    skewed = logits + np.array([2.0, 0.0, -1.0])
    scaling, _ = fit_scaling(skewed, labels, folds, LinearHead())
    assert scaling.kind == "vector"
    assert scaling.temperature == 1
    assert log_loss(scaling, skewed, labels) < log_loss(Scaling.of(1.0, 3), skewed, labels) - 0.1


def test_a_cosine_head_cannot_hold_a_vector() -> None:
    logits, labels = drawn(400, 3)
    scaling, _ = fit_scaling(logits + np.array([2.0, 0.0, -1.0]), labels, np.arange(400) % 4, CosineHead(dim=8))
    assert scaling.kind == "temperature"


def test_each_fold_is_scored_with_the_scaling_of_the_others() -> None:
    logits, labels = drawn(400, 2)
    folds = np.repeat([0, 1], 200)
    hot = np.where(folds[:, None] == 0, 3 * logits, logits)  # only fold 0 is over-confident
    _, apart = fit_scaling(hot, labels, folds, CosineHead(dim=8))
    for fold in (0, 1):
        rest = folds != fold
        own = fit_temperature(torch.from_numpy(hot[rest]), torch.from_numpy(labels[rest]))
        assert apart[~rest] == pytest.approx(Scaling.of(own, 2).scores(hot[~rest]))


@pytest.mark.parametrize("word", ["linear", "mlp:16,8"])
def test_a_vector_in_the_last_layer_gives_the_scores_that_were_fitted(word: str) -> None:
    spec, random = head_of(word, 12, 3), np.random.default_rng(1)
    head = build_head(spec, 12, 3).eval()
    features = torch.from_numpy(random.normal(size=(50, 12))).float()
    before = head(features).detach().double().numpy()
    scaling = Scaling("vector", 1.0, np.array([0.5, 1.5, 2.0]), np.array([0.1, 0.0, -0.4]))

    folded = scaling.folded({f"x.{0}.delta": torch.ones(2), **head_tensors(head)}, spec)

    assert torch.equal(folded["x.0.delta"], torch.ones(2))
    head.load_state_dict(
        {name.removeprefix("head."): t for name, t in folded.items() if name != "x.0.delta"}, strict=False
    )
    assert head(features).softmax(1).detach().numpy() == pytest.approx(scaling.scores(before), abs=1e-6)


def test_a_temperature_changes_no_tensor() -> None:
    tensors = {"head.weight": torch.ones(2, 3), "head.bias": torch.ones(2)}
    assert Scaling.of(2.0, 2).folded(tensors, LinearHead()) == tensors
