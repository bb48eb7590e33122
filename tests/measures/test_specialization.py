"""Specialization on planted units, and what must not fool it."""

import numpy as np
import pytest
import scipy.stats

from analyzer.measures.specialization import class_specialization, sparseness

pytestmark = pytest.mark.plain


def random_units(n, d, classes, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.permutation(np.arange(n) % classes)


class TestClasses:
    def test_scores_are_those_of_the_analysis_of_variance(self):
        rows, labels = random_units(50, 6, 3, 0)
        rows += 0.5 * labels[:, None] * np.arange(6)
        found = class_specialization(rows, labels)
        for unit in range(6):
            f = scipy.stats.f_oneway(*(rows[labels == c, unit] for c in range(3))).statistic
            # ε² = (F − 1) (K − 1) / (F (K − 1) + n − K).
            assert found.unit_scores[unit] == pytest.approx((f - 1) * 2 / (f * 2 + 47), rel=1e-9)
        assert found.score.value == pytest.approx(found.unit_scores.mean())
        assert (found.n_units, found.n_classes, found.score.n) == (6, 3, 50)

    @pytest.mark.parametrize("activation", [lambda z: z, lambda z: np.maximum(z, 0), np.tanh, lambda z: np.exp(2 * z)])
    @pytest.mark.parametrize(("n", "classes"), [(12, 2), (60, 10), (400, 10)])
    def test_random_labels_score_zero_whatever_n_classes_and_activation(self, activation, n, classes):
        draws = []
        for seed in range(60):
            rows, labels = random_units(n, 40, classes, seed)
            draws.append(class_specialization(activation(rows), labels).score.value)
        assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(60)
        assert np.mean(np.abs(draws)) < 0.05

    def test_width_does_not_matter(self):
        scores = []
        for d in (8, 4096):
            rows, labels = random_units(200, d, 4, 0)
            found = class_specialization(np.maximum(rows + 1.5 * (labels[:, None] == np.arange(d) % 4), 0), labels)
            scores.append(found.score.value)
        assert scores[0] == pytest.approx(scores[1], abs=0.06)
        assert scores[0] > 0.15

    def test_planted_selective_units_are_near_one_and_name_their_class(self):
        rows, labels = random_units(300, 20, 5, 0)
        rows[:, :5] = (labels[:, None] == np.arange(5)) + 0.02 * rows[:, :5]
        found = class_specialization(rows, labels + 10)
        assert np.all(found.unit_scores[:5] > 0.99)
        assert np.all(np.abs(found.unit_scores[5:]) < 0.1)
        assert found.preferred_class[:5].tolist() == [10, 11, 12, 13, 14]

    def test_scale_sign_and_shift_of_each_unit_change_nothing(self):
        rows, labels = random_units(100, 7, 4, 0)
        rows[:, :3] += labels[:, None]
        moved = rows * np.array([1e-5, -1, 3, 1e5, -2, 1, 1]) + np.array([0, 5, -5, 1e5, 0, 0, 1])
        found, other = class_specialization(rows, labels), class_specialization(moved, labels)
        assert other.unit_scores == pytest.approx(found.unit_scores, rel=1e-6)
        assert other.score.low == pytest.approx(found.score.low, rel=1e-5)

    def test_units_that_do_not_vary_are_no_part_of_the_score(self):
        rows, labels = random_units(100, 7, 4, 0)
        padded = class_specialization(np.concatenate([rows, np.full((100, 3), 0.1)], axis=1), labels)
        assert padded.score == class_specialization(rows, labels).score
        assert np.isnan(padded.unit_scores[7:]).all()
        assert padded.preferred_class[7:].tolist() == [-1, -1, -1]
        assert padded.n_units == 7

    def test_interval_is_the_jackknife_and_stands_a_unit_that_fires_once(self):
        rows, labels = random_units(24, 5, 3, 0)
        rows[:, 0] += labels
        left = [class_specialization(np.delete(rows, i, 0), np.delete(labels, i)).score.value for i in range(24)]
        error = np.sqrt(23 / 24 * np.sum((np.array(left) - np.mean(left)) ** 2))
        found = class_specialization(rows, labels)
        half = scipy.stats.t.ppf(0.975, 23) * error
        assert found.score.high - found.score.value == pytest.approx(half, rel=1e-6)
        once = np.zeros((24, 1))
        once[4] = 1.0
        rare = class_specialization(once, labels)
        left = [class_specialization(np.delete(once, i, 0), np.delete(labels, i)) for i in range(24)]
        left = np.array([rare.score.value if one is None else one.score.value for one in left])
        half = scipy.stats.t.ppf(0.975, 23) * np.sqrt(23 / 24 * np.sum((left - left.mean()) ** 2))
        assert rare.score.high - rare.score.value == pytest.approx(half, rel=1e-6)

    def test_undefined(self):
        rows, labels = random_units(20, 3, 2, 0)
        assert class_specialization(np.ones((20, 3)), labels) is None
        assert class_specialization(rows, np.zeros(20, dtype=int)) is None
        assert class_specialization(rows, np.arange(20)) is None
        assert class_specialization(np.full((20, 3), np.nan), labels) is None


class TestSparseness:
    def test_closed_forms(self):
        assert sparseness(np.ones((5, 3)), 0).tolist() == [0.0, 0.0, 0.0]
        assert sparseness(np.eye(8), 0) == pytest.approx(np.ones(8))
        # k equal responses among n: (1 − k/n) / (1 − 1/n).
        responses = np.zeros((10, 1))
        responses[:4] = 3.0
        assert sparseness(responses, 0)[0] == pytest.approx(0.6 / 0.9)
        normal = np.random.default_rng(0).standard_normal((20000, 2))
        assert sparseness(normal, 0) == pytest.approx(np.full(2, 1 - 2 / np.pi), abs=0.02)

    def test_scale_and_axis(self):
        rows = np.random.default_rng(0).standard_normal((30, 12))
        assert sparseness(1e-200 * rows, 0) == pytest.approx(sparseness(rows, 0))
        assert sparseness(rows, 1) == pytest.approx(sparseness(rows.T, 0))
        assert sparseness(rows, 1).shape == (30,)

    def test_silent_and_broken_units_are_nan(self):
        rows = np.ones((4, 3))
        rows[:, 1] = 0.0
        rows[0, 2] = np.inf
        assert np.isnan(sparseness(rows, 0)).tolist() == [False, True, True]
        assert np.isnan(sparseness(np.ones((1, 2)), 0)).all()
        assert np.isnan(sparseness(np.ones((0, 2)), 0)).all()
