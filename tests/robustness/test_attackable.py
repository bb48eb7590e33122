"""What of a model and its data attacks refuse, and how they see the rest."""

import keras
import numpy as np
import pytest

from analyzer.data_types.outputs import OutputTask
from analyzer.errors import ConfigError, DataError, Unsupported
from analyzer.inspection import open_model
from analyzer.robustness.attacks.attacked import Attacked
from analyzer.robustness.attacks.losses import cross_entropy
from analyzer.robustness.attacks.threat import Box, box_of
from analyzer.robustness.bounds import check_bounds
from tests.robustness import oracle

UNIT = Box(low=0.0, high=1.0, source="given")


def sequential(*layers, shape=(6,), dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *layers])


def compiled(model, loss):
    model.compile(loss=loss)
    return model


REFUSED = {
    "an output per position": (lambda: sequential(keras.layers.Dense(3), shape=(5, 6)), r"not \(1, 5, 3\)"),
    "a softmax of one": (lambda: sequential(keras.layers.Dense(1, "softmax")), "attacks need two classes"),
    "a regression": (lambda: compiled(sequential(keras.layers.Dense(2)), "mse"), "the task is regression.*mean_squ"),
    "labels": (lambda: sequential(keras.layers.Dense(3, "sigmoid")), "the task is multilabel"),
    "whole numbers": (lambda: sequential(keras.layers.Dense(3), dtype="int32"), "takes int32"),
    "declared token ids": (
        lambda: sequential(keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(3), dtype="int32"),
        "takes int32",
    ),
    "token ids as floats": (
        lambda: sequential(keras.layers.Embedding(9, 4, name="table"), keras.layers.Flatten(), keras.layers.Dense(3)),
        "token ids, which layer 'table' looks up",
    ),
}


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("case", REFUSED)
def test_models_without_one_decision_of_float_inputs_are_refused(case):
    build, match = REFUSED[case]
    with pytest.raises(Unsupported, match=match):
        Attacked(view=open_model(build()), box=UNIT)


def test_several_inputs_are_refused():
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], keras.layers.Dense(2)(a + b))
    with pytest.raises(Unsupported, match="one input and one output"):
        Attacked(view=open_model(model), box=UNIT)


def test_the_word_of_the_user_goes_before_the_loss():
    model = compiled(sequential(keras.layers.Dense(2)), "mse")
    classes = OutputTask(kind="multiclass", source="user", reason="The user said so.", n_classes=2)
    assert Attacked(view=open_model(model), box=UNIT, task=classes).n_classes == 2
    numbers = OutputTask(kind="regression", source="user", reason="The user said so.")
    with pytest.raises(Unsupported, match=r"the task is regression\. The user said so"):
        Attacked(view=open_model(sequential(keras.layers.Dense(2, "softmax"))), box=UNIT, task=numbers)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "sparse_categorical_crossentropy", None])
def test_classifiers_are_taken(loss):
    model = sequential(keras.layers.Dense(1, "sigmoid") if loss == "binary_crossentropy" else keras.layers.Dense(2))
    assert Attacked(view=open_model(compiled(model, loss) if loss else model), box=UNIT).n_classes == 2


def test_inputs_go_to_the_unit_range_and_back():
    kernel, bias = oracle.linear_weights(*oracle.digits())
    x, _ = oracle.digits()
    box = Box(low=-50.0, high=205.0, source="given")
    model = oracle.trained(kernel, bias)
    attacked = Attacked(view=open_model(model, x[:1]), box=box)
    data = (x[:30] * 255 - 50).astype("float32")
    unit = attacked.to_unit(data)
    np.testing.assert_allclose(unit, x[:30], atol=1e-6)
    np.testing.assert_allclose(attacked.to_data(unit), data, atol=1e-4)
    # The model gets its own range.
    np.testing.assert_allclose(attacked.all_logits(unit), data @ kernel + bias, rtol=1e-3, atol=1e-2)
    data[7, 3] = 210
    with pytest.raises(DataError, match=r"x\[7, 3\] = 210"):
        attacked.to_unit(data)


def test_a_gradient_is_that_of_the_loss_of_the_logits():
    kernel, bias = oracle.linear_weights(*oracle.digits())
    x, y = oracle.digits()
    attacked = oracle.attacked(oracle.trained(kernel, bias), x)

    def fn(values, u, y):
        return attacked.slope(values, u, lambda z: cross_entropy(z, y, y))

    program = attacked.program("slope", fn)
    z, reached, gradient = attacked.by_batch([x[:20], y[:20]], lambda batch, _: list(program(*batch)))
    expected = x[:20].astype("float64") @ kernel + bias
    np.testing.assert_allclose(z, expected, atol=1e-4)
    others = np.where(np.arange(10) == y[:20, None], -np.inf, expected)
    shares = np.exp(others - others.max(1, keepdims=True))
    own = expected[np.arange(20), y[:20]]
    np.testing.assert_allclose(reached, np.log(shares.sum(1)) + others.max(1) - own, atol=1e-4)
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, shares @ kernel.T - kernel.T[y[:20]], atol=1e-4)


def test_bounds_name_what_is_furthest_out():
    x = np.array([[0.0, 0.5], [1.2, -0.1]])
    with pytest.raises(DataError, match=r"from -0.1 to 1.2, outside bounds=\(0, 1\); furthest out is x\[1, 0\] = 1.2"):
        check_bounds(x, (0.0, 1.0))
    with pytest.raises(DataError, match=r"x\[1, 1\] = -0.1"):
        box_of(x, (0.0, 2.0))
    check_bounds(x, (-0.1, 1.2))
    for bounds in ((1.0, 1.0), (0.0, np.inf), (np.nan, 1.0)):
        with pytest.raises(ConfigError, match="both finite"):
            check_bounds(x, bounds)
