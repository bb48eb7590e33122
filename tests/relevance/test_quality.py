"""Quality of explanations on plain callables with known answers."""

import numpy as np
import pytest
from scipy import stats

from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.relevance.evaluation import faithfulness, quality
from analyzer.relevance.evaluation.removal import removal_of
from analyzer.relevance.evaluation.scoring import mean_of

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
W = RNG.normal(size=12)
X = RNG.normal(size=(30, 12))


def linear(x):
    return x @ W


# ------------------------------------------------------------------------------------------------------------ removal
def test_features_are_replaced_by_what_was_asked_for():
    x = RNG.normal(size=(4, 5))
    gone = np.zeros((4, 5), bool)
    gone[:, 2] = True
    expected = {
        "zeros": np.zeros(4),
        "mean": np.full(4, x[:, 2].mean()),
        "auto": np.full(4, x[:, 2].mean()),
        "sample_mean": x.mean(axis=1),
    }
    for baseline, column in expected.items():
        made = removal_of(x, baseline=baseline).without(gone)
        np.testing.assert_allclose(made[:, 2], column, err_msg=baseline)
        assert np.array_equal(np.delete(made, 2, axis=1), np.delete(x, 2, axis=1))
    assert np.all(removal_of(x, baseline=-7.0).without(gone)[:, 2] == -7)
    assert np.all(removal_of(x, baseline=np.arange(5.0)).without(gone)[:, 2] == 2)


def test_pixels_lose_all_their_channels_at_once():
    x = RNG.normal(size=(2, 4, 3, 2)).astype("float32")
    removal = removal_of(x, baseline="zeros")
    assert (removal.n_features, removal.image_shape) == (12, (4, 3))
    gone = np.zeros((2, 12), bool)
    gone[0, 5] = True
    made = removal.without(gone)
    assert made.dtype == np.float32
    assert np.all(made[0, 1, 2] == 0)
    assert (made != x).sum() == 2
    np.testing.assert_allclose(removal.scores(x), x.astype(float).sum(axis=-1).reshape(2, 12))
    assert np.array_equal(removal.scores(x[..., 0]), x[..., 0].reshape(2, 12))
    assert removal_of(x, features="elements").n_features == 24
    first = removal_of(np.moveaxis(x, -1, 1), channel_axis=1, baseline="zeros")
    assert np.array_equal(first.without(gone), np.moveaxis(made, -1, 1))
    assert removal_of(x[..., 0], features="elements").image_shape == (4, 3)


def test_means_and_blur_of_images_keep_channels_apart():
    x = np.zeros((1, 20, 20, 2))
    x[0, 10, 10, 0] = 1
    x[..., 1] = 5
    everything = np.ones((1, 400), bool)
    mean = removal_of(x, baseline="sample_mean").without(everything)
    np.testing.assert_allclose(mean[0, 0, 0], [1 / 400, 5])
    blurred = removal_of(x, baseline="blur").without(everything)
    np.testing.assert_allclose(blurred[..., 1], 5)
    # A Gaussian of σ = 2 pixels: its peak is 1 / (2 π σ²), and nothing is lost inside the image.
    assert blurred[0, 10, 10, 0] == pytest.approx(1 / (2 * np.pi * 4), rel=0.01)
    assert blurred[..., 0].sum() == pytest.approx(1, rel=1e-3)


def test_tokens_are_replaced_by_an_id():
    x = RNG.integers(1, 50, (3, 6))
    gone = np.zeros((3, 6), bool)
    gone[1, 4] = True
    for baseline, token in (("auto", 0), (49, 49)):
        made = removal_of(x, baseline=baseline).without(gone)
        assert made.dtype == x.dtype
        assert made[1, 4] == token
        assert (made == x).sum() == 17
    with pytest.raises(ConfigError, match="tokens have no mean"):
        removal_of(x, baseline="mean")
    with pytest.raises(ConfigError, match="expected one of"):
        removal_of(x, baseline=0.5)
    with pytest.raises(Unsupported, match="whole numbers"):
        removal_of(x).moved(0.1, RNG)


