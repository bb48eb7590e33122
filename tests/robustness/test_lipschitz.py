"""Lipschitz bounds, local Jacobian norms and CLEVER against matrices, the exact oracle and slopes that were met."""

import keras
import numpy as np
import pytest
from scipy.stats import weibull_max

from analyzer.backends import engine
from analyzer.errors import ConfigError, Unsupported
from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.threat import Box
from analyzer.robustness.certificates.clever import clever_scores, largest_slope
from analyzer.robustness.certificates.layer_norms import symbol_bound
from analyzer.robustness.certificates.lipschitz import lipschitz_bound, lipschitz_radii
from analyzer.robustness.certificates.local_jacobian import local_jacobian_norms
from tests.robustness import oracle

L = keras.layers
DATA = Box(low=-3.0, high=5.0, source="given")


def opened(model, batch_size=64):
    view = open_model(model, np.zeros((1, *model.input_shape[1:]), "float32"))
    return Attacked(view=view, box=DATA, batch_size=batch_size)


def random_weights(model, seed=0, scale=0.4):
    rng = np.random.default_rng(seed)
    drawn = [(v.path, rng.normal(size=v.shape, scale=scale)) for v in model.weights]
    model.set_weights([np.abs(new) + 0.5 if "variance" in path else new for path, new in drawn])
    return model


def matrix_of(model):
    """The Jacobian of an affine model, column by column."""
    size = int(np.prod(model.input_shape[1:]))
    inputs = np.concatenate([np.zeros((1, size)), np.eye(size)]).reshape(-1, *model.input_shape[1:])
    out = keras.ops.convert_to_numpy(model(inputs.astype("float32"))).reshape(size + 1, -1).astype("float64")
    return (out[1:] - out[0]).T


def jacobians(attacked, x):
    """Jacobians of the logits at some samples, class by class, per unit of the data."""
    program = attacked.program("jacobian", lambda values, u: _rows(attacked, values, u))
    found = attacked.by_batch([attacked.to_unit(x)], lambda batch, _: [program(*batch)])[0]
    return found.reshape(len(x), attacked.n_classes, -1).astype("float64") / DATA.range


def _rows(attacked, values, u):
    z, pullback = engine().vjp(lambda u: attacked.logits(values, u), u)
    eye = np.eye(z.shape[-1], dtype="float32")
    rows = [pullback(keras.ops.broadcast_to(keras.ops.convert_to_tensor(row), z.shape)) for row in eye]
    return keras.ops.stack(rows, axis=1)


AFFINE = {
    "convolution": lambda: L.Conv2D(4, 3, padding="same"),
    "strides": lambda: L.Conv2D(4, 3, strides=2),
    "dilation": lambda: L.Conv2D(3, 3, dilation_rate=2, padding="same"),
    "groups": lambda: L.Conv2D(4, (2, 3), groups=2),
    "pointwise": lambda: L.Conv2D(5, 1),
    "depthwise": lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "separable": lambda: L.SeparableConv2D(3, 3),
    "transposed": lambda: L.Conv2DTranspose(3, 3, strides=2),
    "normalised": lambda: L.BatchNormalization(),
    "rescaled": lambda: L.Rescaling(-2.5, offset=1),
    "by data": lambda: L.Normalization(mean=[0.5, 1.0], variance=[4.0, 0.25]),
    "average": lambda: L.AveragePooling2D(2),
    "overlapping average": lambda: L.AveragePooling2D(3, 1),
    "average to the edge": lambda: L.AveragePooling2D(3, 2, padding="same"),
    "global average": lambda: L.GlobalAveragePooling2D(),
    "padded": lambda: L.ZeroPadding2D(2),
    "dense": lambda: L.Dense(7),
}


