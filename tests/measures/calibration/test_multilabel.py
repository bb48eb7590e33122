"""Independent labels: each a binary problem, never a softmax."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from analyzer.data_types.calibration import MultiLabelCalibration
from analyzer.data_types.serialization import ArrayStore, decode, encode
from analyzer.measures.calibration.multilabel import multilabel_calibration

pytestmark = pytest.mark.plain


def data(n=500, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.8, 1.2, size=(n, labels))
    return p, (rng.random(p.shape) < p).astype(int)


def test_each_label_is_a_binary_problem_and_scores_are_their_means():
    p, y = data()
    r = multilabel_calibration(p, y, n_bootstrap=100, label_names=("cat", "dog", "hat"))
    eces = []
    for j, entry in enumerate(r.labels):
        assert entry.brier.value == pytest.approx(brier_score_loss(y[:, j], p[:, j]))
        assert entry.log_loss.value == pytest.approx(log_loss(y[:, j], p[:, j]))
        bins = np.ceil(p[:, j] * 15).clip(1, 15)
        eces.append(sum(abs((y[:, j] - p[:, j])[bins == b].sum()) for b in range(1, 16)) / len(y))
        assert entry.ece.value == pytest.approx(eces[-1], abs=1e-12)
        parts = entry.brier_corp
        total = parts.mcb.value - parts.dsc.value + parts.unc.value
        assert total == pytest.approx(entry.brier.value, abs=1e-12)
        assert entry.n_positive == y[:, j].sum()
    assert r.ece.value == pytest.approx(np.mean(eces), abs=1e-12)
    assert r.brier.value == pytest.approx(((p - y) ** 2).mean(), abs=1e-12)
    assert r.worst_label == ("cat", "dog", "hat")[int(np.argmax(eces))]
    assert r.accuracy.value == pytest.approx(((p > 0.5) == y).mean())
    assert r.confidence == pytest.approx(np.maximum(p, 1 - p))
    assert r.verdict.calibrated
    for estimate in (r.ece, r.smece, r.brier, r.log_loss, r.accuracy, r.mean_entropy, r.mean_confidence):
        assert estimate.low <= estimate.value <= estimate.high


def test_one_wrong_label_is_named():
    p, y = data()
    p[:, 1] = p[:, 1] ** 2 / (p[:, 1] ** 2 + (1 - p[:, 1]) ** 2)
    r = multilabel_calibration(p, y, n_bootstrap=0, label_names=("cat", "dog", "hat"))
    assert r.verdict.text.startswith("over-confident in label dog (Holm p = 0.003")
    assert [entry.verdict.calibrated for entry in r.labels] == [True, False, True]
    assert r.ece.low is None


def test_verdict_over_many_labels_keeps_its_level():
    alarms = sum(
        not multilabel_calibration(*data(n=100, labels=4, seed=seed), n_bootstrap=0, seed=seed).verdict.calibrated
        for seed in range(40)
    )
    # 5 % of 40 is 2; a binomial count exceeds 6 with probability 0.003.
    assert alarms <= 6


def test_fifty_labels_leave_a_p_value_small_enough_to_reject():
    p, y = data(n=200, labels=60)
    r = multilabel_calibration(p**3, y, n_bootstrap=0)
    assert not r.verdict.calibrated


def test_result_survives_json():
    p, y = data(n=60)
    result = multilabel_calibration(p, y, n_bootstrap=20)
    store = ArrayStore()
    again = decode(MultiLabelCalibration, encode(result, store), store.arrays)
    assert again.labels[1].ece == result.labels[1].ece
    assert again.verdict.text == result.verdict.text
    assert np.array_equal(again.confidence, result.confidence)
