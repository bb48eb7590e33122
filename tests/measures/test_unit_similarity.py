"""Similarity along every axis against loops that spell it out, closed forms, and planted repeated units."""

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from scipy.special import softmax

from analyzer.measures.unit_similarity import axis_similarity, duplicate_units

pytestmark = pytest.mark.plain

KINDS = ("absolute_cosine", "cosine", "kl", "js")


def spelled_out(x, axis, kind):
    """Mean over samples of the mean over ordered pairs of slices, one number at a time."""
    per_sample = []
    for sample in x:
        slices = [np.take(sample, i, axis=axis - 1).ravel() for i in range(sample.shape[axis - 1])]
        pairs = [(a, b) for i, a in enumerate(slices) for j, b in enumerate(slices) if i != j]
        if kind in ("cosine", "absolute_cosine"):
            found = [1 - scipy.spatial.distance.cosine(a, b) for a, b in pairs]
            found = np.abs(found) if kind == "absolute_cosine" else found
        elif kind == "kl":
            found = [scipy.stats.entropy(softmax(a), softmax(b)) for a, b in pairs]
        else:
            found = [scipy.spatial.distance.jensenshannon(softmax(a), softmax(b)) ** 2 for a, b in pairs]
        per_sample.append(np.mean(found))
    return np.mean(per_sample)


class TestAxisSimilarity:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(
        ("shape", "axis"), [((3, 5, 4, 6), a) for a in (1, 2, 3)] + [((2, 7, 5), 1), ((2, 7, 5), 2)]
    )
    def test_agrees_with_loops_for_every_axis(self, kind, shape, axis):
        x = np.random.default_rng(axis).standard_normal(shape)
        found = axis_similarity(x, axis, kind)
        assert found.value == pytest.approx(spelled_out(x, axis, kind), abs=1e-12)
        assert axis_similarity(x, axis - len(shape), kind) == found
        assert found.low <= found.value <= found.high
        assert found.n == shape[0]

    def test_equal_channels_are_the_same_in_every_measure(self):
        x = np.repeat(np.random.default_rng(0).standard_normal((2, 6, 6, 1)), 8, axis=3)
        for kind, expected in (("absolute_cosine", 1.0), ("cosine", 1.0), ("kl", 0.0), ("js", 0.0)):
            assert axis_similarity(x, 3, kind).value == pytest.approx(expected, abs=1e-12), kind

    def test_opposite_channels_differ_by_sign_only(self):
        x = np.random.default_rng(0).standard_normal((2, 1, 30))
        x = np.concatenate([x, -x], axis=1)
        assert axis_similarity(x, 1, "cosine").value == pytest.approx(-1.0)
        assert axis_similarity(x, 1, "absolute_cosine").value == pytest.approx(1.0)

    def test_random_channels_have_the_divergence_of_normal_logits(self):
        x = np.random.default_rng(0).standard_normal((4, 32, 40, 40))
        # KL between softmaxes of independent normal logits of variance 1 tends to E_p[log p − log q] = 1.
        assert axis_similarity(x, 1, "kl").value == pytest.approx(1.0, rel=0.05)
        assert axis_similarity(x, 1, "absolute_cosine").value == pytest.approx(np.sqrt(2 / np.pi / 1600), rel=0.05)

    def test_large_logits_stay_finite(self):
        x = 1e4 * np.random.default_rng(0).standard_normal((2, 4, 9))
        assert np.isfinite(axis_similarity(x, 1, "kl").value)
        assert axis_similarity(x, 1, "kl").value > 100
        assert axis_similarity(x, 1, "js").value <= np.log(2) + 1e-12

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_random_subset_of_a_long_axis_has_no_bias(self, kind):
        x = np.random.default_rng(0).standard_normal((2, 40, 7)) + np.linspace(0, 2, 7)
        draws = [axis_similarity(x, 1, kind, max_units=12, seed=s).value for s in range(80)]
        error = np.std(draws) / np.sqrt(80)
        assert abs(np.mean(draws) - axis_similarity(x, 1, kind).value) < 4 * error

    def test_dead_channels_have_no_direction_and_broken_samples_no_value(self):
        x = np.random.default_rng(0).standard_normal((3, 5, 12))
        dead = np.concatenate([x, np.zeros((3, 2, 12))], axis=1)
        assert axis_similarity(dead, 1).value == pytest.approx(axis_similarity(x, 1).value, rel=1e-12)
        x[1, 0, 0] = np.nan
        for kind in KINDS:
            found = axis_similarity(x, 1, kind)
            assert found.n == 2, kind
            assert found.value == pytest.approx(axis_similarity(x[[0, 2]], 1, kind).value)

    def test_has_no_value_for_one_slice_or_one_position(self):
        for kind in KINDS:
            assert axis_similarity(np.ones((4, 1, 6)), 1, kind).value is None
            assert axis_similarity(np.random.default_rng(0).standard_normal((4, 6)), 1, kind).value is None
        assert axis_similarity(np.zeros((4, 5, 6)), 1).value is None

    def test_wrong_use(self):
        x = np.ones((2, 3, 4))
        with pytest.raises(ValueError, match="behind the samples"):
            axis_similarity(x, 0)
        with pytest.raises(ValueError, match="behind the samples"):
            axis_similarity(x, -3)
        with pytest.raises(ValueError, match="behind the samples"):
            axis_similarity(x, 3)
        with pytest.raises(ValueError, match="'l2' is unknown"):
            axis_similarity(x, 1, "l2")


class TestDuplicateUnits:
    @staticmethod
    def healthy(n=64, d=700, seed=0):
        rng = np.random.default_rng(seed)
        return np.maximum(rng.standard_normal((n, 10)) @ rng.standard_normal((10, d)), 0).astype(np.float32)

    def test_healthy_layers_have_none(self):
        for seed in range(5):
            assert duplicate_units(self.healthy(seed=seed)) == ()
        sparse = np.where(np.random.default_rng(0).uniform(size=(64, 700)) < 0.02, 1.0, 0.0) * self.healthy()
        assert duplicate_units(sparse) == ()

    def test_planted_repeats_are_found_up_to_scale_sign_and_shift(self):
        rows = self.healthy()
        rows[:, 600] = rows[:, 3] * 7
        rows[:, 650] = 2 - rows[:, 3]
        rows[:, 20] = rows[:, 21]
        assert duplicate_units(rows) == ((3, 600, 650), (20, 21))

    def test_agrees_with_all_correlations(self):
        rows = self.healthy(d=40)
        rows[:, 7] = rows[:, 30] + 0.02 * np.random.default_rng(1).standard_normal(64)
        correlations = np.abs(np.corrcoef(rows.T))
        largest = correlations[np.triu_indices(40, 1)].max()
        assert duplicate_units(rows, tolerance=1 - largest + 1e-9) == ((7, 30),)
        assert duplicate_units(rows, tolerance=1 - largest - 1e-9) == ()

    def test_constant_rare_broken_and_mirrored_units_are_not_compared(self):
        rows = self.healthy(d=10)
        rows[:, 4:6] = 0.3
        rows[:, 6:8] = 0.0
        rows[:5, 6:8] = np.arange(1.0, 6.0)[:, None]
        rows[:, 8:] = np.nan
        assert duplicate_units(rows) == ()
        mirrored = softmax(np.random.default_rng(0).standard_normal((64, 2)), axis=1)
        assert duplicate_units(mirrored) == ()
        assert duplicate_units(self.healthy(n=5)) == ()