@pytest.mark.parametrize("name", AFFINE)
def test_layers_are_bounded_by_the_norm_of_their_matrix_from_above(name):
    model = random_weights(keras.Sequential([keras.Input((9, 9, 2)), AFFINE[name]()]), 1)
    exact = np.linalg.norm(matrix_of(model), 2)
    found = lipschitz_bound(open_model(model)).value
    assert found >= exact * (1 - 1e-6)
    # Windows without borders stretch a little more than those with; two bounds in a row may miss each other.
    slack = {"separable": 1.6, "average to the edge": 2.5, "overlapping average": 1.1, "dilation": 1.25}
    assert found <= exact * slack.get(name, 1.12)
    if name in ("pointwise", "dense", "normalised", "rescaled", "by data", "average", "global average", "padded"):
        assert found == pytest.approx(exact, rel=1e-5)


def test_a_value_in_several_windows_of_maxima_counts_as_often():
    model = keras.Sequential([keras.Input((5, 5, 1)), L.MaxPooling2D(3, 1), L.Flatten()])
    peak = np.zeros((1, 5, 5, 1))
    peak[0, 2, 2] = 1
    attacked = opened(model)
    assert np.linalg.norm(jacobians(attacked, peak)[0], 2) == pytest.approx(3)
    assert lipschitz_bound(attacked.view).value == 3


def test_branches_add_up_and_parts_side_by_side_are_legs_of_a_triangle():
    vector = keras.Input((3,))
    h = L.Rescaling(3.0)(vector)
    joined = L.Concatenate()([L.Add()([vector, h]), L.Rescaling(3.0)(vector)])
    assert lipschitz_bound(open_model(keras.Model(vector, joined))).value == pytest.approx(5)
    assert lipschitz_bound(open_model(keras.Model(vector, h + h))).value == pytest.approx(6)
    assert lipschitz_bound(open_model(keras.Model(vector, L.Average()([h, h])))).value == pytest.approx(3)


@pytest.mark.parametrize(("size", "n", "stride"), [(3, 60, 1), (4, 60, 1), (7, 60, 1), (3, 60, 2), (2, 40, 3)])
def test_the_bound_of_a_convolution_is_that_of_a_long_signal(size, n, stride):
    kernel = np.random.default_rng(size).normal(size=(size, 3, 4))
    long = np.zeros((n, 4, n * stride + size, 3))
    for at in range(n):
        for k in range(size):
            long[at, :, at * stride + k] = kernel[k].T
    exact = np.linalg.norm(long.reshape(n * 4, -1), 2)
    # Every finite signal is part of an infinite one, which the bound is exact for up to the grid.
    assert exact <= symbol_bound(kernel, [stride]) <= exact * 1.02


def test_a_coarse_grid_of_frequencies_is_made_good_for(monkeypatch):
    kernel = np.random.default_rng(3).normal(size=(3, 3, 2, 2))
    monkeypatch.setattr("analyzer.robustness.certificates.layer_norms.DENSITIES", (64,))
    fine = symbol_bound(kernel, [1, 1])
    monkeypatch.setattr("analyzer.robustness.certificates.layer_norms.DENSITIES", (4,))
    assert fine * 0.999 <= symbol_bound(kernel, [1, 1]) <= fine * 1.18


def image_net():
    image = keras.Input((8, 8, 2))
    h = L.Conv2D(4, 3, padding="same", strides=2, activation="tanh")(L.Rescaling(0.5)(image))
    h = L.BatchNormalization()(h)
    side = L.LeakyReLU(0.1)(L.DepthwiseConv2D(3, padding="same", activation="gelu")(h))
    h = L.Add()([h, keras.ops.relu(side)]) + h
    h = L.Concatenate()([L.MaxPooling2D(3, strides=1, padding="same")(h), L.AveragePooling2D(2, 1, padding="same")(h)])
    h = L.Dense(5, activation=L.LeakyReLU(0.3))(L.Flatten()(h))
    return random_weights(keras.Model(image, L.Dense(3, activation="softmax")(h)), 2)


