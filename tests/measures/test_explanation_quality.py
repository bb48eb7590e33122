"""Measures of explanations against closed forms and independent implementations."""

import numpy as np
import pytest
from scipy import stats

from analyzer.measures import map_complexity, map_similarity, paired, perturbation

pytestmark = pytest.mark.plain

RNG = np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------------- perturbation
def curves_of(contributions, scores, steps=20, seed=0):
    """MoRF and LeRF of a linear model whose features contribute these amounts and are replaced by zeros."""
    p = contributions.shape[1]
    ranks = perturbation.relevance_ranks(scores, np.random.default_rng(seed))
    counts = perturbation.removal_counts(p, steps)
    most = np.stack([(contributions * (ranks >= k)).sum(axis=1) for k in counts], axis=1)
    least = np.stack([(contributions * (ranks < p - k)).sum(axis=1) for k in counts], axis=1)
    return counts / p, most, least


def test_curves_of_a_linear_model_are_cumulative_sums_of_sorted_contributions():
    contributions = RNG.normal(size=(5, 12))
    fraction, most, least = curves_of(contributions, contributions, steps=12)
    descending = -np.sort(-contributions, axis=1)
    total = contributions.sum(axis=1, keepdims=True)
    gone = np.concatenate([np.zeros((5, 1)), np.cumsum(descending, axis=1)], axis=1)
    np.testing.assert_allclose(most, total - gone, atol=1e-12)
    np.testing.assert_allclose(least[:, ::-1], gone, atol=1e-12)
    # A random order has the straight line from total to 0 on average, and ABPC of the true order is the mean gap.
    np.testing.assert_allclose(
        perturbation.abpc(fraction, most, least), np.trapezoid(least - most, fraction, axis=1), rtol=1e-12
    )


def test_abpc_of_a_single_decisive_feature_by_hand():
    # One feature of four carries 1. MoRF: 1, 0, 0, 0, 0; LeRF: 1, 1, 1, 1, 0. Areas by the trapezoid: 1/8 and 7/8.
    contributions = np.array([[0.0, 0.0, 1.0, 0.0]])
    fraction, most, least = curves_of(contributions, contributions, steps=4)
    assert most.tolist() == [[1, 0, 0, 0, 0]]
    assert least.tolist() == [[1, 1, 1, 1, 0]]
    assert perturbation.area(fraction, most)[0] == pytest.approx(0.125)
    assert perturbation.abpc(fraction, most, least)[0] == pytest.approx(0.75)
    assert perturbation.drop(fraction, most)[0] == pytest.approx(0.875)
    assert perturbation.drop(fraction, least)[0] == pytest.approx(0.125)


def test_a_reversed_map_has_the_opposite_abpc():
    contributions, scores = RNG.normal(size=(2, 8, 30))
    there = perturbation.abpc(*curves_of(contributions, scores))
    back = perturbation.abpc(*curves_of(contributions, -scores))
    np.testing.assert_allclose(back, -there, rtol=1e-12)


def test_ranks_are_permutations_with_ties_broken_at_random():
    scores = np.zeros((2000, 4))
    scores[:, 1] = 1
    ranks = perturbation.relevance_ranks(scores, np.random.default_rng(0))
    assert np.array_equal(np.sort(ranks, axis=1), np.broadcast_to(np.arange(4), ranks.shape))
    assert np.all(ranks[:, 1] == 0)
    # The first of the tied features is not removed first more often than the others: 2000 / 3 ± 5 standard errors.
    assert abs(np.mean(ranks[:, 0] == 1) - 1 / 3) < 5 * np.sqrt(2 / 9 / 2000)


def test_maps_without_preference_are_not_informative():
    scores = np.array([[0.0, 0, 0], [2, 2, 2], [1, np.nan, 0], [1, 2, 3], [0, np.inf, 0]])
    assert perturbation.is_informative(scores).tolist() == [False, False, False, True, False]


def test_removal_goes_from_nothing_to_everything():
    assert perturbation.removal_counts(3, 20).tolist() == [0, 1, 2, 3]
    assert perturbation.removal_counts(100, 4).tolist() == [0, 25, 50, 75, 100]


def test_random_subsets_have_their_size_and_cover_all_features_alike():
    gone = perturbation.random_subsets(5000, 6, 2, np.random.default_rng(0))
    assert np.all(gone.sum(axis=1) == 2)
    assert np.all(np.abs(gone.mean(axis=0) - 1 / 3) < 5 * np.sqrt(2 / 9 / 5000))


# --------------------------------------------------------------------------------------------------------- complexity
def lorenz_gini(a):
    """One minus twice the area under the Lorenz curve."""
    lorenz = np.concatenate([[0], np.cumsum(np.sort(a))]) / a.sum()
    return 1 - 2 * np.trapezoid(lorenz, np.linspace(0, 1, len(lorenz)))


def test_gini_is_that_of_the_lorenz_curve():
    maps = RNG.normal(size=(6, 40)) ** 3
    np.testing.assert_allclose(map_complexity.gini(maps), [lorenz_gini(np.abs(row)) for row in maps], rtol=1e-12)
    assert map_complexity.gini(np.full((1, 9), -2.0))[0] == pytest.approx(0, abs=1e-15)
    assert map_complexity.gini(np.eye(1, 10))[0] == pytest.approx(0.9)


def test_gini_and_entropy_do_not_see_scale_or_sign():
    maps = RNG.normal(size=(3, 20))
    for measure in (map_complexity.gini, map_complexity.entropy):
        np.testing.assert_allclose(measure(maps * -1e-200), measure(maps), rtol=1e-9)
        np.testing.assert_allclose(measure(maps * 1e200), measure(maps), rtol=1e-9)


