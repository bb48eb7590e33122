"""The one test of calibration: its level and its power, as counts over seeded draws."""

import numpy as np
import pytest

from analyzer.measures.calibration.null_test import calibration_test, make_verdict, resample_labels

pytestmark = pytest.mark.plain

DRAWS = 200
# With 39 resamples p <= 0.05 means at most one of them is as extreme: the level is 2 / 40, exactly 5 %.
RESAMPLES = 39


def generator(kind, n, rng, k=10):
    if kind == "dirichlet":
        return rng.dirichlet(np.ones(k), size=n)
    logits = rng.normal(size=(n, k)) * 3
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def draw_labels(p, rng):
    return (np.cumsum(p, axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(0, p.shape[1] - 1)


def sharpened(p, temperature=0.6):
    q = p ** (1 / temperature)
    return q / q.sum(axis=1, keepdims=True)


def verdicts(kind, n, *, sharpen):
    for seed in range(DRAWS):
        rng = np.random.default_rng([seed, n])
        p = generator(kind, n, rng)
        labels = draw_labels(p, rng)
        yield calibration_test(sharpened(p) if sharpen else p, labels, rng, n_resamples=RESAMPLES)


@pytest.mark.parametrize("kind", ["dirichlet", "logits"])
@pytest.mark.parametrize("n", [300, 3000])
def test_alarms_at_the_level_for_calibrated_predictions(kind, n):
    alarms = sum(not verdict.calibrated for verdict in verdicts(kind, n, sharpen=False))
    assert alarms <= 19


@pytest.mark.parametrize("kind", ["dirichlet", "logits"])
def test_alarms_nearly_always_for_sharpened_predictions(kind):
    found = [verdict.direction for verdict in verdicts(kind, 3000, sharpen=True)]
    assert sum(direction != "calibrated" for direction in found) >= 190
    assert found.count("over-confident") >= 190


def test_words_of_both_answers():
    rng = np.random.default_rng(0)
    p = generator("dirichlet", 3000, rng)
    labels = draw_labels(p, rng)
    assert calibration_test(p[:300], labels[:300], rng).text == "not distinguishable from calibrated at n = 300"
    assert calibration_test(sharpened(p), labels, rng).text == "over-confident (p = 0.001, n = 3000)"
    assert calibration_test(sharpened(p, 1.8), labels, rng).direction == "under-confident"


def test_a_shift_between_classes_is_seen_and_has_no_direction():
    rng = np.random.default_rng(3)
    p = generator("dirichlet", 2000, rng)
    labels = draw_labels(p, rng)
    shifted = np.roll(p, 1, axis=1) * 0.15 + p * 0.85
    verdict = calibration_test(shifted, labels, rng)
    assert not verdict.calibrated
    labels = np.where((labels == 0) & (rng.random(2000) < 0.25), 1, labels)
    assert calibration_test(p, labels, rng).p_value < 0.05


def test_binary_and_many_classes():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=2000)
    y = (rng.random(2000) < p).astype(int)
    assert calibration_test(p, y, rng).calibrated
    assert calibration_test(p**2 / (p**2 + (1 - p) ** 2), y, rng).direction == "over-confident"
    many = generator("logits", 1000, rng, k=60)
    labels = draw_labels(many, rng)
    assert calibration_test(many, labels, rng).calibrated
    assert calibration_test(sharpened(many), labels, rng).direction == "over-confident"


@pytest.mark.parametrize("k", [3, 60])
def test_resampled_labels_follow_the_probabilities(k):
    p = np.random.default_rng(0).dirichlet(np.ones(k), size=4)
    p[0] = np.eye(k)[k - 1]
    labels = resample_labels(np.cumsum(p, axis=1), np.random.default_rng(1), 40_000)
    for row, drawn in zip(p, labels, strict=True):
        share = np.bincount(drawn, minlength=k) / 40_000
        assert np.abs(share - row).max() < 0.015
    assert set(labels[0]) == {k - 1}


def test_positions_of_a_sample_are_tested_one_at_a_time():
    rng = np.random.default_rng(0)
    p = np.repeat(generator("dirichlet", 100, rng), 50, axis=0)
    labels = np.repeat(draw_labels(p[::50], rng), 50)
    groups = np.repeat(np.arange(100), 50)
    # Every position says the same: taken as independent they look miscalibrated, which they are not.
    assert not calibration_test(p, labels, np.random.default_rng(1)).calibrated
    verdict = calibration_test(p, labels, np.random.default_rng(1), groups=groups)
    assert verdict.calibrated
    assert verdict.n == 100


def test_an_impossible_label_is_an_alarm_and_certainty_is_not():
    p = np.eye(3)[np.zeros(30, dtype=int)]
    rng = np.random.default_rng(0)
    assert calibration_test(p, np.zeros(30, dtype=int), rng).p_value == 1
    assert calibration_test(p, np.append(np.zeros(29, dtype=int), 1), rng).p_value == 0.001


def test_same_seed_same_answer():
    rng = np.random.default_rng(0)
    p = generator("dirichlet", 200, rng)
    labels = draw_labels(p, rng)
    first, second = (calibration_test(p, labels, np.random.default_rng(7)).p_value for _ in range(2))
    assert first == second


def test_verdict_without_direction():
    verdict = make_verdict(0.01, 0.3, n=50, level=0.05, test="some test")
    assert verdict.text == "miscalibrated (p = 0.01, n = 50)"
