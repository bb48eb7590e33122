"""Auto-PGD against the exact robustness of a linear softmax, and against a float64 walk in NumPy."""

import functools

import keras
import numpy as np
import pytest

from analyzer.errors import ConfigError
from analyzer.robustness.attacks import apgd
from analyzer.robustness.attacks.apgd import APGD, checkpoints
from analyzer.robustness.attacks.survivors import own_generators
from tests.robustness import oracle

X, Y = oracle.digits()
KERNEL, BIAS = oracle.linear_weights(X[:1400], Y[:1400])
TEST, LABELS = X[1400:1450], Y[1400:1450]


@functools.cache
def exact_of(norm):
    return oracle.exact_distances(TEST, LABELS, KERNEL, BIAS, norm)


def at_quantiles(norm):
    """The samples at five radii each: inputs, classes, radii, whether robust, and which verdicts are asked for.

    Not those within 1e-4 of the radius; in L1, whose steps have a least length, within a hundredth of it.
    """
    exact = exact_of(norm)
    radii = np.quantile(exact[exact > 0], [0.1, 0.3, 0.5, 0.7, 0.9])
    epsilon, distance = np.repeat(radii, len(TEST)), np.tile(exact, len(radii))
    sure = np.abs(distance - epsilon) > (1e-2 * epsilon if norm == "l1" else 1e-4)
    return np.tile(TEST, (len(radii), 1)), np.tile(LABELS, len(radii)), epsilon, distance > epsilon, sure


def lengths(steps, norm):
    flat = steps.reshape(len(steps), -1)
    return np.linalg.norm(flat, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_targeted_apgd_has_no_wrong_verdict_on_a_linear_softmax(norm):
    u, y, epsilon, robust, sure = at_quantiles(norm)
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST, batch_size=256)
    found = APGD(loss="targeted_dlr", norm=norm).run(attacked, u, y, epsilon)
    np.testing.assert_array_equal(found.fooled[sure], ~robust[sure])
    assert found.points.min() >= 0
    assert found.points.max() <= 1
    assert (lengths(found.points - u, norm) <= epsilon * (1 + 1e-6) + 1e-6).all()
    assert not attacked.correct(found.points[found.fooled], y[found.fooled]).any()
    np.testing.assert_array_equal(found.points[~found.fooled], u[~found.fooled])


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_untargeted_apgd_claims_no_robust_sample_and_finds_most_others(loss):
    u, y, epsilon, robust, sure = at_quantiles("linf")
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST, batch_size=256)
    found = APGD(loss=loss).run(attacked, u, y, epsilon)
    assert not found.fooled[sure & robust].any()
    assert found.fooled[sure & ~robust].mean() > 0.7


@pytest.mark.parametrize("loss", ["dlr", "targeted_dlr"])
def test_the_scale_of_logits_changes_no_verdict(loss):
    x, y = X[1400:1500], Y[1400:1500]
    epsilon = np.full(len(x), np.median(exact_of("linf")))
    plain, scaled = (
        APGD(loss=loss, steps=50, targets=3).run(
            oracle.attacked(oracle.trained(KERNEL, BIAS, scale=scale), x), x, y, epsilon
        )
        for scale in (1.0, 100.0)
    )
    assert 20 < np.count_nonzero(plain.fooled) < 80
    assert np.count_nonzero(plain.fooled != scaled.fooled) <= 1


def test_checkpoints_are_the_published_ones():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [0, 1]


def walked(weights, x, y, epsilon, start, steps):
    """Algorithm 1 of the paper in float64, for one sample in L2: the first step at which it is fooled, and the point.

    The loss is that of `cross_entropy`, its gradient by hand.
    """

    def project(point):
        step = point - x
        return np.clip(x + step * min(1, epsilon / (np.linalg.norm(step) + 1e-12)), 0, 1)

    def look(point):
        return oracle.looked(weights, point, y)

    def ahead(point, gradient, size):
        return project(point + size * gradient / (np.linalg.norm(gradient) + 1e-12))

    size, point, rises, last, halved = 2 * epsilon, project(x + epsilon * start), 0, 0, False
    loss, gradient, wrong = look(point)
    best, best_loss, best_gradient, mark = point, loss, gradient, loss
    previous, at = point, set(checkpoints(steps)) - {0}
    if wrong:
        return 0, point
    point = ahead(point, gradient, size)
    for k in range(1, steps + 1):
        reached, gradient, wrong = look(point)
        if wrong:
            return k, point
        rises += reached > loss
        loss = reached
        if reached > best_loss:
            best, best_loss, best_gradient = point, reached, gradient
        if k in at:
            halve = rises < 0.75 * (k - last) or (not halved and best_loss == mark)
            if halve:
                size, point, loss, gradient = size / 2, best, best_loss, best_gradient
            rises, last, halved, mark = 0, k, halve, best_loss
        moved = project(point + 0.75 * (ahead(point, gradient, size) - point) + 0.25 * (point - previous))
        previous, point = point, moved
    return None, x


