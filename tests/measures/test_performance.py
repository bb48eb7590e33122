"""Scores against scikit-learn and closed forms."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import norm
from sklearn import metrics

from analyzer.data_types import OutputData, OutputTask
from analyzer.measures.performance import (
    LOG_LOSS_CLIP,
    classification_scores,
    mean_estimate,
    point_predictions,
    ratio_estimate,
    regression_scores,
)

pytestmark = pytest.mark.plain

N = 200


def output(kind, raw, labels, probabilities=None, *, quantiles=(), **more):
    width = raw.shape[-1] if raw.ndim > 1 else 2
    task = OutputTask(kind=kind, n_classes=width, quantiles=quantiles)
    return OutputData(name="o", task=task, raw=raw, labels=labels, probabilities=probabilities, **more)


def multiclass(seed=0, k=4, n=N, **more):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1
    p = softmax(logits, axis=1)
    return output("multiclass", p, labels, p, **more)


def scores(made, n_bootstrap=0, seed=0):
    return classification_scores(made, n_bootstrap=n_bootstrap, seed=seed)


class TestClasses:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_multiclass_agrees_with_scikit_learn(self, weighted):
        w = np.random.default_rng(1).uniform(0.1, 3, N) if weighted else None
        made = multiclass(sample_weight=w)
        found = scores(made)
        y, p = made.labels, made.probabilities
        assert found.accuracy.value == pytest.approx(metrics.accuracy_score(y, p.argmax(1), sample_weight=w), rel=1e-12)
        assert found.loss.value == pytest.approx(metrics.log_loss(y, p, sample_weight=w), rel=1e-12)
        f1 = metrics.f1_score(y, p.argmax(1), average="macro", sample_weight=w)
        balanced = metrics.balanced_accuracy_score(y, p.argmax(1), sample_weight=w)
        assert found.metrics["f1_macro"].value == pytest.approx(f1, rel=1e-12)
        assert found.metrics["balanced_accuracy"].value == pytest.approx(balanced, rel=1e-12)
        assert {e.n for e in (found.accuracy, found.loss, *found.metrics.values())} == {N}
        assert found.loss_name == "log loss"

    @pytest.mark.parametrize("weighted", [False, True])
    def test_binary_agrees_with_scikit_learn(self, weighted):
        rng = np.random.default_rng(0)
        p, w = rng.random(N), rng.random(N) if weighted else None
        y = (rng.random(N) < p).astype(int)
        found = scores(output("binary", p[:, None], y, p, sample_weight=w))
        assert found.accuracy.value == pytest.approx(metrics.accuracy_score(y, p > 0.5, sample_weight=w), rel=1e-12)
        assert found.loss.value == pytest.approx(metrics.log_loss(y, p, sample_weight=w), rel=1e-12)
        f1 = metrics.f1_score(y, p > 0.5, average="macro", sample_weight=w)
        assert found.metrics["f1_macro"].value == pytest.approx(f1, rel=1e-12)

    @pytest.mark.parametrize("width", [1, 3])
    def test_multilabel_agrees_with_scikit_learn(self, width):
        rng = np.random.default_rng(0)
        p = rng.random((N, width))
        y = (rng.random((N, width)) < p).astype(int)
        found = scores(output("multilabel", p, y, p))
        assert found.accuracy.value == pytest.approx(np.mean((p > 0.5) == y), rel=1e-12)
        by_label = [metrics.log_loss(y[:, j], p[:, j]) for j in range(width)]
        assert found.loss.value == pytest.approx(np.mean(by_label), rel=1e-12)
        f1 = metrics.f1_score(y, p > 0.5, average="macro")
        assert found.metrics["f1_macro"].value == pytest.approx(f1, rel=1e-12)
        assert "balanced_accuracy" not in found.metrics

    def test_only_classes_that_occur_are_averaged(self):
        p = np.eye(4)[[0, 1, 3, 1]]
        y = np.array([0, 1, 0, 0])
        found = scores(output("multiclass", p, y, p))
        # Class 0: precision 1, recall 1/3, F1 1/2; class 1: precision 1/2, recall 1, F1 2/3.
        assert found.metrics["f1_macro"].value == pytest.approx((1 / 2 + 2 / 3) / 2)
        assert found.metrics["balanced_accuracy"].value == pytest.approx((1 / 3 + 1) / 2)

    def test_a_class_without_weight_does_not_occur(self):
        p, y = np.eye(3)[[0, 1, 2, 1]], np.array([0, 1, 2, 0])
        weighted = scores(output("multiclass", p, y, p, sample_weight=np.array([1.0, 2.0, 0.0, 1.0])))
        without = scores(output("multiclass", p[[0, 1, 1, 3]], y[[0, 1, 1, 3]], p[[0, 1, 1, 3]]))
        assert weighted.metrics["balanced_accuracy"].value == pytest.approx(3 / 4)
        assert weighted.metrics["balanced_accuracy"].value == without.metrics["balanced_accuracy"].value
        assert weighted.metrics["f1_macro"].value == pytest.approx(without.metrics["f1_macro"].value)

    def test_one_class_only_has_no_balanced_accuracy(self):
        made = multiclass()
        found = scores(dataclasses.replace(made, labels=np.zeros(N, dtype=int)))
        assert found.metrics.keys() == {"f1_macro"}
        assert 0 < found.accuracy.value < 1

    def test_a_sure_mistake_costs_the_clip_and_not_infinity(self):
        p = np.array([[1.0, 0.0]])
        assert scores(output("multiclass", p, np.array([1]), p)).loss.value == -np.log(LOG_LOSS_CLIP)
        p = np.array([[1.0, 0.0], [0.0, 1.0]])
        assert scores(output("multilabel", p, np.array([[0, 1], [0, 1]]), p)).loss.value == -np.log(LOG_LOSS_CLIP) / 2

    def test_one_half_is_no_for_both_sides(self):
        p = np.array([0.5, 0.5])
        assert scores(output("binary", p[:, None], np.array([0, 1]), p)).accuracy.value == 0.5

    def test_independent_rows_have_the_interval_of_wilson(self):
        made = multiclass()
        found = scores(made).accuracy
        share, z = found.value, norm.ppf(0.975)
        # The ends solve |share - p| = z sqrt(p (1 - p) / n).
        ends = np.sort(np.roots([1 + z**2 / N, -(2 * share + z**2 / N), share**2]))
        np.testing.assert_allclose([found.low, found.high], ends, rtol=1e-9)
        assert found.method == "Wilson"
        perfect = scores(dataclasses.replace(made, labels=made.probabilities.argmax(1))).accuracy
        assert (perfect.value, perfect.high) == (1.0, 1.0)
        assert perfect.low < 0.99

    @pytest.mark.parametrize("more", [{"groups": np.arange(N) // 4}, {"sample_weight": np.linspace(1, 2, N)}])
    def test_dependent_and_weighted_rows_have_a_bootstrap_interval(self, more):
        found = scores(multiclass(**more), n_bootstrap=200).accuracy
        assert found.method == "BC bootstrap"
        assert found.low < found.value < found.high
        assert found.n == (N // 4 if "groups" in more else N)

    def test_the_seed_decides_the_intervals(self):
        made = multiclass()
        one, same, other = (scores(made, 200, seed).loss for seed in (1, 1, 2))
        assert one == same
        assert (one.low, one.high) != (other.low, other.high)
        assert scores(made, 0).loss.low is None


class TestMeans:
    def test_the_interval_is_that_of_the_normal_law_for_many_rows(self):
        values = np.random.default_rng(0).normal(2, 1, 1500)
        found = mean_estimate(values, None, None, n_bootstrap=4000, seed=0)
        error = values.std() / np.sqrt(len(values))
        assert found.value == pytest.approx(values.mean(), rel=1e-12)
        # A bootstrap end over 4000 draws is known to about 0.04 standard errors.
        assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
        assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)

    def test_repeated_rows_of_one_sample_add_nothing(self):
        values = np.random.default_rng(0).normal(size=100)
        alone = mean_estimate(values, None, None, n_bootstrap=2000, seed=0)
        grouped = mean_estimate(np.repeat(values, 5), np.repeat(np.arange(100), 5), None, n_bootstrap=2000, seed=0)
        naive = mean_estimate(np.repeat(values, 5), None, None, n_bootstrap=2000, seed=0)
        assert grouped.n == 100
        assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.05)
        assert naive.high - naive.low == pytest.approx((alone.high - alone.low) / np.sqrt(5), rel=0.1)

    @given(seed=st.integers(0, 20), scale=st.floats(0.1, 10))
    def test_the_scale_of_the_weights_does_not_matter(self, seed, scale):
        rng = np.random.default_rng(seed)
        values, weight = rng.normal(size=30), rng.uniform(0.1, 1, 30)
        one = mean_estimate(values, None, weight, n_bootstrap=50, seed=0)
        other = mean_estimate(values, None, weight * scale, n_bootstrap=50, seed=0)
        assert one.value == pytest.approx(np.average(values, weights=weight), rel=1e-9)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-9)

    def test_a_ratio_is_one_of_sums_and_undefined_over_nothing(self):
        above, below = np.array([1.0, 2.0, 6.0]), np.array([1.0, 1.0, 2.0])
        assert ratio_estimate(above, below, None, None, n_bootstrap=0, seed=0).value == 9 / 4
        weight = np.array([1.0, 0.0, 1.0])
        assert ratio_estimate(above, below, None, weight, n_bootstrap=0, seed=0).value == 7 / 3
        nothing = ratio_estimate(above, below * 0, None, None, n_bootstrap=50, seed=0)
        assert (nothing.value, nothing.low, nothing.n) == (None, None, 3)


class TestRegression:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("targets", [1, 3])
    def test_agrees_with_scikit_learn(self, weighted, targets):
        rng = np.random.default_rng(0)
        raw, w = rng.normal(size=(N, targets)), rng.random(N) if weighted else None
        y = raw + 0.3 * rng.normal(size=(N, targets))
        found = regression_scores(output("regression", raw, y, sample_weight=w), n_bootstrap=100, seed=0)
        assert found.accuracy is None
        assert found.loss.value == pytest.approx(metrics.mean_squared_error(y, raw, sample_weight=w), rel=1e-12)
        mae, r2 = found.metrics["mae"], found.metrics["r2"]
        assert mae.value == pytest.approx(metrics.mean_absolute_error(y, raw, sample_weight=w), rel=1e-12)
        expected = metrics.r2_score(y, raw, sample_weight=w, multioutput="variance_weighted")
        assert r2.value == pytest.approx(expected, rel=1e-12)
        assert r2.low < r2.value < r2.high < 1

    def test_a_constant_target_has_no_r2(self):
        made = output("regression", np.arange(4.0)[:, None], np.ones((4, 1)))
        found = regression_scores(made, n_bootstrap=100, seed=0)
        assert (found.metrics["r2"].value, found.metrics["r2"].low) == (None, None)
        assert found.loss.value == 1.5

    def test_points_of_a_gaussian_are_its_means_and_of_quantiles_the_middle(self):
        raw = np.arange(12.0).reshape(2, 6)
        np.testing.assert_array_equal(point_predictions(output("gaussian", raw, None)), raw[:, :3])
        three = output("quantile", raw, None, quantiles=(0.1, 0.5, 0.9))
        np.testing.assert_array_equal(point_predictions(three), raw[:, [1, 4]])
        two = output("quantile", raw[:, :2], None, quantiles=(0.45, 0.95))
        np.testing.assert_array_equal(point_predictions(two), raw[:, :1])
        np.testing.assert_array_equal(point_predictions(output("regression", raw.reshape(2, 3, 2), None)), raw)

    def test_scores_of_a_gaussian_head_look_at_its_means(self):
        y = np.array([[1.0], [3.0]])
        made = output("gaussian", np.array([[2.0, 9.0], [3.0, 9.0]]), y)
        assert regression_scores(made, n_bootstrap=0, seed=0).loss.value == 0.5