def series_net():
    layers = [L.Conv1D(6, 3, padding="causal", activation="silu"), L.MaxPooling1D(3, 2), L.GlobalAveragePooling1D()]
    model = keras.Sequential([keras.Input((12, 3)), *layers, L.Dense(4, activation="selu"), L.Dense(3), L.Softmax()])
    return random_weights(model, 3)


@pytest.mark.parametrize("build", [image_net, series_net])
def test_no_slope_exceeds_the_bound_and_no_local_norm_differs_from_that_of_the_jacobian(build):
    model = build()
    attacked = opened(model)
    x = np.random.default_rng(4).uniform(-3, 5, (60, *model.input_shape[1:]))
    exact = np.linalg.norm(jacobians(attacked, x), 2, axis=(1, 2))
    bound = lipschitz_bound(attacked.view)
    assert bound.value >= exact.max()
    assert bound.layers[-1].so_far == bound.value
    assert [row.kind for row in bound.layers if row.layer.startswith("dense")] == ["Dense", "Dense"]
    local = local_jacobian_norms(attacked, x[:20], steps=300)
    np.testing.assert_allclose(local.norm, exact[:20], rtol=2e-3)
    # From below, up to rounding.
    assert (local.norm <= exact[:20] * (1 + 1e-4)).all()
    assert (local.change < 1e-3).all()
    assert "local estimate" in local.definition


def test_the_local_norm_of_a_linear_model_is_that_of_its_matrix():
    kernel = np.random.default_rng(5).normal(size=(12, 5))
    attacked = opened(oracle.trained(kernel, np.ones(5)))
    x = np.random.default_rng(6).uniform(-3, 5, (4, 12))
    exact = np.linalg.norm(kernel, 2)
    np.testing.assert_allclose(local_jacobian_norms(attacked, x, steps=300).norm, exact, rtol=1e-4)
    assert lipschitz_bound(attacked.view).value == pytest.approx(exact, rel=1e-6)
    nothing = local_jacobian_norms(opened(oracle.trained(np.zeros((12, 5)), np.zeros(5))), x)
    np.testing.assert_array_equal(nothing.norm, 0)
    few = local_jacobian_norms(attacked, x, steps=1)
    assert (few.norm <= exact * (1 + 1e-6)).all()
    assert (few.norm < exact * 0.999).any()
    # Neither batches nor other samples change a start.
    alone = local_jacobian_norms(opened(oracle.trained(kernel, np.ones(5)), batch_size=1), x[2:3], steps=1)
    np.testing.assert_allclose(alone.norm, few.norm[2:3], rtol=1e-5)


def test_derivatives_that_contradict_each_other_are_refused(monkeypatch):
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, activation="tanh"), L.Dense(2)])
    attacked, right = opened(random_weights(model)), engine().jvp
    x = np.zeros((2, 3))
    with monkeypatch.context() as patched:
        patched.setattr(engine(), "jvp", lambda fn, x, v: (right(fn, x, v)[0], 0.9 * right(fn, x, v)[1]))
        with pytest.raises(Unsupported, match="backward one"):
            local_jacobian_norms(attacked, x)
    attacked.release()
    assert (local_jacobian_norms(attacked, x, steps=3).norm > 0).all()


def euclidean(x, y, kernel, bias):
    """Distances of a linear softmax without bounds of the inputs; 0 for wrong decisions."""
    z = x @ kernel + bias
    gap = z[np.arange(len(y)), y][:, None] - z
    step = np.linalg.norm(kernel[:, y].T[:, :, None] - kernel[None], axis=1)
    reach = np.where(gap > 0, gap / np.where(step > 0, step, 1), 0)
    reach[np.arange(len(y)), y] = np.inf
    return reach.min(1)


def linear_task():
    rng = np.random.default_rng(7)
    kernel, bias = rng.normal(size=(6, 4)), rng.normal(size=4)
    x, y = rng.uniform(-2, 2, (30, 6)), rng.integers(0, 4, 30)
    return kernel, bias, x, np.where(np.arange(30) % 3, (x @ kernel + bias).argmax(1), y)


