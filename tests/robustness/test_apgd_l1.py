"""APGD in L1 against a float64 walk in NumPy, and its directions by hand."""

import keras
import numpy as np
import pytest

from analyzer.robustness.attacks.apgd import APGD
from analyzer.robustness.attacks.apgd_l1 import sparse_signs
from analyzer.robustness.attacks.survivors import own_generators
from tests.robustness import oracle


def walked(weights, x, y, epsilon, noise, steps):
    """The published walk for one sample in float64: whether it is fooled in the last ball, and the point."""
    point, fooled, found, share = x + noise, False, x, None
    for factor, moves in ((3, round(0.3 * steps)), (2, round(0.3 * steps)), (1, round(0.4 * steps))):
        radius = factor * epsilon
        point = x + oracle.nearest_in_l1(point - x, x, radius)
        before = len(x) if share is None else np.count_nonzero(point != x)
        share = 0.2 if share is None else before / (1.5 * len(x))
        size, best_loss, period = radius, -np.inf, max(1, int(0.04 * moves))
        for k in range(moves + 1):
            loss, gradient, wrong = oracle.looked(weights, point, y)
            if wrong and factor == 1 and not fooled:
                fooled, found = True, point
            if loss > best_loss:
                best, best_loss, best_gradient = point, loss, gradient
            if k and k % period == 0:
                changed = np.count_nonzero(best != x)
                if changed < 0.95 * before:
                    point, gradient, size = best, best_gradient, radius
                else:
                    size = max(size / 1.5, radius / 10)
                before, share = changed, changed / (1.5 * len(x))
            least = np.sort(np.abs(gradient))[int(np.clip((1 - share) * len(x) + 1e-5, 0, len(x) - 1))]
            signs = np.sign(gradient) * (np.abs(gradient) >= least)
            point = x + oracle.nearest_in_l1(point + size * signs / np.abs(signs).sum() - x, x, radius)
        point = best
    return fooled, found


def test_walks_are_those_of_the_paper_in_float64():
    rng = np.random.default_rng(4)
    weights, model = oracle.small_net(rng)
    x = rng.uniform(0.2, 0.8, (30, 8)).astype("float32")
    attacked = oracle.attacked(model, x, batch_size=512)
    y = attacked.all_logits(x).argmax(1)
    radii = np.linspace(0.05, 1.2, 8)
    u, labels, epsilon = np.tile(x, (8, 1)), np.tile(y, 8), np.repeat(radii, 30)
    found = APGD(norm="l1", steps=40).run(attacked, u, labels, epsilon)
    noise = [generator.normal(size=8) for generator in own_generators(u, 0, 0, 0)]
    expected = [
        walked(weights, *row, steps=40) for row in zip(u.astype("float64"), labels, epsilon, noise, strict=True)
    ]
    fooled = np.array([each for each, _ in expected])
    assert 40 < np.count_nonzero(fooled) < 200
    assert np.count_nonzero(found.fooled != fooled) <= 2
    both = found.fooled & fooled
    apart = np.abs(found.points - np.array([point for _, point in expected]))[both].max(1)
    assert np.mean(apart < 1e-3) > 0.9


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_steps_change_the_values_of_the_largest_slopes(share, kept):
    gradient = np.array([[0.1, -4.0, 3.0, -0.2]], "float32")
    tensors = (keras.ops.convert_to_tensor(each) for each in (gradient, np.array([share], "float32")))
    signs = keras.ops.convert_to_numpy(sparse_signs(*tensors))[0]
    expected = np.where(np.argsort(np.argsort(-np.abs(gradient[0]))) < kept, np.sign(gradient[0]) / kept, 0)
    np.testing.assert_allclose(signs, expected)


def test_a_gradient_of_zeros_gives_no_step():
    zeros, share = keras.ops.zeros((2, 3)), keras.ops.ones((2,))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(sparse_signs(zeros, share)), 0)
