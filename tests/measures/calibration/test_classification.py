"""The whole result: intervals, classes, groups, and what is left out."""

import dataclasses

import numpy as np
import pytest

from analyzer.data_types.calibration import ClassificationCalibration
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.data_types.values import Estimate
from analyzer.measures.calibration.classification import classification_calibration
from analyzer.measures.calibration.reliability import reliability_bins

pytestmark = pytest.mark.plain


def data(n=400, k=4, seed=0, temperature=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    labels = (np.cumsum(p, axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    said = np.exp(logits / temperature)
    return said / said.sum(axis=1, keepdims=True), labels


def scalars(result):
    found = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    for part in ("brier_corp", "log_loss_corp", "brier_binned"):
        score = found.pop(part)
        found |= {f"{part}.{f.name}": getattr(score, f.name) for f in dataclasses.fields(score)}
    return {name: value for name, value in found.items() if isinstance(value, Estimate)}


def test_every_scalar_has_n_and_an_interval_around_it():
    p, y = data()
    result = classification_calibration(p, y, n_bootstrap=200)
    for name, estimate in scalars(result).items():
        assert estimate.n == 400, name
        assert estimate.low <= estimate.value <= estimate.high, name
        assert estimate.method, name
    assert len(scalars(result)) == 30


def test_without_bootstrap_there_are_values_and_no_intervals():
    p, y = data()
    with_intervals, without = (classification_calibration(p, y, n_bootstrap=n) for n in (50, 0))
    for name, estimate in scalars(without).items():
        assert estimate.low is estimate.high is estimate.method is None, name
        assert estimate.value == scalars(with_intervals)[name].value, name


def test_sums_hold_in_the_result():
    p, y = data(temperature=0.5)
    for labels, probabilities in ((y, p), ((y == 1).astype(int), p[:, 1])):
        r = classification_calibration(probabilities, labels, n_bootstrap=0)
        for score, parts in ((r.brier, r.brier_corp), (r.log_loss, r.log_loss_corp)):
            assert parts.mcb.value - parts.dsc.value + parts.unc.value == pytest.approx(score.value, abs=1e-12)
        b = r.brier_binned
        total = b.reliability.value - b.resolution.value + b.uncertainty.value
        total += b.within_bin_variance.value - b.within_bin_covariance.value
        assert total == pytest.approx(r.brier.value, abs=1e-12)


def test_order_of_rows_and_of_classes_changes_nothing():
    p, y = data()
    rng = np.random.default_rng(1)
    rows, classes = rng.permutation(len(y)), rng.permutation(4)
    before = scalars(classification_calibration(p, y, n_bootstrap=0))
    after = scalars(classification_calibration(p[rows][:, classes], np.argsort(classes)[y[rows]], n_bootstrap=0))
    for name, estimate in before.items():
        assert after[name].value == pytest.approx(estimate.value, abs=1e-9), name


def test_same_seed_same_result_and_another_seed_another_interval():
    p, y = data()
    first, again, other = (classification_calibration(p, y, n_bootstrap=100, seed=s) for s in (3, 3, 4))
    assert {k: (v.low, v.high) for k, v in scalars(first).items()} == {
        k: (v.low, v.high) for k, v in scalars(again).items()
    }
    assert first.verdict.p_value == again.verdict.p_value
    assert first.smece.high != other.smece.high


@pytest.mark.slow
def test_intervals_cover_the_truth_of_a_sharpened_model():
    """Truth from a million rows; 60 samples of 300."""
    p, y = data(n=400_000, seed=99, temperature=0.6)
    truth = {k: v.value for k, v in scalars(classification_calibration(p, y, n_bootstrap=0)).items()}
    names = ("ece", "smece", "ks", "rmsce", "debiased_l2_squared", "brier", "log_loss", "auroc_errors", "aurc",
             "brier_corp.mcb", "brier_corp.dsc", "log_loss_corp.mcb", "brier_binned.reliability")  # fmt: skip
    covered = dict.fromkeys(names, 0)
    for seed in range(60):
        p, y = data(n=300, seed=seed, temperature=0.6)
        estimates = scalars(classification_calibration(p, y, n_bootstrap=150, seed=seed))
        for name in names:
            covered[name] += estimates[name].low <= truth[name] <= estimates[name].high
    # With 95 % coverage a binomial count of 60 is above 50 with probability 0.9997.
    assert {name: count for name, count in covered.items() if count <= 50} == {}


def test_calibrated_predictions_have_intervals_that_reach_zero():
    p, y = data(n=1000)
    result = classification_calibration(p, y, n_bootstrap=300)
    for estimate in (result.ece, result.ece_equal_mass, result.smece, result.ks, result.rmsce, result.classwise_ece):
        assert estimate.low < 0.005
    assert result.debiased_l2_squared.low < 0 < result.debiased_l2_squared.high
    assert result.verdict.text == "not distinguishable from calibrated at n = 1000"


def test_an_absent_class_has_no_calibration():
    p, y = data()
    p, y = p[y != 2], y[y != 2]
    entry = classification_calibration(p, y, n_bootstrap=50, class_names=("a", "b", "c", "d")).per_class[2]
    assert (entry.name, entry.n, entry.base_rate) == ("c", 0, 0.0)
    assert (entry.ece.value, entry.ece.n) == (None, 0)


def test_one_class_and_no_errors_leave_out_what_they_leave_undefined():
    p = np.column_stack([np.linspace(0.6, 0.9, 60), np.linspace(0.4, 0.1, 60)])
    result = classification_calibration(p, np.zeros(60, dtype=int), n_bootstrap=50)
    assert result.auroc_errors.value is None
    assert result.accuracy.value == 1
    assert result.accuracy.low < 1
    assert result.brier_corp.unc.value == 0
    assert result.per_class[1].ece.value is None
    assert result.ece.value == pytest.approx(0.25)


def test_grouped_rows_are_resampled_together():
    """50 copies of each row say no more than one of them."""
    p, y = data(n=100)
    once = classification_calibration(p, y, n_bootstrap=400)
    groups = np.repeat(np.arange(100), 50)
    p50, y50 = np.repeat(p, 50, axis=0), np.repeat(y, 50)
    grouped = classification_calibration(p50, y50, n_bootstrap=400, groups=groups)
    blind = classification_calibration(p50, y50, n_bootstrap=400)

    def width(result):
        return result.brier.high - result.brier.low

    assert width(grouped) == pytest.approx(width(once), rel=0.15)
    assert width(blind) < 0.25 * width(once)
    assert (grouped.n, grouped.n_samples, grouped.verdict.n) == (5000, 100, 100)
    assert grouped.ks_p_value is None
    assert grouped.accuracy.method == "BC bootstrap"


def test_many_rows_are_bundled_with_the_same_interval():
    p, y = data(n=30_000)
    result = classification_calibration(p, y, n_bootstrap=300)
    error = result.brier.high - result.brier.low
    per_row = ((p - np.eye(4)[y]) ** 2).sum(axis=1)
    assert error == pytest.approx(2 * 1.96 * per_row.std() / np.sqrt(30_000), rel=0.2)
    assert result.n_samples == 30_000


def test_result_survives_json():
    p, y = data()
    result = classification_calibration(p, y, n_bootstrap=20)
    store = ArrayStore()
    again = decode(ClassificationCalibration, encode(result, store), store.arrays)
    assert again.ece == result.ece
    assert again.verdict.text == result.verdict.text
    assert np.array_equal(again.confidence, result.confidence)
    assert np.allclose(again.reliability.accuracy, result.reliability.accuracy)
    per_sample = {f.name for f in dataclasses.fields(result) if f.metadata.get("per_sample")}
    assert per_sample == {"confidence", "entropy", "correct", "predicted"}


def test_reliability_bins_leave_out_empty_ones_and_count_the_rest():
    confidence = np.array([0.05, 0.31, 0.33, 0.9, 1.0])
    bins = reliability_bins(confidence, np.array([0, 1, 0, 1, 1], dtype=bool), n_bins=10)
    assert bins.count.tolist() == [1, 2, 1, 1]
    assert bins.confidence == pytest.approx([0.05, 0.32, 0.9, 1.0])
    assert bins.accuracy == pytest.approx([0, 0.5, 1, 1])
    assert bins.lower == pytest.approx([0, 0.3, 0.8, 0.9])
    assert (bins.band_low[-1], bins.band_high[-1]) == (1.0, 1.0)


def test_consistency_band_holds_calibrated_bins_as_often_as_it_says():
    inside = total = 0
    for seed in range(60):
        p, y = data(n=600, seed=seed)
        bins = reliability_bins(p.max(axis=1), p.argmax(axis=1) == y)
        inside += int(((bins.band_low <= bins.accuracy) & (bins.accuracy <= bins.band_high)).sum())
        total += bins.count.size
    assert 0.94 <= inside / total <= 0.99