def test_radii_of_a_linear_softmax_are_its_distances():
    kernel, bias, x, y = linear_task()
    exact = euclidean(x, y, kernel, bias)
    assert (exact == 0).any()
    found = lipschitz_radii(opened(oracle.trained(kernel, bias)), x, y)
    np.testing.assert_allclose(found.radius, exact, rtol=1e-4, atol=1e-6)
    single = keras.Sequential([keras.Input((2,)), L.Dense(1, activation="sigmoid")])
    single.set_weights([np.array([[3.0], [-4.0]]), np.array([1.0])])
    points = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(lipschitz_radii(opened(single), points, np.array([1, 0])).radius, [0.8, 0.6], rtol=1e-5)


def test_radii_of_a_net_are_below_what_an_attack_finds():
    model = series_net()
    attacked = opened(model)
    x = np.random.default_rng(8).uniform(-1, 1, (40, 12, 3))
    y = attacked.all_logits(attacked.to_unit(x)).argmax(1)
    radius = lipschitz_radii(attacked, x, y).radius
    assert (radius > 0).all()
    steps = np.random.default_rng(9).normal(size=(50, 40, 12, 3))
    steps *= radius[:, None, None] / np.linalg.norm(steps, axis=(2, 3))[..., None, None]
    moved = (x + steps).reshape(-1, 12, 3)
    np.testing.assert_array_equal(attacked.all_logits(attacked.to_unit(moved)).argmax(1), np.tile(y, 50))


def test_radii_of_logits_that_no_dense_layer_sums():
    head = keras.Sequential([keras.Input((4, 3)), L.Conv1D(5, 1), L.GlobalAveragePooling1D()])
    kernel = random_weights(head, 14).get_weights()[0][0].astype("float64")
    attacked, x = opened(head), np.random.default_rng(15).uniform(-1, 1, (20, 4, 3))
    z = attacked.all_logits(attacked.to_unit(x)).astype("float64")
    y, ordered = z.argmax(1), np.sort(z, axis=1)
    found = lipschitz_radii(attacked, x, y)
    # Means of 4 positions halve a step; two logits move at most the root of 2 times as far apart as all of them.
    margin = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(found.radius, margin / (np.sqrt(2) * np.linalg.norm(kernel, 2) / 2), rtol=1e-4)
    exact = euclidean(x.mean(1), y, kernel, head.get_weights()[1]) * 2
    assert (found.radius <= exact).all()


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_clever_scores_of_a_linear_softmax_are_its_distances(norm):
    kernel, bias, x, y = linear_task()
    z, dual = x @ kernel + bias, {"l2": 2, "linf": 1, "l1": np.inf}[norm]
    exact = np.full(30, np.inf)
    for i, c in np.ndindex(30, 4):
        if c != y[i]:
            gap = z[i, y[i]] - z[i, c]
            exact[i] = min(exact[i], max(gap, 0) / np.linalg.norm(kernel[:, y[i]] - kernel[:, c], dual))
    found = clever_scores(opened(oracle.trained(kernel, bias)), x, y, radius=0.3, norm=norm, blocks=10, block_size=8)
    np.testing.assert_allclose(found.score, np.minimum(exact, 0.3), rtol=1e-4, atol=1e-6)
    assert "not a bound" in found.definition
    assert (exact < 0.3).any()
    assert (exact > 0.3).any()