def test_several_inputs_are_one_list_of_features():
    x = {"image": RNG.normal(size=(3, 2, 2, 3)), "tokens": RNG.integers(1, 9, (3, 5))}
    removal = removal_of(x, baseline={"tokens": 7})
    assert (removal.n, removal.n_features, removal.baseline) == (3, 9, "mean, 7")
    gone = np.zeros((3, 9), bool)
    gone[:, [1, 8]] = True
    made = removal.without(gone)
    np.testing.assert_allclose(made["image"][:, 0, 1], np.broadcast_to(x["image"].mean(axis=0)[0, 1], (3, 3)))
    assert np.all(made["tokens"][:, 4] == 7)
    assert np.array_equal(made["tokens"][:, :4], x["tokens"][:, :4])
    maps = {"tokens": np.ones((3, 5)), "image": np.full((3, 2, 2, 3), 2.0)}
    assert removal.scores(maps)[0].tolist() == [6, 6, 6, 6, 1, 1, 1, 1, 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="same n"):
        removal_of({"a": np.ones((3, 2)), "b": np.ones((4, 2))})
    with pytest.raises(DataError, match="same n"):
        removal_of(np.empty((0, 3)))
    with pytest.raises(DataError, match="shape"):
        removal_of(X).scores(np.ones((30, 11)))
    with pytest.raises(DataError, match="do not fit"):
        removal_of({"a": X, "b": X}).scores({"a": X})
    for baseline in ("men", np.ones(5), float("nan"), None):
        with pytest.raises(ConfigError):
            removal_of(X, baseline=baseline)
    with pytest.raises(ConfigError, match="no neighbours"):
        removal_of(X, baseline="blur")
    with pytest.raises(ConfigError, match="features"):
        removal_of(X, features="pixels")


# ------------------------------------------------------------------------------------------------------- faithfulness
def test_the_exact_map_of_a_linear_model_has_the_best_curves():
    removal = removal_of(X, baseline="zeros")
    curves = faithfulness.morf_lerf(linear, removal, X * W, steps=12)
    ascending = np.sort(X * W, axis=1)
    remaining = np.concatenate([np.zeros((30, 1)), np.cumsum(ascending, axis=1)], axis=1)[:, ::-1]
    np.testing.assert_allclose(curves.most_first, remaining, atol=1e-12)
    area = np.trapezoid(remaining, dx=1 / 12, axis=1)
    np.testing.assert_allclose(curves.comprehensiveness.values, linear(X) - area)
    # With a linear model what one order loses, the other keeps: AUC(LeRF) = f(x) − AUC(MoRF).
    np.testing.assert_allclose(curves.abpc.values, linear(X) - 2 * area)
    np.testing.assert_allclose(curves.sufficiency.values, area)
    estimate = curves.abpc.estimate
    assert estimate.n == 30
    assert estimate.value == pytest.approx(curves.abpc.values.mean())
    assert 0 < estimate.low < estimate.value < estimate.high
    worse = faithfulness.morf_lerf(linear, removal, quality.random_maps(removal), steps=12)
    assert np.all(curves.abpc.values > worse.abpc.values)
    opposite = faithfulness.morf_lerf(linear, removal, -X * W, steps=12)
    np.testing.assert_allclose(opposite.abpc.values, -curves.abpc.values)


def test_random_maps_have_no_area_between_their_curves():
    removal = removal_of(X, baseline="zeros")
    values = [
        faithfulness.morf_lerf(linear, removal, quality.random_maps(removal, seed)).abpc.values for seed in range(40)
    ]
    means = np.mean(values, axis=1)
    assert abs(stats.ttest_1samp(means, 0).statistic) < 3.5


def test_maps_without_an_order_have_no_curves():
    maps = X * W
    maps[3] = 1.0
    maps[5, 0] = np.nan
    removal = removal_of(X)
    curves = faithfulness.morf_lerf(linear, removal, maps)
    assert np.flatnonzero(np.isnan(curves.abpc.values)).tolist() == [3, 5]
    assert np.isnan(curves.most_first[3]).all()
    assert curves.abpc.estimate.n == 28
    assert np.flatnonzero(
        np.isnan(faithfulness.faithfulness_correlation(linear, removal, maps, n_subsets=5).values)
    ).tolist() == [3, 5]
    # Sums of equal numbers differ by rounding, which ranks would take for an order.
    flat = faithfulness.faithfulness_correlation(
        linear, removal, np.full_like(X, 0.1), subset=0.5, n_subsets=20, correlation="spearman"
    )
    assert np.isnan(flat.values).all()
    nothing = faithfulness.morf_lerf(linear, removal, np.zeros_like(X))
    assert (nothing.abpc.estimate.value, nothing.abpc.estimate.n) == (None, 0)


