"""Sensitivity, specificity and predictive values, compared with scikit-learn and with published tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn import metrics as sk

from lensmount_adapters.metrics.diagnostic import Diagnostic, Estimate, diagnose, diagnose_each, ratio
from lensmount_adapters.metrics.share import Share

# A 70-gene signature and metastasis (van de Vijver et al. 2002), the example of Mercaldo, Zhou and Lau (Statistics in
# Medicine 2007, 26:2170): poor signature in 31 of 34 cases and in 12 of 44 controls, at a prevalence of 7 %.
SIGNATURE = Diagnostic("poor", None, Share(31, 34), Share(32, 44), Share(31, 43), Share(32, 35))


def drawn(classes: int = 3, images: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + 1.5 * np.eye(classes)[truth]
    scores = np.exp(logits)
    return truth, scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("threshold", [None, 0.2, 0.5, 0.9])
def test_the_shares_are_those_of_scikit_learn(threshold: float | None) -> None:
    truth, scores = drawn()
    labels = ["a", "b", "c"]
    for index, label in enumerate(labels):
        y = truth == index
        called = scores.argmax(1) == index if threshold is None else scores[:, index] >= threshold

        found = diagnose(torch.from_numpy(truth), torch.from_numpy(scores), labels, label, threshold)

        shares = (found.sensitivity, found.specificity, found.ppv, found.npv)
        assert [share and share.value for share in shares] == pytest.approx(
            [
                sk.recall_score(y, called),
                sk.recall_score(~y, ~called),
                sk.precision_score(y, called),
                sk.precision_score(~y, ~called),
            ]
        )
        assert [share and share.of for share in shares] == [y.sum(), (~y).sum(), called.sum(), (~called).sum()]


def test_each_label_from_the_counts_is_what_the_scores_give() -> None:
    truth, scores = drawn(5)
    labels = list("abcde")
    confusion = sk.confusion_matrix(truth, scores.argmax(1), labels=range(5))

    found = diagnose_each(confusion.tolist(), labels)

    each = [diagnose(torch.from_numpy(truth), torch.from_numpy(scores), labels, label) for label in labels]
    assert found == each


def both(diagnostic: Diagnostic, prevalence: float) -> tuple[Estimate, Estimate]:
    """PPV and NPV, of images of both kinds and answers of both kinds."""
    ppv, npv = diagnostic.predictive_values(prevalence) or (None, None)
    assert ppv is not None
    assert npv is not None
    return ppv, npv


def test_predictive_values_at_a_prevalence_agree_with_the_published_example() -> None:
    ppv, npv = both(SIGNATURE, 0.07)

    assert (ppv.value, npv.value) == pytest.approx((0.2010444, 0.9909508), abs=1e-7)
    # The score method of Gart and Nam (Biometrics 1988, 44:323), which has no closed form, gives these limits.
    assert (ppv.low, ppv.high) == pytest.approx((0.1391548, 0.3049051), abs=0.01)
    assert (npv.low, npv.high) == pytest.approx((0.9772641, 0.9975727), abs=0.002)


def test_without_a_false_alarm_the_predictive_value_is_1_and_has_a_lower_limit() -> None:
    found = both(Diagnostic("poor", None, Share(31, 34), Share(44, 44), None, None), 0.07)

    assert (found[0].value, found[0].high) == (1.0, 1.0)
    assert 0.2886800 < found[0].low < 0.5261573  # adjusted logit (Mercaldo) and score method (Gart and Nam)
    assert (found[1].low, found[1].high) == pytest.approx((0.9837423, 0.9982142), abs=0.002)


@pytest.mark.parametrize("prevalence", [0.001, 0.07, 0.5, 0.9])
def test_predictive_values_follow_bayes_rule(prevalence: float) -> None:
    found = both(SIGNATURE, prevalence)

    sick, well = 31 / 34 * prevalence, 12 / 44 * (1 - prevalence)
    assert found[0].value == pytest.approx(sick / (sick + well))
    missed, left = 3 / 34 * prevalence, 32 / 44 * (1 - prevalence)
    assert found[1].value == pytest.approx(left / (left + missed))
    assert all(each.low < each.value < each.high for each in found)


def test_at_the_prevalence_of_the_images_the_value_is_the_counted_one() -> None:
    found = both(SIGNATURE, 34 / 78)

    assert (found[0].value, found[1].value) == pytest.approx((31 / 43, 32 / 35))


def test_the_limits_of_a_ratio_are_the_roots_of_their_equation() -> None:
    for above, below in ((Share(12, 44), Share(31, 34)), (Share(3, 50), Share(20, 60)), (Share(40, 41), Share(5, 90))):
        a, b = above.value, below.value

        def low(r: float, a: float = a, b: float = b, p: Share = above, q: Share = below) -> float:
            return a - r * b - float(np.hypot(a - p.low, r * (q.high - b)))

        def high(r: float, a: float = a, b: float = b, p: Share = above, q: Share = below) -> float:
            return r * b - a - float(np.hypot(p.high - a, r * (b - q.low)))

        found = ratio(above, below)

        assert found.low == pytest.approx(brentq(low, 0, a / b))
        assert found.high == pytest.approx(brentq(high, a / b, 1e4))


def test_the_interval_holds_the_truth_in_95_of_100_studies() -> None:
    random = np.random.default_rng(0)
    for sensitivity, specificity, images in ((0.95, 0.95, 60), (0.9, 0.98, 150)):
        truth = sensitivity * 0.1 / (sensitivity * 0.1 + (1 - specificity) * 0.9)
        inside = []
        for hit, left in zip(
            random.binomial(images, sensitivity, 3000), random.binomial(images, specificity, 3000), strict=True
        ):
            study = Diagnostic("x", None, Share(int(hit), images), Share(int(left), images), None, None)
            found = study.predictive_values(0.1)
            assert found is not None
            assert found[0] is not None
            inside.append(found[0].low <= truth <= found[0].high)
        assert 0.93 < np.mean(inside) < 0.985


def test_every_count_gives_an_interval_around_its_value() -> None:
    for hit in range(6):
        for left in range(6):
            found = Diagnostic("x", None, Share(hit, 5), Share(left, 5), None, None).predictive_values(0.2)
            assert found is not None
            called_positive, called_negative = hit + (5 - left), left + (5 - hit)
            assert [each is not None for each in found] == [called_positive > 0, called_negative > 0]
            assert all(0 <= each.low <= each.value <= each.high <= 1 for each in found if each is not None)


def test_images_of_one_kind_only_leave_the_others_open() -> None:
    found = diagnose(torch.tensor([0, 0]), torch.tensor([[0.8, 0.2], [0.4, 0.6]]), ["a", "b"], "a")

    assert (found.sensitivity, found.specificity) == (Share(1, 2), None)
    assert (found.ppv, found.npv) == (Share(1, 1), Share(0, 1))
    assert found.predictive_values(0.5) is None
    assert found.to_json()["specificity"] is None
