"""DeepFool, DDN and FAB-T against the exact distances of a linear softmax, and projections against linear programs."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from scipy.optimize import brentq, linprog

from analyzer.backends import engine
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.ddn import DDN
from analyzer.robustness.attacks.deepfool import DeepFool
from analyzer.robustness.attacks.fab import FAB, onto_hyperplane
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:1500], Y[1400:1500]


@functools.cache
def exact_of(norm):
    return oracle.exact_distances(TEST, LABELS, KERNEL, BIAS, norm)


# A boundary that is flat is met after few steps of FAB; DDN needs all of its own to become fine.
FABS = [FAB(norm=norm, steps=15) for norm in ("linf", "l2", "l1")]
ATTACKS = [DeepFool(norm="linf"), DeepFool(norm="l2"), DDN(), *FABS]
MOST = {DeepFool: 1.05, DDN: 1.15, FAB: 1.05}


def named(attack):
    return f"{type(attack).__name__}-{norm_of(attack)}"


def norm_of(attack):
    return getattr(attack, "norm", "l2")


def lengths(steps, norm):
    flat = steps.reshape(len(steps), -1).astype("float64")
    return np.linalg.norm(flat, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_distances_of_a_linear_softmax_are_upper_bounds_and_near(attack):
    exact = exact_of(norm_of(attack))
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST, batch_size=128)
    found = attack.run(attacked, TEST, LABELS)
    np.testing.assert_array_equal(found.distance == 0, exact == 0)
    assert np.isfinite(found.distance).all()
    ratio = found.distance[exact > 0] / exact[exact > 0]
    assert ratio.min() >= 1 - 1e-3
    assert np.median(ratio) <= MOST[type(attack)]
    # The steps end in the box, are as long as said, and the model decides wrongly there.
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    np.testing.assert_allclose(lengths(found.points - TEST, norm_of(attack)), found.distance, atol=1e-6)
    assert not attacked.correct(found.points, LABELS).any()


@pytest.mark.parametrize(
    "attack", [DeepFool(norm="l2", steps=20), DDN(steps=40), FAB(norm="linf", steps=10)], ids=named
)
def test_images_and_batches_of_a_net_that_is_not_linear(attack):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(6, 3, strides=2, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(3)
    model.set_weights([rng.normal(size=each.shape, scale=0.3) for each in model.get_weights()])
    x = TEST[:20].reshape(-1, 8, 8, 1)
    y = keras.ops.convert_to_numpy(model(x)).argmax(1)
    attacked = oracle.attacked(model, x, batch_size=8)
    found = attack.run(attacked, x, y)
    assert found.points.shape == x.shape
    assert np.isfinite(found.distance).mean() >= 0.9
    hit = np.isfinite(found.distance)
    assert not attacked.correct(found.points[hit], y[hit]).any()
    np.testing.assert_allclose(lengths(found.points - x, norm_of(attack))[hit], found.distance[hit], atol=1e-6)
    # Of batches of another size the same is found.
    alone = attack.run(oracle.attacked(model, x, batch_size=32), x, y)
    np.testing.assert_allclose(alone.distance[hit], found.distance[hit], rtol=1e-3)


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("attack", [DeepFool(), FAB(norm="l2", steps=5, targets=3)], ids=named)
def test_the_scale_of_logits_does_not_matter(attack, scale):
    few, labels = TEST[:40], LABELS[:40]
    plain, scaled = (
        attack.run(oracle.attacked(oracle.trained(KERNEL, BIAS, scale=s), few), few, labels).distance
        for s in (1.0, scale)
    )
    assert np.quantile(np.abs(scaled - plain) / np.maximum(plain, 1e-9), 0.9) < 1e-3


@pytest.mark.parametrize("attack", [*ATTACKS[:2], DDN(steps=9), FAB(steps=3), FAB(norm="l2", steps=3)], ids=named)
def test_nothing_is_found_where_inputs_do_not_matter(attack):
    bias = np.eye(10)[0]
    attacked = oracle.attacked(oracle.trained(np.zeros_like(KERNEL), bias), TEST)
    found = attack.run(attacked, TEST[:20], LABELS[:20])
    np.testing.assert_array_equal(found.distance, np.where(LABELS[:20] == 0, np.inf, 0.0))
    np.testing.assert_array_equal(found.points, TEST[:20])


def test_a_hidden_alternative_is_found_through_the_candidates():
    # The likeliest other class of sample 0 is far away, since its logit moves little; the third is near.
    kernel = np.array([[0.0, 0.1, 4.0]])
    model = oracle.trained(kernel, np.array([2.0, 1.5, -1.0]))
    x, y = np.array([[0.2]], "float32"), np.array([0])
    # 4 u - 1 = 2 at u = 0.75; 0.1 u + 1.5 = 2 nowhere in the box.
    for attack in (DeepFool(), FAB(steps=9), FAB(norm="l2", steps=9)):
        found = attack.run(oracle.attacked(model, x), x, y)
        np.testing.assert_allclose(found.distance, 0.55, rtol=0.021)
    assert DeepFool(candidates=2).run(oracle.attacked(model, x), x, y).distance[0] > 0.55 * 1.021


def test_the_learning_rate_of_ddn_follows_half_a_cosine():
    rates = DDN(steps=4).rates()
    np.testing.assert_allclose(rates, 0.01 + 0.99 * np.array([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]), rtol=1e-6)


def shortest_by_program(x, w, missing):
    """Linf: minimise e over (step, e) with w @ step = missing, |step| <= e, in the box."""
    d = len(x)
    eye, ones = np.eye(d), np.ones((d, 1))
    bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
    solved = linprog(
        np.eye(d + 1)[-1],
        A_ub=np.block([[eye, -ones], [-eye, -ones]]),
        b_ub=np.zeros(2 * d),
        A_eq=np.append(w, 0)[None],
        b_eq=[missing],
        bounds=bounds,
    )
    return solved.fun if solved.status == 0 else None


def sparsest_by_program(x, w, missing):
    """L1: minimise the sum of what goes up and what goes down."""
    bounds = [*zip(0 * x, 1 - x, strict=True), *zip(0 * x, x, strict=True)]
    solved = linprog(np.ones(2 * len(x)), A_eq=np.concatenate([w, -w])[None], b_eq=[missing], bounds=bounds)
    return solved.fun if solved.status == 0 else None


SHORTEST = {"linf": shortest_by_program, "l1": sparsest_by_program}


def shortest_by_multiplier(x, w, missing):
    """L2: the step that the conditions of optimality give, clip(k w, -x, 1 - x), for the k that fits."""

    def step(k):
        return np.clip(k * w, -x, 1 - x)

    if not w @ step(-1e6) < missing < w @ step(1e6):
        return None
    return np.linalg.norm(step(brentq(lambda k: w @ step(k) - missing, -1e6, 1e6, xtol=1e-14, rtol=1e-14)))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projections_onto_a_hyperplane_within_the_box_are_shortest(norm):
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(60, 7)).round(1)
    w = rng.normal(size=(60, 7)) * rng.choice([0.0, 0.1, 1.0], size=(60, 7))
    missing = rng.normal(size=60)
    tensors = (keras.ops.convert_to_tensor(each.astype("float32")) for each in (x, w, missing))
    steps = engine().to_numpy(onto_hyperplane(*tensors, norm)).astype("float64")
    assert (x + steps).min() >= -1e-6
    assert (x + steps).max() <= 1 + 1e-6
    shortest = SHORTEST.get(norm, shortest_by_multiplier)
    known = [shortest(*each) for each in zip(x, w, missing, strict=True)]
    reached = np.array([length is not None for length in known])
    assert 10 < np.count_nonzero(reached) < 55
    np.testing.assert_allclose((w * steps).sum(1)[reached], missing[reached], atol=1e-5)
    expected = [length for length in known if length is not None]
    np.testing.assert_allclose(lengths(steps, norm)[reached], expected, atol=1e-5)
    # Out of reach, the step gains as much as the box allows.
    side = w[~reached] * np.sign(missing[~reached])[:, None]
    corner = np.where(side > 0, 1 - x[~reached], -x[~reached])
    np.testing.assert_allclose((side * steps[~reached]).sum(1), (side * corner).sum(1), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_keep_digits_where_values_bend_late(norm):
    # 4094 values meet their bounds; the last two, of small slope, gain four fifths of what one of them can.
    x, w = np.full((1, 4096), 1 - 2.0**-10, "float32"), np.ones((1, 4096), "float32")
    x[0, :2], w[0, :2] = [0.5, 0.0], 1e-3
    missing = np.array([4094 * 2.0**-10 + 1e-3 * 0.8], "float32")
    steps = engine().to_numpy(onto_hyperplane(*map(keras.ops.convert_to_tensor, (x, w, missing)), norm))
    np.testing.assert_allclose(steps[0, :2], 0.4, rtol=1e-3)


def fab_by_hand(f, slope, origin, steps):
    """The paper's steps in L2 where no bound is met, and the final search; float64."""
    x, best = origin, None
    for _ in range(steps):
        w = slope(x)
        here, there = (-(f(x) - w @ (x - start)) * w / (w @ w) for start in (x, origin))
        alpha = min(np.linalg.norm(here) / (np.linalg.norm(here) + np.linalg.norm(there)), 0.1)
        x = (1 - alpha) * (x + 1.05 * here) + alpha * (origin + 1.05 * there)
        if f(x) >= 0:
            best = x - origin if best is None else min(best, x - origin, key=np.linalg.norm)
            x = 0.1 * origin + 0.9 * x
    return np.inf if best is None else np.linalg.norm(best) * brentq(lambda s: f(origin + s * best), 0, 1)


