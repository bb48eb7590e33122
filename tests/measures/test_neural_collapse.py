"""Neural collapse against simplex frames, where all is exact, and against the paper's formulas written out."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from analyzer.measures.neural_collapse import class_separability, neural_collapse

pytestmark = pytest.mark.plain


def simplex(classes, d, seed=0):
    """Corners of a simplex around 0, at unit length, rotated into d dimensions."""
    corners = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1 / classes)
    return corners @ np.linalg.qr(np.random.default_rng(seed).standard_normal((d, classes)))[0].T


def noisy(classes=4, per_class=30, d=10, noise=0.3, seed=0):
    labels = np.repeat(np.arange(classes), per_class)
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((classes, d))
    return means[labels] + noise * rng.standard_normal((len(labels), d)), labels


class TestNeuralCollapse:
    @pytest.mark.parametrize("classes", [3, 5, 10])
    def test_full_collapse_is_exact(self, classes):
        frame = simplex(classes, 16)
        labels = np.repeat(np.arange(classes), 4)
        found = neural_collapse(frame[labels] + 2.0, labels, weights=7.0 * frame + 1.0, decisions=labels)
        assert found.nc1 == pytest.approx(0.0, abs=1e-20)
        assert found.nc2_norms == pytest.approx(0.0, abs=1e-12)
        assert found.nc2_angles == pytest.approx(0.0, abs=1e-12)
        assert found.nc3 == pytest.approx(0.0, abs=1e-12)
        assert (found.nc4.value, found.nc4.n) == (1.0, 4 * classes)
        assert (found.n, found.n_classes) == (4 * classes, classes)

    def test_agrees_with_the_formulas_written_out(self):
        rows, labels = noisy()
        weights = np.random.default_rng(1).standard_normal((4, 10))
        found = neural_collapse(rows, labels, weights=weights)
        means = np.stack([rows[labels == c].mean(0) for c in range(4)])
        centred = means - means.mean(0)
        within = np.mean([np.cov(rows[labels == c].T) for c in range(4)], axis=0)
        between = centred.T @ centred / 4
        assert found.nc1 == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4, rel=1e-9)
        lengths = np.linalg.norm(centred, axis=1)
        assert found.nc2_norms == pytest.approx(np.std(lengths) / np.mean(lengths))
        cosines = [centred[i] @ centred[j] / lengths[i] / lengths[j] for i in range(4) for j in range(i)]
        assert found.nc2_angles == pytest.approx(np.mean(np.abs(np.array(cosines) + 1 / 3)))
        kernel = weights - weights.mean(0)
        angle = np.sum(kernel * centred) / np.linalg.norm(kernel) / np.linalg.norm(centred)
        assert found.nc3 == pytest.approx(2 - 2 * angle)
        assert found.nc4 is None

    def test_noise_scales_the_within_class_part(self):
        classes, d = 5, 20
        labels = np.repeat(np.arange(classes), 4000)
        noise = 0.1 * np.random.default_rng(0).standard_normal((len(labels), d))
        found = neural_collapse(simplex(classes, d)[labels] + noise, labels)
        # In the K − 1 directions of a unit simplex Σ_B is 1/(K − 1), so tr(Σ_W Σ_B⁺)/K = σ² (K − 1)²/K.
        assert found.nc1 == pytest.approx(0.01 * (classes - 1) ** 2 / classes, rel=0.02)

    def test_unbalanced_classes_weigh_alike(self):
        rows, labels = noisy(per_class=200)
        few = np.concatenate([np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)[:100]])
        both = neural_collapse(rows, labels), neural_collapse(rows[few], labels[few])
        assert both[1].nc1 == pytest.approx(both[0].nc1, rel=0.1)
        assert both[1].nc2_angles == pytest.approx(both[0].nc2_angles, rel=0.1)

    def test_rotation_shift_and_scale_change_nothing(self):
        rows, labels = noisy()
        weights = np.random.default_rng(1).standard_normal((4, 10))
        turn = np.linalg.qr(np.random.default_rng(2).standard_normal((10, 10)))[0]
        before = neural_collapse(rows, labels, weights=weights, decisions=labels)
        after = neural_collapse(100 * rows @ turn - 1e4, labels, weights=0.1 * weights @ turn + 5.0, decisions=labels)
        for name in ("nc1", "nc2_norms", "nc2_angles", "nc3"):
            assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-8), name
        assert after.nc4 == before.nc4

    def test_nearest_mean_leaves_the_sample_out(self):
        rows, labels = noisy(per_class=6, d=4, noise=1.0)
        decisions = np.random.default_rng(0).integers(0, 4, size=24)
        nearest = []
        for i in range(24):
            rest = np.arange(24) != i
            nearest.append(NearestCentroid().fit(rows[rest], labels[rest]).predict(rows[i : i + 1])[0])
        found = neural_collapse(rows, labels, decisions=decisions)
        assert found.nc4.value == pytest.approx(np.mean(nearest == decisions))

    def test_two_classes_have_no_simplex_to_depart_from(self):
        rows, labels = noisy(classes=2)
        found = neural_collapse(rows, labels, weights=(rows[labels == 1].mean(0) - rows[labels == 0].mean(0))[None])
        assert (found.nc2_norms, found.nc2_angles) == (None, None)
        assert found.nc3 == pytest.approx(0.0, abs=1e-12)
        assert found.nc1 > 0

    def test_classes_of_one_sample_are_left_out(self):
        rows, labels = noisy()
        weights, decisions = np.random.default_rng(1).standard_normal((6, 10)), labels
        kept = neural_collapse(rows, labels, weights=weights, decisions=decisions)
        extra = neural_collapse(
            np.concatenate([rows, rows[:1] + 9]),
            np.append(labels, 5),
            weights=weights,
            decisions=np.append(decisions, 5),
        )
        assert (extra.n, extra.n_classes) == (120, 4)
        assert (extra.nc1, extra.nc3, extra.nc4) == (kept.nc1, kept.nc3, kept.nc4)

    def test_undefined(self):
        rows, labels = noisy()
        assert neural_collapse(rows, np.zeros(120, dtype=int)) is None
        assert neural_collapse(rows, np.arange(120)) is None
        assert neural_collapse(np.full_like(rows, np.nan), labels) is None
        flat = neural_collapse(np.full_like(rows, 0.3), labels, weights=np.ones((4, 10)))
        assert (flat.nc1, flat.nc2_norms, flat.nc2_angles, flat.nc3) == (None, None, None, None)

    def test_wrong_use(self):
        rows, labels = noisy()
        with pytest.raises(ValueError, match="120 rows and labels"):
            neural_collapse(rows, labels[:5])
        with pytest.raises(ValueError, match=r"Weights of shape \(10, 4\)"):
            neural_collapse(rows, labels, weights=np.ones((10, 4)))
        with pytest.raises(ValueError, match="decisions of shape"):
            neural_collapse(rows, labels, decisions=labels[:7])


class TestSeparability:
    def test_agrees_with_the_sums_of_squares(self):
        rows, labels = noisy()
        within = sum(((rows[labels == c] - rows[labels == c].mean(0)) ** 2).sum() for c in range(4))
        total = ((rows - rows.mean(0)) ** 2).sum()
        assert class_separability(rows, labels).value == pytest.approx(1 - 119 / 116 * within / total)

    def test_points_are_one_and_random_labels_zero_whatever_the_width(self):
        rows, labels = noisy(noise=0.0)
        assert class_separability(rows, labels).value == pytest.approx(1.0)
        for d, classes, n in ((3, 2, 20), (2000, 2, 20), (50, 10, 40)):
            draws = []
            for seed in range(200):
                rng = np.random.default_rng(seed)
                draws.append(
                    class_separability(rng.standard_normal((n, d)), rng.permutation(np.arange(n) % classes)).value
                )
            assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(200)

    def test_jackknife_is_that_of_leaving_each_row_out(self):
        rows, labels = noisy(per_class=5, d=3)
        left = np.array([class_separability(np.delete(rows, i, 0), np.delete(labels, i)).value for i in range(20)])
        error = np.sqrt(19 / 20 * np.sum((left - left.mean()) ** 2))
        found = class_separability(rows, labels)
        assert found.value - found.low == pytest.approx(2.0930240544 * error, rel=1e-6)

    def test_interval_covers_the_share_of_the_population(self):
        means = np.random.default_rng(0).standard_normal((3, 5))
        scatter = np.sum((means - means.mean(0)) ** 2) / 3
        truth = scatter / (scatter + 5 * 0.8**2)
        covered = 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            labels = rng.integers(0, 3, size=150)
            found = class_separability(means[labels] + 0.8 * rng.standard_normal((150, 5)), labels)
            covered += found.low <= truth <= found.high
        assert covered >= 88

    def test_undefined(self):
        rows, labels = noisy()
        assert class_separability(np.full_like(rows, 0.1), labels).value is None
        assert class_separability(rows, np.zeros(120, dtype=int)).value is None
        assert class_separability(np.full_like(rows, np.inf), labels).value is None