def test_entropy_is_that_of_scipy():
    maps = RNG.normal(size=(4, 25))
    np.testing.assert_allclose(map_complexity.entropy(maps), stats.entropy(np.abs(maps), axis=1), rtol=1e-12)
    assert map_complexity.entropy(np.ones((1, 8)))[0] == pytest.approx(np.log(8))
    assert map_complexity.entropy(np.eye(1, 8))[0] == 0


def test_relative_entropy_rise_by_hand():
    before, after = np.array([[1.0, 1, 0, 0]]), np.ones((1, 4))
    assert map_complexity.relative_entropy_rise(before, after)[0] == pytest.approx(1.0)
    assert np.isnan(map_complexity.relative_entropy_rise(np.eye(1, 4), after)[0])


def test_relative_change_by_hand():
    maps, moved = np.array([[3.0, 4.0], [0, 0]]), np.array([[3.0, 5.0], [0, 1]])
    change = map_complexity.relative_change(maps, moved)
    assert change[0] == pytest.approx(0.2)
    assert np.isnan(change[1])


@pytest.mark.parametrize("measure", [map_complexity.gini, map_complexity.entropy])
def test_maps_of_zeros_or_nan_have_no_complexity(measure):
    assert np.isnan(measure(np.array([[0.0, 0, 0], [1, np.nan, 2], [1, np.inf, 2]]))).all()


# --------------------------------------------------------------------------------------------------------- similarity
def test_similarities_are_those_of_scipy():
    x, y = RNG.normal(size=(2, 7, 30))
    x[:, :10] = np.round(x[:, :10])  # with ties
    np.testing.assert_allclose(
        map_similarity.pearson(x, y), [stats.pearsonr(a, b)[0] for a, b in zip(x, y, strict=True)], rtol=1e-10
    )
    np.testing.assert_allclose(
        map_similarity.spearman(x, y), [stats.spearmanr(a, b)[0] for a, b in zip(x, y, strict=True)], rtol=1e-10
    )
    cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(map_similarity.cosine(x, y), cosine, rtol=1e-10)


@pytest.mark.parametrize("measure", list(map_similarity.ROW_SIMILARITIES.values()))
def test_a_map_is_like_itself_and_unlike_its_negative(measure):
    x = RNG.normal(size=(3, 20))
    np.testing.assert_allclose(measure(x, 3e150 * x), 1.0)
    np.testing.assert_allclose(measure(x, -x), -1.0)
    assert np.isnan(measure(x, np.full_like(x, np.nan))).all()
    assert np.isnan(measure(x, np.zeros_like(x))).all()


def test_constant_maps_correlate_with_nothing():
    x = RNG.normal(size=(2, 20))
    constant = np.full_like(x, 0.1)
    assert np.isnan(map_similarity.pearson(x, constant)).all()
    assert np.isnan(map_similarity.spearman(x, constant)).all()


def plain_ssim(x, y):
    """The formula of Wang et al. (2004), window by window, away from the border."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    span = max(x.max(), y.max()) - min(x.min(), y.min())
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = []
    padded = [np.pad(image, 5, mode="symmetric") for image in (x, y)]
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            a, b = (image[i : i + 11, j : j + 11] for image in padded)
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cov = (window * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(values)


def test_ssim_is_the_formula_of_the_paper():
    x, y = RNG.normal(size=(2, 2, 16, 14))
    y = 0.7 * x + 0.3 * y
    np.testing.assert_allclose(
        map_similarity.ssim(x, y), [plain_ssim(a, b) for a, b in zip(x, y, strict=True)], rtol=1e-10
    )
    np.testing.assert_allclose(map_similarity.ssim(x, x), 1.0)
    np.testing.assert_allclose(map_similarity.ssim(x, y), map_similarity.ssim(1e3 * x, 1e3 * y))
    assert np.isnan(map_similarity.ssim(x, np.ones_like(x))).all()


# ------------------------------------------------------------------------------------------------------------- paired
def test_sign_flips_of_few_pairs_are_all_counted():
    # All positive: only the data and their mirror image are as extreme, 2 of 2⁵.
    assert paired.sign_flip_p_value(np.array([1.0, 2, 3, 4, 5])) == 2 / 32
    assert paired.sign_flip_p_value(np.array([1.0, -1.0])) == 1.0
    assert paired.sign_flip_p_value(np.zeros(30)) == 1.0
    assert paired.sign_flip_p_value(np.empty(0)) is None
    # With many pairs some are drawn, and the data count as one of them: never 0.
    assert paired.sign_flip_p_value(np.ones(60), n_draws=999) == 1 / 1000


def test_sign_flip_test_is_that_of_scipy():
    d = np.random.default_rng(3).normal(0.35, 1, 40)
    ours = paired.sign_flip_p_value(d, n_draws=40_000)
    theirs = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=40_000, rng=np.random.default_rng(0)
    ).pvalue
    assert 0.005 < theirs < 0.2
    assert ours == pytest.approx(theirs, abs=5 * np.sqrt(2 * theirs / 40_000))


def test_sign_flip_test_keeps_its_level():
    rejected = sum(
        paired.sign_flip_p_value(np.random.default_rng(seed).laplace(size=25), n_draws=999, seed=seed) <= 0.05
        for seed in range(400)
    )
    # Level 0.05, 400 draws: a binomial count is between 8 and 35 with probability 0.999.
    assert 8 <= rejected <= 35


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never decreasing.
    assert paired.holm_adjusted([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert paired.holm_adjusted([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm_adjusted([]) == []