def test_clever_estimates_slopes_beyond_those_it_met():
    model = random_weights(keras.Sequential([keras.Input((5,)), L.Dense(8, activation="tanh"), L.Dense(3)]), 10, 0.8)
    attacked = opened(model, batch_size=640)
    x = np.random.default_rng(11).uniform(-1, 1, (3, 5))
    y = attacked.all_logits(attacked.to_unit(x)).argmax(1)
    found = clever_scores(attacked, x, y, radius=0.5, blocks=60, block_size=32)
    rng = np.random.default_rng(12)
    for i, row in enumerate(x):
        steps = rng.normal(size=(6000, 5))
        steps *= 0.5 * rng.uniform(size=(6000, 1)) ** 0.2 / np.linalg.norm(steps, axis=1, keepdims=True)
        every = jacobians(attacked, row + steps)
        for rank, c in enumerate(found.targets[i]):
            largest = np.linalg.norm(every[:, y[i]] - every[:, c], axis=1).max()
            assert 0.95 * largest <= found.slope[i, rank] <= 1.3 * largest
    z = attacked.all_logits(attacked.to_unit(x)).astype("float64")
    gaps = z[np.arange(3), y][:, None] - np.take_along_axis(z, found.targets, 1)
    np.testing.assert_allclose(found.score, np.minimum((gaps / found.slope).min(1), 0.5))
    parts = clever_scores(opened(model, batch_size=7), x[1:2], y[1:2], radius=0.5, blocks=60, block_size=32)
    np.testing.assert_allclose(parts.score, found.score[1:2], rtol=1e-4)


def likelihood(maxima, end):
    shape, _, scale = weibull_max.fit(maxima, floc=end)
    return weibull_max(shape, end, scale).logpdf(maxima).sum()


def test_the_end_of_a_weibull_distribution_is_found():
    rng = np.random.default_rng(13)
    for shape in (1.5, 3.0, 6.0):
        maxima = weibull_max.rvs(shape, loc=5.0, scale=1.0, size=2000, random_state=rng)
        end, p_value = largest_slope(maxima)
        assert end == pytest.approx(5.0, abs=0.15)
        assert p_value > 0.05
        # At the end that was found the likelihood is largest, by SciPy's own fit of shape and scale.
        assert likelihood(maxima, end) >= likelihood(maxima, max(end - 0.03, maxima.max() + 1e-4)) - 1e-3
        assert likelihood(maxima, end) >= likelihood(maxima, end + 0.03) - 1e-3
    two_humps = np.concatenate([rng.normal(0, 0.01, 200), rng.normal(5, 0.01, 200)])
    assert largest_slope(two_humps + 10)[1] < 1e-3
    np.testing.assert_equal(largest_slope(np.full(20, 3.0)), (3.0, np.nan))
    unbounded = rng.gumbel(size=400)
    assert unbounded.max() <= largest_slope(unbounded)[0] <= unbounded.max() + 10.001 * np.ptp(unbounded)


def chain(*layers):
    return keras.Sequential([keras.Input((4, 4)), *layers, L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: chain(L.LayerNormalization(name="centred")), "centred.*LayerNormalization"),
        (lambda: chain(L.Dense(3, activation="exponential", name="steep")), "steep.*Dense.*exponential"),
        (lambda: chain(L.ReLU(threshold=0.5, name="jump")), "jump.*ReLU.*jumps"),
        (lambda: chain(L.LSTM(3, return_sequences=True, name="memory")), "memory.*LSTM"),
        (lambda: chain(L.Lambda(lambda t: -t, name="turned")), "turned.*Lambda"),
    ],
)
def test_what_has_no_bound_is_named(build, named):
    with pytest.raises(Unsupported, match=named):
        lipschitz_bound(open_model(build()))


def test_bad_options_are_refused():
    attacked, x, y = opened(oracle.trained(np.eye(2), np.zeros(2))), np.zeros((1, 2)), np.zeros(1, int)
    with pytest.raises(ConfigError, match="steps=0"):
        local_jacobian_norms(attacked, x, steps=0)
    with pytest.raises(ConfigError, match="radius=-1"):
        clever_scores(attacked, x, y, radius=-1)
    with pytest.raises(ConfigError, match="blocks=3"):
        clever_scores(attacked, x, y, radius=1, blocks=3)
    with pytest.raises(ConfigError, match="block_size=0"):
        clever_scores(attacked, x, y, radius=1, block_size=0)