def test_fab_walks_along_a_curved_boundary_as_published():
    axes, centre = np.array([1.0, 3.0]), np.array([0.5, 0.5])
    # The second class wins outside an ellipse.
    bend = keras.layers.Dense(2, activation=keras.ops.square)
    model = keras.Sequential([keras.Input((2,)), bend, keras.layers.Dense(2)])
    model.set_weights([np.eye(2), -centre, np.stack([0 * axes, axes], 1), np.array([0.0, -0.12])])
    x = np.array([[0.6, 0.53], [0.42, 0.56], [0.52, 0.45]], "float32")
    attacked = oracle.attacked(model, x)
    for steps in (1, 2, 3, 4, 6):
        found = FAB(norm="l2", steps=steps).run(attacked, x, np.zeros(3, int))
        expected = [
            fab_by_hand(lambda u: axes @ (u - centre) ** 2 - 0.12, lambda u: 2 * axes * (u - centre), row, steps)
            for row in x.astype("float64")
        ]
        np.testing.assert_allclose(found.distance, expected, rtol=5e-4)


def test_fab_without_targets_takes_the_nearest_boundary_and_restarts_only_shorten():
    free = FAB(norm="l2", targeted=False, targets=3, steps=8)
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST[:20])
    exact = exact_of("l2")[:20]
    once = free.run(attacked, TEST[:20], LABELS[:20]).distance
    again = dataclasses.replace(free, restarts=3).run(attacked, TEST[:20], LABELS[:20]).distance
    ratio = once[exact > 0] / exact[exact > 0]
    assert ratio.min() >= 1 - 1e-3
    assert np.median(ratio) < 1.01
    assert (again <= once * (1 + 1e-6)).all()
    assert (again < once * (1 - 1e-6)).any()
    # Of one class to choose from both are the same.
    aimed, single = (FAB(norm="l2", targeted=targeted, targets=1, steps=5) for targeted in (True, False))
    both = [attack.run(attacked, TEST[:20], LABELS[:20]).distance for attack in (aimed, single)]
    np.testing.assert_array_equal(*both)


def test_numbers_below_one_are_refused():
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST)
    for name in ("targets", "restarts", "steps"):
        with pytest.raises(ConfigError, match=f"{name}=0: expected 1 or more"):
            FAB(**{name: 0}).run(attacked, TEST[:2], LABELS[:2])


def test_unknown_norms_are_refused():
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST)
    for attack, known in ((DeepFool(norm="l1"), r"linf, l2\."), (FAB(norm="l0"), r"linf, l2, l1\.")):
        with pytest.raises(ConfigError, match=f"expected one of {known}"):
            attack.run(attacked, TEST[:2], LABELS[:2])
