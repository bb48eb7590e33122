"""Accuracy under corruptions: by hand on a small table, and against the numbers published for ImageNet-C."""

import csv
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import DataError
from analyzer.measures.corruption import (
    corruption_accuracy,
    corruption_errors,
    flip_rate,
    mean_corruption_error,
    relative_corruption_errors,
    relative_drop,
    relative_mean_corruption_error,
)

pytestmark = pytest.mark.plain

# Sums over severities: 1.5, 2.0, 0.5 against 3.0, 2.5, 1.0; over a clean error of 0.1 against 0.2: 1.0, 1.5, 0 against
# 2.0, 1.5, 0.
ERRORS = [[0.1, 0.2, 0.3, 0.4, 0.5], [0.4, 0.4, 0.4, 0.4, 0.4], [0.1, 0.1, 0.1, 0.1, 0.1]]
BASELINE = [[0.4, 0.5, 0.6, 0.7, 0.8], [0.3, 0.4, 0.5, 0.6, 0.7], [0.2, 0.2, 0.2, 0.2, 0.2]]


def published():
    lines = (Path(__file__).parent / "imagenet_c_accuracies.csv").read_text().splitlines()
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        name, clean, mean, mce, *cells = row.values()
        yield name, float(clean), float(mean), float(mce), np.array(cells, np.float64).reshape(15, 5)


MODELS = list(published())
ALEXNET = next(1 - cells for name, *_, cells in MODELS if name == "AlexNet")


@pytest.mark.parametrize(("name", "clean", "mean", "mce", "cells"), MODELS, ids=[model[0] for model in MODELS])
def test_mce_and_mean_accuracy_are_those_published(name, clean, mean, mce, cells):
    assert mean_corruption_error(1 - cells, ALEXNET) == pytest.approx(mce, abs=0.01)
    assert 100 * cells.mean() == pytest.approx(mean, abs=0.01)
    assert 100 * relative_drop(cells, clean / 100).mean() == pytest.approx(100 - 100 * mean / clean, abs=0.02)


def test_the_mean_of_ratios_by_severity_is_not_what_was_published():
    off = [abs(100 * ((1 - cells) / ALEXNET).mean() - mce) for name, _, _, mce, cells in MODELS if name != "AlexNet"]
    assert min(off) > 0.05


def test_corruption_errors_by_hand():
    assert corruption_errors(ERRORS, BASELINE) == pytest.approx([50, 80, 50])
    assert mean_corruption_error(ERRORS, BASELINE) == pytest.approx(60)
    relative = relative_corruption_errors(ERRORS, 0.1, BASELINE, 0.2)
    assert relative[:2] == pytest.approx([50, 100])
    # The corruption adds nothing to the errors of the baseline: nothing can be said, not 0 and not infinity.
    assert np.isnan(relative[2])
    assert relative_mean_corruption_error(ERRORS, 0.1, BASELINE, 0.2) is None
    assert relative_mean_corruption_error(ERRORS[:2], 0.1, BASELINE[:2], 0.2) == pytest.approx(75)


def test_a_model_against_itself_is_100():
    assert mean_corruption_error(BASELINE, BASELINE) == 100
    assert relative_mean_corruption_error(BASELINE[:2], 0.2, BASELINE[:2], 0.2) == pytest.approx(100)


def test_order_of_severities_and_common_factors_do_not_matter_and_ranks_stay():
    errors, baseline = np.array(ERRORS), np.array(BASELINE)
    assert mean_corruption_error(errors[:, ::-1], baseline) == pytest.approx(60)
    assert mean_corruption_error(errors / 2, baseline / 2) == pytest.approx(60)
    worse = errors.copy()
    worse[1, 3] += 0.1
    assert mean_corruption_error(worse, baseline) > mean_corruption_error(errors, baseline)


def test_a_baseline_without_errors_leaves_mce_undefined():
    baseline = np.array(BASELINE)
    baseline[0] = 0
    assert mean_corruption_error(ERRORS, baseline) is None
    assert corruption_errors(ERRORS, baseline)[1:] == pytest.approx([80, 50])


