"""Probes against scikit-learn on the same folds, and what they say with and without signal."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from analyzer.measures.probes import PENALTIES, classification_probe, held_out_predictions, regression_probe

pytestmark = pytest.mark.plain


@pytest.mark.parametrize(("n", "d"), [(60, 5), (40, 200), (30, 30)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
def test_closed_form_is_that_of_refitting_without_each_fold(n, d, penalty):
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((n, d)) + 2.0, rng.standard_normal((n, 3)) + 1.0
    fold = rng.permutation(np.arange(n) % 7)
    expected = cross_val_predict(Ridge(alpha=penalty, solver="svd"), rows, targets, cv=PredefinedSplit(fold))
    assert held_out_predictions(rows, targets, fold, penalty) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_leaving_out_single_rows_is_the_case_of_one_row_per_fold():
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((25, 4)), rng.standard_normal((25, 1))
    expected = [
        Ridge(alpha=2.0).fit(np.delete(rows, i, 0), np.delete(targets, i, 0)).predict(rows[i : i + 1])[0]
        for i in range(25)
    ]
    assert held_out_predictions(rows, targets, np.arange(25), 2.0) == pytest.approx(np.array(expected).reshape(-1, 1))


def clouds(n=120, d=20, classes=3, distance=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    return distance * rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d)), labels


class TestClassification:
    @pytest.mark.parametrize("d", [10, 300])
    def test_accuracy_is_near_that_of_scikit_learn(self, d):
        rows, labels = clouds(n=300, d=d, distance=0.5)
        found = classification_probe(rows, labels)
        standard = (rows - rows.mean(0)) / rows.std(0)
        fold = np.random.default_rng(5).permutation(np.arange(300) % 10)
        typical = np.linalg.svd(standard, compute_uv=False)
        typical = np.mean(typical[typical > 1e-6 * typical[0]] ** 2)
        ridge = RidgeClassifier(alpha=found.penalty * typical)
        expected = np.mean(cross_val_predict(ridge, standard, labels, cv=PredefinedSplit(fold)) == labels)
        assert found.score.value == pytest.approx(expected, abs=0.03)
        assert (found.folds, found.n_classes, found.score.n) == (10, 3, 300)
        assert found.penalty in PENALTIES
        assert found.chance == pytest.approx(1 / 3)

    @pytest.mark.parametrize(("d", "classes"), [(5, 2), (300, 2), (50, 5)])
    def test_without_signal_accuracy_is_chance_on_average(self, d, classes):
        found = [classification_probe(*clouds(100, d, classes, 0.0, seed)).score.value for seed in range(60)]
        assert np.mean(found) == pytest.approx(1 / classes, abs=4 * np.std(found) / np.sqrt(60) + 0.01)

    def test_separable_classes_are_known(self):
        found = classification_probe(*clouds(distance=10.0))
        assert found.score.value == 1.0
        assert found.score.low < 1.0

    def test_width_scale_and_label_names_change_little(self):
        rows, labels = clouds(distance=0.6)
        found = classification_probe(rows, labels)
        moved = classification_probe(rows * np.geomspace(1e-6, 1e6, 20) + 3.0, 10 * labels + 7)
        assert moved.score.value == pytest.approx(found.score.value, abs=0.01)
        doubled = classification_probe(np.concatenate([rows, rows], axis=1), labels)
        assert doubled.score.value == pytest.approx(found.score.value, abs=0.03)
        with_dead_unit = classification_probe(np.concatenate([rows, np.full((120, 1), 0.1)], axis=1), labels)
        assert with_dead_unit.score == found.score

    def test_chance_is_that_of_the_most_frequent_class(self):
        rows, labels = clouds(distance=0.0)
        labels = np.minimum(labels, 1)
        found = classification_probe(rows, np.append(labels[:-1], 9))
        assert found.chance == pytest.approx(np.mean(labels[:-1] == 1))
        assert (found.n_classes, found.score.n) == (2, 119)
        assert found.score.value == pytest.approx(found.chance, abs=0.1)

    def test_seed_decides_the_folds(self):
        rows, labels = clouds(distance=0.3)
        assert classification_probe(rows, labels, seed=1).score == classification_probe(rows, labels, seed=1).score
        scores = {classification_probe(rows, labels, seed=s).score.value for s in range(6)}
        assert len(scores) > 1

    def test_undefined_and_wrong_use(self):
        rows, labels = clouds()
        assert classification_probe(rows[:9], labels[:9]) is None
        assert classification_probe(rows, np.zeros(120, dtype=int)) is None
        assert classification_probe(np.full_like(rows, 0.1), labels) is None
        assert classification_probe(np.full_like(rows, np.nan), labels) is None
        with pytest.raises(ValueError, match="120 rows and labels"):
            classification_probe(rows, labels[:7])


class TestRegression:
    def test_finds_the_share_that_the_layer_carries(self):
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((800, 5))
        targets = rows @ rng.standard_normal((5, 1)) / np.sqrt(5)
        targets = targets / targets.std() + rng.standard_normal((800, 1))
        found = regression_probe(rows, targets[:, 0])
        assert found.score.value == pytest.approx(0.5, abs=0.06)
        assert found.score.low < 0.5 < found.score.high
        assert (found.chance, found.n_classes, found.score.n) == (0.0, None, 800)

    def test_r2_is_that_of_the_held_out_predictions(self):
        rng = np.random.default_rng(0)
        rows, fold_count = rng.standard_normal((40, 8)), 40
        targets = np.stack([rows[:, 0] + 0.1 * rng.standard_normal(40), 100 * rng.standard_normal(40)], axis=1)
        found = regression_probe(rows, targets, folds=fold_count)
        standard = (rows - rows.mean(0)) / rows.std(0)
        wanted = (targets - targets.mean(0)) / targets.std(0)
        alpha = found.penalty * np.mean(np.linalg.svd(standard, compute_uv=False) ** 2)
        expected = cross_val_predict(Ridge(alpha=alpha), standard, wanted, cv=PredefinedSplit(np.arange(40)))
        assert found.score.value == pytest.approx(1 - np.mean((wanted - expected) ** 2), rel=1e-6)

    def test_noise_has_none_and_a_copy_all(self):
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((100, 30))
        assert -0.15 < regression_probe(rows, rng.standard_normal(100)).score.value < 0.05
        assert regression_probe(rows, 3 * rows[:, :2] + 1).score.value > 0.999

    def test_undefined_and_wrong_use(self):
        rows = np.random.default_rng(0).standard_normal((30, 3))
        assert regression_probe(rows, np.ones(30)) is None
        assert regression_probe(np.ones((30, 3)), rows[:, 0]) is None
        assert regression_probe(rows, np.full(30, np.nan)) is None
        assert regression_probe(np.full((30, 3), np.inf), rows[:, 0]) is None
        assert regression_probe(rows[:9], rows[:9, 0]) is None
        with pytest.raises(ValueError, match="30 rows and 29 targets"):
            regression_probe(rows, np.ones(29))
        constant = np.stack([rows[:, 0], np.ones(30)], axis=1)
        assert regression_probe(rows, constant).score == regression_probe(rows, rows[:, 0]).score