def test_insertion_and_deletion_by_hand():
    x = np.array([[0.0, 3.0, 0.0, 1.0]])
    removal = removal_of(x, baseline="zeros")
    insertion, deletion = faithfulness.insertion_deletion(lambda x: x.sum(axis=1), removal, x, steps=4)
    # Adding the best first: 0, 3, 4, 4, 4; taking them first: 4, 1, 0, 0, 0.
    assert insertion.values[0] == pytest.approx((0 / 2 + 3 + 4 + 4 + 4 / 2) / 4)
    assert deletion.values[0] == pytest.approx((4 / 2 + 1) / 4)
    assert (insertion.better, deletion.better) == ("larger", "smaller")
    ones = removal_of(x, baseline=1.0)
    other, same = faithfulness.insertion_deletion(lambda x: x.sum(axis=1), removal, x, steps=4, inserted_into=ones)
    # From an image of ones: 4, 6, 6 and then zeros come in: 5, 4.
    assert other.values[0] == pytest.approx((4 / 2 + 6 + 6 + 5 + 4 / 2) / 4)
    assert same.values[0] == deletion.values[0]


def test_faithfulness_correlation_of_the_exact_map_is_one():
    removal = removal_of(X, baseline="zeros")
    for correlation in ("pearson", "spearman"):
        score = faithfulness.faithfulness_correlation(linear, removal, X * W, correlation=correlation)
        np.testing.assert_allclose(score.values, 1.0)
    opposite = faithfulness.faithfulness_correlation(linear, removal, -3 * X * W)
    np.testing.assert_allclose(opposite.values, -1.0)
    noise = faithfulness.faithfulness_correlation(linear, removal, quality.random_maps(removal))
    assert noise.estimate.low < 0 < noise.estimate.high
    again = faithfulness.faithfulness_correlation(linear, removal, quality.random_maps(removal))
    assert np.array_equal(noise.values, again.values)
    other = faithfulness.faithfulness_correlation(linear, removal, quality.random_maps(removal), seed=1)
    assert not np.array_equal(noise.values, other.values)


def test_the_correlation_is_over_what_the_score_loses():
    """A model that saturates: the map that names its gradient is not the one that names its losses."""
    x = np.abs(X) + 0.1
    score = faithfulness.faithfulness_correlation(
        lambda x: np.minimum(x[:, 0], 0.05) + x[:, 1], removal_of(x, baseline="zeros"), x * np.eye(12)[0]
    )
    assert score.estimate.value < 0.7


def test_faithfulness_beside_random_maps_is_paired():
    removal = removal_of(X, baseline="zeros")
    own = faithfulness.morf_lerf(linear, removal, X * W)
    random = faithfulness.morf_lerf(linear, removal, quality.random_maps(removal))
    result = faithfulness.faithfulness(own, random)
    assert result.n == 30
    assert result.abpc.difference.value == pytest.approx(np.mean(own.abpc.values - random.abpc.values))
    assert result.abpc.difference.low > 0
    assert result.most_first[0] == pytest.approx(1)
    assert result.most_first[-1] == pytest.approx(0, abs=1e-12)
    sign = np.sign(linear(X))[:, None]
    expected = (sign * own.least_first).mean(axis=0) / np.abs(linear(X)).mean()
    np.testing.assert_allclose(result.least_first, expected)


def test_progress_is_told_and_predict_sees_every_sample_in_order():
    told, seen = [], []

    def predict(x):
        seen.append(len(x))
        return linear(x)

    faithfulness.morf_lerf(predict, removal_of(X), X * W, steps=3, progress=lambda *step: told.append(step))
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4]
    assert {total for _, _, total in told} == {4}
    # None and all features gone are computed once for both orders.
    assert seen == [30] * 6


def test_wrong_scores_and_options_are_refused():
    removal = removal_of(X)
    with pytest.raises(DataError, match="predict returned shape"):
        faithfulness.morf_lerf(lambda x: x, removal, X)
    with pytest.raises(ConfigError, match="steps=0"):
        faithfulness.morf_lerf(linear, removal, X, steps=0)
    with pytest.raises(ConfigError, match="subset=1"):
        faithfulness.faithfulness_correlation(linear, removal, X, subset=1.0)
    with pytest.raises(ConfigError, match="n_subsets"):
        faithfulness.faithfulness_correlation(linear, removal, X, n_subsets=2)
    with pytest.raises(ConfigError, match="correlation"):
        faithfulness.faithfulness_correlation(linear, removal, X, correlation="kendall")
    with pytest.raises(Unsupported, match="single feature"):
        faithfulness.faithfulness_correlation(lambda x: x[:, 0], removal_of(X[:, :1]), X[:, :1])