@pytest.mark.parametrize(
    ("errors", "baseline", "said"),
    [
        (ERRORS, BASELINE[:2], "same"),
        (ERRORS[0], BASELINE[0], "corruptions, severities"),
        (100 * np.array(ERRORS), BASELINE, "divide percentages by 100"),
        (np.full((3, 5), np.nan), BASELINE, "shares"),
    ],
)
def test_tables_that_are_none_are_refused(errors, baseline, said):
    with pytest.raises(DataError, match=said):
        mean_corruption_error(errors, baseline)


def test_accuracy_drop_and_worst_cell_by_hand():
    clean = np.array([1, 1, 1, 0])
    correct = np.array([[[1, 1, 1, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [0.5, 0, 0, 0]]])
    found = corruption_accuracy(["noise", "blur"], correct, clean)
    np.testing.assert_allclose(found.accuracy, [[0.75, 0.5], [1.0, 0.125]])
    np.testing.assert_allclose(found.relative_drop, [[0, 1 / 3], [-1 / 3, 5 / 6]])
    assert found.clean_accuracy == 0.75
    assert found.worst_cell == ("blur", 2, 0.125)
    assert found.mean_accuracy.value == pytest.approx(0.59375)
    assert found.mean_relative_drop.value == pytest.approx(found.relative_drop.mean())
    assert found.mean_relative_drop.low <= found.mean_relative_drop.value <= found.mean_relative_drop.high


def test_the_interval_is_that_of_samples_not_of_cells():
    rng = np.random.default_rng(0)
    n = 400
    # The same samples fail in all cells: 75 cells say no more than one does.
    hard = rng.random(n) < 0.4
    correct = np.repeat(~hard[None], 75, axis=0).reshape(15, 5, n)
    found = corruption_accuracy([str(i) for i in range(15)], correct, np.ones(n), n_bootstrap=2000).mean_accuracy
    half = 1.96 * np.sqrt(found.value * (1 - found.value) / n)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_the_interval_covers_the_mean_over_samples():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # Each sample has a chance of its own, the same in all cells, of mean 0.6.
        chance = rng.beta(1.2, 0.8, size=80)
        correct = rng.random((3, 5, 80)) < chance
        found = corruption_accuracy(["a", "b", "c"], correct, np.ones(80), n_bootstrap=300, seed=seed).mean_accuracy
        covered += found.low <= 0.6 <= found.high
    # 95 % aimed at; a binomial count of 200 lies above 179 with probability 0.999.
    assert covered > 179


def test_groups_are_resampled_as_a_whole():
    rng = np.random.default_rng(0)
    correct = np.repeat(rng.random((2, 5, 50)) < 0.5, 8, axis=2)
    single, grouped = (
        corruption_accuracy(["a", "b"], correct, np.ones(400), groups=groups).mean_accuracy
        for groups in (None, np.repeat(np.arange(50), 8))
    )
    assert (grouped.high - grouped.low) / (single.high - single.low) == pytest.approx(np.sqrt(8), rel=0.15)


def test_nothing_right_without_corruption_leaves_the_drop_undefined():
    found = corruption_accuracy(["a"], np.zeros((1, 5, 10)), np.zeros(10))
    assert np.isnan(found.relative_drop).all()
    assert found.mean_relative_drop.value is None
    assert found.mean_accuracy.value == 0


def test_shapes_that_do_not_fit_and_missing_decisions_are_refused():
    with pytest.raises(DataError, match="2 corruptions and 10 samples"):
        corruption_accuracy(["a", "b"], np.zeros((1, 5, 10)), np.zeros(10))
    with pytest.raises(DataError, match="1 corruptions and 9 samples"):
        corruption_accuracy(["a"], np.zeros((1, 5, 10)), np.zeros(9))
    with pytest.raises(DataError, match="NaN"):
        corruption_accuracy(["a"], np.full((1, 5, 10), np.nan), np.zeros(10))


def test_flip_rate_counts_changed_decisions_and_no_labels():
    clean = np.array([0, 1, 2, 1])
    changed = np.array([[[0, 1, 2, 1], [1, 1, 2, 2]]])
    np.testing.assert_array_equal(flip_rate(changed, clean), [[0, 0.5]])
    # Rows that were drawn again are compared with themselves.
    np.testing.assert_array_equal(flip_rate(changed, np.stack([clean, changed[0, 1]])), [[0, 0]])
    with pytest.raises(DataError, match="3 clean"):
        flip_rate(changed, clean[:3])