def test_walks_are_those_of_the_paper_in_float64():
    rng = np.random.default_rng(3)
    weights, model = oracle.small_net(rng)
    x = rng.uniform(0.2, 0.8, (40, 8)).astype("float32")
    attacked = oracle.attacked(model, x, batch_size=512)
    y = attacked.all_logits(x).argmax(1)
    radii = np.linspace(0.02, 0.6, 12)
    u, labels, epsilon = np.tile(x, (12, 1)), np.tile(y, 12), np.repeat(radii, 40)
    found = APGD(norm="l2").run(attacked, u, labels, epsilon)
    # Starts are uniform in the ball: drawn normally, then scaled.
    drawn = []
    for generator in own_generators(u, 0, 0, 0):
        normal = generator.normal(size=8)
        drawn.append(generator.uniform() ** (1 / 8) * normal / np.linalg.norm(normal))
    expected = [walked(weights, *row, steps=100) for row in zip(u, labels, epsilon, drawn, strict=True)]
    fooled = np.array([step is not None for step, _ in expected])
    late = np.array([step is not None and step > 22 for step, _ in expected])
    assert late.any()
    assert np.count_nonzero(found.fooled != fooled) <= 1
    both = found.fooled & fooled
    apart = np.abs(found.points - np.array([point for _, point in expected]))[both].max(1)
    assert np.mean(apart < 1e-3) > 0.97


def test_neither_batches_nor_other_samples_change_a_walk_and_seeds_do():
    u, y, epsilon, _, _ = at_quantiles("l2")
    model = oracle.trained(KERNEL, BIAS)
    attack = APGD(norm="l2", steps=10)
    whole = attack.run(oracle.attacked(model, TEST, batch_size=256), u, y, epsilon)
    rows = np.arange(0, len(u), 7)
    part = attack.run(oracle.attacked(model, TEST, batch_size=16), u[rows], y[rows], epsilon[rows])
    np.testing.assert_array_equal(part.fooled, whole.fooled[rows])
    np.testing.assert_allclose(part.points, whole.points[rows], atol=1e-5)
    other = APGD(norm="l2", steps=10, seed=1).run(oracle.attacked(model, TEST), u[rows], y[rows], epsilon[rows])
    assert np.abs(other.points - part.points).max() > 1e-3


def test_restarts_only_add():
    u, y, epsilon, robust, sure = at_quantiles("linf")
    attacked = oracle.attacked(oracle.trained(KERNEL, BIAS), TEST, batch_size=256)
    once, thrice = (APGD(steps=5, restarts=n).run(attacked, u, y, epsilon).fooled for n in (1, 3))
    assert not (once & ~thrice).any()
    assert thrice.sum() > once.sum()
    assert not thrice[sure & robust].any()


def test_bad_options_are_named():
    two = oracle.attacked(oracle.trained(KERNEL[:, :2], BIAS[:2]), TEST[:4])
    three = oracle.attacked(oracle.trained(KERNEL[:, :3], BIAS[:3]), TEST[:4])
    rows = TEST[:4], np.zeros(4, "int64"), np.full(4, 0.1)
    with pytest.raises(ConfigError, match="loss='dlr' compares 3 classes, but the model tells 2 apart"):
        APGD(loss="dlr").run(two, *rows)
    with pytest.raises(ConfigError, match="compares 4 classes, but the model tells 3 apart"):
        APGD(loss="targeted_dlr").run(three, *rows)
    with pytest.raises(ConfigError, match="restarts=0: expected 1 or more"):
        APGD(restarts=0).run(two, *rows)
    with pytest.raises(ConfigError, match="norm='l3'"):
        APGD(norm="l3").run(two, *rows)


def test_a_checkpoint_halves_and_restarts_under_the_two_published_conditions():
    # Rose in 3 of 4 steps; in 2 of 4; rose, but the best stands still; the same after it was just halved.
    four, tensor = np.ones(4, "float32"), keras.ops.convert_to_tensor
    arrays = {name: tensor(four) for name in apgd._Walk._fields}
    arrays |= {"rises": tensor(np.array([3, 2, 3, 3], "float32")), "best": tensor(2 * four[:, None])}
    arrays |= {"point": tensor(four[:, None]), "best_gradient": tensor(3 * four[:, None])}
    arrays |= {"best_loss": tensor(5 * four), "best_before": tensor(np.array([4, 4, 5, 5], "float32"))}
    arrays |= {"halved": tensor(np.array([False, False, False, True]))}
    for span, halves in ((4.0, [False, True, True, False]), (-1.0, [False] * 4)):
        walk, gradient = apgd._reconsidered(apgd._Walk(**arrays), tensor(four[:, None]), tensor(np.float32(span)))
        sizes, points, slopes = (keras.ops.convert_to_numpy(each) for each in (walk.size, walk.point, gradient))
        np.testing.assert_array_equal(sizes, np.where(halves, 0.5, 1))
        np.testing.assert_array_equal(points[:, 0], np.where(halves, 2, 1))
        np.testing.assert_array_equal(slopes[:, 0], np.where(halves, 3, 1))