# ------------------------------------------------------------------------------------------------------------ quality
def test_max_sensitivity_grows_with_the_explainer():
    removal = removal_of(X)
    assert np.all(quality.max_sensitivity(lambda x: np.ones_like(x), removal).values == 0)
    radius = 0.1 * X.std()
    gentle = quality.max_sensitivity(lambda x: x, removal, radius=0.1, n_draws=20)
    bound = radius * np.sqrt(12) / np.linalg.norm(X, axis=1)
    assert np.all(gentle.values <= bound)
    # The largest of 20 draws is beyond the mean one, whose square is a third of that of the corner.
    assert np.all(gentle.values > bound / np.sqrt(3))
    more = quality.max_sensitivity(lambda x: x, removal, radius=0.2, n_draws=20)
    np.testing.assert_allclose(more.values, 2 * gentle.values)
    assert np.isnan(quality.max_sensitivity(lambda x: 0 * x, removal).values).all()
    calls = []
    quality.max_sensitivity(lambda x: calls.append(0) or x, removal, X, n_draws=3)
    assert len(calls) == 3
    with pytest.raises(ConfigError, match="radius"):
        quality.max_sensitivity(lambda x: x, removal, radius=0)


def test_only_real_inputs_are_moved():
    x = {"tokens": RNG.integers(0, 9, (4, 3)), "real": RNG.normal(size=(4, 2)).astype("float32")}
    moved = removal_of(x).moved(0.5, np.random.default_rng(0))
    assert np.array_equal(moved["tokens"], x["tokens"])
    assert moved["real"].dtype == np.float32
    assert 0 < np.abs(moved["real"] - x["real"]).max() <= 0.5 * x["real"].std() * (1 + 1e-6)


def test_random_logit_compares_with_another_class():
    removal = removal_of(X)
    weights = RNG.normal(size=(4, 12))
    asked = []

    def attribute(x, targets):
        asked.append(targets)
        return x * weights[targets]

    targets = RNG.integers(0, 4, 30)
    score = quality.random_logit(attribute, removal, targets, 4)
    assert np.array_equal(asked[0], targets)
    assert np.all(asked[1] != targets)
    assert set(asked[1]) == {0, 1, 2, 3}
    expected = [stats.spearmanr(X[i] * weights[targets[i]], X[i] * weights[asked[1][i]])[0] for i in range(30)]
    np.testing.assert_allclose(score.values, expected)
    blind = quality.random_logit(lambda x, _: x, removal, targets, 4)
    np.testing.assert_allclose(blind.values, 1)
    with pytest.raises(Unsupported, match="no other class"):
        quality.random_logit(attribute, removal, 0 * targets, 1)
    with pytest.raises(DataError, match="expected a class"):
        quality.random_logit(attribute, removal, targets + 4, 4)


def test_sparseness_and_complexity_are_of_the_features():
    x = RNG.normal(size=(5, 4, 4, 3))
    removal = removal_of(x)
    single = np.zeros_like(x)
    single[:, 1, 2] = [1, 2, -1]
    # One pixel of sixteen has all relevance, whatever its channels have.
    np.testing.assert_allclose(quality.sparseness(removal, single).values, 1 - 1 / 16)
    np.testing.assert_allclose(quality.complexity(removal, single).values, 0)
    np.testing.assert_allclose(quality.complexity(removal, np.ones_like(x)).values, np.log(16))


def test_similarity_of_images():
    x = RNG.normal(size=(3, 12, 12, 1))
    removal = removal_of(x)
    np.testing.assert_allclose(quality.map_similarity(removal, x, x, "ssim"), 1)
    assert np.all(quality.map_similarity(removal, x, RNG.normal(size=x.shape), "ssim") < 0.5)
    with pytest.raises(Unsupported, match="ssim"):
        quality.map_similarity(removal_of(X), X, X, "ssim")
    with pytest.raises(ConfigError, match="similarity"):
        quality.map_similarity(removal, x, x, "mse")


def test_means_say_how_they_were_made():
    few, many = mean_of(np.arange(5.0)), mean_of(np.append(np.arange(50.0), np.nan))
    assert (few.value, few.n, few.method) == (2.0, 5, "Student's t")
    interval = stats.t.interval(0.95, 4, 2.0, np.std(np.arange(5), ddof=1) / np.sqrt(5))
    assert (few.low, few.high) == pytest.approx(interval)
    assert (many.value, many.n, many.method) == (24.5, 50, "BC bootstrap")
    assert (many.low, many.high) == pytest.approx((20.5, 28.5), abs=1)
    assert mean_of(np.array([1.0])).low is None
    assert mean_of(np.full(3, np.nan)).value is None
    assert mean_of(np.arange(50.0), n_bootstrap=0).low is None
