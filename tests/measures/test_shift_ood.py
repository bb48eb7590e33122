"""Scores of single rows against closed forms, and how well they detect against scikit-learn and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from analyzer.errors import ConfigError, DataError
from analyzer.measures.shift.detection import auroc, detection, false_positive_rate
from analyzer.measures.shift.ood import (
    Outputs,
    energy,
    mahalanobis,
    msp,
    nearest_neighbours,
    ood_detection,
    tied_gaussians,
)

pytestmark = pytest.mark.plain


def clouds(n=120, d=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    spread = rng.standard_normal((d, d))
    return 3 * rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d)) @ spread, labels


class TestScores:
    def test_msp_is_one_minus_the_largest_probability(self):
        z = 3 * np.random.default_rng(0).standard_normal((50, 7))
        assert msp(z) == pytest.approx(1 - softmax(z, axis=1).max(axis=1))
        assert msp(np.log(softmax(z, axis=1))) == pytest.approx(msp(z))

    def test_msp_keeps_the_order_of_rows_that_are_nearly_sure(self):
        z = np.array([[60.0, 0.0], [50.0, 0.0], [40.0, 0.0]])
        assert msp(z) == pytest.approx(np.exp(-z[:, 0]))
        assert msp(np.array([[0.0, 0.0, -np.inf]])) == pytest.approx([0.5])

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
    def test_energy_in_closed_form(self, temperature):
        # All C logits equal to a: −a − T log C.
        assert energy(np.full((2, 8), 3.0), temperature=temperature) == pytest.approx(-3.0 - temperature * np.log(8))
        z = np.random.default_rng(0).standard_normal((20, 5))
        expected = -temperature * np.log(np.exp(z / temperature).sum(axis=1))
        assert energy(z, temperature=temperature) == pytest.approx(expected)

    def test_energy_of_large_logits_does_not_overflow(self):
        assert energy(np.array([[1e4, 0.0], [-1e4, -1e4]])) == pytest.approx([-1e4, 1e4 - np.log(2)])

    def test_mahalanobis_by_explicit_inverse(self):
        rows, labels = clouds()
        new = clouds(seed=1)[0]
        means = [rows[labels == k].mean(axis=0) for k in range(3)]
        residuals = np.concatenate([rows[labels == k] - means[k] for k in range(3)])
        inverse = np.linalg.inv(residuals.T @ residuals / len(rows))
        expected = [min((x - mean) @ inverse @ (x - mean) for mean in means) for x in new]
        assert mahalanobis(tied_gaussians(rows, labels), new) == pytest.approx(expected)

    def test_mahalanobis_has_the_covariance_of_linear_discriminant_analysis(self):
        rows, labels = clouds()
        fitted = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(rows, labels)
        whitening = tied_gaussians(rows, labels).whitening
        assert np.linalg.inv(whitening @ whitening.T) == pytest.approx(fitted.covariance_)

    def test_mahalanobis_survives_units_that_do_not_vary_and_sees_when_they_do(self):
        rows, labels = clouds()
        flat = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
        gaussians = tied_gaussians(flat, labels)
        assert mahalanobis(gaussians, flat) == pytest.approx(mahalanobis(tied_gaussians(rows, labels), rows))
        moved = flat.copy()
        moved[:, -1] += 1.0
        assert mahalanobis(gaussians, moved).min() > mahalanobis(gaussians, flat).max()
        assert mahalanobis(tied_gaussians(np.ones((20, 2)), np.zeros(20)), np.ones((1, 2))) == pytest.approx([0.0])

    @pytest.mark.parametrize("k", [1, 5, 60])
    def test_nearest_neighbours_are_those_of_scikit_learn(self, k):
        known, new = clouds(60)[0], np.concatenate([clouds(1500, seed=1)[0], np.zeros((1, 4))])
        expected = NearestNeighbors(n_neighbors=k).fit(normalize(known)).kneighbors(normalize(new))[0][:, -1]
        assert nearest_neighbours(known, new, k=k) == pytest.approx(expected)

    def test_nearest_neighbours_ignore_length(self):
        known, new = clouds()[0], clouds(seed=1)[0]
        assert nearest_neighbours(known, 7 * new) == pytest.approx(nearest_neighbours(3 * known, new))


class TestDetection:
    @pytest.mark.parametrize("ties", [False, True])
    def test_auroc_and_fpr_are_those_of_scikit_learn(self, ties):
        rng = np.random.default_rng(0)
        known, new = rng.standard_normal(137), rng.standard_normal(90) + 1
        if ties:
            known, new = np.round(known), np.round(new)
        found = detection(known, new)
        scores, is_new = np.concatenate([known, new]), np.repeat([0, 1], [137, 90])
        assert found.auroc.value == pytest.approx(roc_auc_score(is_new, scores))
        # In-distribution rows are the positives, and pass with low scores.
        fpr, tpr, _ = roc_curve(1 - is_new, -scores, drop_intermediate=False)
        assert found.fpr95.value == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
        assert (found.n_reference, found.n_new, found.auroc.n, found.fpr95.n) == (137, 90, 227, 90)

    def test_newcombe_interval_holds_where_the_variance_reaches(self):
        known, new = np.random.default_rng(0).standard_normal((2, 60))
        found = auroc(known, new + 0.8)
        for end in (found.low, found.high):
            hanley_mcneil = end * (1 - end) * (1 + 59 * (1 - end) / (2 - end) + 59 * end / (1 + end)) / 3600
            assert abs(found.value - end) == pytest.approx(norm.ppf(0.975) * np.sqrt(hanley_mcneil))

    def test_nothing_is_told_apart(self):
        rng = np.random.default_rng(0)
        found = detection(rng.standard_normal(4000), rng.standard_normal(4000))
        assert found.auroc.low < 0.5 < found.auroc.high
        assert found.fpr95.low < 0.95 < found.fpr95.high

    @pytest.mark.parametrize(("offset", "area", "passing"), [(100, 1.0, 0.0), (-100, 0.0, 1.0)])
    def test_intervals_have_width_at_the_ends(self, offset, area, passing):
        rng = np.random.default_rng(0)
        found = detection(rng.standard_normal(50), rng.standard_normal(50) + offset)
        assert (found.auroc.value, found.fpr95.value) == (area, passing)
        for estimate in (found.auroc, found.fpr95):
            assert 0.01 < estimate.high - estimate.low < 0.15
            assert estimate.low <= estimate.value <= estimate.high

    @pytest.mark.parametrize("shift", [0.5, 2.0])
    def test_coverage_for_normal_scores(self, shift):
        rng = np.random.default_rng(0)
        area, passing = norm.cdf(shift / np.sqrt(2)), norm.cdf(norm.ppf(0.95) - shift)
        covered = []
        for _ in range(600):
            known, new = rng.standard_normal(100), rng.standard_normal(80) + shift
            first, second = auroc(known, new), false_positive_rate(known, new)
            covered.append([first.low <= area <= first.high, second.low <= passing <= second.high])
        assert (np.mean(covered, axis=0) >= 0.93).all()
        assert (np.mean(covered, axis=0) <= 0.995).all()

    def test_bad_scores(self):
        with pytest.raises(DataError, match="0 reference and 3 new"):
            detection(np.empty(0), np.ones(3))
        with pytest.raises(DataError, match="leave out rows without a score"):
            detection(np.ones(3), np.array([1.0, np.nan]))


class TestAllScores:
    def test_noise_is_detected_and_nothing_else_is(self):
        x, y = load_digits(return_X_y=True)
        x, rng = x / 16, np.random.default_rng(0)
        kernel = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x[:600], y[:600])

        def outputs(rows):
            return Outputs(logits=kernel.decision_function(rows), features=rows)

        same = ood_detection(outputs(x[600:1200]), outputs(x[1200:]))
        assert list(same) == ["MSP", "energy", "Mahalanobis", "kNN"]
        assert all(abs(found.auroc.value - 0.5) < 0.1 for found in same.values())
        assert all((found.n_reference, found.n_new) == (300, 597) for found in same.values())
        noise = ood_detection(outputs(x[600:1200]), outputs(x[1200:] + 0.4 * rng.standard_normal((597, 64))))
        assert noise["Mahalanobis"].auroc.low > 0.95
        assert noise["kNN"].auroc.low > 0.95
        assert noise["kNN"].fpr95.high < 0.1

    def test_bad_input(self):
        rows = np.ones((30, 2))
        good = Outputs(logits=rows, features=rows)
        with pytest.raises(DataError, match="12 rows of logits"):
            ood_detection(Outputs(logits=rows[:12], features=rows[:12]), good)
        with pytest.raises(DataError, match=r"expected \(rows, 2\)"):
            ood_detection(good, Outputs(logits=rows, features=np.ones((30, 3))))
        with pytest.raises(DataError, match="one label per row"):
            tied_gaussians(rows, np.zeros(29))
        with pytest.raises(DataError, match="logits hold NaN"):
            msp(np.array([[np.inf, 0.0]]))
        with pytest.raises(DataError, match="features hold NaN"):
            nearest_neighbours(np.full((30, 2), -np.inf), rows)
        with pytest.raises(ConfigError, match="k=31 with 30"):
            nearest_neighbours(rows, rows, k=31)
        with pytest.raises(ConfigError, match="temperature=0"):
            energy(rows, temperature=0)
