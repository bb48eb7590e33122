"""Accuracy without labels: against the definitions, where it is right, where it is wrong, and coverage."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from analyzer.errors import DataError
from analyzer.measures.bootstrap import wilson
from analyzer.measures.shift.accuracy_estimates import (
    accuracy_estimates,
    average_thresholded_confidence,
    difference_of_confidences,
    max_confidence,
    negative_entropy,
    threshold,
)
from analyzer.measures.shift.two_sample import two_sample_tests
from analyzer.measures.shift.verdict import harm_from_estimates, harm_from_labels, shift_verdict

pytestmark = pytest.mark.plain


def calibrated(n, rng, classes=4, concentration=0.4):
    """Probabilities and labels drawn from them."""
    p = rng.dirichlet(np.full(classes, concentration), n)
    return p, (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)


def by_method(*arguments):
    return {estimate.method: estimate for estimate in accuracy_estimates(*arguments)}


def test_values_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    (reference, labels), (new, _) = calibrated(200, rng), calibrated(150, rng, concentration=1.0)
    found = by_method(reference, labels, new)
    accuracy = np.mean(reference.argmax(axis=1) == labels)
    assert found["AC"].accuracy.value == pytest.approx(new.max(axis=1).mean())
    assert found["DoC"].accuracy.value == pytest.approx(
        accuracy - (reference.max(axis=1).mean() - new.max(axis=1).mean())
    )
    scores = {
        "ATC max confidence": lambda p: p.max(axis=1),
        "ATC negative entropy": lambda p: (p * np.log(p)).sum(axis=1),
    }
    for method, score in scores.items():
        # Without ties as many reference rows are above the threshold as are classified correctly.
        t = np.sort(score(reference))[::-1][round(accuracy * 200) - 1]
        assert np.mean(score(reference) >= t) == pytest.approx(accuracy)
        assert found[method].accuracy.value == pytest.approx(np.mean(score(new) >= t))
    for estimate in found.values():
        assert estimate.accuracy.n == 150
        assert estimate.accuracy.low < estimate.accuracy.value < estimate.accuracy.high
        assert 0.086 <= estimate.mean_absolute_error <= 0.101
        assert 0.35 <= estimate.worst_overestimate <= 0.38


def test_entropy_of_sure_and_unsure_rows():
    p = np.array([[1.0, 0.0, 0.0, 0.0], [0.25] * 4])
    assert negative_entropy(p) == pytest.approx([0.0, -np.log(4)])
    assert max_confidence(p) == pytest.approx([1.0, 0.25])


def test_threshold_by_trying_all():
    rng = np.random.default_rng(0)
    for values in (rng.random(30), rng.integers(0, 5, 30).astype(float), np.ones(30)):
        for share in (0.0, 0.31, 0.5, 0.97, 1.0):
            nearest = min(abs(np.mean(values >= t) - share) for t in [*values, np.inf])
            assert abs(np.mean(values >= threshold(values, share)) - share) == pytest.approx(nearest)
    assert threshold(np.ones(5), 0.1) == np.inf
    assert threshold(np.arange(5.0), 1.0) == 0.0


def test_a_model_that_is_never_or_always_right():
    p = calibrated(50, np.random.default_rng(0))[0]
    right, wrong = p.argmax(axis=1), p.argmin(axis=1)
    assert by_method(p, right, p)["ATC max confidence"].accuracy.value == 1.0
    assert by_method(p, wrong, p)["ATC max confidence"].accuracy.value == 0.0
    assert by_method(p, wrong, p)["DoC"].accuracy.value == 0.0


def test_two_classes_may_come_as_one_column():
    rng = np.random.default_rng(0)
    p, q = rng.random(60), rng.random(40)
    labels = (rng.random(60) < p).astype(int)
    wide = accuracy_estimates(np.stack([1 - p, p], axis=1), labels, np.stack([1 - q, q], axis=1))
    assert accuracy_estimates(p, labels, q) == wide
    assert accuracy_estimates(p[:, None], labels, q[:, None]) == wide


def test_coverage_where_nothing_shifts():
    rng = np.random.default_rng(0)
    truth = calibrated(400_000, rng)[0].max(axis=1).mean()
    covered = []
    for _ in range(400):
        (reference, labels), (new, _) = calibrated(150, rng), calibrated(200, rng)
        correct = reference.argmax(axis=1) == labels
        for found in (
            difference_of_confidences(reference, correct, new),
            average_thresholded_confidence(reference, correct, new, max_confidence),
        ):
            covered.append(found.low <= truth <= found.high)
    doc, atc = np.mean(np.reshape(covered, (400, 2)), axis=0)
    assert doc == pytest.approx(0.95, abs=0.03)
    assert 0.92 <= atc <= 0.99


@pytest.mark.parametrize(
    ("reference", "labels", "new", "message"),
    [
        (np.full((5, 2), 0.5), np.zeros(5), np.full((5, 3), 1 / 3), "as many classes on both sides"),
        (np.full((5, 2), 0.5), np.zeros(4), np.full((5, 2), 0.5), "one label per reference row"),
        (np.full((5, 2), 3.0), np.zeros(5), np.full((5, 2), 0.5), "reference data are no probabilities"),
        (np.full((5, 2), 0.5), np.zeros(5), np.full((5, 2), np.nan), "new data are no probabilities"),
        (np.full((5, 2), 0.5), np.zeros(5), np.full((5, 2, 2), 0.5), r"expected \(rows, classes\)"),
    ],
)
def test_bad_input(reference, labels, new, message):
    with pytest.raises(DataError, match=message):
        accuracy_estimates(reference, labels, new)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order] / 16, y[order]


@pytest.fixture(scope="module")
def network(digits):
    x, y = digits
    network = MLPClassifier((64,), max_iter=80, random_state=0, learning_rate_init=0.005)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(x[:700], y[:700])


def corrupted(rows, kind):
    if kind == "contrast":
        return rows * 0.5
    if kind == "pixel":
        return np.roll(rows.reshape(-1, 8, 8), 1, axis=2).reshape(-1, 64)
    rng, rows = np.random.default_rng(0), rows.copy()
    for column in rng.choice(np.flatnonzero(rows.std(axis=0) > 0.1), 8, replace=False):
        rows[:, column] = rng.permutation(rows[:, column])
    return rows


@pytest.mark.parametrize(
    ("kind", "harm", "without_labels"),
    [
        ("contrast", "not harmful", "undecided"),
        ("columns", "harmful", "undecided"),
        ("pixel", "harmful", "suspected"),
    ],
)
def test_shifted_and_harmful_are_separate(digits, network, kind, harm, without_labels):
    (x, y), new = digits, corrupted(digits[0][1240:], kind)
    known, unknown = network.predict_proba(x[700:1240]), network.predict_proba(new)
    measured = [
        wilson(int((p.argmax(axis=1) == labels).sum()), len(labels))
        for p, labels in ((known, y[700:1240]), (unknown, y[1240:]))
    ]
    tests = two_sample_tests(x[700:1000], new[:300], n_permutations=199)
    assert shift_verdict({"inputs": tests}).shifted
    assert harm_from_labels(*measured).harm == harm
    estimates = accuracy_estimates(known, y[700:1240], unknown)
    assert harm_from_estimates(measured[0], estimates).harm == without_labels
    if kind == "pixel":
        assert min(estimate.accuracy.value for estimate in estimates) > measured[1].value + 0.25
