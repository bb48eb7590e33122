"""Losses of attacks against NumPy in float64, and where a float32 softmax would have nothing left."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from analyzer.backends import engine
from analyzer.errors import ConfigError
from analyzer.robustness.attacks.losses import LOSSES, loss_named

RNG = np.random.default_rng(0)
Z, Y = RNG.normal(0, 3, (50, 6)), RNG.integers(0, 6, 50)
T = (Y + 1 + RNG.integers(0, 5, 50)) % 6
ROWS = np.arange(50)


def found(name, z=Z, y=Y, t=T):
    tensors = [keras.ops.convert_to_tensor(a) for a in (z.astype("float32"), y, t)]
    return engine().to_numpy(loss_named(name, z.shape[1])(*tensors))


def expected(name):
    own, others = Z[ROWS, Y], np.where(np.arange(6) == Y[:, None], -np.inf, Z)
    ordered = np.sort(Z, axis=1)
    margin, targeted = others.max(1) - own, Z[ROWS, T] - own
    return {
        "margin": margin,
        "targeted_margin": targeted,
        "cross_entropy": logsumexp(others, axis=1) - own,
        "dlr": margin / (ordered[:, -1] - ordered[:, -3]),
        "targeted_dlr": targeted / (ordered[:, -1] - (ordered[:, -3] + ordered[:, -4]) / 2),
    }[name]


@pytest.mark.parametrize("name", LOSSES)
def test_equals_its_formula(name):
    np.testing.assert_allclose(found(name), expected(name), rtol=1e-4, atol=1e-5)


def test_cross_entropy_is_the_softplus_of_its_loss():
    np.testing.assert_allclose(np.logaddexp(0, expected("cross_entropy")), -log_softmax(Z, axis=1)[ROWS, Y], rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_its_gradient_is_there_where_the_softmax_is_saturated(name):
    z = np.array([[90.0, 3.0, 2.0, 1.0, 0.0, -1.0]], "float32")
    y, t = (keras.ops.convert_to_tensor(np.array([i])) for i in (0, 1))
    loss = loss_named(name, 6)
    _, gradient = engine().value_and_grad(lambda z: keras.ops.sum(loss(z, y, t)), keras.ops.convert_to_tensor(z))
    gradient = engine().to_numpy(gradient)[0]
    assert np.isfinite(gradient).all()
    assert gradient[1] > 0


@pytest.mark.parametrize("name", ["dlr", "targeted_dlr"])
def test_neither_scale_nor_shift_of_logits_matters(name):
    np.testing.assert_allclose(found(name, 50 * Z + 7), found(name), rtol=1e-3, atol=1e-4)


def test_a_tie_is_no_decision():
    tied = np.zeros((1, 3))
    assert found("margin", tied, np.array([0]), np.array([1]))[0] >= 0


@pytest.mark.parametrize(("name", "classes"), [("dlr", 2), ("targeted_dlr", 3)])
def test_too_few_classes_are_refused(name, classes):
    with pytest.raises(ConfigError, match=f"tells {classes} apart"):
        loss_named(name, classes)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ConfigError, match="expected one of margin"):
        loss_named("hinge", 10)
